"""Idle connections: none ends before its time, and each soon after it, whatever happened between two looks."""

from dataclasses import dataclass
from enum import Enum

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tcppar.policy.idleness import BROKEN, Limits, Sight, Vigil
from tcppar.policy.life import EndedBy
from tcppar.policy.timers import NEVER

BEGIN = 1000.0
LAST = BEGIN + 60
SECONDS = st.integers(1, 40).map(float)
ANY_TIME = st.none() | SECONDS


class Happening(Enum):
    """What can happen on a connection."""

    CLIENT_SENDS = "three bytes come"
    PROGRAM_READS = "a byte of what has come is read"
    PROGRAM_SENDS = "something is sent"
    CLIENT_CLOSES = "the client's end of the stream comes"
    BREAKS = "it is reset"


@dataclass
class Simulated:
    """A connection, as a kernel knows it, and what nobody is told: when the program has last done something."""

    sent_at: float = BEGIN
    received_at: float = BEGIN
    acted_at: float = BEGIN
    gone_at: float = NEVER
    broken_at: float = BEGIN
    unread: int = 0
    broken: bool = False

    def happen(self, what: Happening, now: float) -> None:
        if what is Happening.BREAKS:
            self.gone_at = min(self.gone_at, now)
            self.broken_at = self.broken_at if self.broken else now
            self.broken = True
        elif self.broken:
            return
        elif what is Happening.CLIENT_SENDS and self.gone_at == NEVER:
            self.received_at = now
            self.unread += 3
        elif what is Happening.CLIENT_CLOSES and self.gone_at == NEVER:
            self.gone_at = now
            self.unread += 1
        elif what is Happening.PROGRAM_READS and self.unread:
            self.acted_at = now
            self.unread -= 1
        elif what is Happening.PROGRAM_SENDS:
            self.acted_at = self.sent_at = now

    def seen(self, now: float) -> Sight:
        if self.broken:
            return BROKEN
        return Sight(self.gone_at <= now, now - self.sent_at, now - self.received_at, self.unread)


def ended(limits: Limits, connection: Simulated, happenings: list[tuple[float, Happening]]) -> tuple[EndedBy, float]:
    """How and when it ends, if it is looked at whenever that is due, and nothing happens after `happenings`."""
    vigil = Vigil(limits, BEGIN)
    left = sorted(happenings, key=lambda pair: pair[0])
    while True:
        now = vigil.due_at
        while left and left[0][0] <= now:
            when, what = left.pop(0)
            connection.happen(what, when)
        rule = vigil.look(connection.seen(now), limits, now)
        if rule is not None:
            return rule, now
        assert now < vigil.due_at < BEGIN + 1000


HAPPENINGS = st.lists(
    st.tuples(st.integers(0, 60).map(lambda seconds: BEGIN + seconds), st.sampled_from(Happening)), max_size=10
)


@given(SECONDS, ANY_TIME, HAPPENINGS)
@example(30.0, None, [(BEGIN + 29, Happening.CLIENT_SENDS), (BEGIN + 29, Happening.BREAKS)])
def test_no_connection_is_idle_before_its_time(
    idle_timeout: float, gone: float | None, happenings: list[tuple[float, Happening]]
) -> None:
    connection = Simulated()
    rule, now = ended(Limits(idle_timeout, gone), connection, happenings)
    if rule is EndedBy.IDLE_TIMEOUT:
        assert now - max(connection.sent_at, connection.received_at) >= idle_timeout


@given(ANY_TIME, SECONDS, HAPPENINGS)
@example(None, 30.0, [(BEGIN, Happening.CLIENT_SENDS), (BEGIN + 1, Happening.CLIENT_CLOSES)])
@example(None, 30.0, [(BEGIN, Happening.CLIENT_CLOSES), (BEGIN + 20, Happening.PROGRAM_SENDS)])
@example(
    None,
    30.0,
    [
        (BEGIN, Happening.CLIENT_SENDS),
        (BEGIN + 1, Happening.CLIENT_CLOSES),
        (BEGIN + 20, Happening.PROGRAM_READS),
        (BEGIN + 44, Happening.PROGRAM_READS),
    ],
)
def test_no_program_is_ended_for_a_client_that_is_gone_before_its_time(
    idle_timeout: float | None, gone: float, happenings: list[tuple[float, Happening]]
) -> None:
    connection = Simulated()
    # It ends by the one rule or the other once all has happened: a client that stays for ever would be looked at so.
    happenings = [*happenings, (LAST + 1, Happening.CLIENT_CLOSES)]
    rule, now = ended(Limits(idle_timeout, gone), connection, happenings)
    if rule is EndedBy.CLIENT_GONE:
        assert now - max(connection.gone_at, connection.acted_at) >= gone


@given(SECONDS, HAPPENINGS)
def test_an_idle_connection_ends_at_its_time(idle_timeout: float, happenings: list[tuple[float, Happening]]) -> None:
    connection = Simulated()
    rule, now = ended(Limits(idle_timeout=idle_timeout), connection, happenings)
    assert rule is EndedBy.IDLE_TIMEOUT
    # What a broken connection did between the last look and its end is not known.
    late = idle_timeout if connection.broken else 0.0
    assert now - max(connection.sent_at, connection.received_at) <= idle_timeout + late


@given(SECONDS, HAPPENINGS)
def test_a_program_whose_client_is_gone_ends_soon_after_its_time(
    gone: float, happenings: list[tuple[float, Happening]]
) -> None:
    connection = Simulated()
    happenings = [*happenings, (LAST + 1, Happening.CLIENT_CLOSES)]
    rule, now = ended(Limits(end_when_client_gone=gone), connection, happenings)
    assert rule is EndedBy.CLIENT_GONE
    # That a client has gone is seen within half the time; what its program read or lost after that, within all of it.
    assert now - max(connection.gone_at, connection.acted_at, connection.broken_at) <= 2 * gone


def test_a_program_that_notices_nothing_ends_half_its_time_late_at_most() -> None:
    limits = Limits(end_when_client_gone=30.0)
    for tenths in range(150):
        rule, now = ended(limits, Simulated(), [(BEGIN + tenths / 10, Happening.CLIENT_CLOSES)])
        assert rule is EndedBy.CLIENT_GONE
        assert 30.0 <= now - (BEGIN + tenths / 10) <= 45.0


def test_a_client_that_stays_and_is_silent_is_not_gone() -> None:
    limits = Limits(end_when_client_gone=30.0)
    vigil = Vigil(limits, BEGIN)
    for _ in range(100):
        now = vigil.due_at
        assert vigil.look(Simulated().seen(now), limits, now) is None
        assert vigil.due_at - now == 15.0


def test_the_time_in_the_queue_does_not_count() -> None:
    limits = Limits(idle_timeout=10.0)
    vigil = Vigil(limits, BEGIN)
    assert vigil.look(Sight(False, sent_ago=60.0, received_ago=60.0, unread=0), limits, BEGIN + 9) is None
    assert vigil.due_at == BEGIN + 10


@pytest.mark.parametrize(
    ("limits", "period"),
    [
        (Limits(), NEVER),
        (Limits(idle_timeout=60.0), 60.0),
        (Limits(end_when_client_gone=60.0), 30.0),
        (Limits(idle_timeout=20.0, end_when_client_gone=60.0), 20.0),
    ],
)
def test_looks_are_as_seldom_as_they_can_be(limits: Limits, period: float) -> None:
    assert limits.period == period
    assert bool(limits) is (period < NEVER)
