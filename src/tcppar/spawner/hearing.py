"""Hearing out a process of ours that others of the same user can stop (SIGSTOP) before it has said all."""

import os
import select
import signal
import sys
import time
from collections.abc import Callable
from typing import NamedTuple

_PERIOD = 100  # milliseconds
_AT_ONCE = 1 << 16


class Heard(NamedTuple):
    """What became of it.

    Attributes:
        said: all that it has written.
        status: as waitpid(2) gives it; None if it was killed, for it was stopped or took too long.
    """

    said: bytes
    status: int | None


def hear_out(pid: int, descriptor: int, *, seconds: float, kill: Callable[[int, int], None] = os.kill) -> Heard:
    """Read what a child says until it closes its end, and wait for its own.

    Args:
        descriptor: where it comes from.
        seconds: how long it may take.
        kill: what ends it: with os.killpg, it leads a process group.
    """
    said = b""
    deadline = time.monotonic() + seconds
    while piece := _next_piece(pid, descriptor, deadline):
        said += piece
    if piece is not None:
        _, status = os.waitpid(pid, os.WUNTRACED)
        if not os.WIFSTOPPED(status):
            return Heard(said, status)
    kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    return Heard(said, None)


def _next_piece(pid: int, descriptor: int, deadline: float) -> bytes | None:
    """What it says next; empty at the end, None if it is stopped or its time is over."""
    poller = select.poll()
    poller.register(descriptor, select.POLLIN)
    while not poller.poll(_PERIOD):
        if time.monotonic() > deadline or _is_stopped(pid):
            return None
    return os.read(descriptor, _AT_ONCE)


def _is_stopped(pid: int) -> bool:
    if sys.platform != "linux":
        return False  # Python has no waitid(2) on every other system
    return os.waitid(os.P_PID, pid, os.WSTOPPED | os.WNOHANG | os.WNOWAIT) is not None
