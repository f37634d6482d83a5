"""A stop, asked for while attacks are under way that are to hold it up."""

import contextlib

import pytest

from tcppar.testing import holdings
from tests.hostile.arena import MARK, Arena, Attempt
from tests.hostile.attacker import ending, every
from tests.hostile.attacker.base import TABLE, Attack, Mode
from tests.hostile.services import KILL
from tests.support.server import wait_until

_DRAIN = 0.5
_SPAWNERS = 2.0
"""What spawners have to end, in seconds; those that do not are killed (docs/design.md)."""
_MARGIN = 4.0

_WORKERS = ("half-a-frame", "ended-twice", "idle-and-stopped", "channel-shut-down", "channel-closed", "garbage")
_ALL = ("spawner-stopped", "lingering-with-a-full-buffer", "lingering-and-held", "log-full", "shared-flags")


def _attacks(mode: Mode) -> list[Attack]:
    names = [*_ALL, *(_WORKERS if mode is Mode.POOL else ())]
    evaders = [attack for attack in TABLE.values() if attack.deed.__module__ == ending.__name__]
    # The one that stops the spawner comes last: the others would not be served.
    chosen = [*evaders, *sorted((every.TABLE[name] for name in names), key=lambda attack: attack.name)]
    return [attack for attack in chosen if mode in attack.modes and not attack.leaves]


@pytest.mark.parametrize(
    ("keep", "mode"),
    [(True, Mode.POOL), (False, Mode.POOL), (True, Mode.PROGRAM), (False, Mode.FORK)],
    ids=["kept-pool", "alone-pool", "kept-program", "alone-fork"],
)
def test_a_stop_takes_its_time_and_no_more(keep: bool, mode: Mode) -> None:
    """drain_timeout, kill_timeout, what spawners have: then it is over, and nothing is left."""
    arena = Arena(keep=keep, drain_timeout=_DRAIN, max_lifetime="1h")
    with contextlib.closing(arena), contextlib.ExitStack() as clients:
        attempts = [arena.attempt(attack, mode) for attack in _attacks(mode)]
        for attempt in attempts:
            clients.callback(attempt.client.close)
        wait_until(lambda: not [attempt for attempt in attempts if not _is_under_way(arena, attempt)])
        code, seconds = arena.stop(patience=30)
        assert code == 0
        assert seconds < _DRAIN + KILL + _SPAWNERS + _MARGIN
        wait_until(lambda: holdings.marked(MARK, arena.mark) == [], patience=1)
        assert arena.server.noise == []


def _is_under_way(arena: Arena, attempt: Attempt) -> bool:
    """Whether it has said that it is done, or has ended; one that nobody reads from says nothing."""
    attempt.listen()
    return bool(attempt.heard) or attempt.peer in arena.ends or not attempt.attack.reads
