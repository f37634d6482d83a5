"""What must hold after each attack, whatever it was: the one place that says so."""

import os
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress

import psutil

from tcppar.testing.client import LATE, Wait
from tcppar.testing.load import Load
from tests.hostile.arena import Arena, Attempt
from tests.hostile.attacker.base import GOT, Attack, Mode, Reach
from tests.hostile.services import KILL, LIFETIME
from tests.support.server import stat_fields

MARGIN = 1.5
"""How much later than its settings say an end may be, in seconds: the machine has other work."""

_PAUSE = 0.02
_LEAST = 0.5
_GLANCE = 0.2
_MOST_TIME = 0.5
_MOST_GROWTH = 48 << 20
_MOST_DESCRIPTORS = 60
_RECOVERY = 8.0
_MOST_TOLD = 3
_MOST_ORDERS = 3
_MODULE = "executed"


def hold_after(arena: Arena, attacks: Sequence[Attack], mode: Mode) -> None:
    """Let attacks be tried, all at once, and see that nothing else has come of them than what may.

    Raises:
        AssertionError: with everything that was found.
    """
    watch, found, attempts = _Watch(arena), list[str](), list[Attempt]()
    for attack in attacks:
        try:
            attempts.append(_ordered(arena, attack, mode))
        except (OSError, AssertionError) as error:
            found.append(f"{attack.name} could not be ordered, after those before it: {error!r}")
    try:
        found += [*_end(arena, attempts), *_give_nothing(attempts)]
    finally:
        for attempt in attempts:
            attempt.client.close()
    found += _leave_nothing(arena, attempts)
    if any(attack.ends_spawner for attack in attacks):
        arena.end_spawner(mode)
    found += watch.problems(attacks[0].reach)
    told = {attempt.attack.name: attempt.heard[:20] for attempt in attempts}
    tried = ", ".join(attack.name for attack in attacks)
    assert not found, "\n".join([f"{tried}, as {mode.value}:", *found, f"they said {told}"])


def _ordered(arena: Arena, attack: Attack, mode: Mode) -> Attempt:
    """Where the attack before it has cost the service its spawner, its next client may find none."""
    for _ in range(_MOST_ORDERS - 1):
        with suppress(OSError, AssertionError):
            return arena.attempt(attack, mode)
    return arena.attempt(attack, mode)


def _end(arena: Arena, attempts: list[Attempt]) -> Iterator[str]:
    """Their connections end in time."""
    began = max((attempt.began for attempt in attempts), default=0.0)
    while any(attempt.peer not in arena.ends for attempt in attempts) and time.monotonic() < _limit(arena, began):
        for attempt in attempts:
            attempt.listen()
        time.sleep(_PAUSE)
    for attempt in attempts:
        attempt.listen()
        if attempt.peer not in arena.ends:
            yield f"{attempt.attack.name}: its connection was open after {time.monotonic() - attempt.began:.1f} s"


def _limit(arena: Arena, began: float) -> float:
    """When what began then is over, on a machine as slow as it has been since for clients whom nobody attacks."""
    return began + LIFETIME + KILL + MARGIN + 2 * arena.slowness(began)


def _give_nothing(attempts: list[Attempt]) -> Iterator[str]:
    """They have got nothing that the system has to refuse."""
    for attempt in attempts:
        yield from (f"{attempt.attack.name}: {line}" for line in attempt.heard if line.startswith(GOT))


def _leave_nothing(arena: Arena, attempts: list[Attempt]) -> Iterator[str]:
    """Their processes end with their connections, or in time; those that do not are ended here."""
    pids = {attempt.greeting.pid for attempt in attempts}
    idle = {attempt.greeting.pid for attempt in attempts if attempt.attack.stays}
    if not any(attempt.attack.leaves for attempt in attempts):
        # Looked for twice: one that forks and ends all the time can slip through a look.
        began = max((attempt.began for attempt in attempts), default=0.0)
        limit = max(_limit(arena, began), time.monotonic() + _LEAST)
        while (left := arena.left(pids - idle) or arena.left(pids - idle)) and time.monotonic() < limit:
            time.sleep(_PAUSE)
        if left:
            yield f"{len(left)} processes are left: {[names_of(pid) for pid in left[:10]]}"
    while left := arena.left(pids):
        for pid in left:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


def names_of(pid: int) -> str:
    """A process, and those above it."""
    fields = stat_fields(pid)
    return f"{pid} ({fields[0]}, child of {fields[1]}, session {fields[3]})" if fields else f"{pid} (ended)"


class _Watch:
    """What was before an attack."""

    def __init__(self, arena: Arena) -> None:
        self._arena = arena
        self._began = time.monotonic()
        self._noise = len(arena.server.noise)
        self._memory = arena.supervisor.memory_info().rss
        self._descriptors = arena.supervisor.num_fds()

    def problems(self, reach: Reach) -> list[str]:
        """What is not as it should be."""
        return [
            *(self._serves(self._arena.same, reach) if reach is Reach.NOBODY else self._recovers(self._arena.same)),
            *self._serves(self._arena.others, reach),
            *self._is_the_same(),
            *self._is_calm(),
            *self._says_nothing_strange(),
            *self._believes_nothing(),
        ]

    def _serves(self, loads: list[Load], reach: Reach) -> Iterator[str]:
        """Nobody was let down, nobody was late, and whoever comes now is served."""
        if not _wait_for(_somebody_served(loads), 2 * LATE):
            yield f"nobody was served within {2 * LATE} s after it"
        late = LATE + self._arena.slowness(self._began)
        for load in loads:
            if load.longest > late:
                yield f"a client has been waiting for {load.longest:.1f} s"
            yield from _first([str(loss) for loss in list(load.outcome.losses) if loss.at > self._began])
            yield from _first([_told(wait) for wait in list(load.outcome.waits) if self._is_late(wait, late)])

    def _is_late(self, wait: Wait, late: float) -> bool:
        return wait.ended > self._began and wait.ended - wait.began > late

    def _recovers(self, loads: list[Load]) -> Iterator[str]:
        """The service goes on, soon after the attack."""
        if not _wait_for(_somebody_served(loads), _RECOVERY):
            yield f"the service did not go on within {_RECOVERY} s"
        elif not _wait_for(lambda: all(load.longest < LATE for load in loads), _RECOVERY):
            yield f"clients were still waiting after {_RECOVERY} s"

    def _is_the_same(self) -> Iterator[str]:
        """The processes that were there are there."""
        for name in ("supervisor", "first"):
            process: psutil.Process = getattr(self._arena, name)
            if not process.is_running() or process.status() == psutil.STATUS_ZOMBIE:
                yield f"the {name} process has ended"
        if self._arena.victim.poll() is not None:
            yield "a process that is no part of the server was signalled"

    def _is_calm(self) -> Iterator[str]:
        """Neither spins, and neither has grown."""
        with suppress(psutil.NoSuchProcess):
            before = {process: _time_of(process) for process in (self._arena.supervisor, self._arena.first)}
            time.sleep(_GLANCE)
            for process, then in before.items():
                if (used := _time_of(process) - then) > _MOST_TIME * _GLANCE:
                    yield f"process {process.pid} took {used:.2f} s of {_GLANCE} s"
            if (grown := self._arena.supervisor.memory_info().rss - self._memory) > _MOST_GROWTH:
                yield f"the supervisor has grown by {grown >> 20} MB"
            if (kept := self._arena.supervisor.num_fds() - self._descriptors) > _MOST_DESCRIPTORS:
                yield f"the supervisor has {kept} descriptors more"

    def _says_nothing_strange(self) -> Iterator[str]:
        """No traceback, and no record that is not the server's."""
        yield from self._arena.server.noise[self._noise :]
        if self._arena.server.events("forged"):
            yield "a forged record is in the log"

    def _believes_nothing(self) -> Iterator[str]:
        """No module of an attacker's was imported by anybody else."""
        executed = self._arena.directory / _MODULE
        if executed.exists():
            yield f"{executed.read_text().split()} was executed"


def _first(problems: list[str]) -> list[str]:
    """The first ones, and how many there are."""
    return problems if len(problems) <= _MOST_TOLD else [*problems[:_MOST_TOLD], f"... {len(problems)} in all"]


def _told(wait: Wait) -> str:
    return f"a client of {wait.service} waited {wait.ended - wait.began:.2f} s {wait.what}"


def _time_of(process: psutil.Process) -> float:
    """The processor time that it has taken, in seconds."""
    taken = process.cpu_times()
    return float(taken.user + taken.system)


def _somebody_served(loads: list[Load]) -> Callable[[], bool]:
    """Whether a client of each has been served since this was asked for."""
    before = [load.outcome.done - load.outcome.failed for load in loads]
    return lambda: all(load.outcome.done - load.outcome.failed > done for load, done in zip(loads, before, strict=True))


def _wait_for(true: Callable[[], bool], patience: float) -> bool:
    limit = time.monotonic() + patience
    while not true():
        if time.monotonic() > limit:
            return False
        time.sleep(0.01)
    return True
