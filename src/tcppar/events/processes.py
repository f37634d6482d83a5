"""What becomes of spawners and workers."""

from tcppar.events.event import Event, Level


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
