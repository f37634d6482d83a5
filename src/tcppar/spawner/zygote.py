"""A spawner of the processes of a Python handler, which hardly writes to the memory that it shares with them.

Each connection gets a process that is forked from this one, or a worker is, that takes one connection after the other.
So this one is lean: it has loaded the handler and what a conversation needs, no more; it has held that conversation
with itself already; and its loop is in C (`_zygote.c`). From then on nothing of Python runs here any more, only in the
children. Of those for one connection a few spare ones are forked ahead in quiet moments, hold the conversation once
more, so that what it writes to is theirs already, and wait.

The spawner whose loop is in Python (`loop.py`) makes two thirds of the connections a second.
"""

from __future__ import annotations

import _socket
import sys

from tcppar.child.directory import WorkingDirectory
from tcppar.child.own_path import OwnPath
from tcppar.child.process import FAILED, SUCCEEDED, begin, flush_and_exit, limits, live, tell_copies_by
from tcppar.child.worker import Worker
from tcppar.descriptors import CHANNEL_DESCRIPTOR
from tcppar.endpoints import PlainEnds
from tcppar.mark import mark_of
from tcppar.spawner import beginning, files, loading, sandbox
from tcppar.spawner.at_fork import AtFork
from tcppar.spawner.oom import OomScore
from tcppar.spawner.settling import settle
from tcppar.spawner.title import CHILD, SPAWNER, WORKER, Title

try:
    from tcppar.spawner import _zygote
except ImportError:  # installed where there was no compiler
    AVAILABLE = False
else:
    AVAILABLE = True

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, NoReturn

    from tcppar.child.handlers import Handler
    from tcppar.child.worker import Given

_SPARES = 2
_LENGTH = 4
_READY, _REFUSED, _HIRE = 1, 2, 4  # tags of records.py


class Zygote:
    """The spawner of one service.

    Args:
        channel: to the supervisor.
        plan: `records.ChildPlan`, as the channel has brought it.
        handler: loaded.
        at_fork: what was put off until there are children.
        score: this process's, and its children's.
    """

    def __init__(
        self, channel: _socket.socket, plan: dict[str, Any], handler: Handler, at_fork: AtFork, score: OomScore
    ) -> None:
        self._channel = channel
        self._service: str = plan["service"]
        self._id_prefix: str = plan["id_prefix"]
        self._limits = limits(plan["rlimits"])
        self._passes_log: bool = plan["passes_log"]
        self._plan: dict[str, Any] = plan["handler"]
        self._handler = handler
        self._at_fork = at_fork
        self._score = score

    def run(self) -> None:
        """Serve until there is nothing more to come and no child left. Children do not return."""
        with OwnPath():
            self._handler.rehearse(self._service)
        settle()
        tell_copies_by(_zygote.is_copy)
        self._at_fork.apply_in_time()
        _zygote.set_marks(mark_of(self._id_prefix, 0))
        if self._plan["tells_imports"]:
            self._handler.watch_imports(_zygote.is_first)
        spares = 0 if self._plan["mode"] == "pool" else _SPARES
        score = self._score
        given = _zygote.serve(
            self._channel.fileno(), spares, self._passes_log, score.descriptor, score.of_children, score.own
        )
        if given is not None:
            order = given[1]
            life = self._wait if order is None else self._work if order[0] == _HIRE else self._converse
            # One that waits must have room for what comes with an offer: two descriptors.
            live(life, given, self._handler.target, None if order is None else self._limits)

    def _work(self, channel: int, hire: tuple[Any, ...]) -> int:
        Worker(
            self._service,
            self._id_prefix,
            self._handler,
            _Line(channel),
            most_connections=self._plan["connections_per_worker"],
            most_memory_kb=self._plan["worker_memory_kb"],
        ).run()
        return SUCCEEDED

    def _wait(self, channel: int, _: None) -> int:
        """As a spare child: rehearse, and wait for a connection."""
        try:
            self._handler.rehearse(self._service, 1)
        except OSError:
            pass  # too little is left for it
        given = _zygote.wait(channel)
        if given is None:
            return SUCCEEDED  # the spawner has ended, or has no more use for it
        begin(self._limits)
        return self._converse(*given)

    def _converse(self, descriptor: int, offer: tuple[Any, ...]) -> int:
        connection_id = f"{self._id_prefix}-{offer[1]}"
        return self._handler.converse(descriptor, connection_id, self._service, PlainEnds(*offer[2]))


class _Line:
    """A worker's line to the supervisor (`child.worker.Line`).

    Args:
        channel: its descriptor.
    """

    tells = False  # whoever can have a spawner like this one sees what a worker has read

    def __init__(self, channel: int) -> None:
        self._channel = channel

    def next(self) -> Given | None:
        given = _zygote.next(self._channel)
        if given is None:
            return None
        descriptor, (_, number, ends, _, attempt, again) = given
        return descriptor, number, PlainEnds(*ends), attempt, again

    def say_ready(self, pid: int) -> bool:
        return _zygote.tell_ready(self._channel, pid)

    def say_lost(self, number: int, attempt: int) -> bool:
        return _zygote.tell_lost(self._channel, number, attempt)

    def say_taken(self, number: int, pid: int) -> bool:
        return True  # not asked for

    def say_ended(self, number: int, status: int, cpu_seconds: float, leaving: bool) -> bool:
        return _zygote.tell_ended(self._channel, number, status, cpu_seconds, leaving)


def main() -> NoReturn:
    """Read the plan, enter its sandbox, load the handler, say so, and serve."""
    if not AVAILABLE:
        from tcppar.spawner import loop

        loop.main()
    beginning.leave_servers_things()
    channel = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM, 0, CHANNEL_DESCRIPTOR)
    plan = _read_plan(channel)
    score = OomScore(plan["oom_score_adj"])
    title = Title(plan["service"])
    title.show(SPAWNER)
    _zygote.set_titles(title.place, title.text(CHILD), title.text(WORKER))
    try:
        _enter(plan)
        beginning.become_handlers_home(plan["environment"])
        at_fork = AtFork()
        with at_fork:
            handler = loading.load(loading.Wanted(plan["handler"]))
        handler.directory = WorkingDirectory(plan["directory"]) if plan["directory"] is not None else None
        if plan["handler"]["threads_allowed"]:
            at_fork.apply()
    except sandbox.CannotEnter as error:
        _say(channel, [_REFUSED, str(error), error.mistake, []])
        sys.exit(1)
    except files.CannotLoad as error:
        _say(channel, [_REFUSED, str(error), True, list(loading.sources(error))])
        flush_and_exit(FAILED)  # at once, whatever threads it has started
    _say(channel, [_READY, list(loading.sources()), 0])
    Zygote(channel, plan, handler, at_fork, score).run()
    sys.exit(0)


def _read_plan(channel: _socket.socket) -> dict[str, Any]:
    size = int.from_bytes(channel.recv(_LENGTH, _socket.MSG_WAITALL), "big")
    plan: dict[str, Any] = _zygote.unpack(channel.recv(size, _socket.MSG_WAITALL))
    return plan


def _enter(plan: dict[str, Any]) -> None:
    identity = plan["identity"]
    user = None if identity is None else (identity["uid"], identity["gid"], identity["groups"])
    sandbox.enter(nice=plan["nice"], umask=plan["umask"], user=user, directory=plan["directory"])
    sandbox.try_a_process(leads_session=plan["handler"]["mode"] == "fork")
    sandbox.try_limits([tuple(limit) for limit in plan["rlimits"]])


def _say(channel: _socket.socket, report: list[object]) -> None:
    frame = _packed([report])
    channel.sendall(len(frame).to_bytes(_LENGTH, "big") + frame)


def _packed(value: object) -> bytes:
    """As MessagePack, of what our reports are made of."""
    if isinstance(value, bool):
        return b"\xc3" if value else b"\xc2"
    if isinstance(value, int):
        return value.to_bytes(1, "big")
    if isinstance(value, str):
        text = value.encode(errors="replace")
        return b"\xdb" + len(text).to_bytes(4, "big") + text
    assert isinstance(value, list)
    return b"\xdd" + len(value).to_bytes(4, "big") + b"".join(_packed(element) for element in value)
