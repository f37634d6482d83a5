"""TCPX and signals, row by row: what a signal does to a call that waits; MX_GETSIG, MX_CLRSIG, MX_KILL."""

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import psutil
import pytest

from tcppar.tcpx import (
    SR_ALARM,
    SR_CHLD,
    SR_HUP,
    SR_INT,
    SR_KILL,
    SR_PIPE,
    SR_SYSCALL,
    SR_TERM,
    SR_TSTP,
    SR_USR1,
    SR_USR2,
    TCPOP_ACCEPT,
    TCPOP_CHECK,
    TCPOP_CONNECT,
    TCPOP_ERRMSG,
    TCPOP_READ,
    TCPOP_WRITE,
    TCPXFLG_ASYNC,
    TCPXFLG_KEEPLISTEN,
    Interrupted,
    Result,
    SockArray,
    mx_clrsig,
    mx_getsig,
    mx_kill,
    tcpx,
)
from tests.conftest import unavailable
from tests.support.server import wait_until
from tests.support.tcpx import (
    EAGAIN,
    EINTR,
    EPERM,
    EPIPE,
    ETIMEDOUT,
    LIMIT,
    SHORT,
    Check,
    Table,
    World,
    fill,
    is_open,
    new_world,
    port_of,
    reset,
)

KEEP = TCPXFLG_ASYNC | TCPXFLG_KEEPLISTEN
MODES = (("raw", EPERM), ("errno", EINTR))
HANDLED = (
    signal.SIGINT,
    signal.SIGCHLD,
    signal.SIGUSR1,
    signal.SIGUSR2,
    signal.SIGHUP,
    signal.SIGTSTP,
    signal.SIGALRM,
    signal.SIGTERM,
    signal.SIGPIPE,
)

rows = Table()


@pytest.fixture(autouse=True)
def handlers() -> Iterator[None]:
    """Every test finds the handlers as Python has them, and leaves nothing recorded."""
    before = {number: signal.getsignal(number) for number in HANDLED}
    for number in HANDLED:
        usual: dict[signal.Signals, Any] = {signal.SIGINT: signal.default_int_handler, signal.SIGPIPE: signal.SIG_IGN}
        signal.signal(number, usual.get(number, signal.SIG_DFL))
    yield
    mx_clrsig()
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.fixture(params=["127.0.0.1", "::1"], ids=["ipv4", "ipv6"])
def world(request: pytest.FixtureRequest) -> Iterator[World]:
    with new_world(World, request.param) as world:
        yield world


@contextmanager
def signals(number: signal.Signals = signal.SIGCHLD) -> Iterator[None]:
    """Signals to the main thread, one after the other, as long as the block runs: one at least hits a wait in it."""
    over = threading.Event()

    def send() -> None:
        while not over.wait(0.002):
            signal.pthread_kill(threading.main_thread().ident or 0, number)

    thread = threading.Thread(target=send)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


@contextmanager
def own_handler(number: signal.Signals = signal.SIGCHLD) -> Iterator[list[int]]:
    """A handler of the program's own; what it was called with."""
    calls: list[int] = []
    before = signal.signal(number, lambda given, _: calls.append(given))
    yield calls
    signal.signal(number, before)


def interrupted(opcode: int, mode: str, **more: Any) -> Result:
    """A call during which signals come."""
    with signals():
        return tcpx(opcode, interrupted=mode, **{"timer": LIMIT, **more})


@rows("OC", "CHECK of a connection or a listener: raw -1, errno -4; the socket is as good as before")
def _(world: World) -> None:
    sockport, peer = world.pair()
    listener = world.listen()
    for mode, status in MODES:
        for checked in (sockport, listener):
            assert interrupted(TCPOP_CHECK, mode, sockport=checked) == Result(status, sockport=checked)
            assert tcpx(TCPOP_CHECK, sockport=checked, interrupted=mode) == Result(0, sockport=checked)
    peer.sendall(b"x")
    assert tcpx(TCPOP_CHECK, sockport=sockport, timer=LIMIT, interrupted="raw").status == 1


@rows("OC", "CHECK of a sockary: raw -1, errno -4")
def _(world: World) -> None:
    array = SockArray(4)
    array.add(world.pair()[0])
    for mode, status in MODES:
        assert interrupted(TCPOP_CHECK, mode, sockary=array) == Result(status, sockport=0)


@rows("OC", "READ: raw -1, errno -4")
def _(world: World) -> None:
    sockport, _ = world.pair()
    for mode, status in MODES:
        assert interrupted(TCPOP_READ, mode, sockport=sockport, flags=1) == Result(status, sockport=sockport)


@rows("OC", "READ of which a part has come: the part")
def _(world: World) -> None:
    sockport, peer = world.pair()
    for mode, _ in MODES:
        peer.sendall(b"hel")
        assert tcpx(TCPOP_CHECK, sockport=sockport, timer=LIMIT).status == 1
        assert interrupted(TCPOP_READ, mode, sockport=sockport, flags=5).buffer == b"hel"


@rows("OC", "WRITE: raw -1, errno -4, and the socket is not closed; of which a part is sent: the part")
def _(world: World) -> None:
    for mode, status in MODES:
        sockport, _ = world.pair()
        fill(sockport)
        assert interrupted(TCPOP_WRITE, mode, buffer=b"x", sockport=sockport) == Result(status, sockport=sockport)
        assert is_open(sockport)
        sockport, _ = world.pair()
        assert 0 < interrupted(TCPOP_WRITE, mode, buffer=bytes(10**7), sockport=sockport).status < 10**7


@rows("OC", "ACCEPT: raw -1, errno -4; the listener stays, of a plain one too")
def _(world: World) -> None:
    listener, port = world.listen(), world.free_port()
    for mode, status in MODES:
        assert interrupted(TCPOP_ACCEPT, mode, sockport=listener, flags=KEEP) == Result(status, sockport=listener)
        assert interrupted(TCPOP_ACCEPT, mode, sockport=port, bind=world.host) == Result(status, sockport=port)
    for where, flags in ((listener, KEEP), (port, 0)):
        world.client(port_of(listener) if flags else port)
        world.keep(tcpx(TCPOP_ACCEPT, sockport=where, flags=flags, bind=world.host, timer=LIMIT))


@rows("OC", "CONNECT: raw -1, errno -4, and the half-open socket, whose end CHECK tells")
def _(world: World) -> None:
    for mode, status in MODES:
        port, server = world.silent_server()
        half_open = interrupted(TCPOP_CONNECT, mode, sockport=port, hostname=world.host)
        assert half_open.status == status
        sockport = world.keep(half_open._replace(status=0))
        server.settimeout(None)
        for _ in range(2):
            world.own(server.accept()[0])
        assert tcpx(TCPOP_CHECK, sockport=sockport, timer=LIMIT).status == 1


@rows("OC", "retry: no signal shows in any result, and none shortens the time limit or makes it longer")
def _(world: World) -> None:
    sockport, _ = world.pair()
    full, _ = world.pair()
    fill(full)
    listener = world.listen()
    silent, _ = world.silent_server()
    cases: list[tuple[int, int, dict[str, Any]]] = [
        (TCPOP_CHECK, 0, {"sockport": listener}),
        (TCPOP_CHECK, 0, {"sockport": sockport}),
        (TCPOP_READ, EAGAIN, {"sockport": sockport, "flags": 1}),
        (TCPOP_WRITE, EAGAIN, {"sockport": full, "buffer": b"x"}),
        (TCPOP_ACCEPT, ETIMEDOUT, {"sockport": listener, "flags": KEEP}),
        (TCPOP_CONNECT, ETIMEDOUT, {"sockport": silent, "hostname": world.host}),
    ]
    with own_handler() as calls:
        for opcode, status, arguments in cases:
            calls.clear()
            began = time.monotonic()
            assert interrupted(opcode, "retry", timer=5 * SHORT, **arguments).status == status
            assert 5 * SHORT / 1000 <= time.monotonic() - began < 10
            assert len(calls) > 5


@rows("OC", "raw: a signal that came before the call interrupts nothing")
def _(world: World) -> None:
    sockport, _ = world.pair()
    with own_handler() as calls:
        for _ in range(3):
            signal.raise_signal(signal.SIGCHLD)
            assert tcpx(TCPOP_CHECK, sockport=sockport, timer=SHORT, interrupted="raw").status == 0
        assert len(calls) == 3


@rows("OC", "raw: what need not wait is not interrupted")
def _(world: World) -> None:
    sockport, peer = world.pair()
    peer.sendall(b"x" * 100)
    assert tcpx(TCPOP_CHECK, sockport=sockport, timer=LIMIT).status == 1
    with own_handler(), signals():
        for _ in range(100):
            read = tcpx(TCPOP_READ, sockport=sockport, flags=1, timer=LIMIT, interrupted="raw")
            assert read.buffer == b"x"


@rows("OC", "raw: works with a handler that asks to restart calls, and for every signal that is handled")
def _(world: World) -> None:
    sockport, _ = world.pair()
    for number in (signal.SIGCHLD, signal.SIGUSR1):
        with own_handler(number) as calls, signals(number):
            signal.siginterrupt(number, False)
            assert tcpx(TCPOP_CHECK, sockport=sockport, timer=LIMIT, interrupted="raw").status == EPERM
            assert calls


@rows("OC", "raw without a handler of the program's own: SIGCHLD is recorded from then on")
def _(world: World) -> None:
    sockport, _ = world.pair()
    assert tcpx(TCPOP_CHECK, sockport=sockport, timer=SHORT).status == 0
    assert signal.getsignal(signal.SIGCHLD) == signal.SIG_DFL  # nobody has asked
    assert interrupted(TCPOP_CHECK, "raw", sockport=sockport).status == EPERM
    assert mx_getsig() == SR_CHLD


@rows("OC", "raw: a program that ignores SIGCHLD goes on ignoring it")
def _(world: World) -> None:
    sockport, _ = world.pair()
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    assert interrupted(TCPOP_CHECK, "raw", sockport=sockport, timer=SHORT).status == 0
    assert signal.getsignal(signal.SIGCHLD) == signal.SIG_IGN


@rows("OC", "raw: in another thread only signals of that thread interrupt")
def _(world: World) -> None:
    sockport, _ = world.pair()
    with ThreadPoolExecutor() as threads, signals():
        waiting = threads.submit(tcpx, TCPOP_CHECK, sockport=sockport, timer=3 * SHORT, interrupted="raw")
        assert waiting.result().status == 0


@rows("OC", "what a handler raises comes out of the call, in every mode")
def _(world: World) -> None:
    sockport, _ = world.pair()
    for mode in ("retry", "errno", "raw", *Interrupted):
        with pytest.raises(KeyboardInterrupt), signals(signal.SIGINT):
            tcpx(TCPOP_CHECK, sockport=sockport, timer=LIMIT, interrupted=mode)


@rows("OC", "a wakeup descriptor of the program's own stays its own")
def _(world: World) -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs, own_handler():
        for end in (ours, theirs):
            end.setblocking(False)
        signal.set_wakeup_fd(theirs.fileno(), warn_on_full_buffer=False)
        sockport, _ = world.pair()
        assert interrupted(TCPOP_CHECK, "raw", sockport=sockport).status == EPERM
        assert set(ours.recv(4096)) == {signal.SIGCHLD}
        assert signal.set_wakeup_fd(-1) == theirs.fileno()


@rows("Forum", "raw: -1 by ERRMSG is errno 1, and no failure that was before")
def _(world: World) -> None:
    assert tcpx(TCPOP_ERRMSG, status=-1).buffer == os.strerror(1).encode()


# MX_GETSIG, MX_CLRSIG


def end_of_a_child() -> None:
    """A real SIGCHLD, which has been handled when this returns."""
    subprocess.run([sys.executable, "-I", "-S", "-c", ""], check=True)
    wait_until(lambda: bool(mx_getsig() & SR_CHLD))


@rows("MXG2", "MX_GETSIG: the bits of the signals since they were cleared; several may be set")
def _(_: World) -> None:
    assert mx_getsig() == 0
    end_of_a_child()
    assert mx_getsig() == SR_CHLD
    signal.raise_signal(signal.SIGUSR1)
    signal.raise_signal(signal.SIGUSR2)
    signal.raise_signal(signal.SIGALRM)
    assert mx_getsig() == SR_CHLD | SR_USR1 | SR_USR2 | SR_ALARM


@rows("OC", "MX_GETSIG: the bits stay until MX_CLRSIG")
def _(_: World) -> None:
    mx_getsig()
    signal.raise_signal(signal.SIGUSR1)
    assert [mx_getsig(), mx_getsig()] == [SR_USR1, SR_USR1]


@rows("MXG2", "MX_CLRSIG clears the given bits, with -1 all, with 0 none")
def _(_: World) -> None:
    mx_getsig()
    for number in (signal.SIGUSR1, signal.SIGUSR2, signal.SIGCHLD):
        signal.raise_signal(number)
    mx_clrsig(0)
    assert mx_getsig() == SR_USR1 | SR_USR2 | SR_CHLD
    mx_clrsig(SR_CHLD | SR_USR1)
    assert mx_getsig() == SR_USR2
    mx_clrsig(-1)
    assert mx_getsig() == 0


@rows("MXC", "clear SIGCHLD's bit, start something, and look whether it is set: so SUBMIT/W waits")
def _(_: World) -> None:
    mx_clrsig(SR_CHLD)
    with subprocess.Popen([sys.executable, "-I", "-S", "-c", ""]):
        wait_until(lambda: mx_getsig() == SR_CHLD)


@rows("MXG2", "the numbers of the bits")
def _(_: World) -> None:
    bits = (SR_INT, SR_CHLD, SR_USR1, SR_USR2, SR_HUP, SR_KILL, SR_TSTP, SR_ALARM, SR_TERM, SR_PIPE, SR_SYSCALL)
    assert bits == (1, 2, 4, 8, 0x10, 0x20, 0x40, 0x80, 0x100, 0x200, 0x4000)


@rows("MXG2", "SR_INT is noted, and Control-C is still KeyboardInterrupt")
def _(_: World) -> None:
    mx_getsig()
    with pytest.raises(KeyboardInterrupt):
        signal.raise_signal(signal.SIGINT)
    assert mx_getsig() == SR_INT


@rows("MXG2", "SR_PIPE is noted when the other end of a pipe is gone; the write fails as ever")
def _(_: World) -> None:
    mx_getsig()
    reader, writer = os.pipe()
    os.close(reader)
    with pytest.raises(BrokenPipeError):
        os.write(writer, b"x")
    os.close(writer)
    assert mx_getsig() == SR_PIPE


@rows("MXG1", "SR_PIPE is noted when WRITE finds that the other end is gone; OC: no signal is sent")
def _(world: World) -> None:
    for recorded in (0, SR_PIPE):
        sockport, peer = world.pair()
        reset(peer)
        tcpx(TCPOP_CHECK, sockport=sockport, timer=LIMIT)
        with own_handler(signal.SIGPIPE) as calls:
            if recorded:
                mx_clrsig()
            assert tcpx(TCPOP_WRITE, buffer=b"x", sockport=sockport).status == EPIPE
            assert calls == []
            assert mx_getsig() == recorded


@rows("OC", "a handler of the program's own is called too, also one that it installs later")
def _(_: World) -> None:
    for number, bit in ((signal.SIGTERM, SR_TERM), (signal.SIGHUP, SR_HUP), (signal.SIGTSTP, SR_TSTP)):
        mx_getsig()
        with own_handler(number) as calls:
            mx_clrsig()
            signal.raise_signal(number)
            assert calls == [number]
            assert mx_getsig() == bit


@rows("OC", "nothing is recorded before somebody asks")
def _(_: World) -> None:
    with own_handler(signal.SIGUSR1):
        signal.raise_signal(signal.SIGUSR1)
        assert mx_getsig() == 0


@rows("MXG1", "SIGTERM, SIGHUP: without a handler they end the program, recorded or not")
def _(_: World) -> None:
    for number in (signal.SIGTERM, signal.SIGHUP):
        program = f"import signal, tcppar.tcpx; tcppar.tcpx.mx_getsig(); signal.raise_signal({int(number)})"
        assert subprocess.run([sys.executable, "-c", program], check=False).returncode == -number


@rows("OC", "recording can only begin in the main thread")
def _(_: World) -> None:
    with ThreadPoolExecutor() as threads:
        with pytest.raises(ValueError, match="main thread"):
            threads.submit(mx_getsig).result()
        mx_clrsig(0)
        assert threads.submit(mx_getsig).result() == 0


# MX_KILL


@rows("MXK", "MX_KILL sends a signal: 0; the numbers are the system's")
def _(_: World) -> None:
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as process:
        assert mx_kill(process.pid, 0) == 0
        assert process.poll() is None
        assert mx_kill(process.pid, 15) == 0
        assert process.wait() == -signal.SIGTERM
    mx_getsig()
    assert mx_kill(os.getpid(), 10) == 0
    assert mx_getsig() == SR_USR1


@rows("OC", "MX_KILL of a process that is gone, of a group, or with a number that is no signal: -1")
def _(_: World) -> None:
    with subprocess.Popen([sys.executable, "-I", "-S", "-c", ""]) as process:
        process.wait()
    for pid, number in ((process.pid, 0), (0, 0), (-1, 0), (2**40, 0), (os.getpid(), 1000), (os.getpid(), 2**40)):
        assert mx_kill(pid, number) == -1


def somebody_elses_process() -> int:
    """One that we may not signal."""
    others = (process.pid for process in psutil.process_iter(["uids"]) if process.info["uids"].real != os.getuid())
    return next(others, None) or unavailable("every process here is our own")


@rows("MXK", "MX_KILL without the permission: -1")
def _(_: World) -> None:
    if os.geteuid() != 0:
        assert mx_kill(somebody_elses_process(), 0) == -1
        return
    program = "import os, tcppar.tcpx; os.setuid(65534); print(tcppar.tcpx.mx_kill(os.getppid(), 0))"
    printed = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True).stdout
    assert printed == "-1\n"


@pytest.mark.parametrize("check", rows.params)
def test_row(check: Check, world: World) -> None:
    check(world)
