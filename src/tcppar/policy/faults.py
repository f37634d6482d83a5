"""The error table: every failure of a system call that the server lives through, sorted by what to do about it.

Sources: accept(2), "Error handling", for the errors that a connection brings with it; the named set of capacity
errors follows what the calls' manual pages say of a shortage. Whatever is not listed is a strike (see strikes.py).
"""

import errno
import os
from enum import Enum

FORBIDDEN = frozenset({errno.EPERM, errno.ENOSYS})
"""What a call says that a filter of system calls forbids (seccomp(2)), or an old kernel has not."""


class Remedy(Enum):
    """What a failure asks for."""

    GO_ON = "nothing was there after all"
    COUNT = "the client's fault: count it and go on"
    BACK_OFF = "the system is short of something: keep what is accepted, stop looking, try again later"
    STRIKE = "not to be expected: tolerated a few times in a row, then the listener is reset"


_NOTHING_THERE = frozenset({errno.EAGAIN, errno.EWOULDBLOCK, errno.EINTR})

_CLIENTS_FAULT = frozenset(
    {
        errno.ECONNABORTED,
        errno.ECONNRESET,
        errno.EPROTO,
        errno.ENOPROTOOPT,
        errno.ENETDOWN,
        errno.ENETUNREACH,
        errno.EOPNOTSUPP,
        errno.EHOSTDOWN,
        errno.EHOSTUNREACH,
        errno.ETIMEDOUT,
        *([errno.ENONET] if hasattr(errno, "ENONET") else []),
    }
)

_SHORTAGE = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})

# fork(2) says EAGAIN for "too many processes"; passing a descriptor says ETOOMANYREFS for "too many in flight"
# (unix(7)); a program file that is being written (ETXTBSY) will be whole in a moment.
_SPAWN_SHORTAGE = _SHORTAGE | {errno.EAGAIN, errno.ETOOMANYREFS, errno.ETXTBSY, errno.EINTR}


def of_accept(number: int) -> Remedy:
    """Sort a failure of accept(2)."""
    if number in _NOTHING_THERE:
        return Remedy.GO_ON
    if number in _CLIENTS_FAULT:
        return Remedy.COUNT
    if number in _SHORTAGE:
        return Remedy.BACK_OFF
    return Remedy.STRIKE


def of_wait(number: int) -> Remedy:
    """Sort a failure of epoll_wait(2) or poll(2).

    A wait that fails says nothing of any client, and a shortage there (ENOMEM) cannot be waited out by waiting:
    all but an interruption are strikes.
    """
    return Remedy.GO_ON if number == errno.EINTR else Remedy.STRIKE


def of_spawn(number: int) -> Remedy:
    """Sort a failure to hand a connection over or to make a child: BACK_OFF tries again, STRIKE gives up."""
    return Remedy.BACK_OFF if number in _SPAWN_SHORTAGE else Remedy.STRIKE


def name(number: int) -> str:
    """The error's symbol and text, as logs show it: `EMFILE (Too many open files)`."""
    return f"{errno.errorcode.get(number, number)} ({os.strerror(number)})"
