"""What the server tells: one frozen record for each kind of thing that happens.

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
    """Told once, at the start: these services' children run as the user that the server itself runs as, and can signal
    it. To separate them takes a server that root starts, and `user` in each service.
    """

    services: tuple[str, ...]
    user: int

    @property
    def level(self) -> Level:
        return Level.WARNING

    def sentence(self) -> str:
        return (
            f"{', '.join(self.services)}: children run as the server's own user ({self.user}) and can harm it; "
            f"{'' if self.user == 0 else 'let root start it, and '}set `user` to another one"
        )


class ConnectionEnded(Event, frozen=True, kw_only=True, tag="end"):
    """A connection's one record, written when its child has ended.

    `exit` is the exit code, `signal` the signal that ended the child; both are null where nobody could wait for it
    (its spawner was killed, in the portable profile). Times are seconds: `queued` from the end of the handshake to the
    hand-over (null: the system does not tell), `spawn` to make the process, `duration` from the accept to the end.
    `cpu` and `peak_memory_kb` are the child's own and its waited-for children's (wait4(2)); the peak is null if it was
    below the spawner's size, some 15 MB, which hides it. `ended_by` names the rule that ended it, if one did.
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
    """A connection was accepted and closed without a child: `reason` is the rule, `detail` what led to it."""

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
    """A line that a child, or a process that it started, wrote to descriptor 2; `pid` is the child's. `id` is null for
    what a spawner wrote, or a worker between two connections.
    """

    service: str
    id: str | None
    pid: int | None
    line: str

    def sentence(self) -> str:
        return f"{self.service} {self.id or '-'} pid {self.pid or '-'} stderr: {self.line}"


class Fault(Event, frozen=True, kw_only=True, tag="fault"):
    """A failure that the server lives through. `count` is how many it stands for: at most one is told each 10 s."""

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
    """A listener was reset, asked for or after too many strikes. `lossless`: no client can have been lost by it."""

    service: str
    address: str
    reason: str
    lossless: bool

    @property
    def level(self) -> Level:
        return Level.WARNING

    def sentence(self) -> str:
        return f"{self.service} {self.address}: reset, {self.reason}" + (
            "" if self.lossless else "; clients that came just then may have been refused"
        )


class ListenerClosed(Event, frozen=True, kw_only=True, tag="closed"):
    """A listener was closed, its queue emptied."""

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
    """A spawner ended unasked. Its `children` go on and are still counted; `offers` are offered to another."""

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
            f"{self.service} spawner pid {self.pid} died, {self.outcome}: its {self.children} children go on, "
            f"{self.offers} unanswered hand-overs are offered again"
        )


class GivenUp(Event, frozen=True, kw_only=True, tag="given-up"):
    """A spawner or a worker is ended and replaced, for it does not do what it should.

    `role` is "spawner" or "worker". It does not answer, for it was stopped or hangs; or it says what cannot be so, as
    its children can make it do, which run as the same user. What it had not taken is offered to another.
    """

    service: str
    role: str
    pid: int
    reason: str

    @property
    def level(self) -> Level:
        return Level.ERROR

    def sentence(self) -> str:
        return f"{self.service} {self.role} pid {self.pid} is given up: {self.reason}"


class WorkerStarted(Event, frozen=True, kw_only=True, tag="worker"):
    """A worker of a pool was started."""

    service: str
    pid: int
    workers: int

    def sentence(self) -> str:
        return f"{self.service} worker pid {self.pid} started, now {self.workers}"


class WorkerEnded(Event, frozen=True, kw_only=True, tag="worker-ended"):
    """A worker of a pool ended. `asked`: it was told to, or has come to its limits; else it died, and the connection
    that it had ended with it."""

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
        return f"{self.service} worker pid {self.pid} {how}, {self.outcome}, now {self.workers}"


class Reloaded(Event, frozen=True, kw_only=True, tag="reloaded"):
    """The configuration was read again and is in force."""

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
    """The new configuration cannot be put in force; everything goes on as before."""

    mistakes: tuple[str, ...]

    @property
    def level(self) -> Level:
        return Level.ERROR

    def sentence(self) -> str:
        return "reload failed, nothing was changed: " + "; ".join(self.mistakes)


class Upgraded(Event, frozen=True, kw_only=True, tag="upgraded"):
    """The installed program goes on in place of the one that ran, in the same process. Spawners are replaced next; what
    the configuration's file says now follows as `reloaded`."""

    version: str
    former_version: str
    connections: int

    def sentence(self) -> str:
        return f"upgraded from tcppar {self.former_version} to {self.version}, {_open(self.connections)}"


class UpgradeFailed(Event, frozen=True, kw_only=True, tag="upgrade-failed"):
    """The installed program cannot go on from here; the one that runs does, as if nothing had been asked."""

    reasons: tuple[str, ...]

    @property
    def level(self) -> Level:
        return Level.ERROR

    def sentence(self) -> str:
        return "upgrade failed, nothing was changed: " + "; ".join(self.reasons)


class Recovered(Event, frozen=True, kw_only=True, tag="recovered"):
    """The supervisor died, and its keeper has started another, which goes on. `outcome` is how the former one ended."""

    outcome: str
    pid: int
    connections: int

    @property
    def level(self) -> Level:
        return Level.ERROR

    def sentence(self) -> str:
        return (
            f"the supervisor died, {self.outcome}; process {self.pid} goes on in its place, {_open(self.connections)}"
        )


class KeeperLost(Event, frozen=True, kw_only=True, tag="keeper-lost"):
    """The keeper was killed. The supervisor, process `pid`, goes on without one: signals for the server go to it. The
    next upgrade brings another keeper."""

    pid: int

    @property
    def level(self) -> Level:
        return Level.ERROR

    def sentence(self) -> str:
        return f"the keeper was killed; process {self.pid} goes on without one, until the next upgrade"


class Stopping(Event, frozen=True, kw_only=True, tag="stopping"):
    """A stop was asked for."""

    reason: str
    connections: int

    def sentence(self) -> str:
        return f"stopping ({self.reason}), {_open(self.connections)}"


class Stopped(Event, frozen=True, kw_only=True, tag="stopped"):
    """The last record: what the server did in its life. accepted = ended + refused."""

    accepted: int
    ended: int
    refused: int
    strikes: int
    resets: int
    client_faults: int

    def sentence(self) -> str:
        return (
            f"stopped: accepted {self.accepted}, ended {self.ended}, refused {self.refused}, "
            f"strikes {self.strikes}, resets {self.resets}, clients' faults {self.client_faults}"
        )


class LogLost(Event, frozen=True, kw_only=True, tag="log-lost"):
    """Records that could not be written in time were dropped."""

    records: int

    @property
    def level(self) -> Level:
        return Level.ERROR

    def sentence(self) -> str:
        return f"the log could not be written: {self.records} records are lost"
