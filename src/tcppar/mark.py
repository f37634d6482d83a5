"""The mark by which the processes of a connection are known to the supervisor, whatever has become of them.

It is a resource limit that limits nothing: RLIMIT_LOCKS has had no effect since Linux 2.4.25 (getrlimit(2)). fork(2)
and execve(2) pass it on, also where a program clears its environment, and the kernel shows it (proc_pid_limits(5))
without a look into the memory of the process. Its environment, where the id stands too, is in that memory: a process
can say that it is a gigabyte and lies elsewhere (PR_SET_MM), hold the lock of it, or have it filled by somebody slow.

A process can change its own mark, as it could its environment, and can lower its spawner's hard limit (prlimit(2)), so
that what that makes can have none. Then it is known by what else it has of its connection; no client is refused for it.
"""

from __future__ import annotations

import sys

RLIMIT_LOCKS = 10
"""linux/resource.h; Python's resource module does not name it."""
LINE_OF_LIMITS = "Max file locks"
"""What the line about it in proc_pid_limits(5) begins with."""
_SERVER_BITS, _NUMBER_BITS = 32, 30


def mark_of(id_prefix: str, number: int) -> int:
    """The soft limit that the processes of a connection have.

    Args:
        id_prefix: what the ids of a server's connections begin with: letters and digits, at random.
        number: of the connection.
    """
    server = int(id_prefix, 36) & ((1 << _SERVER_BITS) - 1)
    return server << _NUMBER_BITS | number & ((1 << _NUMBER_BITS) - 1)


def limits_of(mark: int, hard: int) -> tuple[int, int] | None:
    """Both limits of a process with that mark, where the hard one is that now; None if it cannot have one."""
    # RLIM_INFINITY is below 0. Elsewhere than in Linux the number is that of another limit.
    return (mark, hard) if sys.platform == "linux" and (hard < 0 or hard >= mark) else None
