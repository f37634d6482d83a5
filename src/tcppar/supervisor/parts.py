"""What all who take connections share."""

from dataclasses import dataclass

from tcppar.supervisor.child_logs import ChildLogs
from tcppar.supervisor.core import Core
from tcppar.supervisor.table import Table


@dataclass(frozen=True, slots=True)
class Parts:
    """By reference."""

    core: Core
    table: Table
    logs: ChildLogs
