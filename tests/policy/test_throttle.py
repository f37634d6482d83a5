"""What happens again and again is told once a period, and nothing is left out of the counts."""

from itertools import accumulate, pairwise

from hypothesis import given
from hypothesis import strategies as st

from tcppar.policy.throttle import PERIOD, Throttle

# The times of occurrences: each comes some while after the one before.
TIMES = st.lists(st.integers(0, 20), min_size=1, max_size=50).map(lambda gaps: list(accumulate(gaps)))


def test_the_first_occurrence_is_told_at_once() -> None:
    assert Throttle().note("accept", now=0.0) == 1


def test_those_within_the_period_are_told_by_the_first_that_comes_after_it() -> None:
    throttle = Throttle(period=10.0)
    assert [throttle.note("accept", now) for now in (0.0, 1.0, 9.9, 10.0)] == [1, 0, 0, 3]


@given(TIMES)
def test_every_occurrence_is_told_once_but_for_those_of_the_last_period(times: list[int]) -> None:
    throttle = Throttle()
    told = [throttle.note("accept", now) for now in times]
    last = max(index for index, count in enumerate(told) if count)
    assert sum(told) == last + 1


@given(TIMES)
def test_two_tellings_of_a_kind_are_at_least_a_period_apart(times: list[int]) -> None:
    throttle = Throttle()
    told_at = [now for now in times if throttle.note("accept", now)]
    assert all(after - before >= PERIOD for before, after in pairwise(told_at))


@given(TIMES, TIMES)
def test_kinds_do_not_know_of_each_other(some: list[int], others: list[int]) -> None:
    alone, both = Throttle(), Throttle()
    mixed = sorted([(now, "wait") for now in some] + [(now, "accept") for now in others])
    together = [both.note(kind, now) for now, kind in mixed]
    assert [count for count, (_, kind) in zip(together, mixed, strict=True) if kind == "wait"] == [
        alone.note("wait", now) for now in some
    ]
