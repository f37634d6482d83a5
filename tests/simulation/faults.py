"""Which call fails next, and how."""

import errno
import os
from collections import defaultdict, deque
from enum import StrEnum

from tcppar.policy import faults
from tcppar.policy.faults import Remedy


class Call(StrEnum):
    """A call that can fail."""

    ACCEPT = "accept"
    REGISTER = "register with the poller"
    PAIR = "make a channel"
    PIPE = "make a log"
    SEND = "send on a channel"
    RECEIVE = "receive a descriptor"
    START = "start a spawner"
    LAUNCH = "make a child"
    OPEN = "open a listener"
    TURN_AWAY = "turn new clients away"


_ALL = sorted(errno.errorcode)
_SHORTAGES = [number for number in _ALL if faults.of_accept(number) is Remedy.BACK_OFF]
# What accept(2) says when nobody is queued, and then alone.
_NOBODY = {errno.EAGAIN, errno.EWOULDBLOCK}
_STRIKES = [errno.EBADF, errno.EINVAL, errno.EPERM]
_SPAWN_SHORTAGES = [number for number in _ALL if faults.of_spawn(number) is Remedy.BACK_OFF]

ERRORS: dict[Call, list[int]] = {
    Call.ACCEPT: [number for number in _ALL if faults.of_accept(number) is not Remedy.STRIKE and number not in _NOBODY]
    + _STRIKES,
    Call.REGISTER: [errno.ENOMEM, errno.ENOSPC],
    Call.PAIR: _SHORTAGES,
    Call.PIPE: _SHORTAGES,
    Call.SEND: [errno.EAGAIN, errno.ETOOMANYREFS, *_SHORTAGES],
    Call.RECEIVE: [errno.EMFILE],
    Call.START: [errno.EAGAIN, *_SHORTAGES],
    Call.LAUNCH: [*_SPAWN_SHORTAGES, errno.ENOENT, errno.EACCES],
    Call.OPEN: [errno.EADDRINUSE, *_SHORTAGES],
    Call.TURN_AWAY: [errno.ENOMEM],
}
"""The errors that each call may have: those of the error table, and some that are in no table."""


class FaultPlan:
    """Failures to come: for each call, what its next uses meet. None stands for a use that works.

    Attributes:
        complaint: what the installed program says against going on from here; None if it can.
    """

    def __init__(self) -> None:
        self._coming: dict[Call, deque[int | None]] = defaultdict(deque)
        self.complaint: str | None = None

    def plan(self, call: Call, error: int, *, after: int = 0, times: int = 1) -> None:
        """Let a call fail `times` times, after `after` uses that work."""
        self._coming[call].extend([None] * after + [error] * times)

    def meet(self, call: Call) -> None:
        """A use of a call.

        Raises:
            OSError: it is to fail.
        """
        if (coming := self._coming[call]) and (error := coming.popleft()) is not None:
            raise OSError(error, os.strerror(error))

    def is_to_come(self, call: Call) -> bool:
        """Whether a failure of a call has not been met."""
        return any(error is not None for error in self._coming[call])

    def clear(self) -> None:
        """Everything works again."""
        self._coming.clear()
