"""Asking a running server for an upgrade, and seeing it through (`tcppar upgrade`).

Nothing of the server's is executed here, nor believed beyond its answer: it may be another user's. The trial of the
installed version is the server's own, by its user. What came of it is read in the name of its process (`show_answers`).
"""

import os
import select
import signal
import time
from contextlib import ExitStack
from itertools import islice
from typing import Self

from tcppar.errors import SystemRefused
from tcppar.net import processes
from tcppar.supervisor.succession.upgrade import NAME, REFUSED, UPGRADED

_LOOK = 0.02
_PIECE = 65536
_MOST_PIECES = 128
"""As much as a server's words can be (execve(2)): a process can say that its own are gigabytes (PR_SET_MM)."""


class _Process:
    """One process, whatever becomes of its number (pidfd_open(2), proc(5)).

    Raises:
        OSError: there is none, or it may not be seen.
    """

    def __init__(self, pid: int) -> None:
        self.pid = pid
        with ExitStack() as undo:
            self._descriptor = os.pidfd_open(pid)
            undo.callback(os.close, self._descriptor)
            self._folder = os.open(f"/proc/{pid}", os.O_RDONLY | os.O_DIRECTORY)
            undo.callback(os.close, self._folder)
            if self.has_ended:  # else the number was its own for so long
                raise ProcessLookupError
            self._open = undo.pop_all()

    def close(self) -> None:
        """Let go of it."""
        self._open.close()

    @property
    def has_ended(self) -> bool:
        """Whether it is no more."""
        poll = select.poll()
        poll.register(self._descriptor, select.POLLIN)
        return bool(poll.poll(0))

    def read(self, name: str) -> bytes:
        """What /proc tells of it under a name; nothing if it has ended."""
        try:
            descriptor = os.open(name, os.O_RDONLY, dir_fd=self._folder)
        except OSError:
            return b""
        try:
            pieces = islice(iter(lambda: os.read(descriptor, _PIECE), b""), _MOST_PIECES)
            return b"".join(pieces)
        except OSError:
            return b""
        finally:
            os.close(descriptor)

    @property
    def name(self) -> str:
        """What it calls itself."""
        return self.read("comm").decode(errors="replace").rstrip("\n")

    @property
    def is_server(self) -> bool:
        """Whether it is a keeper or a supervisor: it is called so, was started so, and SIGUSR2 does not end it."""
        words = self.read("cmdline").split(b"\0")
        return self.name.startswith(NAME) and b"serve" in words and bool(self._caught >> (signal.SIGUSR2 - 1) & 1)

    @property
    def _caught(self) -> int:
        """The signals that it has a handler for, or has blocked to wait for them: a mask."""
        return sum(int(mask, 16) for name in (b"SigCgt:", b"SigBlk:") for mask in self._status_of(name))

    @property
    def users(self) -> list[bytes]:
        """Its user in each of the ways that it has one (credentials(7)); none if it has ended."""
        return self._status_of(b"Uid:")

    def _status_of(self, name: bytes) -> list[bytes]:
        fields = [line.split() for line in self.read("status").splitlines()]
        return next((field[1:] for field in fields if field[:1] == [name]), [])

    @property
    def parent(self) -> int:
        """The number of its parent; 0 if that is not known."""
        fields = self.read("stat").rpartition(b")")[2].split()
        return int(fields[1]) if fields else 0

    def ask(self) -> None:
        """Send it SIGUSR2.

        Raises:
            OSError: it may not be signalled, or has ended.
        """
        signal.pidfd_send_signal(self._descriptor, signal.SIGUSR2)


class RunningServer:
    """A server as the system shows it (Linux).

    Args:
        pid: of its keeper or of its supervisor.

    Raises:
        SystemRefused: there is none, or it may not be seen.
    """

    def __init__(self, pid: int) -> None:
        self.pid = pid
        with ExitStack() as undo:
            try:
                asked = _Process(pid)
            except (OSError, OverflowError, AttributeError) as error:
                why = error.strerror if isinstance(error, OSError) and error.strerror else "there is no such process"
                raise SystemRefused(f"process {pid}: cannot be inspected: {why}") from None
            undo.callback(asked.close)
            if not asked.is_server:
                raise SystemRefused(f"process {pid}: is not a server started by `tcppar serve`")
            self._asked = asked
            self._all = [asked, *_partners_of(asked)]
            for partner in self._all[1:]:
                undo.callback(partner.close)
            self._open = undo.pop_all()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self._open.close()

    def upgrade(self, patience: float) -> None:
        """Ask for it, and wait for the answer.

        Args:
            patience: in seconds.

        Raises:
            SystemRefused: it may not be asked, goes on as it is, or does not answer in time.
        """
        before = {process.pid: process.name for process in self._all}
        try:
            self._asked.ask()
        except OSError as error:
            hint = "; run this as root or as the server's user" if isinstance(error, PermissionError) else ""
            raise SystemRefused(f"process {self.pid}: cannot be signalled: {error.strerror}{hint}") from None
        deadline = time.monotonic() + patience
        while True:
            names = {name for process in self._all if (name := process.name) != before[process.pid]}
            if any(name.startswith(NAME + UPGRADED) for name in names):
                return
            if any(name.startswith(NAME + REFUSED) for name in names):
                raise SystemRefused(f"process {self.pid}: not upgraded; the server's log says why")
            if all(process.has_ended for process in self._all):
                raise SystemRefused(f"process {self.pid}: the server has ended")
            if time.monotonic() > deadline:
                raise SystemRefused(
                    f"process {self.pid}: not upgraded within {patience:g} s; the server's log says why"
                )
            time.sleep(_LOOK)


def _partners_of(process: _Process) -> list[_Process]:
    """The keeper of a supervisor, or the supervisor of a keeper: started by the same words, as the same user.

    The supervisor also has children of other users, and whatever these have left behind: they can take on any name and
    any words, and would answer in its place.
    """
    words, users = process.read("cmdline"), process.users
    found = []
    for pid in (process.parent, *(child.pid for child in processes.children_of({process.pid}))):
        try:
            other = _Process(pid)
        except OSError:
            continue
        if other.users == users and other.is_server and other.read("cmdline") == words:
            found.append(other)
        else:
            other.close()
    return found
