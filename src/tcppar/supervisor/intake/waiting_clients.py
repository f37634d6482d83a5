"""Telling of clients who wait because their service is full: who is in the kernel's queue is in no books of ours."""

from collections.abc import Callable
from typing import Protocol

from tcppar.events import ClientsWait
from tcppar.net import tcp_info
from tcppar.net.listener import Accepted
from tcppar.supervisor.core import Core

# A service that is full for a moment makes nobody wait for long.
_FIRST_LOOK = 1.0
_PERIOD = 10.0
# Who has been queued for less has not waited for another's end.
_WAITED = 0.05


class Service(Protocol):
    """Who can be full."""

    name: str
    active: int

    @property
    def lets_clients_wait(self) -> bool: ...
    @property
    def held_back(self) -> int: ...
    @property
    def listeners(self) -> list[int]: ...


class WaitingClients:
    """Those of one service.

    Attributes:
        on: whether the service lets clients wait, or did a moment ago.
    """

    def __init__(self, service: Service, core: Core) -> None:
        self.on = False
        self._service = service
        self._core = core
        self._told_at = -_PERIOD
        self._gave_up = 0

    def begin(self) -> None:
        """The service lets clients wait."""
        if not self.on:
            self.on = True
            self._look_in(_FIRST_LOOK)

    def note(self, accepted: Accepted) -> None:
        """Count a client that had given up when its turn came."""
        if accepted.queued is not None and accepted.queued > _WAITED:
            self._gave_up += self._asked(lambda: tcp_info.has_given_up(accepted.descriptor))

    def _look_in(self, seconds: float) -> None:
        at = max(self._core.later(seconds), self._told_at + _PERIOD)
        self._core.timers.at(at, self._look)

    def _look(self) -> None:
        service = self._service
        full = service.lets_clients_wait
        # Of a service that was removed, or that is stopping, they were accepted already: see Acceptor.retire.
        accepted = service.held_back
        waiting = accepted + sum(map(self._waiting_at, service.listeners)) if full else 0
        if waiting or self._gave_up:
            self._core.log.emit(
                ClientsWait(
                    service=service.name,
                    waiting=waiting,
                    gave_up=self._gave_up,
                    connections=service.active - accepted,
                )
            )
            self._told_at = self._core.now
            self._gave_up = 0
        self.on = full
        if full:
            self._look_in(_FIRST_LOOK)

    def _waiting_at(self, listener: int) -> int:
        tells = self._core.features.tcp_info
        return self._asked(lambda: tcp_info.clients_waiting(listener, tcp_info=tells))

    @staticmethod
    def _asked(question: Callable[[], int]) -> int:
        try:
            return question()
        except OSError:
            return 0  # no descriptor is left, which others tell of
