"""Everything at once: a server under load, to which faults of all kinds are done, and what became of its clients."""

import random
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass

from tcppar.testing import faults, holdings, subject
from tcppar.testing.client import Manner, Wait
from tcppar.testing.load import Load
from tcppar.testing.report import Event, Report
from tcppar.testing.subject import Subject

SHORTAGE = 2.0
STORM = 2.0
# Workers that are idle are let go after ten seconds.
_CALM = 12.0
# After a shortage the server looks again within a second, and then has a queue to work off.
_RECOVERY = 2.0
_SERVICES = (subject.PROGRAM, subject.FORK, subject.POOL)


def _out_of_descriptors(tried: Subject) -> None:
    _last(faults.short_of_descriptors(tried.server))


def _out_of_processes(tried: Subject) -> None:
    _last(faults.short_of_processes(tried.server, subject.FORK))


def _last(shortage: AbstractContextManager[None]) -> None:
    with shortage:
        threading.Event().wait(SHORTAGE)


def _kill_child(tried: Subject) -> None:
    tried.books.see(faults.kill_child(tried.server, random.choice(_SERVICES)))


KINDS: Mapping[str, Callable[[Subject], object]] = {
    "reset": lambda tried: faults.reset(tried.server),
    "reload": lambda tried: faults.reload(tried.server),
    "upgrade": lambda tried: faults.upgrade(tried.server),
    "supervisor killed": lambda tried: faults.kill_supervisor(tried.server),
    "spawner killed": lambda tried: faults.kill_spawner(tried.server, random.choice(_SERVICES)),
    "child killed": _kill_child,
    "storm of SIGCHLD": lambda tried: faults.storm(tried.server, STORM),
    "out of descriptors": _out_of_descriptors,
    "out of processes": _out_of_processes,
}
"""What can be done to a server, by its name."""

_OF_LINUX = {"upgrade", "supervisor killed", "out of descriptors", "out of processes"}

SHORTAGES = {"out of descriptors", "out of processes"}
"""Those in which clients may be late."""


Progress = Callable[[str], object]
"""Is told now and then how far it is."""


@dataclass(frozen=True, slots=True)
class Plan:
    """A run.

    Attributes:
        seconds: how long it lasts at the least.
        connections: how many there are at the least.
        rate: how many clients come each second.
        faults: how many of each kind (`KINDS`) are spread over the time.
        seed: of their order.
    """

    seconds: float
    connections: int
    rate: float
    faults: Mapping[str, int]
    seed: int = 1

    def order(self) -> list[str]:
        """All faults in the order in which they are done."""
        row = [kind for kind, number in self.faults.items() for _ in range(number)]
        random.Random(self.seed).shuffle(row)
        return row


FAULTS: Mapping[str, int] = {
    "reset": 100,
    "upgrade": 20,
    "supervisor killed": 20,
    "spawner killed": 10,
    "child killed": 10,
    "reload": 5,
    "storm of SIGCHLD": 5,
    "out of descriptors": 2,
    "out of processes": 2,
}
"""The goal that the project has set itself: nobody is lost by all of these."""


def run(plan: Plan, say: Progress = print) -> Report:
    """Run it to its end.

    Args:
        plan: what is done.
        say: is told now and then how far it is.

    Raises:
        AssertionError: the server could not be started, or not even be warmed up.
    """
    with Subject(keep=True, user=subject.less_than_root()) as tried:
        say("warming up")
        _warm_up(tried, plan.rate)
        before = tried.settle(_CALM)
        with tried.load(plan.rate) as load:
            events, undone = do(plan, tried, load, say)
        say("is everything as before?")
        after = tried.settle(_CALM)
        outcome = load.outcome
        excused = _excused(outcome.waits, events)
        late = outcome.late - excused
        problems = [
            *undone,
            *(f"{loss}" for loss in outcome.losses),
            *([f"{late} clients were late, the first of them {_first_late(outcome.waits, events)}"] if late else []),
            *(f"zombie {pid}" for pid in holdings.zombies(tried.server)),
            *holdings.differences(before, after),
            *tried.problems(),
        ]
    return Report.of(outcome, events, excused=excused, problems=problems, before=before, after=after)


def _warm_up(tried: Subject, rate: float) -> None:
    """What is used for the first time takes memory for good."""
    with tried.load(rate):
        for kind in ("upgrade", "reset", "supervisor killed", "spawner killed"):
            KINDS[kind](tried)
            threading.Event().wait(1)
    # Whoever was busy last gets the next connection: the last workers have one only when all others are busy.
    with tried.load(rate / 4, manners={Manner.TALK: 1, Manner.BULK: 1}):
        threading.Event().wait(3)


def possible(*, linux: bool, binding: bool) -> set[str]:
    """The kinds that can be done here.

    Args:
        linux: whether the server has all its features.
        binding: whether limits on processes bind the children.
    """
    impossible = (set() if linux else _OF_LINUX) | (set() if binding else {"out of processes"})
    return KINDS.keys() - impossible


def do(plan: Plan, tried: Subject, load: Load, say: Progress) -> tuple[list[Event], list[str]]:
    """Do all of the plan; each fault at its time, or when the one before it is over. What was done, and what could not
    be: then the rest is left undone too.
    """
    order, events = plan.order(), list[Event]()
    began = time.monotonic()
    over = threading.Event()
    for number, kind in enumerate(order):
        over.wait(max(0.0, began + plan.seconds * (number + 0.5) / len(order) - time.monotonic()))
        say(f"{number + 1} of {len(order)}: {kind}; {_so_far(load)}")
        at = time.monotonic()
        try:
            KINDS[kind](tried)
        except AssertionError as error:
            return events, [f"fault {number + 1} of {len(order)}, {kind}, was not dealt with: {error}"]
        events.append(Event(kind, at, time.monotonic()))
    while load.running and (time.monotonic() < began + plan.seconds or load.outcome.done < plan.connections):
        say(_so_far(load))
        over.wait(1)
    return events, []


def _so_far(load: Load) -> str:
    return f"{load.outcome.done:,} connections, {load.outcome.failed} lost"


def _is_excused(wait: Wait, events: list[Event]) -> bool:
    """Whether it was late for a shortage."""
    return any(
        wait.began < event.ended + _RECOVERY and wait.ended > event.began for event in events if event.kind in SHORTAGES
    )


def _excused(waits: list[Wait], events: list[Event]) -> int:
    return sum(_is_excused(wait, events) for wait in waits)


def _first_late(waits: list[Wait], events: list[Event]) -> Wait | None:
    return next((wait for wait in waits if not _is_excused(wait, events)), None)
