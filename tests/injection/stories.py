"""What a server goes through while one of its calls fails."""

import os
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.injection.tracing import resume, traced
from tests.support.server import Server, descendants, stat_fields, wait_until

# Stands for itself until it is traced, so that only the server's own calls are counted, and not the interpreter's.
_STOPPED = """
import os, signal, sys
from tcppar.cli import main
import tcppar.starting, tcppar.keeper
if not {"TCPPAR_TRIAL", "TCPPAR_HERITAGE"} & set(os.environ):
    os.kill(os.getpid(), signal.SIGSTOP)
sys.argv = sys.argv[sys.argv.index("-m") + 1:]
main()
"""
# The server says no more of what it was asked for, for it has died, or what it said is lost.
_SILENCE = 1.5


@dataclass(frozen=True)
class Story:
    """Something that is asked for, and what a server then says of it.

    Attributes:
        ask: asks for it.
        answers: the events of which one is the answer.
    """

    ask: Callable[[Server, int], None]
    answers: tuple[str, ...]


def _signal(number: signal.Signals) -> Callable[[Server, int], None]:
    return lambda server, supervisor: server.signal(number)


STORIES = {
    "reload": Story(_signal(signal.SIGHUP), ("reloaded", "reload-failed")),
    "upgrade": Story(_signal(signal.SIGUSR2), ("upgraded", "upgrade-failed")),
    "reset": Story(_signal(signal.SIGUSR1), ("closed", "reset", "fault")),
    "recovery": Story(lambda server, supervisor: os.kill(supervisor, signal.SIGKILL), ("recovered",)),
}


@contextmanager
def started(arguments: Sequence[str | Path], *, ready: bool = True) -> Iterator[Server]:
    """A server; it and all that descends from it are killed afterwards."""
    wrapper = () if ready else (sys.executable, "-c", _STOPPED)
    server = Server("127.0.0.1:0", *arguments, wrapper=wrapper, wait_ready=False)
    pids = {server.pid}
    try:
        if ready:
            server.wait_for_event("listening")
        pids |= set(descendants(server.pid))
        yield server
    finally:
        if server.process.poll() is None:
            os.kill(server.pid, signal.SIGSTOP)  # a keeper makes nobody in the place of a supervisor that is killed
        pids |= {pid for known in list(pids) for pid in descendants(known)}
        for pid in pids:
            if stat_fields(pid)[:1] not in ([], ["Z"]):
                os.kill(pid, signal.SIGKILL)
        server.__exit__(None, None, None)


def tell(story: Story, server: Server, supervisor: int, traced_one: int, options: Sequence[str], output: Path) -> None:
    """Let it happen, with what strace does meanwhile to one process, and to whom it forks."""
    known = {"closed", *story.answers}
    before = len(_said(server, known))
    with traced([traced_one], options, output):
        story.ask(server, supervisor)
        _until(lambda: server.process.poll() is not None or len(_said(server, known)) > before)
        # What follows an answer: a rollout after an upgrade, the end of the old listener after a reset.
        _until(lambda: server.process.poll() is not None or bool(server.events("closed")), 0.4)


def begin(server: Server, options: Sequence[str], output: Path) -> None:
    """Let a server that stands begin, with what strace does meanwhile."""
    wait_until(lambda: stat_fields(server.pid)[:1] == ["T"])
    with traced([server.pid], options, output):
        resume(server.pid)
        _until(lambda: server.process.poll() is not None or bool(server.events("listening")), 5.0)
        _until(lambda: server.process.poll() is not None, 0.1)


def _said(server: Server, events: set[str]) -> list[object]:
    return [record for record in list(server.records) if record["event"] in events]


def _until(true: Callable[[], bool], patience: float = _SILENCE) -> None:
    try:
        wait_until(true, patience)
    except AssertionError:
        pass
