"""Asking a running server for an upgrade, and seeing it through (`tcppar upgrade`)."""

import os
import signal
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

from tcppar.errors import SystemRefused
from tcppar.supervisor.upgrade import NO_BOOKS, TRIAL

_LOOK = 0.05
# The place of the stack's address in /proc/PID/stat (proc(5)), counted behind the name: after an exec it is another.
_START_STACK = 25


@dataclass(frozen=True, slots=True)
class RunningServer:
    """A server as the system shows it (Linux: proc(5)).

    Attributes:
        words: the command that it was started with.
    """

    pid: int
    words: list[str]

    @classmethod
    def of(cls, pid: int) -> "RunningServer":
        """The server with a process id.

        Raises:
            SystemRefused: there is none, or it may not be seen.
        """
        try:
            words = os.fsdecode(Path(f"/proc/{pid}/cmdline").read_bytes()).split("\0")[:-1]
        except OSError:
            words = []
        if "serve" not in words or not any("tcppar" in word for word in words[: words.index("serve")]):
            raise SystemRefused(f"process {pid}: expected one that was started as `tcppar serve`")
        return cls(pid, words)

    def try_installed(self, patience: float) -> None:
        """Let the installed version read the server's configuration, in the server's directory and environment.

        Raises:
            SystemRefused: it cannot go on from here; says why.
        """
        try:
            variables = Path(f"/proc/{self.pid}/environ").read_bytes().split(b"\0")
            done = subprocess.run(
                self.words,
                cwd=f"/proc/{self.pid}/cwd",
                env=dict(entry.split(b"=", 1) for entry in variables if b"=" in entry) | {TRIAL.encode(): NO_BOOKS},
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                timeout=patience,
                check=False,
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            raise SystemRefused(f"process {self.pid}: the installed version cannot be tried: {error}") from None
        if done.returncode != 0:
            said = done.stdout.decode(errors="backslashreplace").strip()
            raise SystemRefused(f"process {self.pid}: not upgraded, the installed version cannot go on:\n{said}")

    def replace(self, patience: float) -> None:
        """Ask the server for it, and wait until the program has been replaced.

        Raises:
            SystemRefused: it may not be asked, or it did not do it in time.
        """
        before = self._program()
        try:
            os.kill(self.pid, signal.SIGUSR2)
        except OSError as error:
            raise SystemRefused(f"process {self.pid}: cannot be asked: {error.strerror}") from None
        deadline = time.monotonic() + patience
        while self._program() == before:
            if time.monotonic() > deadline:
                raise SystemRefused(f"process {self.pid}: not upgraded after {patience:g} s; its log tells why")
            time.sleep(_LOOK)

    def _program(self) -> str:
        try:
            fields = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        except OSError:
            raise SystemRefused(f"process {self.pid}: the server has ended") from None
        return fields[_START_STACK]
