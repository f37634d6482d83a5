"""Request handlers in socketserver's form, for tests. What they see they tell their client."""

import io
import os
import signal
import socket
from socketserver import BaseRequestHandler, StreamRequestHandler
from types import FrameType

LARGE = 1 << 24
"""More than any socket holds, in bytes."""


class Echo(StreamRequestHandler):
    """Answers one line."""

    def handle(self) -> None:
        self.wfile.write(self.rfile.readline())


class EchoesAll(StreamRequestHandler):
    """Answers every line."""

    def handle(self) -> None:
        for line in self.rfile:
            self.wfile.write(line)


class _Raises(BaseRequestHandler):
    error: type[BaseException]

    def handle(self) -> None:
        self.request.sendall(b"called\n")
        raise self.error("on purpose")


class RaisesError(_Raises):
    """Fails as code fails."""

    error = ValueError


class RaisesExit(_Raises):
    """Wants to end its process."""

    error = SystemExit


class RaisesInterrupt(_Raises):
    """Fails as if somebody had pressed Control-C."""

    error = KeyboardInterrupt


class TellsItsFile(StreamRequestHandler):
    """Tells whether its `wfile` is what the documentation of socketserver says."""

    def handle(self) -> None:
        is_stream = isinstance(self.wfile, io.BufferedIOBase)
        self.wfile.write(f"{is_stream} {self.wfile.fileno() == self.request.fileno()}\n".encode())


class WritesMuch(StreamRequestHandler):
    """Writes a line, reads the path of a FIFO, writes much; tells the FIFO of every signal, and its client how much."""

    def handle(self) -> None:
        written = self.wfile.write(b"%d\n" % os.getpid())
        with open(self.rfile.readline().rstrip(b"\n"), "wb", buffering=0) as fifo:

            def tell(number: int, frame: FrameType | None) -> None:
                fifo.write(b"x")

            signal.signal(signal.SIGUSR1, tell)
            written += self.wfile.write(bytes(LARGE))
            signal.signal(signal.SIGUSR1, signal.SIG_IGN)
        self.wfile.write(b"%d" % written)


class Unbuffered(StreamRequestHandler):
    """Reads with `rbufsize` 0: what is behind the line is left in the socket."""

    rbufsize = 0

    def handle(self) -> None:
        self.rfile.readline()
        self.wfile.write(self.request.recv(100))


class BufferedWriter(StreamRequestHandler):
    """Writes with a buffer, which `finish` empties."""

    wbufsize = -1

    def handle(self) -> None:
        self.wfile.write(b"first ")
        self.request.sendall(b"second ")
        self.wfile.write(b"third")


class Impatient(StreamRequestHandler):
    """Waits no longer than its `timeout`."""

    timeout = 0.05

    def handle(self) -> None:
        try:
            self.rfile.readline()
        except TimeoutError:
            self.wfile.write(b"timed out")


class WithoutNagle(StreamRequestHandler):
    """Wants its writes to be sent at once."""

    disable_nagle_algorithm = True

    def handle(self) -> None:
        self.wfile.write(b"%d" % bool(self.request.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)))


class Phases(BaseRequestHandler):
    """Tells in which order its methods are called."""

    def setup(self) -> None:
        self.request.sendall(b"setup ")

    def handle(self) -> None:
        self.request.sendall(b"handle ")

    def finish(self) -> None:
        self.request.sendall(b"finish")


class TellsItsServer(BaseRequestHandler):
    """Tells the addresses it is given, and what happens when it wants more of its server."""

    def handle(self) -> None:
        known = (self.client_address, self.server.server_address, self.server.RequestHandlerClass is type(self))
        try:
            self.server.database  # type: ignore[attr-defined]  # noqa: B018
        except AttributeError as error:
            self.request.sendall(repr((*known, str(error))).encode())


class TellsItsProcess(BaseRequestHandler):
    """Tells its process and the one that made it, and waits for the client's end."""

    def handle(self) -> None:
        self.request.sendall(b"%d %d\n" % (os.getpid(), os.getppid()))
        self.request.recv(1)
