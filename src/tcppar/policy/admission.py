"""Who is let in."""

from enum import Enum


class Verdict(Enum):
    """What becomes of a client that comes now."""

    ADMIT = "gets a process"
    WAIT = "waits in the kernel's queue until a connection ends"
    REFUSE = "is accepted and closed at once"


def decide(*, active: int, max_connections: int, refuses_when_full: bool) -> Verdict:
    """What becomes of the next client, when `active` connections are open."""
    if active < max_connections:
        return Verdict.ADMIT
    return Verdict.REFUSE if refuses_when_full else Verdict.WAIT
