"""What runs: the parts of the supervisor, its services, and the phase of its life."""

from collections.abc import Callable
from enum import Enum

from tcppar.config import Config
from tcppar.errors import TcpparError
from tcppar.supervisor.connections.enforcer import Enforcer
from tcppar.supervisor.connections.table import Table
from tcppar.supervisor.core import Core
from tcppar.supervisor.dispatch.child_logs import ChildLogs
from tcppar.supervisor.dispatch.parts import Parts
from tcppar.supervisor.dispatch.reaper import Reaper
from tcppar.supervisor.service import Service


class Phase(Enum):
    """The life of a server. Each asked-for stop goes one step further."""

    STARTING = "nothing is accepted yet"
    SERVING = "clients are served"
    DRAINING = "no new clients, children finish by themselves"
    TERMINATING = "children are asked to end"
    KILLING = "children are ended"
    DISMISSING = "no connection is left, the spawners end"
    STOPPED = "done"


class Running:
    """Shared by the loop and by whatever changes it.

    Attributes:
        config: what is served.
        services: those in operation, by name.
        leaving: those that a reload has removed, until their last connection has ended.
        refused: why a start was refused, if it was.
    """

    def __init__(self, core: Core, config: Config) -> None:
        self.core = core
        self.config = config
        self.table = Table(core)
        self.parts = Parts(core, self.table, ChildLogs(core))
        self.reaper = Reaper(core, self.table)
        self.enforcer = Enforcer(core, self.table, self.reaper)
        self.phase = Phase.STARTING
        self.services: dict[str, Service] = {}
        self.leaving: list[Service] = []
        self.refused: TcpparError | None = None

    @property
    def is_stopping(self) -> bool:
        """Whether a stop was asked for, or a start was refused."""
        return self.phase not in (Phase.STARTING, Phase.SERVING)

    @property
    def all_services(self) -> list[Service]:
        """Those in operation, and those that a reload has removed."""
        return [*self.services.values(), *self.leaving]

    @property
    def addresses(self) -> list[str]:
        """Where clients are served."""
        return [str(acceptor.listener) for service in self.services.values() for acceptor in service.acceptors]

    def for_all(self, do: Callable[[Service], None]) -> None:
        """Do something with each service, also with those that a reload has removed."""
        for service in self.all_services:
            do(service)
