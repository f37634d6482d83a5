"""One connection as the supervisor knows it, and what it knows of those that have to do with it."""

from signal import Signals
from typing import Protocol

from msgspec import Struct

from tcppar.config import ServiceConfig
from tcppar.net import calls
from tcppar.net.listener import Accepted
from tcppar.policy.life import EndedBy, State
from tcppar.records import Ended, Endpoints


class Owner(Protocol):
    """The service that it belongs to."""

    name: str
    linger: float | None

    @property
    def config(self) -> ServiceConfig: ...
    def take_over(self, connection: "Connection") -> None: ...
    def end_by(self, connection: "Connection", rule: EndedBy) -> None: ...
    def end(self, connection: "Connection", ended: Ended) -> None: ...
    def end_untaken(self, connection: "Connection", ended: Ended) -> None: ...


class Holder(Protocol):
    """The spawner or worker that was asked to take it, or whose child has it.

    Attributes:
        offered: what it was asked to take and has not answered, by number.
        children: what it has, or has made a child for, by number.
    """

    offered: dict[int, "Connection"]
    children: dict[int, "Connection"]

    def fileno(self) -> int: ...
    @property
    def serves_as(self) -> int: ...
    @property
    def maker_pid(self) -> int: ...
    @property
    def can_deliver(self) -> bool: ...
    def deliver(self, connection: "Connection", number: Signals) -> None: ...
    def send_offer(self, connection: "Connection", *, again: bool) -> None: ...
    def prepare_for_signal(self) -> None: ...
    def read_to_the_end(self) -> None: ...


class Log(Protocol):
    """Where its child's descriptor 2 leads."""

    writer: int | None

    @property
    def is_open(self) -> bool: ...
    def fileno(self) -> int: ...
    def handed_over(self) -> None: ...
    def end(self) -> None: ...


class Connection(Struct, eq=False, gc=False):
    """One connection. What changes in its life, `Table` changes.

    Attributes:
        descriptor: the supervisor's copy; None once a child has it, unless its service lingers.
        holder: the spawner or worker that was asked, or whose child it is; None while it waits, and for an orphan.
        accepted: what was known when it was accepted.
        attempts: how often it was offered to anybody; counts round a byte.
        log: where its child's descriptor 2 leads, if to the log; a worker has one of its own.
    """

    number: int
    service: Owner
    accepted: Accepted
    accepted_at: float
    offered_at: float
    descriptor: int | None
    state: State = State.WAITING
    holder: Holder | None = None
    pid: int = 0
    spawn_seconds: float = 0.0
    ended_by: EndedBy | None = None
    slot: int = -1
    attempts: int = 0
    log: Log | None = None

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
