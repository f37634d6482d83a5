"""Deadlines: the earliest first, each once, none that was called off."""

import tracemalloc
from functools import partial

from hypothesis import given
from hypothesis import strategies as st

from tcppar.policy.timers import NEVER, Timers

TIMES = st.integers(0, 20)
# Deadlines, each with whether it is called off.
DEADLINES = st.lists(st.tuples(TIMES, st.booleans()), max_size=30)


def nothing() -> None:
    """An action that nobody needs."""


@given(DEADLINES, st.lists(TIMES, max_size=10).map(sorted))
def test_what_is_due_runs_once_in_the_order_of_deadlines_and_then_of_setting(
    deadlines: list[tuple[int, bool]], passes: list[int]
) -> None:
    timers, ran = Timers(), list[int]()
    set_timers = [timers.at(when, partial(ran.append, number)) for number, (when, _) in enumerate(deadlines)]
    for timer, (_, called_off) in zip(set_timers, deadlines, strict=True):
        if called_off:
            timer.cancel()
    kept = sorted((when, number) for number, (when, called_off) in enumerate(deadlines) if not called_off)
    for now in passes:
        timers.run_due(now)
        assert ran == [number for when, number in kept if when <= now]


@given(DEADLINES, TIMES)
def test_nobody_who_looks_at_the_next_deadline_is_late_for_one(deadlines: list[tuple[int, bool]], now: int) -> None:
    timers = Timers()
    for when, called_off in deadlines:
        timer = timers.at(when, nothing)
        if called_off:
            timer.cancel()
    timers.run_due(now)
    assert timers.next_at == min((when for when, _ in deadlines if when > now), default=NEVER)


@given(st.lists(TIMES, min_size=1))
def test_a_new_timer_may_be_the_next(deadlines: list[int]) -> None:
    timers = Timers()
    for count, when in enumerate(deadlines, start=1):
        timers.at(when, nothing)
        assert timers.next_at == min(deadlines[:count])


def test_a_timer_that_an_action_sets_and_that_is_due_runs_in_the_same_pass() -> None:
    timers, ran = Timers(), list[str]()

    def first() -> None:
        ran.append("first")
        timers.at(1.0, lambda: ran.append("second"))

    timers.at(1.0, first)
    timers.run_due(1.0)
    assert ran == ["first", "second"]


def test_an_action_can_call_off_another_that_is_due_in_the_same_pass() -> None:
    timers, ran = Timers(), list[str]()
    timers.at(1.0, lambda: doomed.cancel())
    doomed = timers.at(2.0, lambda: ran.append("doomed"))
    timers.run_due(3.0)
    assert ran == []
    assert timers.next_at == NEVER


def test_calling_off_a_timer_that_has_run_changes_nothing() -> None:
    timers, ran = Timers(), list[str]()
    timer = timers.at(1.0, lambda: ran.append("once"))
    timers.run_due(1.0)
    timer.cancel()
    timers.run_due(2.0)
    assert ran == ["once"]


def test_what_was_called_off_takes_no_room_until_its_time() -> None:
    timers = Timers()
    kept = [timers.at(1e9, nothing) for _ in range(100)]
    tracemalloc.start()
    for _ in range(10_000):
        timers.at(1e9, nothing).cancel()
    held, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert held < 1000 * len(kept)
