"""Running a Python handler for one connection, whatever kind it is of.

As all that handlers' processes are forked from, it imports next to nothing (see `conversation.py`).
"""

from __future__ import annotations

import _socket
import os

from tcppar.child import request_handlers
from tcppar.child.blame import of_client
from tcppar.child.late_imports import LateImports
from tcppar.child.own_path import OwnPath, own
from tcppar.child.process import CANNOT_BEGIN, FAILED, SUCCEEDED, leave_if_copy, say, say_traceback, text_of
from tcppar.child.unrun import Unrun, unrun
from tcppar.endpoints import PlainEnds

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, Protocol

    from tcppar.child.async_connection import AsyncConnection
    from tcppar.child.connection import Connection
    from tcppar.child.conversation import Conversation
    from tcppar.child.directory import WorkingDirectory
    from tcppar.child.event_loop import EarlyLoop
    from tcppar.endpoints import Ends

    class Conversing(Protocol):
        """What a handler is called with, or made of, and what is ended after it."""

        def _finish(self) -> None: ...

    Begin = Callable[[int, int, str, str, Ends], Conversing]

LATE = {"socket": "tcppar.child.client_socket", "log": "tcppar.child.connection_log"}
"""What of a connection needs a module that most handlers have no use for."""
_FAMILIES = {"ipv4": _socket.AF_INET, "ipv6": _socket.AF_INET6, "unix": _socket.AF_UNIX}
# The interpreter counts how often code runs before it settles how to run it, some dozen times at most: after so many
# rehearsals processes forked from this one no longer write to the pages in which it counts.
_REHEARSALS = 32


class Kind:
    """What a handler can be.

    Args:
        prepare: loads what this kind needs, and returns how to begin: a function of the connection's family and
            descriptor, its id, the service's name and the addresses, whose result is passed on to `run`.
        run: runs the handler, its first argument, to its end; what it returns.
        rehearsed: makes a handler of this kind that answers one byte, in the way of the one it is given. It also uses
            what of the connection (LATE) is mentioned in the handler's code.
    """

    __slots__ = ("prepare", "rehearsed", "run")

    def __init__(
        self,
        prepare: Callable[[], Begin],
        run: Callable[[Any, Any], object],
        rehearsed: Callable[[Any, frozenset[str]], object],
    ) -> None:
        self.prepare = prepare
        self.run = run
        self.rehearsed = rehearsed


class Handler:
    """A loaded handler.

    Args:
        target: what the configuration calls it, for messages.
        called: the function or the class.
        kind: how it is called.
        mentions: those of LATE that its code speaks of.

    Attributes:
        directory: where each connection is served; None for where it happens to be.
    """

    def __init__(self, target: str, called: Any, kind: Kind, mentions: frozenset[str] = frozenset()) -> None:
        self.target = target
        self._called = called
        self._kind = kind
        with OwnPath():
            for name in mentions:
                own(LATE[name])
            self._begin = kind.prepare()
        self._rehearsed = kind.rehearsed(called, mentions)
        self._late: LateImports | None = None
        self.directory: WorkingDirectory | None = None

    def watch_imports(self, is_first: Callable[[str], bool]) -> None:
        """Tell in the log what is imported from now on: it is so in every process that is forked.

        Args:
            is_first: see `LateImports`.
        """
        self._late = LateImports(self.target, is_first)
        self._late.watch()

    def rehearse(self, service: str, times: int = _REHEARSALS) -> None:
        """Hold conversations with oneself, of one byte, with a handler of the same kind.

        What they write to, processes that are forked later need not copy; and a process that waits for its connection
        has copied it before a client waits.
        """
        for _ in range(times):
            ours, its = _socket.socketpair()
            ours.send(b".")
            self._converse(self._rehearsed, its.detach(), "", service, PlainEnds("unix", "", 0, "", 0))
            ours.close()

    def converse(self, descriptor: int, connection_id: str, service: str, endpoints: Ends) -> int:
        """Run it to its end, and end the connection in order; an exit code."""
        if self.directory is not None and not self._enter(self.directory, connection_id):
            os.close(descriptor)
            return CANNOT_BEGIN
        code = self._converse(self._called, descriptor, connection_id, service, endpoints)
        if self._late is not None and self._late.found:
            self._late.tell()
        return code

    def _enter(self, directory: WorkingDirectory, connection_id: str) -> bool:
        try:
            directory.enter()
        except OSError as error:
            say(f"handler {self.target}: connection {connection_id}: {error.filename}: {error.strerror}")
            return False
        return True

    def _converse(self, called: Any, descriptor: int, connection_id: str, service: str, endpoints: Ends) -> int:
        """As `converse`, for any handler of this kind."""
        conversing = self._begin(_FAMILIES[endpoints.family], descriptor, connection_id, service, endpoints)
        code = self._run(called, conversing, connection_id, endpoints)
        leave_if_copy(code)
        conversing._finish()
        return code

    def _run(self, called: Any, conversing: Conversing, connection_id: str, endpoints: Ends) -> int:
        """Run it to its end; an exit code.

        What a handler raises ends its own connection and nothing else: this is one of the two places that catch
        everything.
        """
        try:
            left = unrun(self._kind.run(called, conversing))
        except SystemExit as leaving:
            return _exit_code(leaving)
        except Unrun as found:
            left = str(found)
        except BaseException as error:  # noqa: BLE001 - see above
            if (account := of_client(error)) is not None:
                say(f"handler {self.target}: connection {connection_id}: {endpoints.peer} {account}")
            else:
                say_traceback(f"handler {self.target} failed in connection {connection_id} from {endpoints.peer}")
            return FAILED
        if left is None:
            return SUCCEEDED
        say(f"handler {self.target}: connection {connection_id}: it returned {left}")
        return FAILED


def _exit_code(leaving: SystemExit) -> int:
    """As Python at its end: a text is told, and means failure."""
    if leaving.code is None:
        return SUCCEEDED
    if isinstance(leaving.code, int):
        return leaving.code & 0xFF
    say(text_of(leaving.code))
    return FAILED


def _prepare_function() -> Begin:
    from tcppar.child.connection import Connection

    return lambda family, descriptor, connection_id, service, endpoints: Connection(
        _socket.socket(family, _socket.SOCK_STREAM, 0, descriptor),
        id=connection_id,
        service=service,
        endpoints=endpoints,
    )


def _run_function(called: Callable[[Connection], object], conn: Connection) -> object:
    return called(conn)


def _rehearsed_function(_: object, mentions: frozenset[str]) -> Callable[[Connection], None]:
    def answer(conn: Connection) -> None:
        conn.write(conn.read(1))
        _use(conn, mentions)

    return answer


def _use(conn: Conversation, mentions: frozenset[str]) -> None:
    if "socket" in mentions:
        conn.socket.sendall(b".")
    if "log" in mentions:
        own(LATE["log"]).rehearse(conn.log)


def _prepare_coroutine() -> Begin:
    from tcppar.child.async_connection import AsyncConnection  # only for those who need asyncio: it is large

    return lambda family, descriptor, connection_id, service, endpoints: AsyncConnection(
        _socket.socket(family, _socket.SOCK_STREAM, 0, descriptor),
        id=connection_id,
        service=service,
        endpoints=endpoints,
    )


class _Coroutines:
    """Runs coroutines, the first one by a loop that was there before its process."""

    def __init__(self) -> None:
        self._early: EarlyLoop | None = None

    def __call__(self, called: Callable[[AsyncConnection], Any], conn: AsyncConnection) -> object:
        if self._early is None:
            from tcppar.child.event_loop import EarlyLoop

            self._early = EarlyLoop()

        async def converse() -> object:
            return await called(conn)

        return self._early.run(converse(), keep=not conn.id)  # rehearsals have no id


def _rehearsed_coroutine(_: object, mentions: frozenset[str]) -> Callable[[AsyncConnection], Any]:
    async def answer(conn: AsyncConnection) -> None:
        await conn.write(await conn.read(1))
        _use(conn, mentions)

    return answer


FUNCTION = Kind(_prepare_function, _run_function, _rehearsed_function)
"""A function of a Connection."""
COROUTINE = Kind(_prepare_coroutine, _Coroutines(), _rehearsed_coroutine)
"""An async def of an AsyncConnection."""
REQUEST_HANDLER = Kind(request_handlers.prepare, request_handlers.run, request_handlers.rehearsed)
"""A class of socketserver's."""
SERVER = Kind(request_handlers.prepare, request_handlers.run_by_server, request_handlers.rehearsed_by_server)
"""A server of socketserver's that calls one."""
