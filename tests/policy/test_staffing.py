"""When a pool gets one more worker."""

from hypothesis import given
from hypothesis import strategies as st

from tcppar.policy.staffing import PATIENCE, wants_another
from tcppar.quantities import Bounds

LEAST, MOST = 4, 9
BOUNDS = Bounds(f"{LEAST}-{MOST}")
ENOUGH = st.integers(LEAST, 2 * MOST)
STARTING = st.integers(0, LEAST)
LONG = st.floats(PATIENCE, 3600)
SHORT = st.floats(0, PATIENCE, exclude_max=True)
ANY_TIME = st.none() | SHORT | LONG


def wanted(workers: int, *, starting: int = 0, waited: float | None = None) -> bool:
    return wants_another(BOUNDS, workers=workers, starting=starting, waited=waited)


@given(st.integers(0, LEAST - 1), STARTING, ANY_TIME)
def test_below_the_least_one_is_wanted_whatever_else_is_true(workers: int, starting: int, waited: float | None) -> None:
    assert wanted(workers, starting=starting, waited=waited)


@given(st.integers(MOST, 2 * MOST), STARTING, ANY_TIME)
def test_beyond_the_most_none_is_wanted_however_long_a_client_waits(
    workers: int, starting: int, waited: float | None
) -> None:
    assert not wanted(workers, starting=starting, waited=waited)


@given(ENOUGH, STARTING)
def test_while_nobody_waits_the_least_are_enough(workers: int, starting: int) -> None:
    assert not wanted(workers, starting=starting)


@given(ENOUGH, SHORT)
def test_a_client_that_waits_briefly_gets_one_that_becomes_free(workers: int, waited: float) -> None:
    assert not wanted(workers, waited=waited)


@given(st.integers(LEAST, MOST - 1), LONG)
def test_for_a_client_that_waits_long_one_is_wanted_up_to_the_most(workers: int, waited: float) -> None:
    assert wanted(workers, waited=waited)


@given(st.integers(LEAST, MOST - 1), st.integers(1, LEAST), ANY_TIME)
def test_beyond_the_least_one_on_the_way_is_enough(workers: int, starting: int, waited: float | None) -> None:
    assert not wanted(workers, starting=starting, waited=waited)


@given(st.integers(0, 2 * MOST), ANY_TIME)
def test_with_equal_bounds_there_are_always_so_many(workers: int, waited: float | None) -> None:
    fixed = Bounds(LEAST)
    assert wants_another(fixed, workers=workers, starting=0, waited=waited) is (workers < LEAST)
