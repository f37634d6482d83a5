"""Which failures in a row are passed over, which asks for a reset, and how long nothing is looked at after one."""

from hypothesis import given
from hypothesis import strategies as st

from tcppar.policy.strikes import FIRST_PAUSE, LONGEST_PAUSE, Strikes, Verdict

TOLERATED = st.integers(0, 20)


def pauses(strikes: Strikes, resets: int) -> list[float]:
    """The pauses after that many resets in a row, of strikes that tolerate nothing."""
    found = []
    for _ in range(resets):
        assert strikes.strike() is Verdict.RESET
        found.append(strikes.pause())
    return found


@given(TOLERATED)
def test_as_many_failures_as_tolerated_are_passed_over_and_the_next_asks_for_a_reset(tolerated: int) -> None:
    strikes = Strikes(tolerated)
    assert [strikes.strike() for _ in range(tolerated + 1)] == [Verdict.TOLERATE] * tolerated + [Verdict.RESET]


@given(TOLERATED, st.lists(st.booleans(), max_size=200))
def test_only_failures_since_the_last_success_or_reset_count(tolerated: int, calls: list[bool]) -> None:
    strikes, failures = Strikes(tolerated), 0
    for works in calls:
        if works:
            strikes.success()
            failures = 0
            continue
        failures += 1
        is_one_too_many = failures % (tolerated + 1) == 0
        assert strikes.strike() is (Verdict.RESET if is_one_too_many else Verdict.TOLERATE)


@given(TOLERATED, st.lists(st.booleans(), max_size=50))
def test_it_is_clean_exactly_when_the_last_thing_known_is_a_success(tolerated: int, calls: list[bool]) -> None:
    strikes = Strikes(tolerated)
    assert strikes.clean
    for works in calls:
        if works:
            strikes.success()
        else:
            strikes.strike()
        assert strikes.clean is works


@given(TOLERATED, TOLERATED)
def test_a_changed_tolerance_holds_from_the_next_failure_on(before: int, after: int) -> None:
    strikes = Strikes(before)
    strikes.tolerated = after
    assert [strikes.strike() for _ in range(after + 1)].index(Verdict.RESET) == after


def test_the_first_reset_is_followed_by_a_look_at_once_and_further_ones_by_ever_longer_pauses() -> None:
    assert pauses(Strikes(0), 8) == [0.0, 1.0, 2.0, 4.0, 8.0, 16.0, 30.0, 30.0]
    assert (FIRST_PAUSE, LONGEST_PAUSE) == (1.0, 30.0)


@given(st.integers(1, 10))
def test_after_a_success_a_reset_is_a_first_one_again(resets: int) -> None:
    strikes = Strikes(0)
    pauses(strikes, resets)
    strikes.success()
    assert pauses(strikes, 2) == [0.0, FIRST_PAUSE]
