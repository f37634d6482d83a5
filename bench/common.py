"""What the benchmarks share: servers that run while a block does, the load client, and measuring in turns."""

import json
import os
import statistics
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).parent


@dataclass(frozen=True)
class Peer:
    """A running server: its name, its port, the process id of its parent process."""

    name: str
    port: int
    pid: int


@dataclass(frozen=True)
class Outcome:
    """Of one run of the load client: connections a second, and the median time of a connection."""

    rate: float
    median_ms: float


def compiled(source: Path, folder: Path) -> Path:
    """Compile a C source into a static program in that folder; its path."""
    program = folder / source.stem
    subprocess.run(["gcc", "-O2", "-static", "-o", program, source], check=True)
    return program


@contextmanager
def ending(process: "subprocess.Popen[str]") -> Iterator["subprocess.Popen[str]"]:
    """End the process when the block ends."""
    try:
        yield process
    finally:
        process.terminate()
        process.wait()


@contextmanager
def tcppar(log: Path, *what: str, name: str = "tcppar") -> Iterator[Peer]:
    """Serve with tcppar, with the options and the program in `what`; its log goes to a file."""
    reader, writer = os.pipe()
    options = ["--max-connections", "20000", "--ready-fd", str(writer)]
    command = [sys.executable, "-m", "tcppar", "serve", "127.0.0.1:0", *options, *what]
    with log.open("w") as stderr:
        process = subprocess.Popen(command, stderr=stderr, pass_fds=[writer], text=True)
    os.close(writer)
    with ending(process), open(reader) as ready:
        if not ready.readline():
            sys.exit(f"tcppar did not start: {log.read_text()}")
        line = next(line for line in log.read_text().splitlines() if line.startswith("listening on"))
        yield Peer(name, int(line.rpartition(":")[2]), process.pid)


@contextmanager
def held(load: Path, peer: Peer, number: int) -> Iterator[None]:
    """Keep that many connections open, each with its child waiting."""
    command = [str(load), str(peer.port), "hold", str(number)]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdin is not None
    if process.stdout.readline() != f"held {number}\n":
        sys.exit(f"{peer.name} did not hold {number} connections")
    try:
        yield
    finally:
        process.stdin.close()
        process.wait()


def run_load(load: Path, peer: Peer, clients: int, connections: int, seconds: float = 0.0) -> Outcome:
    """Run the load client until both are over, the connections and the seconds. One that fails ends the benchmark."""
    command = [str(load), str(peer.port), str(clients), str(connections), str(seconds)]
    outcome = json.loads(subprocess.run(command, stdout=subprocess.PIPE, check=False).stdout)
    if outcome["failed"]:
        sys.exit(f"{peer.name}: {outcome}")
    return Outcome(float(outcome["rate"]), float(outcome["median_ms"]))


def in_turns(peers: Sequence[Peer], rounds: int, measure: Callable[[Peer], float]) -> list[list[float]]:
    """Measure each of them once a round, in alternating order; the figures of each."""
    figures: dict[str, list[float]] = {peer.name: [] for peer in peers}
    for number in range(rounds):
        for peer in peers if number % 2 else reversed(peers):
            figures[peer.name].append(measure(peer))
    return [figures[peer.name] for peer in peers]


def median_ratio(ours: list[float], theirs: list[float]) -> float:
    """The median of the ratios of neighbouring runs."""
    return statistics.median(first / second for first, second in zip(ours, theirs, strict=True))
