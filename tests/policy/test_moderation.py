"""Being told of each end while few come, and looking once a period while many do."""

from hypothesis import given
from hypothesis import strategies as st

from tcppar.policy.moderation import Moderation
from tcppar.policy.timers import NEVER

PERIOD = 1.0


def test_a_single_end_changes_nothing() -> None:
    moderation = Moderation(PERIOD)
    assert not moderation.looked(True, now=10.0)
    assert not moderation.looks
    assert moderation.look_at == NEVER


def test_two_ends_close_together_begin_the_looking() -> None:
    moderation = Moderation(PERIOD)
    moderation.looked(True, now=10.0)
    assert moderation.looked(True, now=10.5)
    assert moderation.looks
    assert moderation.look_at == 10.5 + PERIOD


def test_a_look_that_finds_nothing_ends_it() -> None:
    moderation = Moderation(PERIOD)
    moderation.looked(True, now=10.0)
    moderation.looked(True, now=10.5)
    assert not moderation.looked(True, now=11.5)
    assert moderation.looked(False, now=12.5)
    assert not moderation.looks
    assert moderation.look_at == NEVER


@given(st.lists(st.tuples(st.floats(0, 3), st.booleans())))
def test_whoever_looks_has_a_time_for_the_next_look(steps: list[tuple[float, bool]]) -> None:
    moderation, now, looks = Moderation(PERIOD), 0.0, False
    for gap, found in steps:
        now += gap
        changed = moderation.looked(found, now)
        assert changed is (moderation.looks is not looks)
        looks = moderation.looks
        assert moderation.look_at == (now + PERIOD if looks else NEVER)
