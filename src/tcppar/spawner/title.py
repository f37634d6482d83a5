"""What ps(1) shows of a spawner and of the processes that it forks, in place of the words that it was started with.

The kernel shows the memory where a process's arguments stand (`/proc/PID/cmdline`, proc(5)), and this is written over,
as setproctitle(3) does it. Those words say how a spawner begins, the same for all; and a forked process, which has no
words of its own, would show its spawner's. The other name of a process (`/proc/PID/comm`) is left alone: who sends
SIGHUP to all processes that are named tcppar means the server, and it would end these.

A program has its own words from its exec on.
"""

from __future__ import annotations

import os

LONGEST = 96
"""Of a title in bytes, with a zero at its end: a service's name has 64 at the most."""
SPAWNER, WORKER, CHILD = "spawner", "worker", "child"

_STAT, _MEMORY = "/proc/self/stat", "/proc/self/mem"
_ARG_START, _ARG_END = 45, 46  # fields 48 and 49 of proc(5), counted from the first one behind the name


class Title:
    """The titles of one service's processes. Where there is nothing to write to, nothing is shown.

    Args:
        service: its name.

    Attributes:
        place: the address of this process's arguments, and of those that are forked from it; 0 if it is not known.
    """

    def __init__(self, service: str) -> None:
        self._service = service
        self.place, end = _arguments()
        self._room = end - self.place

    def text(self, role: str) -> bytes:
        """What a forked process writes there, over its spawner's title. It has one length, whatever the role."""
        room = min(self._room, LONGEST)
        return f"tcppar: {role} {self._service}".encode()[: max(room - 1, 0)].ljust(room, b"\0")

    def show(self, role: str) -> None:
        """Show it for this process. The file cannot be opened by a process that may not be traced, as one that has
        become another user: it keeps the title that it has."""
        if not self.place:
            return
        try:
            memory = os.open(_MEMORY, os.O_WRONLY | os.O_CLOEXEC)
        except OSError:
            return
        try:
            os.pwrite(memory, self.text(role).ljust(self._room, b"\0"), self.place)
        except OSError:
            pass  # a kernel that does not allow it (proc_mem.restrict_write)
        finally:
            os.close(memory)


def _arguments() -> tuple[int, int]:
    """Where they begin and end; nowhere, if the system does not say."""
    try:
        descriptor = os.open(_STAT, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return 0, 0
    try:
        fields = os.read(descriptor, 4096).rpartition(b")")[2].split()
    finally:
        os.close(descriptor)
    return (int(fields[_ARG_START]), int(fields[_ARG_END])) if len(fields) > _ARG_END else (0, 0)
