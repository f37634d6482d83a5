"""The table of connections: who owns each of them, from the accept to the one record that ends it."""

from typing import Protocol

from tcppar.events import ConnectionEnded, ConnectionRefused, ConnectionStarted
from tcppar.net.listener import Accepted
from tcppar.policy.life import EndedBy, State, step
from tcppar.policy.outcome import exit_and_signal
from tcppar.records import Ended, Taken
from tcppar.supervisor.connection import Connection, Holder, Owner
from tcppar.supervisor.core import Core

# Members of an enum are looked up slowly: these are asked for in every connection.
_WAITING, _OFFERED, _TAKEN, _ENDED = State.WAITING, State.OFFERED, State.TAKEN, State.ENDED


class Taker(Holder, Protocol):
    """Who can be asked to take a connection."""

    def prepare_for(self, connection: Connection) -> None: ...
    def was_asked(self, connection: Connection) -> None: ...


class Table:
    """All connections, by number and by their child's process id: the one author of their lives.

    Each method under "Its life" is one step of it (`policy/life.py`), which is noted in the books.
    """

    def __init__(self, core: Core) -> None:
        self._core = core
        self._books = core.books
        self._last_number = 0
        self._open: dict[int, Connection] = {}
        self._by_pid: dict[int, Connection] = {}

    def __len__(self) -> int:
        return len(self._open)

    # What is open.

    @property
    def last_number(self) -> int:
        """The number of the connection that was entered last."""
        return self._last_number

    def all_open(self) -> list[Connection]:
        """All open connections, in the order of their numbers."""
        return [self._open[number] for number in sorted(self._open)]

    def get(self, number: int) -> Connection | None:
        """The connection of that number, unless it has ended."""
        return self._open.get(number)

    def of_pid(self, pid: int) -> Connection | None:
        """The connection whose child that is, and which that has taken."""
        connection = self._by_pid.get(pid)
        return connection if connection is not None and connection.state is _TAKEN else None

    def of_service(self, service: Owner) -> list[Connection]:
        """The open connections of a service."""
        return [connection for connection in self._open.values() if connection.service is service]

    def is_open(self, pid: int) -> bool:
        """Whether that is the child of an open connection."""
        return pid in self._by_pid

    def id_of(self, connection: Connection) -> str:
        """The id that the child and the log know it by."""
        return self._core.id_of(connection.number)

    # Its life.

    def enter(self, service: Owner, accepted: Accepted) -> Connection:
        """It was just accepted: it waits."""
        self._last_number = number = self._last_number + 1
        now = self._core.now
        connection = Connection(number, service, accepted, now, now, accepted.descriptor)
        self._open[number] = connection
        self._core.counters.accepted += 1
        self._books.enter(connection)
        return connection

    def offer(self, connection: Connection, taker: Taker) -> None:
        """Ask somebody to take it: it is offered.

        Raises:
            OSError: nobody could be asked; it waits as before.
        """
        assert connection.state is _WAITING
        books = self._books
        taker.prepare_for(connection)
        connection.attempts = (connection.attempts + 1) & 0xFF
        books.offering(connection, taker.fileno(), taker.serves_as)
        try:
            taker.send_offer(connection, again=False)
        except OSError:
            books.waits(connection)
            raise
        books.offered(connection)
        connection.state = _OFFERED
        connection.offered_at = self._core.now
        connection.holder = taker
        taker.offered[connection.number] = connection
        taker.was_asked(connection)

    def put_back(self, connection: Connection) -> None:
        """An offer was not taken: it waits again."""
        connection.state = step(connection.state, _WAITING)
        connection.holder = None
        self._books.waits(connection)

    def expect_child(self, pid: int, connection: Connection) -> None:
        """A worker was asked to take it, and is its child if it does."""
        connection.pid = pid
        self._by_pid[pid] = connection

    def taken(self, connection: Connection, taken: Taken) -> None:
        """A child has it: only now is our copy closed, unless it is kept for an orderly end."""
        assert connection.state is _OFFERED
        connection.state = _TAKEN
        self._books.taken(connection, taken.pid, taken.spawn_seconds)
        connection.close_copy_unless_kept()
        connection.pid = taken.pid
        connection.spawn_seconds = taken.spawn_seconds
        self._by_pid[taken.pid] = connection

    def channel_lost(self, connection: Connection) -> None:
        """Whoever has it, or was asked, says no more: for a next supervisor its channel leads to nobody."""
        self._books.orphaned(connection)

    def orphaned(self, connection: Connection) -> None:
        """Whoever had made its child is dead."""
        connection.holder = None
        self._books.orphaned(connection)

    def ruled(self, connection: Connection, rule: EndedBy) -> None:
        """A rule of ours ends it."""
        connection.ended_by = rule
        self._books.ruled(connection, rule)

    def keep_no_copy(self, connection: Connection) -> None:
        """Our copy is somebody else's now, who closes it."""
        connection.descriptor = None

    def end(self, connection: Connection, ended: Ended) -> None:
        """Its child has ended: remove it, and write its record."""
        self._remove(connection)
        self._core.counters.ended += 1
        self._core.log.emit(self._record(connection, ended))

    def refuse(self, connection: Connection, reason: EndedBy, detail: str = "") -> None:
        """No child will have it: close it, and write its record."""
        self._books.ruled(connection, reason)
        self._remove(connection)
        self._core.counters.refused += 1
        self._core.log.emit(
            ConnectionRefused(
                id=self.id_of(connection),
                service=connection.service.name,
                peer=connection.endpoints.peer,
                reason=reason,
                queued=connection.accepted.queued,
                duration=self._core.now - connection.accepted_at,
                detail=detail,
            )
        )

    def _remove(self, connection: Connection) -> None:
        """The only place that takes a connection out of the books."""
        connection.state = step(connection.state, _ENDED)
        del self._open[connection.number]
        self._books.ended(connection)
        if connection.descriptor is not None:
            connection.close_copy()
        if connection.log is not None:
            # Each knows the other, and no collector looks for a connection: without this both would stay for ever.
            log, connection.log = connection.log, None
            log.end()
        if self._by_pid.get(connection.pid) is connection:
            del self._by_pid[connection.pid]

    # After taking over.

    def take_over(self, connection: Connection) -> None:
        """Enter a connection of a supervisor before this one."""
        self._open[connection.number] = connection
        if connection.state is _TAKEN:
            self._by_pid[connection.pid] = connection

    def go_on_counting(self, last_number: int) -> None:
        """Number new connections after those of a supervisor before this one."""
        self._last_number = max(self._last_number, last_number)

    def was_offered(self, connection: Connection) -> None:
        """It was about to be offered, and has been by now."""
        self._books.offered(connection)

    def found_waiting(self, connection: Connection) -> None:
        """Whoever was asked before is dead, and has not taken it."""
        connection.state = _WAITING
        self._books.waits(connection)

    def found_taken(self, connection: Connection, pid: int) -> None:
        """A process has it of which nobody has told."""
        connection.state, connection.pid = _TAKEN, pid
        self._books.taken(connection, pid, 0.0)
        connection.close_copy_unless_kept()
        self.take_over(connection)

    # What is told.

    def tell_start(self, connection: Connection) -> None:
        """Write that it has its process."""
        self._core.log.emit(
            ConnectionStarted(
                id=self.id_of(connection),
                service=connection.service.name,
                peer=connection.endpoints.peer,
                pid=connection.pid,
                queued=_queued(connection),
                spawn=connection.spawn_seconds,
            )
        )

    def _record(self, connection: Connection, ended: Ended) -> ConnectionEnded:
        exit_code, signal_name = (0, None) if ended.status == 0 else exit_and_signal(ended.status)
        return ConnectionEnded(
            id=f"{self._core.id_prefix}-{connection.number}",
            service=connection.service.name,
            peer=connection.accepted.endpoints.peer,
            pid=connection.pid,
            exit=exit_code,
            signal=signal_name,
            queued=_queued(connection),
            spawn=connection.spawn_seconds,
            duration=self._core.now - connection.accepted_at,
            cpu=ended.cpu_seconds,
            peak_memory_kb=ended.peak_memory_kb,
            ended_by=connection.ended_by,
        )


def _queued(connection: Connection) -> float | None:
    """A connection is queued twice: in the kernel, and here until a spawner takes it."""
    queued = connection.accepted.queued
    return None if queued is None else queued + connection.offered_at - connection.accepted_at
