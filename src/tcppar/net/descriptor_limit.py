"""How many descriptors this process may have open: the supervisor as many as it can get, for it has one and more for
each connection; what it starts as many as the server was started with.

The soft limit is often 1,024 where the hard one is a hundred times that: for the sake of programs that use select(2),
which ours do not.
"""

import resource
from collections.abc import Iterator
from contextlib import contextmanager

_given: list[tuple[int, int]] = []


def raise_own() -> None:
    """Raise the soft limit to the hard one. The limit that was given is kept for others."""
    if not _given:
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        _given.append((soft, hard))
        _set(hard, hard)


@contextmanager
def as_given() -> Iterator[None]:
    """While it lasts, the limit is the one that was given: for a process or a program that is started."""
    if not _given:
        yield
        return
    soft, hard = _given[0]
    _set(soft, hard)
    try:
        yield
    finally:
        _set(hard, hard)


def _set(soft: int, hard: int) -> None:
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    except (OSError, ValueError):
        pass  # not every system takes its own hard limit; the one in force will do
