"""Deadlines: absolute, monotonic, the earliest first."""

import heapq
from collections.abc import Callable
from itertools import count

NEVER = float("inf")
_FEW = 64
"""So many entries are no matter."""


class Timer:
    """A deadline that can still be called off."""

    __slots__ = ("action", "at")

    def __init__(self, at: float, action: Callable[[], None]) -> None:
        self.at = at
        self.action: Callable[[], None] | None = action

    def cancel(self) -> None:
        """Call it off; its entry leaves the heap when its time comes, or when too many like it are there."""
        self.action = None


class Timers:
    """A heap of timers. Times are seconds on the monotonic clock, given by the caller."""

    __slots__ = ("_heap", "_most", "_order", "next_at")

    def __init__(self) -> None:
        self.next_at = NEVER
        """The earliest deadline (it may have been called off); NEVER if there is none."""
        self._heap: list[tuple[float, int, Timer]] = []
        self._order = count()
        self._most = _FEW

    def at(self, when: float, action: Callable[[], None]) -> Timer:
        """Let `action` be called once at `when` or soon after."""
        timer = Timer(when, action)
        heapq.heappush(self._heap, (when, next(self._order), timer))
        if len(self._heap) > self._most:
            self._drop_cancelled()
        self.next_at = self._heap[0][0]
        return timer

    def _drop_cancelled(self) -> None:
        """Only when there are twice as many entries as were left the last time: so it costs each entry next to nothing,
        and what was called off never takes more than that, however far away its time is.
        """
        self._heap[:] = [entry for entry in self._heap if entry[2].action is not None]
        heapq.heapify(self._heap)
        self._most = max(2 * len(self._heap), _FEW)

    def run_due(self, now: float) -> None:
        """Call what is due. An action may add timers; those due at once run in the same pass."""
        while self._heap and self._heap[0][0] <= now:
            timer = heapq.heappop(self._heap)[2]
            if timer.action is not None:
                action, timer.action = timer.action, None
                action()
        self.next_at = self._heap[0][0] if self._heap else NEVER
