"""The one place that waits: sources, signals, deadlines, and what happens if waiting itself fails."""

import errno
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from signal import Signals

import pytest

from tcppar.net.waiter import Poller, Source, Waiter
from tcppar.policy.strikes import Strikes, Verdict
from tcppar.policy.timers import NEVER
from tests.support.descriptors import no_descriptor_free

# What waits for ever instead of failing is a failure.
pytestmark = pytest.mark.timeout(10)

TOLERATED = 2
CAUGHT = (Signals.SIGUSR1, Signals.SIGUSR2, Signals.SIGHUP)
DAYS = 86400.0


class Pipe:
    """A source that becomes readable when it is written to."""

    def __init__(self) -> None:
        self.reader, self.writer = os.pipe()

    def fileno(self) -> int:
        return self.reader

    def on_ready(self) -> None:
        """Called by loops, not by the waiter."""

    def write(self) -> None:
        os.write(self.writer, b"x")

    def close(self) -> None:
        os.close(self.reader)
        os.close(self.writer)


@pytest.fixture(params=[True, False], ids=["epoll", "poll"])
def waiter(request: pytest.FixtureRequest) -> Waiter:
    return Waiter(use_epoll=request.param, strikes=Strikes(TOLERATED))


@pytest.fixture
def pipe() -> Iterator[Pipe]:
    made = Pipe()
    yield made
    made.close()


@pytest.fixture
def other_pipe() -> Iterator[Pipe]:
    made = Pipe()
    yield made
    made.close()


def now() -> float:
    return time.monotonic()


# Sources.


def test_a_readable_source_is_told_as_long_as_it_is_readable(waiter: Waiter, pipe: Pipe, other_pipe: Pipe) -> None:
    waiter.register(pipe)
    waiter.register(other_pipe)
    assert waiter.wait(now()) == []
    pipe.write()
    assert waiter.wait(NEVER) == waiter.wait(NEVER) == [pipe]
    os.read(pipe.reader, 1)
    assert waiter.wait(now()) == []


def test_all_readable_sources_are_told_at_once(waiter: Waiter, pipe: Pipe, other_pipe: Pipe) -> None:
    for source in (pipe, other_pipe):
        waiter.register(source)
        source.write()
    assert {source.fileno() for source in waiter.wait(NEVER)} == {pipe.fileno(), other_pipe.fileno()}


def test_the_end_of_a_stream_is_something_to_read(waiter: Waiter) -> None:
    pipe = Pipe()
    waiter.register(pipe)
    os.close(pipe.writer)
    assert waiter.wait(NEVER) == [pipe]
    waiter.unregister(pipe)
    os.close(pipe.reader)


def test_a_source_is_watched_until_it_is_unregistered(waiter: Waiter, pipe: Pipe) -> None:
    watched = [waiter.watches(pipe)]
    waiter.register(pipe)
    watched.append(waiter.watches(pipe))
    waiter.unregister(pipe)
    watched.append(waiter.watches(pipe))
    pipe.write()
    assert watched == [False, True, False]
    assert waiter.wait(now()) == []


def test_to_unregister_what_is_not_registered_changes_nothing(waiter: Waiter, pipe: Pipe) -> None:
    waiter.unregister(pipe)
    waiter.register(pipe)
    waiter.unregister(pipe)
    waiter.unregister(pipe)
    assert not waiter.watches(pipe)


def test_a_descriptor_that_somebody_else_still_holds_is_not_told_once_it_is_unregistered_and_closed(
    waiter: Waiter, pipe: Pipe
) -> None:
    closed = Pipe()
    duplicate = os.dup(closed.reader)
    waiter.register(closed)
    waiter.unregister(closed)
    closed.write()
    closed.close()
    # Its number belongs to somebody else now.
    assert os.dup2(pipe.reader, closed.reader) == closed.reader
    waiter.register(closed)
    assert waiter.wait(now()) == []
    pipe.write()
    assert waiter.wait(NEVER) == [closed]
    waiter.unregister(closed)
    os.close(closed.reader)
    os.close(duplicate)


def test_a_source_that_cannot_be_watched_is_not_taken_for_watched(tmp_path: Path) -> None:
    waiter = Waiter(use_epoll=True, strikes=Strikes(TOLERATED))
    with (tmp_path / "file").open("w") as file:
        source = Pipe()
        source.close()
        source.reader = file.fileno()
        with pytest.raises(PermissionError):  # epoll does not take files
            waiter.register(source)
        assert not waiter.watches(source)


# Deadlines.


def test_without_anything_to_tell_it_waits_until_the_deadline(waiter: Waiter, pipe: Pipe) -> None:
    waiter.register(pipe)
    deadline = now() + 0.02
    assert waiter.wait(deadline) == []
    assert now() >= deadline


@pytest.mark.parametrize("ago", [0.0, 0.0001, 1.0, 1e9])
def test_a_deadline_that_has_passed_is_not_waited_for(waiter: Waiter, ago: float) -> None:
    assert waiter.wait(now() - ago) == []


@pytest.mark.parametrize("days", [1, 24, 25, 50, 365, 1_000_000])
def test_a_deadline_may_be_far_away(waiter: Waiter, pipe: Pipe, days: int) -> None:
    waiter.register(pipe)
    pipe.write()
    assert waiter.wait(now() + days * DAYS) == [pipe]


# Signals.


@pytest.fixture
def catching(waiter: Waiter) -> Iterator[Waiter]:
    """A waiter that catches signals, until the end of the test."""
    before = {number: signal.getsignal(number) for number in CAUGHT}
    waiter.catch(CAUGHT)
    yield waiter
    signal.set_wakeup_fd(-1)
    for number, handler in before.items():
        signal.signal(number, handler)


# The last is more than the pipe that wakes the waiter holds.
@pytest.mark.parametrize("storm", [1, 1_000, 70_000])
def test_of_a_storm_of_signals_before_the_wait_none_is_lost(catching: Waiter, storm: int) -> None:
    for count in range(storm):
        os.kill(os.getpid(), CAUGHT[count % len(CAUGHT)])
    assert catching.wait(NEVER) == []
    assert set(catching.take_signals()) == set(CAUGHT[:storm])


def test_each_signal_is_taken_once_and_wakes_once(catching: Waiter) -> None:
    for _ in range(1_000):
        os.kill(os.getpid(), Signals.SIGUSR1)
    catching.wait(NEVER)
    assert list(catching.take_signals()) == [Signals.SIGUSR1]
    assert list(catching.take_signals()) == []
    deadline = now() + 0.02
    catching.wait(deadline)
    assert now() >= deadline


def test_a_signal_ends_a_wait_that_has_begun(catching: Waiter) -> None:
    sender = threading.Timer(0.02, os.kill, (os.getpid(), Signals.SIGUSR2))
    sender.start()
    assert catching.wait(NEVER) == []
    assert list(catching.take_signals()) == [Signals.SIGUSR2]
    sender.join()


def test_of_a_signal_that_was_released_nobody_is_told_until_it_is_caught_again(catching: Waiter) -> None:
    catching.catch([Signals.SIGWINCH])
    catching.release([Signals.SIGWINCH])
    os.kill(os.getpid(), Signals.SIGWINCH)
    assert catching.wait(now()) == []
    assert not catching.signalled
    catching.catch([Signals.SIGWINCH])
    os.kill(os.getpid(), Signals.SIGWINCH)
    catching.wait(NEVER)
    assert catching.take_signals() == {Signals.SIGWINCH}
    catching.release([Signals.SIGWINCH])


def test_its_own_descriptors_are_those_that_it_opened() -> None:
    before = open_descriptors()
    waiter = Waiter(use_epoll=True, strikes=Strikes(TOLERATED))
    assert set(waiter.descriptors) == open_descriptors() - before


def open_descriptors() -> set[int]:
    """Ours, without the one that the list itself was read from."""
    listed = [int(name) for name in os.listdir("/proc/self/fd")]
    return {number for number in listed if os.path.exists(f"/proc/self/fd/{number}")}


def test_a_storm_of_signals_hides_no_source(catching: Waiter, pipe: Pipe) -> None:
    catching.register(pipe)
    for _ in range(1_000):
        os.kill(os.getpid(), Signals.SIGHUP)
    pipe.write()
    assert catching.wait(NEVER) == [pipe]
    assert list(catching.take_signals()) == [Signals.SIGHUP]


# A wait that fails.


class FailingPoller:
    """A poller whose next polls fail, before it works again. No real one can be made to do that at will."""

    def __init__(self, works: Poller, failures: list[int]) -> None:
        self._failures = failures
        self.works = works
        self.register = works.register
        self.unregister = works.unregister

    def poll(self, timeout: float | None = None, /) -> list[tuple[int, int]]:
        if self._failures:
            number = self._failures.pop(0)
            raise OSError(number, os.strerror(number))
        return self.works.poll(timeout)

    def close(self) -> None:
        """What an epoll object has and a poll object has not."""


def let_it_fail(waiter: Waiter, *failures: int) -> FailingPoller:
    waiter._poller = FailingPoller(waiter._poller, list(failures))
    return waiter._poller


Strike = tuple[int | None, Verdict]


@pytest.fixture
def strikes(waiter: Waiter) -> list[Strike]:
    """The strikes that the waiter tells of."""
    told: list[Strike] = []
    waiter.on_strike = lambda error, verdict: told.append((error.errno, verdict))
    return told


def test_failures_are_strikes_and_the_first_that_is_not_tolerated_asks_for_a_reset(
    waiter: Waiter, strikes: list[Strike]
) -> None:
    let_it_fail(waiter, errno.EBADF, errno.ENOMEM, errno.EINVAL)
    assert [waiter.wait(NEVER) for _ in range(3)] == [[], [], []]
    assert strikes == [
        (errno.EBADF, Verdict.TOLERATE),
        (errno.ENOMEM, Verdict.TOLERATE),
        (errno.EINVAL, Verdict.RESET),
    ]


def test_after_too_many_failures_all_that_was_registered_is_watched_by_a_new_poller(
    waiter: Waiter, pipe: Pipe, other_pipe: Pipe
) -> None:
    waiter.register(pipe)
    waiter.register(other_pipe)
    waiter.unregister(other_pipe)
    former = let_it_fail(waiter, *[errno.EBADF] * (TOLERATED + 1))
    for _ in range(TOLERATED + 1):
        waiter.wait(NEVER)
    assert waiter._poller not in (former, former.works)
    other_pipe.write()
    assert waiter.wait(now()) == []
    pipe.write()
    assert waiter.wait(NEVER) == [pipe]
    waiter.unregister(pipe)
    assert waiter.wait(now()) == []


def test_a_wait_that_works_forgives_those_that_did_not(waiter: Waiter, strikes: list[Strike]) -> None:
    for _ in range(3):
        poller = let_it_fail(waiter, *[errno.EBADF] * TOLERATED)
        for _ in range(TOLERATED + 1):
            waiter.wait(now())
        waiter._poller = poller.works
    assert strikes == [(errno.EBADF, Verdict.TOLERATE)] * 3 * TOLERATED


def test_an_interruption_is_no_strike(waiter: Waiter, strikes: list[Strike]) -> None:
    let_it_fail(waiter, *[errno.EINTR] * 100)
    assert [waiter.wait(now()) for _ in range(100)] == [[]] * 100
    assert strikes == []


def test_a_signal_that_came_before_a_reset_is_not_lost_by_it(catching: Waiter) -> None:
    let_it_fail(catching, *[errno.EBADF] * (TOLERATED + 1))
    os.kill(os.getpid(), Signals.SIGUSR1)
    for _ in range(TOLERATED + 1):
        catching.wait(NEVER)
    assert catching.wait(NEVER) == []
    assert list(catching.take_signals()) == [Signals.SIGUSR1]
    os.kill(os.getpid(), Signals.SIGUSR2)
    assert catching.wait(NEVER) == []
    assert list(catching.take_signals()) == [Signals.SIGUSR2]


def eventually(look: Callable[[], list[Source]], tries: int) -> list[Source]:
    """What is found in the first of some tries that finds anything."""
    return next((found for _ in range(tries) if (found := look())), [])


def test_a_wait_does_not_raise_even_if_no_new_poller_can_be_made(waiter: Waiter, pipe: Pipe) -> None:
    waiter.register(pipe)
    pipe.write()
    let_it_fail(waiter, *[errno.EBADF] * (TOLERATED + 1))
    with no_descriptor_free():
        assert [waiter.wait(now()) for _ in range(TOLERATED + 1)] == [[]] * (TOLERATED + 1)
    assert eventually(lambda: waiter.wait(now()), tries=2 * (TOLERATED + 1)) == [pipe]
