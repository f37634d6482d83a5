"""No more than one log line a period for what happens again and again."""

PERIOD = 10.0


class Throttle:
    """Says when a repeated occurrence is to be told, and how many it then stands for.

    The first occurrence of a kind is told at once; the following ones within the period are only counted, and told
    together by the first that comes after it, or by `overdue`.

    Args:
        period: seconds.
    """

    __slots__ = ("_period", "_seen")

    def __init__(self, period: float = PERIOD) -> None:
        self._period = period
        self._seen: dict[object, tuple[float, int]] = {}

    def note(self, kind: object, now: float) -> int:
        """Count an occurrence at the monotonic time `now`; the number to tell of, or 0 to stay silent."""
        told_at, untold = self._seen.get(kind, (None, 0))
        if told_at is None or now - told_at >= self._period:
            self._seen[kind] = (now, 0)
            return untold + 1
        self._seen[kind] = (told_at, untold + 1)
        return 0
