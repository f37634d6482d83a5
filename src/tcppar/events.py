"""What the server logs: one frozen record for each kind of thing that happens.

The class's tag is the `event` of a JSON line; its fields are the line's other keys; `sentence()` is the text form.
docs/events.md is written from here.
"""

from enum import StrEnum

from msgspec import Struct

from tcppar.policy.life import EndedBy


class Level(StrEnum):
    """How much an event wants a person's eye."""

    INFO = "info"
    WARNING = "warning"
    ERROR = "error"


def _open(connections: int) -> str:
    return f"{connections} connection{'' if connections == 1 else 's'} open"


class Event(Struct, frozen=True, kw_only=True, tag_field="event", gc=False):
    """Base of all events."""

    @property
    def level(self) -> Level:
        """How much it wants a person's eye."""
        return Level.INFO

    def sentence(self) -> str:
        """The event for a person to read."""
        raise NotImplementedError


class Listening(Event, frozen=True, kw_only=True, tag="listening"):
    """A listener is open and served. In text form the whole line is `listening on ADDRESS`."""

    address: str
    service: str

    def sentence(self) -> str:
        return f"listening on {self.address}"


class SharedUser(Event, frozen=True, kw_only=True, tag="shared-user"):
    """Logged once, at the start: the children of these services run as the same user as the server, and can send it
    signals. To separate them, start the server as root and set `user` in each service.
    """

    services: tuple[str, ...]
    user: int

    @property
    def level(self) -> Level:
        return Level.WARNING

    def sentence(self) -> str:
        return (
            f"{', '.join(self.services)}: children run as the same user as the server ({self.user}) and can harm it; "
            f"{'set' if self.user == 0 else 'start it as root and set'} `user` to another one"
        )


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
        return f"{self.service}: {waiting} waiting{gave_up}; the service is full: {_open(self.connections)}"


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


class Fault(Event, frozen=True, kw_only=True, tag="fault"):
    """A failure that the server survives. Each kind is logged at most once in 10 s; `count` is the number of times."""

    what: str
    error: str
    remedy: str
    count: int = 1
    service: str | None = None

    @property
    def level(self) -> Level:
        return Level.WARNING

    def sentence(self) -> str:
        where = f"{self.service} " if self.service else ""
        times = f" ({self.count} times)" if self.count > 1 else ""
        return f"{where}{self.what}: {self.error}{times}: {self.remedy}"


class ListenerReset(Event, frozen=True, kw_only=True, tag="reset"):
    """A listener was reset, on request or after too many strikes. `lossless`: no client can have been lost by it."""

    service: str
    address: str
    reason: str
    lossless: bool

    @property
    def level(self) -> Level:
        return Level.WARNING

    def sentence(self) -> str:
        return f"{self.service} {self.address}: reset, {self.reason}" + (
            "" if self.lossless else "; clients that arrived at that moment may have been refused"
        )


class ListenerClosed(Event, frozen=True, kw_only=True, tag="closed"):
    """A listener was closed after its queue was emptied."""

    service: str
    address: str

    def sentence(self) -> str:
        return f"{self.service} {self.address}: closed, its queue was empty"


class SpawnerStarted(Event, frozen=True, kw_only=True, tag="spawner"):
    """A spawner process was started."""

    service: str
    pid: int
    spawners: int

    def sentence(self) -> str:
        return f"{self.service} spawner pid {self.pid} started, now {self.spawners}"


class SpawnerDied(Event, frozen=True, kw_only=True, tag="spawner-died"):
    """A spawner ended unexpectedly. Its `children` continue and are still counted; its `offers`, the connections it had
    been given and not yet taken, go to another spawner.
    """

    service: str
    pid: int
    outcome: str
    children: int
    offers: int

    @property
    def level(self) -> Level:
        return Level.ERROR

    def sentence(self) -> str:
        return (
            f"{self.service} spawner pid {self.pid} died ({self.outcome}): its {self.children} children continue, "
            f"{self.offers} connections it had not taken go to another spawner"
        )


class GivenUp(Event, frozen=True, kw_only=True, tag="given-up"):
    """A spawner or a worker is killed and replaced, because it misbehaves.

    `role` is "spawner" or "worker". Either it does not answer, because it was stopped or hangs, or its reports
    cannot be true; its children, which run as the same user, can make it do either. Connections that it had not taken
    go to another process.
    """

    service: str
    role: str
    pid: int
    reason: str

    @property
    def level(self) -> Level:
        return Level.ERROR

    def sentence(self) -> str:
        return f"{self.service} {self.role} pid {self.pid} is replaced: {self.reason}"


class WorkerStarted(Event, frozen=True, kw_only=True, tag="worker"):
    """A worker of a pool was started."""

    service: str
    pid: int
    workers: int

    def sentence(self) -> str:
        return f"{self.service} worker pid {self.pid} started, now {self.workers}"


class WorkerEnded(Event, frozen=True, kw_only=True, tag="worker-ended"):
    """A worker of a pool ended. `asked` is true if it was told to end or had reached its limits. Otherwise it died, and
    its connection, if it had one, ended with it.
    """

    service: str
    pid: int
    outcome: str
    asked: bool
    workers: int

    @property
    def level(self) -> Level:
        return Level.INFO if self.asked else Level.ERROR

    def sentence(self) -> str:
        how = "ended" if self.asked else "died"
        return f"{self.service} worker pid {self.pid} {how} ({self.outcome}), now {self.workers}"


class Reloaded(Event, frozen=True, kw_only=True, tag="reloaded"):
    """The configuration was read again and now applies."""

    added: tuple[str, ...]
    changed: tuple[str, ...]
    removed: tuple[str, ...]

    def sentence(self) -> str:
        parts = [
            f"{label} {', '.join(names)}"
            for label, names in (("added", self.added), ("changed", self.changed), ("removed", self.removed))
            if names
        ]
        return f"configuration reloaded: {'; '.join(parts) or 'nothing changed'}"


class ReloadFailed(Event, frozen=True, kw_only=True, tag="reload-failed"):
    """The new configuration cannot be applied. Everything continues as before."""

    mistakes: tuple[str, ...]

    @property
    def level(self) -> Level:
        return Level.ERROR

    def sentence(self) -> str:
        return "reload failed, nothing has changed: " + "; ".join(self.mistakes)


class Upgraded(Event, frozen=True, kw_only=True, tag="upgraded"):
    """The installed version has taken over, in the same process. Next the spawners are replaced and the configuration
    file is applied again, which is logged as `reloaded`.
    """

    version: str
    former_version: str
    connections: int

    def sentence(self) -> str:
        return f"upgraded from tcppar {self.former_version} to {self.version}, {_open(self.connections)}"


class UpgradeFailed(Event, frozen=True, kw_only=True, tag="upgrade-failed"):
    """The installed version cannot take over. The running one continues as if nothing had been asked."""

    reasons: tuple[str, ...]

    @property
    def level(self) -> Level:
        return Level.ERROR

    def sentence(self) -> str:
        return "upgrade failed, nothing has changed: " + "; ".join(self.reasons)


class Recovered(Event, frozen=True, kw_only=True, tag="recovered"):
    """The supervisor died, and its keeper has started another one, which continues its work. `outcome` says how the
    former supervisor ended.
    """

    outcome: str
    pid: int
    connections: int

    @property
    def level(self) -> Level:
        return Level.ERROR

    def sentence(self) -> str:
        return f"the supervisor died ({self.outcome}); process {self.pid} takes its place, {_open(self.connections)}"


class KeeperLost(Event, frozen=True, kw_only=True, tag="keeper-lost"):
    """The keeper was killed. The supervisor, process `pid`, continues without one: send signals for the server to it.
    The next upgrade starts another keeper.
    """

    pid: int

    @property
    def level(self) -> Level:
        return Level.ERROR

    def sentence(self) -> str:
        return f"the keeper was killed; process {self.pid} continues without one until the next upgrade"


class Stopping(Event, frozen=True, kw_only=True, tag="stopping"):
    """The server was asked to stop."""

    reason: str
    connections: int

    def sentence(self) -> str:
        return f"stopping ({self.reason}), {_open(self.connections)}"


class Stopped(Event, frozen=True, kw_only=True, tag="stopped"):
    """The last record, with the totals of the server's life: `accepted` is `ended` and `refused` together."""

    accepted: int
    ended: int
    refused: int
    strikes: int
    resets: int
    client_faults: int

    def sentence(self) -> str:
        return (
            f"stopped: accepted {self.accepted}, ended {self.ended}, refused {self.refused}, "
            f"strikes {self.strikes}, resets {self.resets}, client faults {self.client_faults}"
        )


class LogLost(Event, frozen=True, kw_only=True, tag="log-lost"):
    """Records were dropped because they could not be written in time."""

    records: int

    @property
    def level(self) -> Level:
        return Level.ERROR

    def sentence(self) -> str:
        return f"the log could not be written: {self.records} records were lost"
