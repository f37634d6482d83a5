"""What all who take connections share."""

from dataclasses import dataclass

from tcppar.supervisor.connections.table import Table
from tcppar.supervisor.core import Core
from tcppar.supervisor.dispatch.child_logs import ChildLogs


@dataclass(frozen=True, slots=True)
class Parts:
    """By reference."""

    core: Core
    table: Table
    logs: ChildLogs
