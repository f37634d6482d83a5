"""Connections a second against tcpserver (Debian's ucspi-tcp-ipv6), in one run, in turns: prints the ratio.

A connection is: connect, send 64 bytes, get them back, close; the child is a tiny static C program; 16 clients at
once. First with nothing else connected, then with thousands of connections held open on both servers. tcppar runs with
all features at their defaults but the limit on connections; tcpserver without look-ups of names and users, which would
only slow it down. The load client and the child are compiled from bench/load.c and bench/child.c.

    ./run bench [--held 6000] [--rounds 9] [--connections 4000]
"""

import argparse
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

# As a script, it finds only what stands beside it.
sys.path.insert(0, str(Path(__file__).parent.parent))

from bench.common import HERE, Peer, compiled, ending, held, in_turns, median_ratio, run_load, tcppar

CLIENTS = 16
GOALS = {False: 0.95, True: 1.5}
LARGEST_SUPERVISOR_MB = 30


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


def compare(load: Path, peers: list[Peer], rounds: int, connections: int) -> float:
    """The median of the ratios of neighbouring runs, first peer to second."""
    for peer in peers:
        run_load(load, peer, CLIENTS, connections // 4)
    rates = in_turns(peers, rounds, lambda peer: run_load(load, peer, CLIENTS, connections).rate)
    for peer, values in zip(peers, rates, strict=True):
        print(
            f"  {peer.name:10} {statistics.median(values):7.0f} a second (from {min(values):.0f} to {max(values):.0f})"
        )
    return median_ratio(*rates)


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
        peers = [stack.enter_context(tcppar(folder / "log", "--", str(child))), stack.enter_context(tcpserver(child))]
        print("nothing else connected:")
        print(f"  ratio {compare(load, peers, wanted.rounds, wanted.connections):.3f} (goal: {GOALS[False]})")
        for peer in peers:
            stack.enter_context(held(load, peer, wanted.held))
        print(f"{wanted.held} connections held on each:")
        print(f"  ratio {compare(load, peers, wanted.rounds, wanted.connections):.3f} (goal: {GOALS[True]})")
        print(f"  supervisor's memory {supervisor_mb(peers[0]):.1f} MB (goal: at most {LARGEST_SUPERVISOR_MB})")


if __name__ == "__main__":
    main()
