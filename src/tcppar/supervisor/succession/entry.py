"""A connection as the books have it."""

from enum import IntEnum

from msgspec import Struct

from tcppar.policy.life import EndedBy
from tcppar.records import Endpoints, PeerCredentials


class Mark(IntEnum):
    """The state of a slot."""

    FREE = 0
    WAITING = 1
    OFFERING = 2
    """It was about to be offered: nobody can say whether it was."""
    OFFERED = 3
    TAKEN = 4
    ENDING = 5
    """Its record is being written, or has been."""


class Facts(Struct, frozen=True, array_like=True):
    """What never changes in a connection."""

    number: int
    service: str
    endpoints: Endpoints
    credentials: PeerCredentials | None
    queued: float | None
    accepted_at: float


class Entry(Struct, frozen=True):
    """A connection as the ledger has it.

    Attributes:
        holder: the descriptor of the channel to whoever has it, or was asked; None for an orphan or one that waits.
        copy: the supervisor's own copy; None if it has none any more.
        log: both ends of its log's pair, the one that is read first; None for each that is not open.
    """

    slot: int
    mark: Mark
    facts: Facts
    holder: int | None
    pid: int
    copy: int | None
    spawn_seconds: float
    ended_by: EndedBy | None
    attempts: int
    log: tuple[int | None, int | None]
