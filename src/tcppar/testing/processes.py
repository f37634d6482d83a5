"""What the system tells of processes: who descends from whom, what they hold, and waiting for such facts."""

import os
import resource
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from signal import SIGSTOP

# Nothing here waits for a time to be right; this is only how long one waits before one gives up.
PATIENCE = float(os.environ.get("TCPPAR_TEST_PATIENCE", "30"))


def allow_descriptors(number: int) -> bool:
    """Raise the limit on open descriptors, ours and that of all that we start, to this number, as far as we may
    (getrlimit(2)); whether so many can be open. A limit that is higher stays.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY or soft >= number:
        return True
    if hard == resource.RLIM_INFINITY or hard >= number:
        resource.setrlimit(resource.RLIMIT_NOFILE, (number, hard))
        return True
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (number, number))
    except (ValueError, OSError):  # only root may raise the hard one
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
        return False
    return True


def wait_until(true: Callable[[], bool], patience: float = PATIENCE) -> None:
    """Wait until a fact of the system that announces itself to nobody has become true.

    Args:
        true: asked every hundredth of a second.
        patience: how long, in seconds.

    Raises:
        AssertionError: it has not.
    """
    deadline = time.monotonic() + patience
    waiter = threading.Event()
    while not true():
        assert time.monotonic() < deadline, "it did not become true"
        waiter.wait(0.01)


def descendants(pid: int) -> Iterator[int]:
    """Process ids of all living or unreaped descendants (Linux, as all that follows)."""
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and parent_of(int(entry.name)) == pid:
            yield int(entry.name)
            yield from descendants(int(entry.name))


def stat_fields(pid: int) -> list[str]:
    """The fields of /proc/PID/stat from the third (state) on; empty if it is gone (proc(5))."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return []


def parent_of(pid: int) -> int | None:
    """The parent of a process; None if it is gone."""
    fields = stat_fields(pid)
    return int(fields[1]) if fields else None


def descriptors(pid: int) -> int:
    """How many descriptors a process has open."""
    return len(os.listdir(f"/proc/{pid}/fd"))


def stop_process(pid: int) -> None:
    """SIGSTOP, and wait until it stands."""
    os.kill(pid, SIGSTOP)
    wait_until(lambda: stat_fields(pid)[:1] == ["T"])
