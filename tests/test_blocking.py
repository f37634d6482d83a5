"""What children share with the server cannot make it wait: how long a close lasts whose owner asked to linger."""

import os
import pty
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tcppar.net import calls
from tests.conftest import tool, unavailable
from tests.support import command
from tests.support.server import PATIENCE, Server, read_line, wait_until

Serve = Callable[..., Server]

HERE = Path(__file__).parent
AT_ONCE = 1.0
"""Far below the time that is lingered for, far above what a busy machine needs."""


@pytest.fixture(params=["PLAIN", "COMPILED"])
def means(request: pytest.FixtureRequest) -> str:
    """Ways to close, by their names."""
    if request.param == "COMPILED" and not calls.AVAILABLE:
        unavailable("net/_calls.c was not compiled")
    return str(request.param)


def closing(means: str, *wrapper: str) -> list[str]:
    """What children/closing.py says."""
    words = [*wrapper, sys.executable, str(HERE / "children" / "closing.py"), means]
    return subprocess.run(words, capture_output=True, text=True, timeout=PATIENCE, check=True).stdout.splitlines()


def test_a_close_does_not_linger(means: str) -> None:
    took, *rest = closing(means)
    assert float(took) < AT_ONCE
    assert rest == ["closed", "an error", "no alarm any more"]


def test_nor_does_one_that_is_told_to_in_the_last_moment(means: str) -> None:
    """Between a look at the option and the close, which is when a hostile child would switch it on: here it is on, and
    the look is made to fail."""
    blind = [tool("strace"), "-o", os.devnull, "-e", "trace=getsockopt", "-e", "inject=getsockopt:error=EINVAL"]
    assert float(closing(means, *blind)[0]) < AT_ONCE


# The server.


def assert_others_are_served(server: Server) -> None:
    started = time.monotonic()
    with server.connect() as other:
        assert read_line(other) == "hello"
    assert time.monotonic() - started < AT_ONCE


def test_a_program_that_asks_to_linger_holds_up_nobody(serve: Serve) -> None:
    """The server keeps its copy until the client has had its time; then its close is the last one."""
    server = serve("127.0.0.1:0", "--linger", "50ms", "--", sys.executable, HERE / "children" / "lingering.py")
    with server.connect() as client:
        client.sendall(b"linger\n")
        server.wait_for_event("end")
        for _ in range(5):  # one of them while the time of the first is over
            assert_others_are_served(server)
            server.wait_for_event("end")
        assert server.stop() == 0


def test_nor_does_a_worker_that_does(serve: Serve) -> None:
    """It has closed its copy before the server has. In the portable profile it is the worker itself that lingers."""
    handler = f"{HERE}/handlers/lingering.py:handle"
    server = serve("127.0.0.1:0", "--handler", handler, "--mode", "pool", "--workers", "2", "--kill-timeout", "0")
    with server.connect() as client:
        client.sendall(b"linger\n")
        if not server.portable:
            server.wait_for_event("end")
        for _ in range(5):
            assert_others_are_served(server)
    assert server.stop() == 0


def test_an_alarm_from_outside_means_nothing(serve: Serve) -> None:
    server = serve("127.0.0.1:0", "--", "cat")
    for _ in range(10):
        server.signal(signal.SIGALRM)
        assert server.exchange(b"hello") == b"hello"
    assert server.stop() == 0


def test_a_terminal_that_nobody_in_the_background_may_write_to_stops_nobody(tmp_path: Path) -> None:
    """Whoever shares it can have made it so (TOSTOP)."""
    path = tmp_path / "socket"
    master, terminal = pty.openpty()
    wrapper = [sys.executable, str(HERE / "support" / "background.py")]
    with command.running("serve", f"unix:{path}", "--", "cat", wrapper=wrapper, stderr=terminal) as process:
        wait_until(path.exists)
        with socket.socket(socket.AF_UNIX) as client:
            client.settimeout(PATIENCE)
            client.connect(str(path))
            client.sendall(b"hello\n")
            assert read_line(client) == "hello"
        process.terminate()
        assert process.wait(PATIENCE) == 0
    os.close(terminal)
    os.close(master)
