"""When a service gets one more spawner."""

from hypothesis import given
from hypothesis import strategies as st

from tcppar.policy.growth import wants_another

SHARE = 10
PROCESSORS = 4
LOADS = st.lists(st.integers(0, 2 * SHARE), max_size=2 * PROCESSORS)
SOME_LOADS = LOADS.filter(bool)
WAITING = st.integers(0, 100)


def wanted(loads: list[int], *, starting: int = 0, waiting: int = 0, fixed: int | None = None) -> bool:
    return wants_another(
        loads, starting=starting, waiting=waiting, processors=PROCESSORS, per_spawner=SHARE, fixed=fixed
    )


def test_a_service_without_a_spawner_wants_one() -> None:
    assert wanted([])


@given(LOADS, WAITING)
def test_one_on_the_way_is_enough(loads: list[int], waiting: int) -> None:
    assert not wanted(loads, starting=1, waiting=waiting)


@given(LOADS, st.integers(0, 3), WAITING, st.integers(1, 10))
def test_a_fixed_number_is_reached_and_not_exceeded_whatever_the_load(
    loads: list[int], starting: int, waiting: int, fixed: int
) -> None:
    assert wanted(loads, starting=starting, waiting=waiting, fixed=fixed) is (len(loads) + starting < fixed)


@given(SOME_LOADS)
def test_another_is_wanted_when_all_have_their_share_however_many_processors_there_are(loads: list[int]) -> None:
    assert wanted(loads) is all(load >= SHARE for load in loads)


@given(st.lists(st.integers(0, SHARE - 1), min_size=1, max_size=4 * PROCESSORS), st.integers(1, 100))
def test_clients_that_wait_call_for_another_up_to_two_for_each_processor(loads: list[int], waiting: int) -> None:
    assert wanted(loads, waiting=waiting) is (len(loads) < 2 * PROCESSORS)


@given(SOME_LOADS, WAITING)
def test_a_spawner_more_never_makes_another_one_wanted(loads: list[int], waiting: int) -> None:
    if not wanted(loads, waiting=waiting):
        assert not wanted([*loads, 0], waiting=waiting)
