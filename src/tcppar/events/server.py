"""What becomes of the server itself."""

from tcppar.events.event import Event, Level, open_text


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
        return f"upgraded from tcppar {self.former_version} to {self.version}, {open_text(self.connections)}"


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
        return (
            f"the supervisor died ({self.outcome}); process {self.pid} takes its place, {open_text(self.connections)}"
        )


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
        return f"stopping ({self.reason}), {open_text(self.connections)}"


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
