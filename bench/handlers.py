"""Python handlers against what the standard library serves with, in one run, in turns: prints the ratios.

A connection is: connect, send 64 bytes, get them back, close. Every server has the same conversation (one exchange),
the same Python and its default logging. The first part compares connections a second with 64 clients, and the median
time of a connection with one client. The second part, "open", keeps thousands of connections open to handlers in
forked processes: how much memory each takes, and what becomes of the rate of new ones. The third, "shapes", compares
handlers of different kinds (bench/shapes) with each other, in mode fork.

    python bench/handlers.py [--rounds 7] [--seconds 1.5]
    python bench/handlers.py shapes [--rounds 7] [--seconds 1.5]
    python bench/handlers.py open [--open 10000] [--rounds 7] [--seconds 1.5]
"""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

# As a script, it finds only what stands beside it.
sys.path.insert(0, str(Path(__file__).parent.parent))

from bench.common import HERE, Outcome, Peer, compiled, ending, held, in_turns, median_ratio, run_load, tcppar

LARGEST_CONNECTION_MB = 1.2
SMALLEST_RATE_KEPT = 0.8
PATIENCE = 120.0


class Measure(Enum):
    """What is compared: with how many clients, which figure of a run, and its unit."""

    RATE = (64, lambda outcome: outcome.rate, "a second")
    LATENCY = (1, lambda outcome: outcome.median_ms, "ms")

    def __init__(self, clients: int, figure: Callable[[Outcome], float], unit: str) -> None:
        self.clients = clients
        self.figure = figure
        self.unit = unit

    def of(self, load: Path, peer: Peer, seconds: float) -> float:
        return self.figure(run_load(load, peer, self.clients, self.clients, seconds))


@dataclass(frozen=True)
class Goal:
    """The ratio that is wanted, tcppar to the other: a least one for a rate, a greatest one for a time."""

    measure: Measure
    ratio: float

    def __str__(self) -> str:
        return f"at {'least' if self.measure is Measure.RATE else 'most'} {self.ratio}"


@dataclass(frozen=True)
class Comparison:
    """A mode of tcppar's, and a script of bench/peers that serves in the way of `rival`."""

    mode: str
    script: str
    rival: str
    goals: tuple[Goal, ...]


READ_AND_WRITE = "read_and_write"
# The rates that are wanted, to that of read and write; None for as near as can be.
SHAPES = {"by_socket": 0.9, "by_log": 0.8, "stream_request": 0.9, "coroutine": None}

COMPARISONS = (
    Comparison("fork", "forking.py", "ForkingTCPServer", (Goal(Measure.RATE, 2.2), Goal(Measure.LATENCY, 0.5))),
    Comparison("pool", "streams.py", "asyncio", (Goal(Measure.RATE, 1.1), Goal(Measure.LATENCY, 0.6))),
    Comparison("pool", "threads.py", "ThreadingTCPServer", (Goal(Measure.RATE, 3.0),)),
)


@contextmanager
def handler(mode: str, log: Path, name: str = "once") -> Iterator[Peer]:
    """Serve with one of tcppar's handlers in that mode."""
    options = ["--handler", f"{HERE / 'echo_handler.py'}:{name}", "--mode", mode]
    with tcppar(log, *options, name=f"tcppar {mode}") as peer:
        yield peer


@contextmanager
def shape(name: str, folder: Path) -> Iterator[Peer]:
    """Serve with the handler of a shape. Each has a module of its own: what one needs, another one is not to load."""
    with tcppar(folder / name, "--handler", f"{HERE / 'shapes' / name}.py:handle", name=name) as peer:
        yield peer


def compare_shapes(load: Path, folder: Path, rounds: int, seconds: float) -> None:
    with ExitStack() as stack:
        peers = [stack.enter_context(shape(name, folder)) for name in (READ_AND_WRITE, *SHAPES)]
        for measure in Measure:
            print(f"shapes of handlers in mode fork, clients: {measure.clients}", flush=True)
            for peer in peers:
                measure.of(load, peer, seconds)
            figures = in_turns(peers, rounds, lambda peer: measure.of(load, peer, seconds))  # noqa: B023 - called at once
            for peer, its in zip(peers, figures, strict=True):
                show(peer.name, its, measure)
                wanted = SHAPES.get(peer.name) if measure is Measure.RATE else None
                goal = "" if wanted is None else f" (goal: at least {wanted})"
                print(f"  ratio {median_ratio(its, figures[0]):.3f}{goal}", flush=True)


@contextmanager
def rival(comparison: Comparison, log: Path) -> Iterator[Peer]:
    """Serve with the other side's script. It has nothing to log: a word of it is a mistake in what was measured."""
    command = [sys.executable, str(HERE / "peers" / comparison.script)]
    with log.open("w") as stderr:
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=stderr, text=True)
    with ending(process):
        assert process.stdout is not None
        port = process.stdout.readline()
        if not port:
            sys.exit(f"{comparison.rival} did not start: {log.read_text()}")
        yield Peer(comparison.rival, int(port), process.pid)
    if complaint := log.read_text():
        sys.exit(f"{comparison.rival}: {complaint}")


def show(name: str, figures: list[float], measure: Measure) -> None:
    digits = 0 if measure is Measure.RATE else 3
    middle, least, most = (f"{value:.{digits}f}" for value in (statistics.median(figures), min(figures), max(figures)))
    print(f"  {name:18} {middle:>7} {measure.unit} (from {least} to {most})", flush=True)


def pursue(goal: Goal, load: Path, peers: list[Peer], rounds: int, seconds: float) -> None:
    """Measure both, and print how far the goal is met."""
    for peer in peers:
        goal.measure.of(load, peer, seconds)
    ours, theirs = in_turns(peers, rounds, lambda peer: goal.measure.of(load, peer, seconds))
    show(peers[0].name, ours, goal.measure)
    show(peers[1].name, theirs, goal.measure)
    print(f"  ratio {median_ratio(ours, theirs):.3f} (goal: {goal})", flush=True)


def compare(comparison: Comparison, load: Path, folder: Path, rounds: int, seconds: float) -> None:
    with handler(comparison.mode, folder / "log") as ours, rival(comparison, folder / "complaints") as theirs:
        for goal in comparison.goals:
            print(f"{ours.name} and {theirs.name}, clients: {goal.measure.clients}", flush=True)
            pursue(goal, load, [ours, theirs], rounds, seconds)


def children(pid: int) -> list[int]:
    """The processes that this one has made and not waited for (proc_pid_task(5)); none if it is gone."""
    try:
        return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except (FileNotFoundError, ProcessLookupError):
        return []


def forked(peer: Peer) -> list[int]:
    """The processes of handlers: the spawners' children, with the few that wait for a connection."""
    return [child for spawner in children(peer.pid) for child in children(spawner)]


def connections(peer: Peer) -> set[str]:
    """The server's ends of established connections, as /proc/PID/fd shows them (proc(5), proc_net_tcp)."""
    port, established = f":{peer.port:04X}", "01"
    lines = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    return {f"socket:[{line[9]}]" for line in lines if line[1].endswith(port) and line[3] == established}


def conversing(peer: Peer) -> int:
    """How many processes have a connection each."""
    ends = connections(peer)
    return sum(not ends.isdisjoint(descriptors(pid)) for pid in forked(peer))


def descriptors(pid: int) -> list[str]:
    try:
        return [os.readlink(entry.path) for entry in os.scandir(f"/proc/{pid}/fd")]
    except FileNotFoundError:
        return []


def wait_for_conversations(peer: Peer, number: int) -> None:
    """Wait until so many processes have a connection, no more and no fewer."""
    until = time.monotonic() + PATIENCE
    while (count := conversing(peer)) != number:
        if time.monotonic() > until:
            sys.exit(f"{peer.name}: {count} processes with a connection, and not {number}")
        time.sleep(0.1)


def memory_mb(peer: Peer) -> float:
    """The memory of all its processes, in which a page that several share is divided among them (Pss)."""
    return sum(pss_kb(pid) for pid in [peer.pid, *children(peer.pid), *forked(peer)]) / 1024


def pss_kb(pid: int) -> int:
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("Pss:"))


def rates(when: str, load: Path, peer: Peer, rounds: int, seconds: float) -> list[float]:
    Measure.RATE.of(load, peer, seconds)
    figures = [Measure.RATE.of(load, peer, seconds) for _ in range(rounds)]
    show(when, figures, Measure.RATE)
    return figures


def measure_open(load: Path, peer: Peer, number: int, rounds: int, seconds: float) -> None:
    """Rates before, with and after the open connections: what changes with time alone is on both sides of "with"."""
    print(f"{peer.name}, {number} connections open, new ones by {Measure.RATE.clients} clients:", flush=True)
    before = rates("before them", load, peer, rounds, seconds)
    wait_for_conversations(peer, 0)
    empty, began = memory_mb(peer), time.monotonic()
    with held(load, peer, number):
        took = time.monotonic() - began
        wait_for_conversations(peer, number)
        each = (memory_mb(peer) - empty) / number
        crowded = rates("with them", load, peer, rounds, seconds)
        wait_for_conversations(peer, number)
    wait_for_conversations(peer, 0)
    after = rates("after them", load, peer, rounds, seconds)
    ratio = statistics.median(crowded) / statistics.median(before + after)
    print(f"  ratio {ratio:.3f}, with them to without (goal: at least {SMALLEST_RATE_KEPT})")
    print(f"  memory {each:.3f} MB for each (Pss; goal: at most {LARGEST_CONNECTION_MB}); opened in {took:.1f} s")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "part", nargs="?", choices=["compare", "shapes", "open"], default="compare", help="what to do (compare)"
    )
    parser.add_argument("--open", type=int, default=10_000, help="connections kept open in the part open (10000)")
    parser.add_argument("--rounds", type=int, default=7, help="runs of each server for each figure (7)")
    parser.add_argument("--seconds", type=float, default=1.5, help="length of each run (1.5)")
    wanted = parser.parse_args()
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        load = compiled(HERE / "load.c", folder)
        if wanted.part == "open":
            peer = stack.enter_context(handler("fork", folder / "log", "until_gone"))
            measure_open(load, peer, wanted.open, wanted.rounds, wanted.seconds)
            return
        if wanted.part == "shapes":
            compare_shapes(load, folder, wanted.rounds, wanted.seconds)
            return
        for comparison in COMPARISONS:
            compare(comparison, load, folder, wanted.rounds, wanted.seconds)


if __name__ == "__main__":
    main()
