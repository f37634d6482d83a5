"""Delays that double with every failure in a row."""

from hypothesis import given
from hypothesis import strategies as st

from tcppar.policy.strikes import Backoff

SECONDS = st.floats(0.001, 1000.0)
BOUNDS = st.tuples(SECONDS, SECONDS).map(lambda bounds: (min(bounds), max(bounds)))


@given(BOUNDS, st.integers(1, 40))
def test_each_failure_in_a_row_doubles_the_delay_up_to_the_longest(bounds: tuple[float, float], failures: int) -> None:
    first, longest = bounds
    backoff = Backoff(first, longest)
    assert [backoff.fail() for _ in range(failures)] == [min(longest, first * 2**n) for n in range(failures)]


@given(BOUNDS, st.integers(0, 40))
def test_a_success_starts_the_delays_again(bounds: tuple[float, float], failures: int) -> None:
    backoff = Backoff(*bounds)
    for _ in range(failures):
        backoff.fail()
    backoff.succeed()
    assert backoff.fail() == bounds[0]


@given(BOUNDS, st.lists(st.booleans(), max_size=40))
def test_it_is_failing_exactly_when_the_last_thing_known_is_a_failure(
    bounds: tuple[float, float], calls: list[bool]
) -> None:
    backoff = Backoff(*bounds)
    assert not backoff.failing
    for works in calls:
        if works:
            backoff.succeed()
        else:
            backoff.fail()
        assert backoff.failing is not works
