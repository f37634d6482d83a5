"""A server that somebody has started at a terminal, whose children want it."""

import contextlib
import fcntl
import os
import pty
import termios
from collections.abc import Iterator

from tests.hostile import promises
from tests.hostile.arena import Arena
from tests.hostile.attacker.base import Mode
from tests.hostile.attacker.every import TABLE


@contextlib.contextmanager
def _terminal() -> Iterator[tuple[int, int]]:
    ours, its = pty.openpty()
    try:
        yield ours, its
    finally:
        os.close(ours)
        os.close(its)


def _take(terminal: int) -> None:
    """What a login does in a process of its own: a session, and the terminal as its controlling one."""
    os.setsid()
    fcntl.ioctl(terminal, termios.TIOCSCTTY, 0)


def test_the_terminal_is_out_of_reach() -> None:
    """/dev/tty leads nowhere, nothing can be typed into it, and nobody is stopped for reading from it."""
    with _terminal() as (_, its):
        arena = Arena(keep=False, popen={"stdin": its, "preexec_fn": lambda: _take(its)})
        with contextlib.closing(arena):
            arena.let_honest_ones_come()
            for mode in Mode:
                promises.hold_after(arena, [TABLE["the-terminal"]], mode)
