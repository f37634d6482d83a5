"""What is written down while a supervisor serves, so that another one can go on in its place."""

from dataclasses import dataclass
from typing import Protocol

from tcppar.policy.life import EndedBy
from tcppar.supervisor.connection import Connection


@dataclass(slots=True)
class Counters:
    """What the server did in its life."""

    accepted: int = 0
    ended: int = 0
    refused: int = 0
    strikes: int = 0
    resets: int = 0
    client_faults: int = 0

    def values(self) -> tuple[int, ...]:
        """All of them, in the order of their declaration."""
        return self.accepted, self.ended, self.refused, self.strikes, self.resets, self.client_faults


class Books(Protocol):
    """The books (`ledger.py`), or nothing at all (`NoBooks`).

    Attributes:
        are_kept: whether anybody will read them.
    """

    are_kept: bool

    # What all share.

    def structure_changed(self) -> None:
        """What a next supervisor must know of services, listeners and spawners is different now."""

    def note_hired(self, workers: int) -> None:
        """Another worker is about to be hired: so many there were then."""

    def note_faults(self, counters: Counters) -> None:
        """Those counters that hang together with no connection have changed."""

    @property
    def owes(self) -> bool:
        """Whether there is something to settle."""

    def settle(self, counters: Counters) -> None:
        """What was told in this pass is written: let go of what had ended."""

    # One connection. `Table` calls these, and nobody else but for its log.

    def enter(self, connection: Connection) -> None:
        """It was accepted."""

    def offering(self, connection: Connection, holder: int, pid: int) -> None:
        """It is about to be offered to whoever is at the other end of a channel; `pid` if that is who will serve it."""

    def offered(self, connection: Connection) -> None:
        """The offer was sent."""

    def waits(self, connection: Connection) -> None:
        """It was not taken, or could not be offered."""

    def taken(self, connection: Connection, pid: int, spawn_seconds: float) -> None:
        """A child has it."""

    def orphaned(self, connection: Connection) -> None:
        """Whoever had made its child is dead."""

    def ruled(self, connection: Connection, rule: EndedBy) -> None:
        """A rule of ours ends it."""

    def ended(self, connection: Connection) -> None:
        """Its record was told."""

    def log_is(self, connection: Connection, reader: int | None, writer: int | None) -> None:
        """Which ends of its log's pair are open."""


class NoBooks:
    """Nobody will go on in this supervisor's place."""

    are_kept = False
    owes = False

    def structure_changed(self) -> None:
        """Nothing, as all of these."""

    def note_hired(self, workers: int) -> None: ...
    def note_faults(self, counters: Counters) -> None: ...
    def settle(self, counters: Counters) -> None: ...
    def enter(self, connection: Connection) -> None: ...
    def offering(self, connection: Connection, holder: int, pid: int) -> None: ...
    def offered(self, connection: Connection) -> None: ...
    def waits(self, connection: Connection) -> None: ...
    def taken(self, connection: Connection, pid: int, spawn_seconds: float) -> None: ...
    def orphaned(self, connection: Connection) -> None: ...
    def ruled(self, connection: Connection, rule: EndedBy) -> None: ...
    def ended(self, connection: Connection) -> None: ...
    def log_is(self, connection: Connection, reader: int | None, writer: int | None) -> None: ...
