"""The calls that the program makes, led to the simulated system: what stands in the place of modules."""

import errno
import os
import signal
import socket
import stat
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from functools import partial
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

from tcppar.mark import mark_of
from tcppar.net import calls, processes
from tcppar.net import channel as channels
from tcppar.net import listener as listeners
from tcppar.records import Endpoints
from tcppar.spawner import loop as spawner_loop
from tcppar.supervisor import core, loop, snapshot
from tcppar.supervisor.changes import reloading, rollout
from tcppar.supervisor.connections import enforcer, lingering, search
from tcppar.supervisor.dispatch import child_log, child_logs, crew, outbox, pool, reaper, spawner_process, taker
from tcppar.supervisor.intake import waiting_clients
from tcppar.supervisor.succession import continuity, takeover, upgrade
from tests.simulation.channel import End, Pipe, PipeWriter, SimulatedChannel, pair, pipe
from tests.simulation.kernel import Kernel, OpenFile
from tests.simulation.network import Connection, ListeningSocket, Network, SimulatedListener, open_listeners
from tests.simulation.processes import Trial, start_spawner

_NO_USAGE = SimpleNamespace(ru_utime=0.0, ru_stime=0.0, ru_maxrss=0)
_USES_OS = (
    child_log,
    continuity,
    core,
    enforcer,
    snapshot,
    reloading,
    crew,
    outbox,
    pool,
    reaper,
    spawner_loop,
    spawner_process,
    takeover,
    taker,
    upgrade,
)
# Of all processes.
_USER = 0
_USES_TIME = (core, loop, spawner_loop)


class SimulatedOs:
    """In the place of `os`, as far as it is used. What is not here fails the test that comes to use it."""

    WNOHANG, WUNTRACED, WNOWAIT, WEXITED, P_PID, O_WRONLY, devnull = (
        os.WNOHANG,
        os.WUNTRACED,
        os.WNOWAIT,
        os.WEXITED,
        os.P_PID,
        os.O_WRONLY,
        os.devnull,
    )

    fsencode = staticmethod(os.fsencode)

    def __init__(self, kernel: Kernel) -> None:
        self._kernel = kernel
        self.environ = {"PATH": "/bin"}

    def close(self, descriptor: int) -> None:
        self._kernel.tick()
        self._kernel.close(descriptor)

    def fstat(self, descriptor: int) -> Any:
        file = self._kernel.file(descriptor)
        kind = stat.S_IFIFO if isinstance(file, Pipe | PipeWriter) else stat.S_IFSOCK
        return SimpleNamespace(st_mode=kind, st_ino=file.inode)

    def dup_of_ours(self, descriptor: int) -> int:
        """Of one that is not simulated: the server's own descriptor 2."""
        self._kernel.tick()
        return self._kernel.open(OpenFile())

    def pipe(self) -> tuple[int, int]:
        self._kernel.tick()
        reader = Pipe()
        return self._kernel.open(reader), self._kernel.open(reader.writer)

    def set_blocking(self, descriptor: int, blocking: bool) -> None:
        assert not blocking, "only the supervisor's own ends are read, and it never waits for one"

    def read(self, descriptor: int, size: int) -> bytes:
        self._kernel.tick()
        file = self._kernel.file(descriptor)
        assert isinstance(file, Pipe)
        if not file.written and not file.writer.closed:
            raise BlockingIOError
        return file.read(size)

    def kill(self, pid: int, number: int) -> None:
        self._kernel.tick()
        assert pid > 0, "a signal to ourselves, and to our whole group"
        self._kernel.send_signal(pid, number)

    killpg = kill

    def wait4(self, pid: int, options: int) -> tuple[int, int, Any]:
        self._kernel.tick()
        ended = self._kernel.reap()
        return (0, 0, _NO_USAGE) if ended is None else (ended.pid, ended.status or 0, _NO_USAGE)

    def waitid(self, kind: int, pid: int, options: int) -> None:
        if pid <= 0:
            raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
        process = self._kernel.processes.get(pid)
        if process is None or process.parent is not self._kernel.running:
            raise ChildProcessError

    WIFSTOPPED = staticmethod(os.WIFSTOPPED)

    def getuid(self) -> int:
        return _USER

    geteuid = getuid

    def getpid(self) -> int:
        return self._kernel.running.pid

    def getppid(self) -> int:
        parent = self._kernel.running.parent
        return 1 if parent is None else parent.pid

    def sched_getaffinity(self, pid: int) -> set[int]:
        return {0, 1}


class SimulatedSockets:
    """In the place of `socket`, where descriptors become objects again."""

    MSG_DONTWAIT, MSG_NOSIGNAL, SHUT_WR = socket.MSG_DONTWAIT, socket.MSG_NOSIGNAL, socket.SHUT_WR

    def __init__(self, kernel: Kernel) -> None:
        self._kernel = kernel

    def socket(self, fileno: int) -> "End":
        return Named(self._kernel, fileno)


class Named(End):
    """A socket object of a connection, as far as whoever hands it over, or lets it linger, asks for it."""

    @property
    def _connection(self) -> Connection:
        self._kernel.tick()
        file = self._kernel.file(self.fileno())
        if not isinstance(file, Connection):
            raise OSError(errno.ENOTSOCK, os.strerror(errno.ENOTSOCK))
        return file

    def getpeername(self) -> tuple[str, int]:
        return self._connection.peer

    def send(self, data: bytes, flags: int) -> int:
        if self._connection.is_shut or self._connection.client.has_left:
            raise BrokenPipeError
        return len(data)

    def shutdown(self, how: int) -> None:
        self._connection.is_shut = True

    def recv_into(self, buffer: bytearray, size: int, flags: int) -> int:
        if not self._connection.readable:
            raise BlockingIOError
        return 0


@contextmanager
def installed(kernel: Kernel, network: Network) -> Iterator[None]:
    """While it lasts, the program's calls go to the simulated system."""
    with ExitStack() as stack:

        def put(module: Any, name: str, stand_in: object) -> None:
            stack.enter_context(patch.object(module, name, stand_in))

        simulated_os = SimulatedOs(kernel)
        sockets = SimulatedSockets(kernel)
        for module in _USES_OS:
            put(module, "os", simulated_os)
        for module in _USES_TIME:
            put(module, "time", SimpleNamespace(monotonic=kernel.monotonic))
        for module in (lingering, takeover):
            put(module, "socket", sockets)
        put(crew, "platform", SimpleNamespace(opened_anew=simulated_os.dup_of_ours))
        put(loop, "signal", SimpleNamespace(signal=lambda number, handler: None, SIG_IGN=signal.SIG_IGN))
        put(calls, "close_shared", simulated_os.close)
        put(calls, "catch_alarm", lambda: None)
        put(channels, "pair", partial(pair, kernel))
        put(channels, "taken_up", partial(_taken_up, kernel))
        put(taker, "Channel", partial(_channel, kernel))
        of_logs = SimpleNamespace(log_pair=partial(pipe, kernel), read_log=simulated_os.read)
        put(child_logs, "calls", SimpleNamespace(of=lambda features: of_logs))
        put(child_log.ChildLog, "_throw_away", lambda log, reader: None)
        put(child_log, "unread", partial(_unread, kernel))
        put(listeners, "taken_up", partial(_listener_taken_up, network, kernel))
        put(
            rollout,
            "open_listeners",
            lambda address, options, features: open_listeners(network, kernel, address, features),
        )
        put(spawner_process, "start", partial(start_spawner, kernel))
        put(upgrade, "_start_trial", lambda ledger, writer: Trial.started(kernel, writer).pid)
        put(processes, "numbers", lambda: list(kernel.processes))
        put(processes, "look", partial(_look, kernel))
        put(processes, "users_of", lambda pid: frozenset({_USER}))
        put(processes, "send", partial(_send, kernel))
        put(processes, "number_is_used", lambda number, descriptor: kernel.number_is_used(number))
        put(processes, "group_is_used", kernel.number_is_used)
        put(processes, "mark_of", partial(_mark, kernel))
        put(processes, "tracer_of", lambda pid: 0)
        put(processes, "sockets_of", partial(_sockets, kernel))
        put(search, "inode_of_connection", partial(_inode_of, network))
        put(continuity, "platform", SimpleNamespace(hear_of_parents_end=lambda: None))
        put(upgrade, "show_answers", lambda answers, refused: None)
        put(waiting_clients, "tcp_info", SimpleNamespace(clients_waiting=partial(_clients_waiting, kernel)))
        put(reaper, "tcp_info", SimpleNamespace(was_used=partial(_was_used, kernel)))
        put(takeover, "socket_of", lambda descriptor: nullcontext(sockets.socket(descriptor)))
        yield


def _unread(kernel: Kernel, descriptor: int) -> int:
    file = kernel.file(descriptor)
    assert isinstance(file, Pipe)
    return len(file.written)


def _look(kernel: Kernel, pid: int) -> processes.Process | None:
    """No number is given twice, so that it says when a process has begun."""
    if (process := kernel.processes.get(pid)) is None:
        return None
    parent = 0 if process.parent is None else process.parent.pid
    return processes.Process(pid, parent, process.session, process.session, "S" if process.lives else "Z", pid)


def _send(kernel: Kernel, process: processes.Process, number: int, *, to_group: bool = False) -> bool:
    kernel.tick()
    if (target := kernel.processes.get(process.pid)) is None or not target.lives:
        return False
    kernel.send_signal(process.pid, number)
    return True


def _sockets(kernel: Kernel, pid: int) -> set[int]:
    process = kernel.processes.get(pid)
    return set() if process is None else {file.inode for file in process.table.values()}


def _inode_of(network: Network, endpoints: Endpoints) -> int | None:
    """By the client's port, as the kernel knows a connection by its addresses."""
    return next((client.inode for client in network.clients if client.port == endpoints.remote_port), None)


def _clients_waiting(kernel: Kernel, listener: int, *, tcp_info: bool) -> int:
    file = kernel.file(listener)
    assert isinstance(file, ListeningSocket)
    return len(file.queue)


def _was_used(kernel: Kernel, descriptor: int, *, tcp_info: bool) -> bool:
    file = kernel.file(descriptor)
    assert isinstance(file, Connection)
    return tcp_info and bool(file.client.servers)


def _taken_up(kernel: Kernel, descriptor: int) -> End:
    end = End(kernel, descriptor)
    end.setblocking(False)
    return end


def _channel(kernel: Kernel, end: End, decoder: object, calls: object, *, largest: int) -> SimulatedChannel:
    return SimulatedChannel(kernel, end)


def _listener_taken_up(
    network: Network, kernel: Kernel, descriptor: int, address: Any, features: Any, *, inherited: bool
) -> SimulatedListener:
    if not isinstance(kernel.file(descriptor), ListeningSocket):
        raise OSError(errno.EBADF, os.strerror(errno.EBADF))
    return SimulatedListener(network, kernel, descriptor, address, features)


def _mark(kernel: Kernel, pid: int) -> int | None:
    """That of a process which has ended can be read until it was waited for (proc_pid_limits(5))."""
    process = kernel.processes.get(pid)
    if process is None:
        return None
    name = b"TCPPAR_CONNECTION_ID="
    ids = [word.removeprefix(name).decode() for word in process.environment if word.startswith(name)]
    return mark_of(ids[0].partition("-")[0], int(ids[0].partition("-")[2])) if ids else None
