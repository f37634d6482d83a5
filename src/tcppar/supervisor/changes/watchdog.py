"""Answering a service manager's watchdog (WatchdogSec= of systemd.service(5), sd_watchdog_enabled(3)), which kills who
does not answer in time.

The answer is a timer of the loop's. So it says what it is to say: that the loop turns, and serves.
"""

import os
import re
import socket
from collections.abc import Mapping

from tcppar.net import notify
from tcppar.supervisor.core import Core

_NUMBER = re.compile(r"[0-9]{1,18}")
_MICROSECOND = 1e-6
# Answers come at half of the period, as sd_watchdog_enabled(3) recommends; more often than this nobody can mean.
_SHORTEST_PAUSE = 0.01


def begin(core: Core, keeper: int | None, environ: Mapping[str, str] = os.environ) -> None:
    """Answer from now on, if this server has a watchdog.

    Args:
        keeper: the process id of the keeper, which the manager has started then; None without one.

    Raises:
        OSError: no socket can be had for it.
    """
    period, address = _period(environ, keeper), notify.manager_address(environ)
    if period is not None and address is not None:
        _Watchdog(core, max(period / 2, _SHORTEST_PAUSE), address).answer()


def _period(environ: Mapping[str, str], keeper: int | None) -> float | None:
    """In seconds; None if there is no watchdog, or it is another process's."""
    period, pid = environ.get("WATCHDOG_USEC", ""), environ.get("WATCHDOG_PID")
    if not _NUMBER.fullmatch(period) or pid not in (None, str(os.getpid()), str(keeper)):
        return None
    return int(period) * _MICROSECOND or None


class _Watchdog:
    """Its socket stays open: a server without a descriptor to spare lives, and serves those it has."""

    def __init__(self, core: Core, pause: float, address: str) -> None:
        self._core = core
        self._pause = pause
        self._address = address
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.setblocking(False)

    def answer(self) -> None:
        """Now, and again and again."""
        try:
            self._socket.sendto(b"WATCHDOG=1", self._address)
        except OSError:
            pass  # the manager's queue is full, or it is being started anew; the next answer may be in time
        self._core.timers.at(self._core.later(self._pause), self.answer)
