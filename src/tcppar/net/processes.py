"""What the kernel says of processes, and signals that reach the very process that was looked at (Linux alone).

A number alone names nobody for long: when a process has been waited for, the next one may get its number. So a process
is its number and the moment of its start (proc_pid_stat(5)); and a signal goes by a descriptor (pidfd_open(2)) that
was opened before the process was looked at, and therefore can mean no later one.
"""

import errno
import fcntl
import os
import signal as signals
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import NamedTuple

from tcppar.mark import LINE_OF_LIMITS

_STAT_SIZE = 1024
# linux/pidfd.h, since Linux 6.9: the whole process group of the process that the descriptor names.
_TO_GROUP = 4
_ENDED = frozenset("ZX")
_STOPPED = frozenset("Tt")
_UNINTERRUPTIBLE = "D"
_FORKED_AND_NO_MORE = 0x40  # PF_FORKNOEXEC, linux/sched.h
_LINKS_AT_ONCE = 100
# To open a table takes as long as to read so many links of it.
_LINKS_FOR_A_THREAD = 5
# How often `sockets_of` says None before `has_socket`, for which others wait, does not go on.
_MOST_LOOKS = 40


class Process(NamedTuple):
    """A process as proc_pid_stat(5) shows it.

    Attributes:
        state: one letter: its first thread's.
        started: in clock ticks after the system's own start.
        threads: how many it has; one that has ended and is a zombie counts.
        flags: the kernel's own of its first thread.
    """

    pid: int
    parent: int
    group: int
    session: int
    state: str
    started: int
    threads: int = 1
    flags: int = 0

    @property
    def lives(self) -> bool:
        """Whether it has not ended. A zombie has, unless only its first thread has ended (pthread_exit(3) in main)."""
        return self.state not in _ENDED or self.threads > 1

    @property
    def is_stopped(self) -> bool:
        """Whether it was stopped by a signal, or by whoever traces it."""
        return self.state in _STOPPED

    @property
    def waits_for_system(self) -> bool:
        """Whether it waits for what no signal ends: for a device, or for its child's exec after vfork(2)."""
        return self.state == _UNINTERRUPTIBLE

    @property
    def executes_parents_program(self) -> bool:
        """Whether it was forked, and has not called execve(2) yet."""
        return bool(self.flags & _FORKED_AND_NO_MORE)


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
    parent, group, session, flags = (int(fields[place]) for place in (1, 2, 3, 6))
    return Process(pid, parent, group, session, chr(fields[0][0]), int(fields[19]), int(fields[17]), flags)


def numbers() -> list[int]:
    """The numbers of all processes that may be seen; none where there is no /proc."""
    try:
        return [int(name) for name in os.listdir("/proc") if name.isdigit()]
    except OSError:
        return []


def children_of(parents: Collection[int]) -> list[Process]:
    """The children of some processes, and those that nobody has waited for yet. (/proc/PID/children is not in every
    kernel.)"""
    return [process for process in map(look, numbers()) if process is not None and process.parent in parents]


def youngest_children_of(pid: int, most: int) -> list[Process]:
    """The last so many children of a process's first thread; none where the kernel does not list them
    (CONFIG_PROC_CHILDREN, proc_tid_children(5)).
    """
    try:
        text = Path(f"/proc/{pid}/task/{pid}/children").read_bytes()
    except OSError:
        return []
    found = map(look, map(int, text.split()[-most:]))
    return [process for process in found if process is not None and process.parent == pid]


def users_of(pid: int) -> frozenset[int]:
    """The real and the saved user of a process: to whom kill(2) lets the same user send a signal. Empty if unknown."""
    fields = _status_of(pid, "Uid:")
    return frozenset({int(fields[0]), int(fields[2])}) if len(fields) > 2 else frozenset()


def _status_of(pid: int, name: str) -> list[str]:
    """The fields of a line of proc_pid_status(5); a "0" if it cannot be read."""
    try:
        status = Path(f"/proc/{pid}/status").read_text(errors="replace")
    except OSError:
        return ["0"]
    line = next((line for line in status.splitlines() if line.startswith(name)), "")
    return line.split()[1:] or ["0"]


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


def number_is_used(number: int, descriptor: int) -> bool:
    """Whether a number is that of a process, of a group or of a session, also of one whose leader has ended and was
    waited for: the kernel gives it to nobody else before the last of them has ended.

    To own a descriptor (F_SETOWN, fcntl(2)) is the one call that knows of sessions: it refuses numbers of nobody. Who
    owns it gets SIGIO, but only where that is asked for (O_ASYNC), which it is not.

    Args:
        descriptor: one that no other process has.
    """
    try:
        fcntl.fcntl(descriptor, fcntl.F_SETOWN, number)
    except OSError as error:
        return error.errno != errno.ESRCH
    return True


def group_is_used(number: int) -> bool:
    """Whether a process group has members. Of sessions, POSIX lets nobody ask."""
    try:
        os.killpg(number, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass  # somebody else's
    return True


def tracer_of(pid: int) -> int:
    """Who traces a process (ptrace(2)): its parent does not hear of its end before he has. 0 for nobody."""
    return int(_status_of(pid, "TracerPid:")[0])


def mark_of(pid: int) -> int | None:
    """The mark of a process (see mark.py), as proc_pid_limits(5) shows it until it was waited for; None if it has none.

    prlimit(2) would need a right that root of a container does not have.
    """
    try:
        limits = Path(f"/proc/{pid}/limits").read_text(errors="replace")
    except OSError:
        return None
    soft = limits.partition(LINE_OF_LIMITS)[2].split(maxsplit=1)[:1]
    return int(soft[0]) if soft and soft[0].isdecimal() else None


def sockets_of(pid: int) -> Iterator[int | None]:
    """The inodes of the sockets that a process has open (proc_pid_fd(5)); none if it has ended.

    Each thread can have a table of its own (unshare(2), CLONE_FILES). A process can have a million descriptors, and
    thousands of threads: again and again, None says that this has taken some time.

    Raises:
        PermissionError: they may not be seen.
    """
    links = 0
    for path in _tables_of(pid):
        links += _LINKS_FOR_A_THREAD
        for inode in _sockets_in(path):
            if inode is not None:
                yield inode
            links += 1
            if links >= _LINKS_AT_ONCE:
                links = 0
                yield None


def _tables_of(pid: int) -> Iterator[str]:
    """Where the descriptors of each thread are shown."""
    try:
        with os.scandir(f"/proc/{pid}/task") as threads:
            for thread in threads:
                yield f"{thread.path}/fd"
    except PermissionError:
        raise
    except OSError:
        return


def _sockets_in(path: str) -> Iterator[int | None]:
    """What each descriptor of a table is: the inode of a socket, or None."""
    try:
        with os.scandir(path) as entries:
            for entry in entries:
                yield _socket_at(entry.path)
    except PermissionError:
        raise
    except OSError:
        return  # the thread has ended


def has_socket(pid: int, inode: int | None) -> bool:
    """Whether a process has a socket open, as far as that may be seen, and it has not more descriptors than there is
    time for.
    """
    looks = 0
    try:
        for found in sockets_of(pid):
            looks += found is None
            if looks == _MOST_LOOKS:
                return False
            if found is not None and found == inode:
                return True
    except PermissionError:
        pass
    return False


def _socket_at(path: str) -> int | None:
    try:
        link = os.readlink(path)
    except OSError:
        return None  # it was closed meanwhile
    return int(link[len("socket:[") : -1]) if link.startswith("socket:[") else None
