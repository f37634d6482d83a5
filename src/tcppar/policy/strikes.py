"""When false alarms are tolerated, when the listener is reset, and how fast that may happen again."""

from enum import Enum

FIRST_PAUSE = 1.0
LONGEST_PAUSE = 30.0


class Verdict(Enum):
    """What a strike leads to."""

    TOLERATE = "go on as if nothing had happened"
    RESET = "too many in a row"


class Backoff:
    """A delay that doubles with every failure and starts again after a success.

    Args:
        first: seconds after the first failure.
        longest: seconds that the delay never exceeds.
    """

    __slots__ = ("_first", "_longest", "_next", "failing")

    def __init__(self, first: float, longest: float) -> None:
        self._first = first
        self._longest = longest
        self._next = first
        self.failing = False
        """Whether the last thing known is a failure."""

    def fail(self) -> float:
        """Seconds to wait now; the next failure in a row will wait longer."""
        self.failing = True
        delay = self._next
        self._next = min(self._longest, delay * 2)
        return delay

    def succeed(self) -> None:
        """Forget the failures."""
        self.failing = False
        self._next = self._first


class Strikes:
    """Counts unexpected failures in a row.

    Up to `tolerated` in a row are passed over; the next one asks for a reset, and the count begins anew. Any
    success clears it. The first reset happens at once and is followed by an immediate look, for it probably
    helped; while no success comes in between, further ones are followed by pauses of 1 s, 2 s, ... 30 s, so that
    a fault that a reset does not mend cannot turn into a storm of resets.

    Args:
        tolerated: failures in a row that are passed over (0 or more).
    """

    __slots__ = ("_backoff", "_count", "_resets", "clean", "tolerated")

    def __init__(self, tolerated: int) -> None:
        self.tolerated = tolerated
        self.clean = True
        """Whether nothing stands against it. Asked on the hot path, where a call of success() would cost more."""
        self._count = 0
        self._resets = 0
        self._backoff = Backoff(FIRST_PAUSE, LONGEST_PAUSE)

    def strike(self) -> Verdict:
        """Count one more failure."""
        self.clean = False
        self._count += 1
        if self._count <= self.tolerated:
            return Verdict.TOLERATE
        self._count = 0
        self._resets += 1
        return Verdict.RESET

    def pause(self) -> float:
        """Seconds for which not to look again, after a reset that strike() has just asked for."""
        return 0.0 if self._resets == 1 else self._backoff.fail()

    def success(self) -> None:
        """A call that worked: nothing stands against it any more."""
        self.clean = True
        self._count = self._resets = 0
        self._backoff.succeed()
