"""The table of connections: who owns each of them, from the accept to the one record that ends it."""

from typing import TYPE_CHECKING

from msgspec import Struct

from tcppar.events import ConnectionEnded, ConnectionRefused, ConnectionStarted
from tcppar.net import calls
from tcppar.net.listener import Accepted
from tcppar.policy.life import EndedBy, State, step
from tcppar.policy.outcome import exit_and_signal
from tcppar.records import Ended, Endpoints, Taken

if TYPE_CHECKING:
    from tcppar.supervisor.child_log import ChildLog
    from tcppar.supervisor.core import Core
    from tcppar.supervisor.service import Service
    from tcppar.supervisor.taker import Taker


# Members of an enum are looked up slowly: these are asked for in every connection.
_WAITING, _OFFERED, _TAKEN, _ENDED = State.WAITING, State.OFFERED, State.TAKEN, State.ENDED


class Connection(Struct, eq=False, gc=False):
    """One connection.

    Attributes:
        descriptor: the supervisor's copy; None once a child has it, unless its service lingers.
        holder: the spawner or worker that was asked, or whose child it is; None while it waits, and for an orphan.
        accepted: what was known when it was accepted.
        attempts: how often it was offered to anybody; counts round a byte.
        log: where its child's descriptor 2 leads, if to the log; a worker has one of its own.
    """

    number: int
    service: "Service"
    accepted: Accepted
    accepted_at: float
    offered_at: float
    descriptor: int | None
    state: State = _WAITING
    holder: "Taker | None" = None
    pid: int = 0
    spawn_seconds: float = 0.0
    ended_by: EndedBy | None = None
    slot: int = -1
    attempts: int = 0
    log: "ChildLog | None" = None

    @property
    def endpoints(self) -> Endpoints:
        """Both ends."""
        return self.accepted.endpoints

    def close_copy_unless_kept(self) -> None:
        """Close the supervisor's copy now that a child has the connection, unless it is kept for an orderly end."""
        if self.log is not None:
            self.log.handed_over()
        if self.service.linger is None:
            self.close_copy()

    def close_copy(self) -> None:
        """Close the supervisor's copy, if it still has one."""
        if self.descriptor is not None:
            calls.close_shared(self.descriptor)
            self.descriptor = None


class Table:
    """All connections, by number and by their child's process id."""

    def __init__(self, core: "Core") -> None:
        self._core = core
        self._last_number = 0
        self._open: dict[int, Connection] = {}
        self._by_pid: dict[int, Connection] = {}

    def __len__(self) -> int:
        return len(self._open)

    def enter(self, service: "Service", accepted: Accepted) -> Connection:
        """Take a connection that was just accepted into the books."""
        self._last_number = number = self._last_number + 1
        now = self._core.now
        connection = Connection(number, service, accepted, now, now, accepted.descriptor)
        self._open[number] = connection
        self._core.counters.accepted += 1
        if self._core.ledger is not None:
            self._core.ledger.enter(connection)
        return connection

    def take_over(self, connection: Connection) -> None:
        """Enter a connection of a supervisor before this one."""
        self._open[connection.number] = connection
        if connection.state is _TAKEN:
            self._by_pid[connection.pid] = connection

    @property
    def last_number(self) -> int:
        """The number of the connection that was entered last."""
        return self._last_number

    def all_open(self) -> list[Connection]:
        """All open connections, in the order of their numbers."""
        return [self._open[number] for number in sorted(self._open)]

    def go_on_counting(self, last_number: int) -> None:
        """Number new connections after those of a supervisor before this one."""
        self._last_number = max(self._last_number, last_number)

    def get(self, number: int) -> Connection | None:
        """The connection of that number, unless it has ended."""
        return self._open.get(number)

    def of_pid(self, pid: int) -> Connection | None:
        """The connection whose child that is, and which that has taken."""
        connection = self._by_pid.get(pid)
        return connection if connection is not None and connection.state is _TAKEN else None

    def of_service(self, service: "Service") -> list[Connection]:
        """The open connections of a service."""
        return [connection for connection in self._open.values() if connection.service is service]

    def taken(self, connection: Connection, taken: Taken) -> None:
        """A child has it: only now is our copy closed, unless it is kept for an orderly end."""
        assert connection.state is _OFFERED
        connection.state = _TAKEN
        if self._core.ledger is not None:
            self._core.ledger.taken(connection, taken.pid, taken.spawn_seconds)
        connection.close_copy_unless_kept()
        connection.pid = taken.pid
        connection.spawn_seconds = taken.spawn_seconds
        self._by_pid[taken.pid] = connection

    def expect_child(self, pid: int, connection: Connection) -> None:
        """A worker was asked to take it, and is its child if it does."""
        connection.pid = pid
        self._by_pid[pid] = connection

    def end(self, connection: Connection, ended: Ended) -> None:
        """Its child has ended: remove it, and write its record."""
        self._remove(connection)
        self._core.counters.ended += 1
        self._core.log.emit(self._record(connection, ended))

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

    def refuse(self, connection: Connection, reason: EndedBy, detail: str = "") -> None:
        """No child will have it: close it, and write its record."""
        if self._core.ledger is not None:
            self._core.ledger.ruled(connection, reason)
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
        if self._core.ledger is not None:
            self._core.ledger.ended(connection)
        if connection.descriptor is not None:
            connection.close_copy()
        if connection.log is not None:
            # Each knows the other, and no collector looks for a connection: without this both would stay for ever.
            log, connection.log = connection.log, None
            log.end()
        if self._by_pid.get(connection.pid) is connection:
            del self._by_pid[connection.pid]

    def is_open(self, pid: int) -> bool:
        """Whether that is the child of an open connection."""
        return pid in self._by_pid

    def id_of(self, connection: Connection) -> str:
        """The id that the child and the log know it by."""
        return self._core.id_of(connection.number)

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
