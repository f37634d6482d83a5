"""What the server logs: one frozen record for each kind of thing that happens.

The class's tag is the `event` of a JSON line; its fields are the line's other keys; `sentence()` is the text form.
docs/events.md is written from here.
"""

from tcppar.events.connections import ChildOutput, ClientsWait, ConnectionEnded, ConnectionRefused, ConnectionStarted
from tcppar.events.event import Event, Level
from tcppar.events.listeners import ListenerClosed, ListenerReset, Listening
from tcppar.events.processes import GivenUp, SpawnerDied, SpawnerStarted, WorkerEnded, WorkerStarted
from tcppar.events.server import (
    Fault,
    KeeperLost,
    LogLost,
    Recovered,
    Reloaded,
    ReloadFailed,
    SharedUser,
    Stopped,
    Stopping,
    Upgraded,
    UpgradeFailed,
)

__all__ = [
    "ChildOutput",
    "ClientsWait",
    "ConnectionEnded",
    "ConnectionRefused",
    "ConnectionStarted",
    "Event",
    "Fault",
    "GivenUp",
    "KeeperLost",
    "Level",
    "ListenerClosed",
    "ListenerReset",
    "Listening",
    "LogLost",
    "Recovered",
    "ReloadFailed",
    "Reloaded",
    "SharedUser",
    "SpawnerDied",
    "SpawnerStarted",
    "Stopped",
    "Stopping",
    "UpgradeFailed",
    "Upgraded",
    "WorkerEnded",
    "WorkerStarted",
]
