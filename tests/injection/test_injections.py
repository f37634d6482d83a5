"""A call of a real server fails, or it is killed at it: each call, and each error that it can give, in each part of its
life.

The ordinary run tries a few of them, always the same. With TCPPAR_INJECTIONS=all it tries each, which takes many hours;
with a number, so many of each part, chosen anew. TCPPAR_INJECTIONS_REPORT names a file to which each outcome is added.
"""

import os
import random
import signal
import subprocess
from collections.abc import Callable
from enum import Enum
from pathlib import Path

import pytest

from tests.injection.outcome import (
    assert_goes_on,
    assert_refused_in_order,
    assert_stopped,
    assert_stops,
    supervisor_of,
)
from tests.injection.stories import STORIES, begin, started, tell
from tests.injection.tracing import Fault, faults_in, traced
from tests.support.server import Server, descendants, descriptors, read_line, wait_until
from tests.support.succession import KINDS

_HOW_MANY = os.environ.get("TCPPAR_INJECTIONS", "")
_REPORT = os.environ.get("TCPPAR_INJECTIONS_REPORT")

pytestmark = pytest.mark.timeout(0 if _HOW_MANY else 240)


class Victim(Enum):
    """Whose calls fail."""

    ALONE = "a server without a keeper"
    SUPERVISOR = "the supervisor of a keeper"
    KEEPER = "the keeper, and the supervisors that it starts"

    @property
    def keep(self) -> bool:
        """Whether there is a keeper."""
        return self is not Victim.ALONE


Attempt = Callable[[list[str], Path], int]
"""Lets a part of a server's life happen with these options of strace's, and its output there. Tells the process that
must not be killed, 0 if any may."""


def _try_faults(attempt: Attempt, seed: str, folder: Path, *, deadly: bool) -> None:
    """Once without a fault, to find the calls; then once with each."""
    counted = folder / "calls"
    spared = attempt([], counted)
    failed = []
    for fault in _chosen(faults_in(counted, deadly=deadly, spared=spared), seed):
        outcome = "ok"
        try:
            attempt(fault.options, folder / "fault")
        except (AssertionError, OSError, subprocess.TimeoutExpired) as error:
            outcome = str(error) or repr(error)
            failed.append(f"{fault}: {outcome}")
        if _REPORT is not None:
            with open(_REPORT, "a") as report:
                report.write(f"{seed} {fault} {outcome!r}\n")
    assert not failed, "\n".join(failed)


def _chosen(faults: list[Fault], seed: str) -> list[Fault]:
    if _HOW_MANY == "all":
        return faults
    choose = random.Random(None if _HOW_MANY else seed)
    return choose.sample(faults, min(int(_HOW_MANY or 1), len(faults)))


def _arguments(kind: str, victim: Victim) -> list[str]:
    keep = ["--keep"] if victim.keep else []
    return [*keep, "--drain-timeout", "2s", "--kill-timeout", "1s", *KINDS[kind]]


@pytest.mark.parametrize("victim", Victim, ids=lambda victim: victim.name.lower())
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("story", STORIES)
def test_everything_goes_on(story: str, kind: str, victim: Victim, tmp_path: Path) -> None:
    if story == "recovery" and victim is not Victim.KEEPER:
        pytest.skip("whoever recovers is started by a keeper")

    def attempt(options: list[str], output: Path) -> int:
        with started(_arguments(kind, victim)) as server, server.connect() as client:
            read_line(client)
            supervisor = supervisor_of(server, keep=victim.keep)
            before = descriptors(supervisor)
            whom = supervisor if victim is Victim.SUPERVISOR else server.pid
            tell(STORIES[story], server, supervisor, whom, options, output)
            assert_goes_on(server, client, keep=victim.keep)
            _assert_no_descriptors_left(server, victim, before, kind)
            client.close()
            assert_stops(server, keep=victim.keep)
            return server.pid if story == "recovery" else 0

    # While a keeper begins another program, there is nobody besides: that is two deaths at once.
    deadly = victim is Victim.SUPERVISOR or (victim is Victim.KEEPER and story != "upgrade")
    _try_faults(attempt, f"{story}-{kind}-{victim.name}", tmp_path, deadly=deadly)


def _assert_no_descriptors_left(server: Server, victim: Victim, before: int, kind: str) -> None:
    """What may be more: old spawners and their workers stay until their last client goes."""
    more = 12 if kind == "pool" else 4
    supervisor = supervisor_of(server, keep=victim.keep)
    wait_until(lambda: descriptors(supervisor) <= before + more, 10.0)


@pytest.mark.parametrize("victim", [Victim.ALONE, Victim.KEEPER], ids=lambda victim: victim.name.lower())
@pytest.mark.parametrize("kind", KINDS)
def test_a_start_serves_or_is_refused(kind: str, victim: Victim, tmp_path: Path) -> None:
    def attempt(options: list[str], output: Path) -> int:
        with started(_arguments(kind, victim), ready=False) as server:
            begin(server, options, output)
            if options and server.process.poll() is not None:
                assert_refused_in_order(server)
                return 0
            server.wait_for_event("listening")
            assert_goes_on(server, None, keep=victim.keep)
            assert_stops(server, keep=victim.keep)
            return 0

    _try_faults(attempt, f"start-{kind}-{victim.name}", tmp_path, deadly=False)


@pytest.mark.parametrize("victim", Victim, ids=lambda victim: victim.name.lower())
@pytest.mark.parametrize("kind", KINDS)
def test_a_stop_comes_to_its_end(kind: str, victim: Victim, tmp_path: Path) -> None:
    def attempt(options: list[str], output: Path) -> int:
        with started(_arguments(kind, victim)) as server, server.connect() as client:
            read_line(client)
            left = {server.pid, *descendants(server.pid)}
            whom = supervisor_of(server, keep=True) if victim is Victim.SUPERVISOR else server.pid
            with traced([whom], options, output):
                server.signal(signal.SIGTERM)
                server.process.wait(20.0)
            assert_stopped(server, left)
            return 0

    _try_faults(attempt, f"stop-{kind}-{victim.name}", tmp_path, deadly=victim is Victim.SUPERVISOR)
