"""When to be told of each event, and when to go and look: as network drivers do under load.

To be told at once costs a wake-up for each event. While they come close upon each other, a look once a period finds
several at a time; the price is that each is noticed up to a period late.
"""

from tcppar.policy.timers import NEVER

PERIOD = 0.004
"""Seconds: the longest delay under load, of which nobody takes notice; some children end in it, under load."""


class Moderation:
    """Decides after each look.

    Args:
        period: seconds. Events that come less than this apart are looked for.
    """

    __slots__ = ("_found_at", "_period", "look_at", "looks")

    def __init__(self, period: float = PERIOD) -> None:
        self._period = period
        self._found_at = -NEVER
        self.looks = False
        """Whether to go and look, instead of waiting to be told."""
        self.look_at = NEVER
        """When to look next, in monotonic seconds."""

    def looked(self, found: bool, now: float) -> bool:
        """A look at the monotonic time `now` found something, or not; whether that changed `looks`."""
        before = self.looks
        self.looks = found and (before or now - self._found_at < self._period)
        self.look_at = now + self._period if self.looks else NEVER
        if found:
            self._found_at = now
        return self.looks is not before
