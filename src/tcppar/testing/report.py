"""What became of a run: figures for programs, lines for people."""

from collections import Counter

import msgspec
from msgspec import Struct

from tcppar.testing.client import Failure
from tcppar.testing.holdings import Holdings
from tcppar.testing.load import Outcome


class Event(Struct, frozen=True):
    """A fault that was done: from when to when, on the monotonic clock."""

    kind: str
    began: float
    ended: float


class Instant(Struct, frozen=True):
    """A second of the run: when it began, counted from the start; connections that ended in it; seconds to the first
    answer.
    """

    at: float
    done: int
    median: float
    p99: float
    longest: float


class Report(Struct, frozen=True):
    """A run.

    Attributes:
        seconds: how long it was.
        connections: how many have ended, `rude` of them without wanting to be served.
        failures: how many were lost, by kind; late ones (over a second) come to `late`, or to `excused` when the system
            was made to be short of something.
        faults: how many were done, by kind.
        problems: all that was not as it should be; empty if everything was.
        before, after: what the server held, with nobody connected, after a warm-up and at the end.
        instants: the run second by second.
        events: the faults, their times counted from the start.
    """

    seconds: float
    connections: int
    rude: int
    failures: dict[str, int]
    late: int
    excused: int
    faults: dict[str, int]
    problems: list[str]
    before: Holdings
    after: Holdings
    instants: list[Instant]
    events: list[Event]

    @classmethod
    def of(
        cls,
        outcome: Outcome,
        events: list[Event],
        *,
        excused: int,
        problems: list[str],
        before: Holdings,
        after: Holdings,
    ) -> "Report":
        """Of what a load has come to."""
        start = outcome.seconds[0].at if outcome.seconds else 0.0
        instants = [
            Instant(second.at - start, second.done, second.median, second.p99, second.longest)
            for second in outcome.seconds
        ]
        return cls(
            seconds=instants[-1].at + 1 if instants else 0.0,
            connections=outcome.done,
            rude=outcome.rude,
            failures={kind.value: outcome.failures[kind] for kind in Failure},
            late=outcome.late - excused,
            excused=excused,
            faults=dict(Counter(event.kind for event in events)),
            problems=problems,
            before=before,
            after=after,
            instants=instants,
            events=[Event(event.kind, event.began - start, event.ended - start) for event in events],
        )

    @property
    def passed(self) -> bool:
        """Whether nobody was lost, and nothing is left."""
        return not self.problems

    def figures(self) -> bytes:
        """As a JSON object, for programs: all but the course of time."""
        course = ("instants", "events")
        figures = {name: getattr(self, name) for name in self.__struct_fields__ if name not in course}
        return msgspec.json.format(msgspec.json.encode(figures)) + b"\n"

    def lines(self) -> list[str]:
        """For people."""
        failures = ", ".join(f"{number} {kind}" for kind, number in self.failures.items())
        return [
            f"{self.connections:,} connections in {self.seconds:.0f} s: {self.connections / self.seconds:.0f} a second",
            f"faults: {', '.join(f'{number} x {kind}' for kind, number in sorted(self.faults.items()))}",
            f"clients: {failures}, {self.late} late ({self.excused} in a shortage)",
            *(f"{role}: {held}; before: {self.before[role]}" for role, held in self.after.items()),
            *(self.problems or ["nothing was lost"]),
        ]
