"""A memory cgroup that is full of children: whom the kernel ends."""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from tests.conftest import unavailable
from tests.hostile.arena import Arena, Attempt
from tests.hostile.attacker.base import Mode
from tests.hostile.attacker.every import TABLE
from tests.hostile.promises import MARGIN
from tests.hostile.services import KILL
from tests.support.server import wait_until

_LIMIT = 64 << 20
_HOGS = 24
_LIFETIME = 4.0
_PLACES = (
    (Path("/sys/fs/cgroup/memory"), "memory.limit_in_bytes"),  # version 1 (cgroups(7))
    (Path("/sys/fs/cgroup"), "memory.max"),  # version 2
)


@contextlib.contextmanager
def _memory_cgroup() -> Iterator[Path]:
    """A new one with a limit."""
    group = _made() or unavailable("no memory cgroup with a limit can be made here")
    try:
        yield group
    finally:
        _remove(group)


def _made() -> Path | None:
    for place, limit in _PLACES:
        group = place / f"tcppar-hostile-{os.getpid()}"
        try:
            group.mkdir()
        except OSError:
            continue
        try:
            (group / limit).write_text(str(_LIMIT))
        except OSError:
            group.rmdir()
        else:
            return group
    return None


def _remove(group: Path) -> None:
    """As soon as the last process in it is gone."""

    def is_removed() -> bool:
        with contextlib.suppress(OSError):
            group.rmdir()
        return not group.exists()

    wait_until(is_removed)


@pytest.mark.parametrize("keep", [True, False], ids=["kept", "alone"])
def test_children_end_before_the_server(keep: bool) -> None:
    """Children that want more than there is are ended, and neither the supervisor nor its keeper; then it serves."""
    with _memory_cgroup() as group, contextlib.closing(Arena(keep=keep, max_lifetime=_LIFETIME)) as arena:
        for process in (arena.first, *arena.first.children(recursive=True)):
            with contextlib.suppress(ProcessLookupError, psutil.NoSuchProcess):
                (group / "cgroup.procs").write_text(str(process.pid))
        attempts = list(_hogs(arena))
        peers = [attempt.peer for attempt in attempts]
        wait_until(lambda: all(peer in arena.ends for peer in peers), _LIFETIME + KILL + MARGIN)
        for attempt in attempts:
            attempt.client.close()
        assert [peer for peer in peers if arena.ends[peer]["ended_by"] is None]  # memory was short indeed
        assert arena.first.is_running()
        assert arena.supervisor.is_running()
        arena.let_honest_ones_come()


def _hogs(arena: Arena) -> Iterator[Attempt]:
    for _ in range(_HOGS):
        with contextlib.suppress(OSError, AssertionError):  # a spawner may be among those who were ended
            yield arena.attempt(TABLE["a-small-hog"], Mode.PROGRAM)
