"""How many descriptors this process may have open: the supervisor as many as it can get, for it has one and more for
each connection; what it starts as many as the server was started with.

The soft limit is often 1,024 where the hard one is a hundred times that: for the sake of programs that use select(2),
which ours do not.
"""

import os
import re
import resource

from tcppar.errors import SystemRefused

_GIVEN = "TCPPAR_GIVEN_DESCRIPTORS"
_NUMBER = re.compile("[0-9]{1,19}")
# Nobody starts with less: there are three, and one is needed to read the program.
_LEAST = 4
_given: list[tuple[int, int]] = []


def raise_own() -> None:
    """Raise the soft limit to the hard one. The limit that was given is kept for others.

    Raises:
        SystemRefused: somebody else has set our variable.
    """
    if not _given:
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        before = _given_before()
        if before is not None and (soft == resource.RLIM_INFINITY or before < soft):
            soft = before
        _given.append((soft, hard))
        _set(hard, hard)


def _given_before() -> int | None:
    """The limit that the program before this one was given; None if there was none."""
    text = os.environ.pop(_GIVEN, str(resource.RLIM_INFINITY))
    if text == str(resource.RLIM_INFINITY):
        return None
    if not _NUMBER.fullmatch(text) or int(text) < _LEAST:
        raise SystemRefused(f"the variable {_GIVEN} is reserved for tcppar; unset it")
    return int(text)


def handed_on() -> dict[str, str]:
    """The variable that tells a program which takes our place what limit was given.

    It crosses its exec with ours: of the descriptors that come with it more can be open than the given one allows, and
    then it could open no file to begin with.
    """
    return {_GIVEN: str(_given[0][0])} if _given else {}


def give(pid: int) -> None:
    """Let a process that we have just started have the limit that was given, where one can set another's (prlimit(2)).

    Not before its start: what is made for it can have numbers beyond the given limit, and posix_spawn(3) would refuse
    them.
    """
    if _given and hasattr(resource, "prlimit"):
        try:
            resource.prlimit(pid, resource.RLIMIT_NOFILE, _given[0])
        except (OSError, ValueError):
            pass  # it has ended already; or ours will do


def _set(soft: int, hard: int) -> None:
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    except (OSError, ValueError):
        pass  # not every system takes its own hard limit; the one in force will do
