"""The one wait of TCPX: for descriptors, up to a time, and interrupted by signals or not.

Python's own poll cannot be interrupted: it resumes with what is left of its time (PEP 475). That is what "retry" wants.
The other modes call poll(2) itself, which a signal interrupts whatever SA_RESTART says (signal(7)), if this thread
handles it. A signal that comes between two waits interrupts none, and is not remembered for the next: select(2) under
AIX does not know of it either. (A wakeup descriptor would know of it; it would also be the program's own affair.)
"""

from __future__ import annotations

import errno
import math
import os
import select
import time
from typing import TYPE_CHECKING, TypeVar

from tcppar.tcpx import signals
from tcppar.tcpx.symbols import Interrupted

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

# The calls take no more than some weeks in milliseconds; whoever wakes too early waits again.
_LONGEST_WAIT = 86_400_000

READABLE, WRITABLE = select.POLLIN, select.POLLOUT
Done = TypeVar("Done")


class WouldBlock(BlockingIOError):
    """What was tried has to wait first.

    Attributes:
        waits_for: descriptors, and what of them (READABLE, WRITABLE) is waited for.
    """

    def __init__(self, waits_for: Mapping[int, int]) -> None:
        super().__init__(errno.EAGAIN, os.strerror(errno.EAGAIN))
        self.waits_for = waits_for


class Wait:
    """The waits of one call, which have one time limit together.

    Args:
        limit: milliseconds from now; None for ever, 0 not at all.
    """

    def __init__(self, limit: float | None, interrupted: Interrupted) -> None:
        self._deadline = math.inf if limit is None else time.monotonic() + limit / 1000
        self._interrupted = interrupted

    def until_ready(self, waits_for: Mapping[int, int]) -> bool:
        """Wait for one of the descriptors, or for its error or end. False at the end of the time.

        Raises:
            InterruptedError: a signal came; not in the mode "retry".
        """
        while (left := self._deadline - time.monotonic()) > 0:
            # Rounded up, so that a wait never ends before its time.
            limit = math.ceil(min(left * 1000, _LONGEST_WAIT))
            if self._poll(waits_for, limit):
                return True
        return False

    def _poll(self, waits_for: Mapping[int, int], limit: int) -> bool:
        if self._interrupted is Interrupted.RETRY:
            return bool(poll(waits_for, limit))
        from tcppar.tcpx.bare_poll import bare_poll  # ctypes, for this alone: most programs never come here

        signals.let_children_interrupt()
        return bare_poll(waits_for, limit)

    def until_done(self, step: Callable[[], Done]) -> Done:
        """Try until it need not wait any more.

        Raises:
            WouldBlock: the time is over.
            InterruptedError: as `until_ready`.
        """
        while True:
            try:
                return step()
            except WouldBlock as blocked:
                if not self.until_ready(blocked.waits_for):
                    raise


def poll(waits_for: Mapping[int, int], limit: int = 0) -> list[tuple[int, int]]:
    """The descriptors that are ready, and their events, within `limit` milliseconds."""
    poller = select.poll()
    for descriptor, events in waits_for.items():
        poller.register(descriptor, events)
    return poller.poll(limit)
