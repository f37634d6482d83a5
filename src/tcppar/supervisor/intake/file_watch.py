"""Noticing that the file of a Unix socket was removed, and making it again: else nobody finds the server any more.

Whoever owns the folder can do that: a child, where it is the service's user's. A file of somebody else's in its place
is left alone: another server may have been started there.
"""

from typing import Protocol

from tcppar.net.listener import Listener
from tcppar.supervisor.core import Core

_PERIOD = 1.0


class Acceptor(Protocol):
    """Who serves a listener."""

    listener: Listener

    @property
    def is_to_last(self) -> bool: ...
    def reset(self, reason: str) -> None: ...


def watch(acceptor: Acceptor, core: Core) -> None:
    """Look once a second, as long as it serves. Of what has no file, nothing is looked at."""
    if acceptor.listener.has_file:
        core.timers.at(core.later(_PERIOD), lambda: _look(acceptor, core))


def _look(acceptor: Acceptor, core: Core) -> None:
    if acceptor.is_to_last:
        if acceptor.listener.has_lost_file:
            acceptor.reset("its file is gone")
        watch(acceptor, core)
