"""Giving a mark (mark.py) to a process that Python makes. Where C makes them it does so itself, and does not load the
module that this needs.
"""

import resource
import sys

from tcppar.mark import RLIMIT_LOCKS, limits_of


def take(mark: int) -> None:
    """Give this process a mark, where it can have one; else it goes on without, and keeps none of another's either."""
    if sys.platform != "linux":
        return  # the number is that of another limit
    try:
        hard = resource.getrlimit(RLIMIT_LOCKS)[1]
        resource.setrlimit(RLIMIT_LOCKS, limits_of(mark, hard) or (0, hard))
    except (OSError, ValueError):
        pass  # between the two calls somebody has lowered the hard one
