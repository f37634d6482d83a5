"""The short form, for a user's machine: one kind of fault after the other, and a verdict on each."""

import os
import socket
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from signal import SIGTERM

import click
import msgspec
from msgspec import Struct

from tcppar.errors import ConfigurationError, SystemRefused
from tcppar.net import platform
from tcppar.testing import chaos, holdings, subject
from tcppar.testing.chaos import Plan, Progress
from tcppar.testing.client import Greeting, Manner
from tcppar.testing.load import MIXED, Outcome
from tcppar.testing.processes import PATIENCE, allow_descriptors
from tcppar.testing.server import read_all, read_line
from tcppar.testing.subject import Subject

RATE = 150.0
"""Clients a second: what a small machine serves beside its other work."""
QUEUED = 20
"""Clients of each service who are there when the server is told to stop."""
DESCRIPTORS = 1024
"""How many may have to be open at once, by the clients or by the server: in a shortage clients pile up."""

_SHORTEST = 1.0
_MOST_TOLD = 5
_AROUND = 12.0  # seconds that are not a part's: the start, the look at what is left, the stop


@dataclass(frozen=True, slots=True)
class Part:
    """One kind of fault: how many of each are done (`chaos.KINDS`), and how the clients are meanwhile."""

    name: str
    faults: Mapping[str, int]
    manners: Mapping[Manner, int] = field(default_factory=lambda: MIXED)


PARTS = (
    Part("load", {}),
    Part("resets", {"reset": 20}),
    Part("signals", {"storm of SIGCHLD": 1, "reload": 1}),
    Part("shortages", {"out of descriptors": 1, "out of processes": 1}),
    Part("killed parts", {"child killed": 3, "spawner killed": 3, "supervisor killed": 3}),
    Part("upgrades", {"upgrade": 3}),
    Part("slow clients", {}, {Manner.QUICK: 20, Manner.SLOW: 2, Manner.BULK: 2}),
)


class Verdict(Struct, frozen=True):
    """On one part.

    Attributes:
        told: what was done, and what came of it.
        lost: what was lost; empty if nothing was.
    """

    part: str
    told: str
    lost: list[str]

    def __str__(self) -> str:
        """A line for people, and one more for each of the first losses."""
        more = [f"and {len(self.lost) - _MOST_TOLD} more"] if len(self.lost) > _MOST_TOLD else []
        first = f"{'FAILED' if self.lost else 'ok':6} {self.part}: {self.told}"
        return "\n    ".join([first, *self.lost[:_MOST_TOLD], *more])


def chosen(names: Sequence[str]) -> list[Part]:
    """The parts of these names; all if there are none.

    Raises:
        ConfigurationError: there is no part of a name.
    """
    known = [part.name for part in PARTS]
    if unknown := [name for name in names if name not in known]:
        expected = ", ".join(f"'{name}'" for name in known)
        raise ConfigurationError([f"--only '{name}': expected one of {expected}" for name in unknown])
    return [part for part in PARTS if not names or part.name in names]


def run(parts: Sequence[Part], seconds: float, say: Progress) -> Iterator[Verdict]:
    """One part after the other.

    Args:
        parts: which; one without a fault comes before them in any case, for everything is compared with it.
        seconds: how long it takes altogether, about.
        say: is told how far it is.

    Raises:
        SystemRefused: the server under test does not start, or too few descriptors may be open.
    """
    if not allow_descriptors(DESCRIPTORS):
        raise SystemRefused(f"the clients need {DESCRIPTORS} open descriptors, but the limit here is lower (ulimit -n)")
    features = platform.detect()
    user = subject.less_than_root()
    try:
        tried = Subject(keep=features.shared_descriptors, user=user)
    except AssertionError as error:
        raise SystemRefused(f"the server under test does not start: {error}") from None
    with tried:
        possible = chaos.possible(linux=features.shared_descriptors, binding=user is not None or os.geteuid() != 0)
        each = max(_SHORTEST, (seconds - _AROUND) / len(parts))
        yield _try(tried, PARTS[0], possible, each, say)
        before = tried.settle()
        for part in parts:
            if part is not PARTS[0]:
                yield _try(tried, part, possible, each, say)
        say("what is left")
        yield _left(before, tried)
        yield _stop(tried)


def _try(tried: Subject, part: Part, possible: set[str], seconds: float, say: Progress) -> Verdict:
    wanted = {kind: times for kind, times in part.faults.items() if kind in possible}
    with tried.load(RATE, manners=part.manners) as load:
        _, undone = chaos.do(Plan(seconds, 0, RATE, wanted), tried, load, lambda text: say(f"{part.name}: {text}"))
    done = [f"{times} x {kind}" for kind, times in wanted.items()]
    cannot = [f"{kind}: not possible here" for kind in part.faults if kind not in possible]
    told = ", ".join([*done, *cannot, *_what_came(load.outcome)])
    return Verdict(part.name, told, [*undone, *map(str, load.outcome.losses)])


def _what_came(outcome: Outcome) -> Iterator[str]:
    yield f"{outcome.done:,} connections"
    yield f"{outcome.failed} lost" if outcome.failed else "none lost"
    if outcome.waits:
        longest = max(wait.ended - wait.began for wait in outcome.waits)
        yield f"{outcome.late} late (up to {longest:.1f} s)"


def _left(before: holdings.Holdings, tried: Subject) -> Verdict:
    after = tried.settle()
    zombies = [f"zombie {pid}" for pid in holdings.zombies(tried.server)]
    held = ", ".join(f"{role} {one}" for role, one in after.items() if one.processes)
    return Verdict("what is left", held, [*zombies, *holdings.differences(before, after)])


def _stop(tried: Subject) -> Verdict:
    """Clients who have connected, and are served though it stops; then the books."""
    queued = [
        socket.create_connection(tried.server.address_of(service), timeout=PATIENCE)
        for service in subject.SHARES
        for _ in range(QUEUED)
    ]
    tried.server.signal(SIGTERM)
    lost = [text for client in queued if (text := _converse(client, tried))]
    problems = tried.problems()
    told = f"{len(queued)} clients in the queue, {tried.books.recorded:,} connections in the books"
    return Verdict("stop", told, [*lost, *problems])


def _converse(client: socket.socket, tried: Subject) -> str:
    """What is amiss; empty if nothing is."""
    data = b"after all"
    try:
        with client:
            greeting = Greeting.read(read_line(client).encode() + b"\n")
            assert greeting is not None, "no greeting"
            tried.books.see(greeting)
            client.sendall(data)
            client.shutdown(socket.SHUT_WR)
            assert (answer := read_all(client)) == data, f"{answer!r} came back"
    except (OSError, AssertionError) as error:
        return f"a queued client: {error}"
    return ""


# What people see.


def show(only: Sequence[str], seconds: float, *, as_json: bool) -> bool:
    """Run it, and print a verdict a line, or all as one JSON object; whether all has passed.

    Meanwhile, on a terminal, a line says how far it is.

    Raises:
        ConfigurationError: there is no such part.
        SystemRefused: as `run`.
    """
    verdicts = []
    with _Line() as line:
        for verdict in run(chosen(only), seconds, line.write):
            verdicts.append(verdict)
            line.clear()
            if not as_json:
                click.echo(str(verdict))
    passed = not any(verdict.lost for verdict in verdicts)
    if as_json:
        click.echo(msgspec.json.encode({"passed": passed, "verdicts": verdicts}))
    else:
        click.echo("nothing was lost" if passed else "something was lost")
    return passed


class _Line:
    """A line on the terminal that is written over; nothing elsewhere."""

    def __init__(self) -> None:
        self._is_seen = sys.stderr.isatty()

    def write(self, text: str) -> None:
        """Show that in place of what was shown."""
        if self._is_seen:
            width = os.get_terminal_size(sys.stderr.fileno()).columns - 1
            click.echo(f"\r\033[K{text[:width]}", nl=False, err=True)

    def clear(self) -> None:
        """Show nothing."""
        self.write("")

    def __enter__(self) -> "_Line":
        return self

    def __exit__(self, *_: object) -> None:
        self.clear()
