"""How many workers a pool needs."""

from tcppar.quantities import Bounds

PATIENCE = 0.02
"""Seconds that a client waits before a worker is added for it. Where conversations are short, one becomes free before;
to add one at once would, under load, always end with the most that are allowed."""

IDLE_PERIOD = 10.0
"""Seconds after which a worker that had nothing to do is let go."""


def wants_another(bounds: Bounds, *, workers: int, starting: int, waited: float | None) -> bool:
    """Whether one more is to be hired now.

    Args:
        workers: how many there are, those that are starting too.
        starting: of these, the ones that cannot take a client yet; one at a time is enough.
        waited: seconds that the client has waited who has waited longest; None if none waits.
    """
    if workers < bounds.least:
        return True
    return not starting and workers < bounds.most and waited is not None and waited >= PATIENCE
