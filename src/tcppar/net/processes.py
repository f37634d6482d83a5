"""What the kernel says of processes, and signals that reach the very process that was looked at (Linux alone).

A number alone names nobody for long: when a process has been waited for, the next one may get its number. So a process
is its number and the moment of its start (proc_pid_stat(5)); and a signal goes by a descriptor (pidfd_open(2)) that
was opened before the process was looked at, and therefore can mean no later one.
"""

import os
import signal as signals
from collections.abc import Collection
from pathlib import Path
from typing import NamedTuple

_STAT_SIZE = 1024
# linux/pidfd.h, since Linux 6.9: the whole process group of the process that the descriptor names.
_TO_GROUP = 4
_ENDED = frozenset("ZX")
_STOPPED = frozenset("Tt")


class Process(NamedTuple):
    """A process as proc_pid_stat(5) shows it.

    Attributes:
        state: one letter.
        started: in clock ticks after the system's own start.
    """

    pid: int
    parent: int
    group: int
    session: int
    state: str
    started: int

    @property
    def lives(self) -> bool:
        """Whether it has not ended; a zombie has."""
        return self.state not in _ENDED

    @property
    def is_stopped(self) -> bool:
        """Whether it was stopped by a signal, or by whoever traces it."""
        return self.state in _STOPPED


def look(pid: int) -> Process | None:
    """The process of a number; None if there is none, or it may not be seen."""
    try:
        descriptor = os.open(f"/proc/{pid}/stat", os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        text = os.read(descriptor, _STAT_SIZE)
    except OSError:
        return None  # it has ended between the two calls
    finally:
        os.close(descriptor)
    # The name, in parentheses, may hold anything, parentheses too.
    fields = text.rpartition(b")")[2].split()
    return Process(pid, int(fields[1]), int(fields[2]), int(fields[3]), chr(fields[0][0]), int(fields[19]))


def numbers() -> list[int]:
    """The numbers of all processes that may be seen; none where there is no /proc."""
    try:
        return [int(name) for name in os.listdir("/proc") if name.isdigit()]
    except OSError:
        return []


def children_of(parents: Collection[int]) -> list[int]:
    """Those that live among the children of some processes. (/proc/PID/children is not in every kernel.)"""
    found = map(look, numbers())
    return [process.pid for process in found if process is not None and process.lives and process.parent in parents]


def users_of(pid: int) -> frozenset[int]:
    """The real and the saved user of a process: to whom kill(2) lets the same user send a signal. Empty if unknown."""
    try:
        status = Path(f"/proc/{pid}/status").read_text(errors="replace")
    except OSError:
        return frozenset()
    line = next((line for line in status.splitlines() if line.startswith("Uid:")), "")
    fields = line.split()
    return frozenset({int(fields[1]), int(fields[3])}) if len(fields) > 3 else frozenset()


def send(process: Process, number: int, *, to_group: bool = False) -> bool:
    """Send a signal to this very process.

    Args:
        to_group: to its whole process group, where the system can do that; else to the process alone.

    Returns:
        Whether it is there. That it may not be signalled (EPERM) counts as not there.

    Raises:
        OSError: no descriptor is left to name it by.
    """
    try:
        descriptor = os.pidfd_open(process.pid)
    except (ProcessLookupError, PermissionError):
        return False
    try:
        now = look(process.pid)
        if now is None or now.started != process.started or not now.lives:
            return False
        grouped = to_group and _signal(descriptor, number, _TO_GROUP)
        # One that has left its group, which only a leader of no session can do, is not reached by that.
        return (grouped and now.group == now.pid) or _signal(descriptor, number, 0) or grouped
    finally:
        os.close(descriptor)


def _signal(descriptor: int, number: int, flags: int) -> bool:
    try:
        signals.pidfd_send_signal(descriptor, number, None, flags)
    except OSError:
        return False  # it has ended, is not ours to signal, or the system does not know the flag
    return True


def environment_of(pid: int) -> set[bytes]:
    """The environment that a process was started with; empty if it may not be seen, or it has ended."""
    try:
        return set(Path(f"/proc/{pid}/environ").read_bytes().split(b"\0"))
    except OSError:
        return set()


def sockets_of(pid: int) -> set[int]:
    """The inodes of the sockets that a process has open (proc_pid_fd(5)); none if it may not be seen, or has ended."""
    try:
        links = [os.readlink(entry.path) for entry in os.scandir(f"/proc/{pid}/fd")]
    except OSError:
        return set()
    return {int(link[len("socket:[") : -1]) for link in links if link.startswith("socket:[")}
