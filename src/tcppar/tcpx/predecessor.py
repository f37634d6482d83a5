"""What a listener has replaced: a queue in which clients can be."""

from __future__ import annotations

import os
import time

from tcppar.tcpx.waiting import READABLE, poll

_GRACE = 0.2
"""For so many seconds after new clients are led elsewhere a handshake that had begun may take, and nearly all take less
(RFC 6298). If the listener's queue was full it takes longer: the system then ignores its end, and the client repeats
that."""


class Predecessor:
    """The listener that was there before, as long as there may be clients in its queue.

    Attributes:
        queue: its descriptor.
    """

    def __init__(self, queue: int) -> None:
        self.queue = queue
        self._stays_until = time.monotonic() + _GRACE

    def close(self) -> None:
        """Close it; the system refuses whoever is in its queue."""
        os.close(self.queue)

    @property
    def is_over(self) -> bool:
        """Whether nobody is in its queue, and nobody can come."""
        return time.monotonic() >= self._stays_until and not poll({self.queue: READABLE})
