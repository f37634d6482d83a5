"""Connections on which nothing happens: what a look at one says, and when the next look is worth it."""

from msgspec import Struct

from tcppar.policy.life import EndedBy
from tcppar.policy.timers import NEVER


class Limits(Struct, frozen=True):
    """For how long nothing may happen, in seconds; None for any time.

    Attributes:
        idle_timeout: neither side has sent anything.
        end_when_client_gone: the client has closed, and the program has neither read nor sent anything.
    """

    idle_timeout: float | None = None
    end_when_client_gone: float | None = None

    def __bool__(self) -> bool:
        return self.period < NEVER

    @property
    def period(self) -> float:
        """A connection that was just seen in order need not be looked at again before this.

        Half the time for a client that goes: nobody tells when it went, so that its program's time begins with the
        first look after that, and ends half as much again after it at the latest.
        """
        idle = NEVER if self.idle_timeout is None else self.idle_timeout
        gone = NEVER if self.end_when_client_gone is None else self.end_when_client_gone / 2
        return min(idle, gone)


class Sight(Struct, frozen=True, gc=False):
    """What a look at a connection shows.

    Attributes:
        client_gone: whether the client can send nothing any more. It may still read.
        sent_ago: seconds since anything was sent to it, by the system: a program writes into a buffer. NEVER if the
            connection is broken.
        received_ago: seconds since anything came from it.
        unread: bytes that the program has not read. The client's end of the stream counts as one.
    """

    client_gone: bool
    sent_ago: float
    received_ago: float
    unread: int

    @property
    def broken(self) -> bool:
        """Whether the connection is no more; its program may not have noticed."""
        return self.sent_ago == NEVER


BROKEN = Sight(client_gone=True, sent_ago=NEVER, received_ago=NEVER, unread=0)
_NOTHING_YET = Sight(client_gone=False, sent_ago=0.0, received_ago=0.0, unread=0)


class Vigil:
    """What is remembered of a connection from one look to the next.

    Whatever cannot be known is taken to have happened at the moment of the look: a connection may end later than its
    limits say, never earlier.

    Args:
        now: monotonic seconds. What was before does not count: the client may have waited for its process.
    """

    __slots__ = ("_acted_at", "_before", "_stirred_at", "due_at")

    def __init__(self, limits: Limits, now: float) -> None:
        self.due_at = now + limits.period
        """When to look next, in monotonic seconds."""
        self._before = _NOTHING_YET
        self._stirred_at = now  # either side has sent something
        self._acted_at = now  # the program has read or sent something

    def look(self, sight: Sight, limits: Limits, now: float) -> EndedBy | None:
        """The rule by which the connection is to be ended now; None if it goes on."""
        before, self._before = self._before, sight
        self._stirred_at = max(self._stirred_at, now - min(sight.sent_ago, sight.received_ago))
        self._acted_at = max(self._acted_at, now - sight.sent_ago)
        if sight.broken and not before.broken:
            self._stirred_at = now  # the system's clock is gone with it
        if sight.client_gone and not _same_to_the_program(before, sight):
            self._acted_at = now
        gone, idle = self._gone_at(limits, now), self._idle_at(limits)
        self.due_at = min(gone, idle)
        if gone <= now and sight.client_gone:
            return EndedBy.CLIENT_GONE
        return EndedBy.IDLE_TIMEOUT if idle <= now else None

    def _gone_at(self, limits: Limits, now: float) -> float:
        if limits.end_when_client_gone is None:
            return NEVER
        if not self._before.client_gone:
            return now + limits.period
        return self._acted_at + limits.end_when_client_gone

    def _idle_at(self, limits: Limits) -> float:
        return NEVER if limits.idle_timeout is None else self._stirred_at + limits.idle_timeout


def _same_to_the_program(before: Sight, after: Sight) -> bool:
    """Whether, of a client that is gone, nothing has changed that the program could have done, or has to notice."""
    return before.client_gone and before.broken is after.broken and before.unread == after.unread
