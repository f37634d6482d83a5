"""Failures put into the system calls of a real server by strace: it goes on serving, by the rules.

strace counts the calls of each process for itself, and follows spawners and children too (-f): a fault in a wait is a
fault in the supervisor's wait and in each spawner's.
"""

import json
import os
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.conftest import tool
from tests.support.server import Record, Server

pytestmark = pytest.mark.timeout(240)

CLIENTS = 4
CONNECTIONS = 80
# posix_spawn and fork go by any of these, by the C library's version.
MAKING_A_PROCESS = "clone,clone3,vfork"


class TracedServer(Server):
    """A server under strace: signals go to the server, which is strace's only child."""

    def __init__(self, faults: Sequence[str], *arguments: str | Path) -> None:
        calls = ",".join(fault.partition(":")[0] for fault in faults)
        injections = [word for fault in faults for word in ("-e", f"inject={fault}")]
        options = ["-f", "-qq", "--signal=none", "-o", os.devnull, "-e", f"trace={calls}"]
        super().__init__(*arguments, wrapper=[tool("strace"), *options, *injections])

    @property
    def pid(self) -> int:
        strace = self.process.pid
        return int(Path(f"/proc/{strace}/task/{strace}/children").read_text().split()[0])


@dataclass(frozen=True)
class Served:
    """What a load and the server's own books said."""

    failed: int
    stopped: Record
    faults: list[Record]
    resets: list[Record]


def serve_with(faults: Sequence[str], load: Path, echo: Path) -> Served:
    with TracedServer(faults, "127.0.0.1:0", "--", echo) as server:
        command = [str(load), str(server.address[1]), str(CLIENTS), str(CONNECTIONS)]
        outcome = json.loads(subprocess.run(command, stdout=subprocess.PIPE, timeout=120).stdout)
        server.wait_for_event("end", CONNECTIONS)
        assert server.stop() == 0
        assert server.noise == []
        (stopped,) = server.events("stopped")
        return Served(outcome["failed"], stopped, server.events("fault"), server.events("reset"))


def assert_all_served(served: Served) -> None:
    assert served.failed == 0
    assert served.stopped["accepted"] == served.stopped["ended"] == CONNECTIONS
    assert served.stopped["refused"] == 0


@pytest.mark.parametrize("call", ["epoll_wait", "accept4"])
def test_an_interruption_is_seen_by_nobody(call: str, load: Path, echo: Path) -> None:
    served = serve_with([f"{call}:error=EINTR:when=2+2"], load, echo)
    assert_all_served(served)
    assert served.stopped["strikes"] == 0
    assert served.faults == []


@pytest.mark.parametrize("fault", ["epoll_wait:error=EPERM:when=30+5", "accept4:error=EPERM:when=5+7"])
def test_false_alarms_with_successes_between_are_tolerated(fault: str, load: Path, echo: Path) -> None:
    served = serve_with([fault], load, echo)
    assert_all_served(served)
    assert served.stopped["strikes"] >= 5
    assert served.stopped["resets"] == 0
    # However many there were, they are told once a period.
    assert len(served.faults) <= 2
    assert all("EPERM" in fault["error"] and fault["remedy"] == "tolerated" for fault in served.faults)


@pytest.mark.parametrize("call", ["epoll_wait", "accept4"])
def test_three_false_alarms_in_a_row_are_tolerated(call: str, load: Path, echo: Path) -> None:
    served = serve_with([f"{call}:error=EPERM:when=40..42"], load, echo)
    assert_all_served(served)
    assert served.stopped["strikes"] == 3
    assert served.resets == []


@pytest.mark.parametrize("call", ["epoll_wait", "accept4"])
def test_the_fourth_in_a_row_resets_the_listener_and_loses_nobody(call: str, load: Path, echo: Path) -> None:
    served = serve_with([f"{call}:error=EPERM:when=40..43"], load, echo)
    assert_all_served(served)
    assert served.stopped["strikes"] == 4
    assert served.stopped["resets"] == 1
    assert [record["lossless"] for record in served.resets] == [True]


def test_a_client_that_gave_up_is_counted_and_nothing_else(load: Path, echo: Path) -> None:
    served = serve_with(["accept4:error=ECONNABORTED:when=2+3"], load, echo)
    assert_all_served(served)
    assert served.stopped["client_faults"] >= 20
    assert served.stopped["strikes"] == 0
    assert len(served.faults) == 1


@pytest.mark.parametrize("error", ["EMFILE", "ENFILE", "ENOBUFS", "ENOMEM"])
def test_a_shortage_in_accept_is_waited_out(error: str, load: Path, echo: Path) -> None:
    served = serve_with([f"accept4:error={error}:when=3..6"], load, echo)
    assert_all_served(served)
    assert served.stopped["strikes"] == 0
    assert [error in fault["error"] for fault in served.faults] == [True]


@pytest.mark.parametrize("error", ["EAGAIN", "ENOMEM"])
@pytest.mark.parametrize("when", ["4+3", "3..6"])
def test_clients_are_kept_while_no_process_can_be_made(error: str, when: str, load: Path, echo: Path) -> None:
    served = serve_with([f"{MAKING_A_PROCESS}:error={error}:when={when}"], load, echo)
    assert_all_served(served)
    assert any(error in fault["error"] for fault in served.faults)
    assert len(served.faults) <= 2


def test_descriptors_that_cannot_be_passed_are_passed_later(load: Path, echo: Path) -> None:
    served = serve_with(["sendmsg:error=ETOOMANYREFS:when=3+4"], load, echo)
    assert_all_served(served)
    assert any("ETOOMANYREFS" in fault["error"] for fault in served.faults)


def test_all_of_it_at_once(load: Path, echo: Path) -> None:
    faults = [
        "epoll_wait:error=EINTR:when=20+9",
        "accept4:error=EPERM:when=7+11",
        f"{MAKING_A_PROCESS}:error=EAGAIN:when=5+7",
    ]
    served = serve_with(faults, load, echo)
    assert_all_served(served)
    assert served.stopped["resets"] == 0
