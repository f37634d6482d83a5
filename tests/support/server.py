"""A real server in a process of its own, and its log as it comes."""

import contextlib
import json
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from signal import SIGSTOP, SIGTERM, Signals
from types import TracebackType
from typing import Any, Self

# Nothing here waits for a time to be right; this is only how long a test waits before it gives up.
PATIENCE = float(os.environ.get("TCPPAR_TEST_PATIENCE", "30"))

Record = dict[str, Any]


class Server:
    """`tcppar serve` with JSON records; its log is read by a thread, and tests wait for what stands in it.

    Args:
        arguments: what stands behind `tcppar serve`.
        environment: added to this process's environment.
        wrapper: a command to run the server under, such as strace.
        portable: run it in the portable profile.

    Attributes:
        log_unread: while this is held, nobody reads the log.
    """

    def __init__(
        self,
        *arguments: str | Path,
        environment: Mapping[str, str] | None = None,
        wrapper: Sequence[str] = (),
        portable: bool = False,
        cwd: Path | None = None,
        wait_ready: bool = True,
        **popen: Any,
    ) -> None:
        self.portable = portable
        env = os.environ | dict(environment or {})
        if portable:
            env["TCPPAR_PORTABLE"] = "1"
        command = [*wrapper, sys.executable, "-m", "tcppar", "serve", "--log-format", "json", *map(str, arguments)]
        self.records: list[Record] = []
        self.noise: list[str] = []
        self._changed = threading.Condition()
        self._ended = False
        self.log_unread = threading.Lock()
        self.process = subprocess.Popen(command, stderr=subprocess.PIPE, env=env, cwd=cwd, **popen)
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        if wait_ready:
            try:
                self.wait_for(lambda record: record["event"] == "listening")
            except AssertionError:
                self.__exit__(None, None, None)
                raise

    def _read(self) -> None:
        assert self.process.stderr is not None
        for line in self.process.stderr:
            with self.log_unread, self._changed:
                try:
                    self.records.append(json.loads(line))
                except ValueError:
                    self.noise.append(line.decode(errors="replace").rstrip())
                self._changed.notify_all()
        with self._changed:
            self._ended = True
            self._changed.notify_all()

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

    @property
    def pid(self) -> int:
        """The supervisor's process id (also under a wrapper that runs it as its child)."""
        return self.process.pid

    @property
    def address(self) -> tuple[str, int]:
        """Host and port of the first TCP listener."""
        return self.addresses[0]

    @property
    def addresses(self) -> list[tuple[str, int]]:
        """Host and port of every TCP listener."""
        texts = [record["address"] for record in self.events("listening") if not record["address"].startswith("unix:")]
        pairs = [text.rpartition(":") for text in texts]
        return [
            ({"0.0.0.0": "127.0.0.1", "[::]": "::1"}.get(host, host.strip("[]")), int(port)) for host, _, port in pairs
        ]

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
        """Send a signal to the supervisor."""
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


def descendants(pid: int) -> Iterator[int]:
    """Process ids of all living or unreaped descendants."""
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and parent_of(int(entry.name)) == pid:
            yield int(entry.name)
            yield from descendants(int(entry.name))


def stat_fields(pid: int) -> list[str]:
    """The fields of /proc/PID/stat from the third (state) on; empty if it is gone."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return []


def stop_process(pid: int) -> None:
    """SIGSTOP, and wait until it stands."""
    os.kill(pid, SIGSTOP)
    wait_until(lambda: stat_fields(pid)[:1] == ["T"])


def parent_of(pid: int) -> int | None:
    """The parent of a process; None if it is gone."""
    fields = stat_fields(pid)
    return int(fields[1]) if fields else None


def descriptors(pid: int) -> int:
    """How many descriptors a process has open."""
    return len(os.listdir(f"/proc/{pid}/fd"))


def wait_until(true: Callable[[], bool], patience: float = PATIENCE) -> None:
    """Wait until a fact of the system that announces itself to nobody has become true."""
    deadline = time.monotonic() + patience
    waiter = threading.Event()
    while not true():
        assert time.monotonic() < deadline, "it did not become true"
        waiter.wait(0.01)
