"""A real server in a process of its own, and its log as it comes."""

import contextlib
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from signal import SIGTERM, Signals
from types import TracebackType
from typing import Any, Self

import msgspec
import psutil

from tcppar.net.platform import TRACEABLE
from tcppar.testing.processes import PATIENCE, wait_until

Record = dict[str, Any]


class Server:
    """`tcppar serve` with JSON records; its log is read by a thread, and whoever has started it waits for what stands
    in it.

        with Server("127.0.0.1:0", "--", "cat") as server:
            assert server.exchange(b"hello") == b"hello"
            [end] = server.wait_for_event("end")

    Args:
        arguments: what stands behind `tcppar serve`.
        environment: added to this process's environment.
        wrapper: a command to run the server under, such as strace.
        portable: run it in the portable profile.
        cwd: its working directory; None for this process's.
        wait_ready: wait until it listens.
        watch: called with each record, in the thread that reads them. Those for which it says False are not kept: a
            long run has a million that nobody will wait for.
        popen: more arguments for subprocess.Popen.

    Attributes:
        process: what was started: the server, its keeper, or the wrapper.
        records: the records that have come, in their order.
        noise: lines that are no records.
        log_unread: while this is held, nobody reads the log.

    Raises:
        AssertionError: it did not come to listen, or (from what waits) what was waited for did not come.
    """

    def __init__(
        self,
        *arguments: str | Path,
        environment: Mapping[str, str] | None = None,
        wrapper: Sequence[str] = (),
        portable: bool = False,
        cwd: Path | None = None,
        wait_ready: bool = True,
        watch: Callable[[Record], bool] = lambda record: True,
        **popen: Any,
    ) -> None:
        self.portable = portable
        # What it holds is looked at, without being root.
        env = {TRACEABLE: "1"} | os.environ | dict(environment or {})
        if portable:
            env["TCPPAR_PORTABLE"] = "1"
        command = [
            *wrapper,
            sys.executable,
            "-P",
            "-m",
            "tcppar",
            "serve",
            "--log-format",
            "json",
            *map(str, arguments),
        ]
        self.records: list[Record] = []
        self.noise: list[str] = []
        self._watch = watch
        self._changed = threading.Condition()
        self._ended = False
        self.log_unread = threading.Lock()
        self.process = subprocess.Popen(command, stderr=subprocess.PIPE, env=env, cwd=cwd, **popen)
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        if wait_ready:
            try:
                self.wait_for_event("listening")
            except AssertionError:
                self.__exit__(None, None, None)
                raise

    def _read(self) -> None:
        assert self.process.stderr is not None
        decode = msgspec.json.Decoder(Record).decode
        for line in self.process.stderr:
            with self.log_unread:
                try:
                    record = decode(line)
                except ValueError:
                    self._keep(self.noise, line.decode(errors="replace").rstrip())
                else:
                    if self._watch(record):
                        self._keep(self.records, record)
        with self._changed:
            self._ended = True
            self._changed.notify_all()

    def _keep(self, where: list[Any], what: object) -> None:
        with self._changed:
            where.append(what)
            self._changed.notify_all()

    # What it says.

    def wait_for(self, wanted: Callable[[Record], bool], count: int = 1, patience: float = PATIENCE) -> list[Record]:
        """Wait until `count` records are wanted ones; they, in the order they came."""
        deadline = time.monotonic() + patience
        with self._changed:
            while len(found := [record for record in self.records if wanted(record)]) < count:
                left = deadline - time.monotonic()
                if left <= 0 or (self._ended and not self._changed.wait(0.2)):
                    last = f"{self.records[-5:]} {self.noise[-20:]}"
                    raise AssertionError(f"{len(found)} of {count} records came; the log ends with {last}")
                self._changed.wait(min(left, 1.0))
            return found

    def wait_for_event(self, event: str, count: int = 1, patience: float = PATIENCE) -> list[Record]:
        """Wait for records of a kind."""
        return self.wait_for(lambda record: record["event"] == event, count, patience)

    def events(self, event: str) -> list[Record]:
        """The records of a kind that have come."""
        with self._changed:
            return [record for record in self.records if record["event"] == event]

    # What it is.

    @property
    def pid(self) -> int:
        """The process id that signals go to (also under a wrapper that runs it as its child)."""
        return self.process.pid

    @property
    def supervisor(self) -> int:
        """The process id of the supervisor: the same, or with a keeper that of its child.

        Raises:
            AssertionError: there is none, and none comes.
        """
        first = psutil.Process(self.pid)
        if "--keep" not in (command := first.cmdline()):
            return self.pid
        found: list[psutil.Process] = []

        def is_there() -> bool:
            found[:] = [child for child in first.children() if _runs(child, command)]
            return bool(found)

        wait_until(is_there)
        return found[0].pid

    @property
    def address(self) -> tuple[str, int]:
        """Host and port of the first TCP listener."""
        return self.addresses[0]

    @property
    def addresses(self) -> list[tuple[str, int]]:
        """Host and port of every TCP listener."""
        return [_parts(text) for text in self._listeners() if not text.startswith("unix:")]

    def address_of(self, service: str) -> tuple[str, int]:
        """Host and port of a service's first TCP listener."""
        return _parts(next(text for text in self._listeners(service) if not text.startswith("unix:")))

    def _listeners(self, service: str | None = None) -> list[str]:
        return [
            record["address"] for record in self.events("listening") if service is None or record["service"] == service
        ]

    # What one does with it.

    def connect(self) -> socket.socket:
        """A client of the first listener."""
        return socket.create_connection(self.address, timeout=PATIENCE)

    def exchange(self, data: bytes) -> bytes:
        """Send, end the sending, and read all that comes back."""
        with self.connect() as client:
            client.sendall(data)
            client.shutdown(socket.SHUT_WR)
            return read_all(client)

    def signal(self, number: Signals) -> None:
        """Send it a signal."""
        os.kill(self.pid, number)

    def stop(self, number: Signals = SIGTERM, patience: float = PATIENCE) -> int:
        """Ask it to stop; its exit code."""
        if self.process.poll() is None:
            self.signal(number)
        return self.wait(patience)

    def wait(self, patience: float = PATIENCE) -> int:
        """Wait for its end; its exit code."""
        code = self.process.wait(patience)
        self._reader.join(patience)
        return code

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.process.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                self.signal(SIGTERM)
            try:
                self.process.wait(PATIENCE)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        self._reader.join(PATIENCE)
        assert self.process.stderr is not None
        self.process.stderr.close()


def read_all(client: socket.socket) -> bytes:
    """Read to the end of the stream."""
    return b"".join(iter(lambda: client.recv(65536), b""))


def read_line(client: socket.socket) -> str:
    """A line, and not more, of what a child or a handler says."""
    line = b""
    while not line.endswith(b"\n"):
        piece = client.recv(1)
        assert piece, f"the end after {line!r}"
        line += piece
    return line.decode().rstrip("\n")


def _parts(text: str) -> tuple[str, int]:
    host, _, port = text.rpartition(":")
    return {"0.0.0.0": "127.0.0.1", "[::]": "::1"}.get(host, host.strip("[]")), int(port)


def _runs(process: psutil.Process, command: list[str]) -> bool:
    try:
        return process.status() != psutil.STATUS_ZOMBIE and bool(process.cmdline() == command)
    except psutil.NoSuchProcess:
        return False
