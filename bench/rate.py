"""Connections a second against tcpserver (Debian's ucspi-tcp-ipv6), in one run, in turns: prints the ratio.

A connection is: connect, send 64 bytes, get them back, close; the child is a tiny static C program; 16 clients at
once. First with nothing else connected, then with thousands of connections held open on both servers. tcppar runs with
all features at their defaults but the limit on connections; tcpserver without look-ups of names and users, which would
only slow it down. The load client and the child are compiled from bench/load.c and bench/child.c.

    ./run bench [--held 6000] [--rounds 9] [--connections 4000]
"""

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).parent
CLIENTS = 16
GOALS = {False: 0.95, True: 1.5}
LARGEST_SUPERVISOR_MB = 30


@dataclass(frozen=True)
class Peer:
    """A running server: its name, its port, the process id of its parent process."""

    name: str
    port: int
    pid: int


def compiled(source: Path, folder: Path) -> Path:
    program = folder / source.stem
    subprocess.run(["gcc", "-O2", "-static", "-o", program, source], check=True)
    return program


@contextmanager
def ending(process: "subprocess.Popen[str]") -> Iterator["subprocess.Popen[str]"]:
    try:
        yield process
    finally:
        process.terminate()
        process.wait()


@contextmanager
def tcppar(child: Path, log: Path) -> Iterator[Peer]:
    reader, writer = os.pipe()
    options = ["--max-connections", "20000", "--ready-fd", str(writer)]
    command = [sys.executable, "-m", "tcppar", "serve", "127.0.0.1:0", *options, "--", str(child)]
    with log.open("w") as stderr:
        process = subprocess.Popen(command, stderr=stderr, pass_fds=[writer], text=True)
    os.close(writer)
    with ending(process), open(reader) as ready:
        if not ready.readline():
            sys.exit(f"tcppar did not start: {log.read_text()}")
        line = next(line for line in log.read_text().splitlines() if line.startswith("listening on"))
        yield Peer("tcppar", int(line.rpartition(":")[2]), process.pid)


@contextmanager
def tcpserver(child: Path) -> Iterator[Peer]:
    program = shutil.which("tcpserver")
    if program is None:
        sys.exit("tcpserver is not installed: apt-get install ucspi-tcp-ipv6")
    # -1 prints the port, as soon as it listens.
    options = ["-1", "-H", "-R", "-l", "0", "-c", "20000", "-b", "4096"]
    process = subprocess.Popen([program, *options, "127.0.0.1", "0", child], stdout=subprocess.PIPE, text=True)
    with ending(process):
        assert process.stdout is not None
        yield Peer("tcpserver", int(process.stdout.readline()), process.pid)


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


def rate(load: Path, peer: Peer, connections: int) -> float:
    command = [str(load), str(peer.port), str(CLIENTS), str(connections)]
    outcome = json.loads(subprocess.run(command, stdout=subprocess.PIPE, check=False).stdout)
    if outcome["failed"]:
        sys.exit(f"{peer.name}: {outcome}")
    return float(outcome["rate"])


def compare(load: Path, peers: list[Peer], rounds: int, connections: int) -> float:
    """The median of the ratios of neighbouring runs, first peer to second."""
    for peer in peers:
        rate(load, peer, connections // 4)
    rates: dict[str, list[float]] = {peer.name: [] for peer in peers}
    for number in range(rounds):
        for peer in peers if number % 2 else reversed(peers):
            rates[peer.name].append(rate(load, peer, connections))
    for name, values in rates.items():
        print(f"  {name:10} {statistics.median(values):7.0f} a second (from {min(values):.0f} to {max(values):.0f})")
    first, second = (rates[peer.name] for peer in peers)
    return statistics.median(ours / theirs for ours, theirs in zip(first, second, strict=True))


def supervisor_mb(peer: Peer) -> float:
    status = Path(f"/proc/{peer.pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in status if line.startswith("VmRSS")) / 1024


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--held", type=int, default=6000, help="connections held in the second part (6000)")
    parser.add_argument("--rounds", type=int, default=9, help="runs of each server in each part (9)")
    parser.add_argument("--connections", type=int, default=4000, help="connections of each run (4000)")
    wanted = parser.parse_args()
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        child, load = compiled(HERE / "child.c", folder), compiled(HERE / "load.c", folder)
        peers = [stack.enter_context(tcppar(child, folder / "log")), stack.enter_context(tcpserver(child))]
        print("nothing else connected:")
        print(f"  ratio {compare(load, peers, wanted.rounds, wanted.connections):.3f} (goal: {GOALS[False]})")
        for peer in peers:
            stack.enter_context(held(load, peer, wanted.held))
        print(f"{wanted.held} connections held on each:")
        print(f"  ratio {compare(load, peers, wanted.rounds, wanted.connections):.3f} (goal: {GOALS[True]})")
        print(f"  supervisor's memory {supervisor_mb(peers[0]):.1f} MB (goal: at most {LARGEST_SUPERVISOR_MB})")


if __name__ == "__main__":
    main()
