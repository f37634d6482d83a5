"""What becomes of connections, and what their processes say."""

from tcppar.events.event import Event, Level, open_text
from tcppar.policy.life import EndedBy


class ConnectionStarted(Event, frozen=True, kw_only=True, tag="start"):
    """A connection has its process. Written only with `log_starts`.

    `queued` and `spawn` are those of the `end` record. For a pool it is written after 10 ms, or at the end of
    a shorter conversation.
    """

    id: str
    service: str
    peer: str
    pid: int
    queued: float | None
    spawn: float

    def sentence(self) -> str:
        return f"{self.service} {self.id} from {self.peer}: pid {self.pid} started"


class ConnectionEnded(Event, frozen=True, kw_only=True, tag="end"):
    """The record of a connection, written when its child has ended. Other processes of the connection may continue.

    `exit` is the exit code, `signal` the signal that ended the child. Both are null if nobody could wait for the child
    (in the portable profile, when its spawner was killed). Times are in seconds: `queued` from the end of the handshake
    to the hand-over (null if the system does not say), `spawn` to create the process, `duration` from the accept to the
    end. `cpu` and `peak_memory_kb` cover the child and those of its children that it waited for (wait4(2)). The peak is
    null if it was below the size of the spawner, about 15 MB, which hides it. `ended_by` names the rule that ended the
    connection, if one did.
    """

    id: str
    service: str
    peer: str
    pid: int
    exit: int | None
    signal: str | None
    queued: float | None
    spawn: float
    duration: float
    cpu: float
    peak_memory_kb: int | None
    ended_by: EndedBy | None = None

    @property
    def level(self) -> Level:
        return Level.INFO if self.exit is not None else Level.WARNING

    def sentence(self) -> str:
        outcome = f"signal {self.signal}" if self.signal else f"exit {'unknown' if self.exit is None else self.exit}"
        queued = "" if self.queued is None else f"queued {self.queued * 1000:.1f} ms, "
        peak = "" if self.peak_memory_kb is None else f", peak {self.peak_memory_kb} kB"
        by = f", ended by {self.ended_by}" if self.ended_by else ""
        return (
            f"{self.service} {self.id} from {self.peer}: pid {self.pid} {outcome} after {self.duration:.3f} s "
            f"({queued}spawn {self.spawn * 1000:.1f} ms, cpu {self.cpu:.3f} s{peak}{by})"
        )


class ConnectionRefused(Event, frozen=True, kw_only=True, tag="refused"):
    """A connection was accepted and closed without a child. `reason` is the rule, `detail` the cause."""

    id: str
    service: str
    peer: str
    reason: EndedBy
    queued: float | None
    duration: float
    detail: str = ""

    @property
    def level(self) -> Level:
        return Level.WARNING

    def sentence(self) -> str:
        detail = f": {self.detail}" if self.detail else ""
        return f"{self.service} {self.id} from {self.peer}: refused after {self.duration:.3f} s, {self.reason}{detail}"


class ClientsWait(Event, frozen=True, kw_only=True, tag="clients-wait"):
    """Clients wait because `max_connections` connections are open. Written every 10 s at most.

    `waiting` is the length of the queue. Clients of a service that was removed, or is stopping, have been accepted
    already; they count too, and not as `connections`, which are open. For Unix sockets and in the portable profile the
    system only says whether anyone is in the queue, and each listener counts as 1. `gave_up` is how many clients,
    since the last such record, had reset their connection, or closed it without sending anything, by the time it was
    their turn. These are served like the others, because some clients only listen, and have an `end` record.
    """

    service: str
    waiting: int
    gave_up: int
    connections: int

    @property
    def level(self) -> Level:
        return Level.WARNING

    def sentence(self) -> str:
        gave_up = f", {self.gave_up} gave up" if self.gave_up else ""
        waiting = "1 client is" if self.waiting == 1 else f"{self.waiting} clients are"
        return f"{self.service}: {waiting} waiting{gave_up}; the service is full: {open_text(self.connections)}"


class ChildOutput(Event, frozen=True, kw_only=True, tag="stderr"):
    """A line that a child, or a process it started, wrote to descriptor 2. `pid` is the child's. `id` is null for lines
    from a spawner, or from a worker between two connections.
    """

    service: str
    id: str | None
    pid: int | None
    line: str

    def sentence(self) -> str:
        return f"{self.service} {self.id or '-'} pid {self.pid or '-'} stderr: {self.line}"
