"""Serving from a Python program: the server is a process of its own, the one that `tcppar serve` starts."""

import fcntl
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from signal import Signals
from types import TracebackType
from typing import IO, Any, Self

from tcppar import flags, import_path
from tcppar.errors import ConfigurationError, ExitCode, SystemRefused
from tcppar.handler_name import name_of
from tcppar.net.address import Address
from tcppar.net.notify import ready_addresses
from tcppar.policy import outcome
from tcppar.server_paths import paths
from tcppar.server_pipes import FIRST_PASSED, pipe
from tcppar.server_refusals import refuse_in_an_import, refuse_what_is_no_socket, refuse_wrapped

Handler = Callable[..., object] | str
ListeningAddress = tuple[str, int] | str

_STOPS = (Signals.SIGINT, Signals.SIGTERM)
# What stands in the working directory is not the server's (-P).
_COMMAND = (sys.executable, "-P", "-m", "tcppar")
# LISTEN_PID must be the process itself, whose number nobody knows before.
_COMMAND_WITH_LISTENERS = (
    sys.executable,
    "-P",
    "-c",
    "import os; os.environ['LISTEN_PID'] = str(os.getpid()); from tcppar.__main__ import main; main()",
)


def serve(
    *addresses: str | socket.socket,
    handler: Handler | None = None,
    stderr: int | IO[Any] | None = None,
    **settings: Any,
) -> None:
    """Serve until the server is stopped.

    Meanwhile, in the main thread, SIGINT (Control-C) and SIGTERM are passed on to the server: it stops as `tcppar
    serve` does, and then this function returns. A second Control-C makes it hurry.

        if __name__ == "__main__":
            tcppar.serve("127.0.0.1:7000", handler=handle, mode="pool")

    Args:
        addresses, handler, stderr, settings: as for `Server`.

    Raises:
        ConfigurationError: a mistake in the settings or in the handler.
        SystemRefused: the system refused something, such as the port, or the server was killed.
    """
    server = Server(*addresses, handler=handler, stderr=stderr, **settings)
    try:
        with _started_with_signals_passed_on(server):
            if server._become_ready():
                server.wait()
    finally:
        server.stop()


class Server:
    """A server beside this program.

        with tcppar.Server("127.0.0.1:0", handler=handle) as server:
            client = socket.create_connection(server.addresses[0])

    It is a separate process, in a process group of its own, and it starts the handler's processes. So it does not get
    signals that are meant for this program (Control-C), and does not share this program's memory: handlers see this
    program's modules as they are when they are imported again. A program must therefore start its server under
    `if __name__ == "__main__":`.

    When this program ends, for whatever reason, the server stops too, as on SIGTERM. (It notices this through a
    pipe, which os.fork() duplicates: while such a child lives, so does the server.)

    Args:
        addresses: as for `tcppar serve`: `"IP:PORT"`, `":PORT"`, `"unix:/PATH"` and so on. Port 0 lets the system
            choose. Or sockets of this program that are already listening; the server leaves them open, and clients who
            arrive after a stop wait for the next start.
        handler: a function that takes a Connection, an `async def` that takes an AsyncConnection, or a request handler
            class for socketserver, at the top level of a module or of the program itself. Or a string, as in the
            setting.
        stderr: where the server's log goes, as in subprocess. None means where this program's standard error goes. With
            subprocess.PIPE, read it from `stderr`.
        settings: any settings of a service (docs/settings.md), log_format and reload, with values as in a file; file
            modes can also be numbers (`0o027`). They become the server's command line, which other users of the system
            can read.

    Attributes:
        stderr: the log, with stderr=subprocess.PIPE, for the caller to read and to close. The server never waits for
            a reader.

    Raises:
        ConfigurationError: with every mistake.
    """

    def __init__(
        self,
        *addresses: str | socket.socket,
        handler: Handler | None = None,
        stderr: int | IO[Any] | None = None,
        **settings: Any,
    ) -> None:
        refuse_in_an_import()
        for address in addresses:
            if not isinstance(address, str):
                refuse_what_is_no_socket(address)
                refuse_wrapped(address)
        if addresses and "listen" in settings:
            raise ConfigurationError(
                ["settings: listen: give the addresses either as arguments or as listen, not both"]
            )
        if addresses:
            settings["listen"] = [_address(number, address) for number, address in enumerate(addresses)]
        if handler is not None:
            settings["handler"] = name_of(handler, import_path.absolute(os.fspath(settings.get("directory") or ".")))
        self._arguments = flags.arguments_for(settings)
        self._listeners = {
            _name(number): address for number, address in enumerate(addresses) if isinstance(address, socket.socket)
        }
        self._stderr_wanted = stderr
        self._variables: dict[str, str] = {}
        self._process: subprocess.Popen[bytes] | None = None
        self._addresses: list[ListeningAddress] = []
        self.stderr: IO[bytes] | None = None

    def __setattr__(self, name: str, value: object) -> None:
        if name == "socket":
            refuse_wrapped(value)
            raise ConfigurationError(["Server.socket: cannot be set; pass the listening socket to Server(...)"])
        super().__setattr__(name, value)

    # Starting.

    def start(self) -> None:
        """Start it, and wait until it serves.

        Raises:
            ConfigurationError: a mistake that only the server can see, such as a handler that cannot be imported.
            SystemRefused: the system refused something, such as the port, or the server was stopped before it served.
            RuntimeError: it is already running.
        """
        with _signals_held():
            self._launch()
        try:
            if not self._become_ready():
                raise SystemRefused("the server was stopped before it was ready")
        finally:
            if not self._addresses:
                self.stop()

    def _launch(self) -> None:
        if self._process is not None:
            raise RuntimeError("the server is already running")
        with ExitStack() as childs:
            self._report, says = pipe(childs)
            lives, self._lifeline = pipe(childs, childs_end=0)
            passed, environment = self._pass_listeners(childs)
            report, lifeline = str(says.fileno()), str(lives.fileno())
            descriptors = ["--ready-fd", report, "--failure-fd", report, "--lifeline-fd", lifeline]
            command = _COMMAND_WITH_LISTENERS if passed else _COMMAND
            try:
                self._process = subprocess.Popen(
                    [*command, "serve", *descriptors, *self._arguments],
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.DEVNULL,
                    stderr=self._stderr_wanted,
                    env=os.environ | paths() | environment | self._variables,
                    pass_fds=[says.fileno(), lives.fileno(), *passed],
                    process_group=0,
                )
            except OSError as error:
                self._report.close()
                self._lifeline.close()
                raise SystemRefused(f"the server cannot be started: {error.strerror}") from error
        self.stderr = self._process.stderr

    def _pass_listeners(self, childs: ExitStack) -> tuple[list[int], dict[str, str]]:
        """Descriptors of our listeners for the server, and the environment that says so (sd_listen_fds(3)).

        That protocol counts descriptors from 3 on. Ours stay where they are, and those before them have a name that
        nobody asks for.
        """
        if not self._listeners:
            return [], {}
        numbers = {
            fcntl.fcntl(listener.fileno(), fcntl.F_DUPFD_CLOEXEC, FIRST_PASSED): name
            for name, listener in self._listeners.items()
        }
        for number in numbers:
            childs.callback(os.close, number)
        names = [numbers.get(number, "-") for number in range(FIRST_PASSED, max(numbers) + 1)]
        return [*numbers], {"LISTEN_FDS": str(len(names)), "LISTEN_FDNAMES": ":".join(names)}

    def _become_ready(self) -> bool:
        """Wait until it serves; False if it was stopped before."""
        with self._report as report:
            line = report.readline().decode()
            addresses = ready_addresses(line)
            if addresses is not None:
                self._addresses = [_parts(Address(address)) for address in addresses]
                return True
            text = line + report.read().decode()
        self._await_end(text.splitlines())
        return False

    # While it runs.

    @property
    def addresses(self) -> list[ListeningAddress]:
        """What it listens on, with real ports: (IP, port), or the path of a Unix socket. Empty if it is not running.

        `":PORT"` gives two addresses, one for IPv4 and one for IPv6, both for all interfaces.
        """
        return list(self._addresses)

    @property
    def pid(self) -> int | None:
        """The server's process id; None if it is not running."""
        return self._process.pid if self._process is not None else None

    @property
    def running(self) -> bool:
        """Whether it has been started and has not ended."""
        return self._process is not None and self._process.poll() is None

    def send_signal(self, number: int) -> None:
        """Send it a signal, such as SIGHUP to reload (docs/contract.md). Does nothing if it is not running."""
        if self._process is not None:
            self._process.send_signal(number)

    # Ending.

    def stop(self) -> None:
        """Stop it, and wait until it has ended. Does nothing if it is not running.

        Clients that have connected are still served, for as long as `drain_timeout` and `kill_timeout` allow.

        Raises:
            SystemRefused: it did not end cleanly.
        """
        self.send_signal(Signals.SIGTERM)
        self.wait()

    def wait(self, timeout: float | None = None) -> None:
        """Wait until something else has stopped it.

        Args:
            timeout: in seconds; None means no limit.

        Raises:
            SystemRefused: it did not end cleanly.
            TimeoutError: it is still running.
        """
        self._await_end([], timeout)

    def _await_end(self, reasons: Sequence[str], timeout: float | None = None) -> None:
        process = self._process
        if process is None:
            return
        try:
            code = process.wait(timeout)
        except subprocess.TimeoutExpired:
            raise TimeoutError(f"the server is still running after {timeout:g} s") from None
        self._process = None
        self._addresses = []
        self._lifeline.close()
        _raise_for(code, reasons)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()


def _raise_for(code: int, reasons: Sequence[str]) -> None:
    """Raise what an exit code of the command means; nothing for 0."""
    if code == ExitCode.OK:
        return
    if code == ExitCode.USAGE and reasons:
        raise ConfigurationError(reasons)
    status = -code if code < 0 else code << 8  # as waitpid(2) gives it
    raise SystemRefused("\n".join(reasons) or f"the server ended ({outcome.in_words(status)})")


# What the server is told.


def _name(number: int) -> str:
    return f"listener-{number}"


def _address(number: int, address: str | socket.socket) -> str:
    return f"inherited:{_name(number)}" if isinstance(address, socket.socket) else address


def _parts(address: Address) -> ListeningAddress:
    return address.path or (address.host, address.port)


# Signals.


@contextmanager
def _signals_held() -> Iterator[None]:
    """Keep those that ask for a stop waiting. The server inherits that, and is asked when it can stop in order."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, _STOPS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


@contextmanager
def _started_with_signals_passed_on(server: Server) -> Iterator[None]:
    """Start a server; for the block, those signals are for it. Only the main thread can set handlers."""
    with ExitStack() as undo:
        with _signals_held():
            if threading.current_thread() is threading.main_thread():
                for number in _STOPS:
                    before = signal.signal(number, lambda number, _: server.send_signal(number))
                    undo.callback(signal.signal, number, before or signal.SIG_DFL)
            server._launch()
        yield
