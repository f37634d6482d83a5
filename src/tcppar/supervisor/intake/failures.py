"""What becomes of failed accepts: the client's fault, a shortage, or a strike against the listener."""

from typing import Protocol

from tcppar.policy import faults
from tcppar.policy.faults import Remedy
from tcppar.policy.strikes import Strikes, Verdict
from tcppar.supervisor.core import Core


class Owner(Protocol):
    """Whose listener it is."""

    name: str
    look_again: bool


class Acceptor(Protocol):
    """Who accepts."""

    @property
    def owner(self) -> Owner: ...
    @property
    def place(self) -> str: ...
    def reset(self, reason: str) -> None: ...


class Failures:
    """Of one acceptor.

    Args:
        strikes: counts failures in a row. One that a reset does not mend stays one fault: its successor goes on
            counting.

    Attributes:
        paused: whether nothing is accepted for a moment, after too many.
    """

    def __init__(self, acceptor: Acceptor, core: Core, strikes: Strikes) -> None:
        self._acceptor = acceptor
        self._core = core
        self.strikes = strikes
        self.paused = False

    def note(self, error: int) -> None:
        """An accept has failed."""
        remedy = faults.of_accept(error)
        name = self._acceptor.owner.name
        if remedy is Remedy.COUNT:
            self._core.counters.client_faults += 1
            self._core.note_faults()
            self._core.fault(("client", error), "accept", error, "caused by the client, and counted", name)
        elif remedy is Remedy.BACK_OFF:
            self._core.accept_fell_short(error)
        elif remedy is Remedy.STRIKE:
            self.strike("accept", error)

    def strike(self, call: str, error: int) -> None:
        """Something failed that was not to be expected."""
        self._core.counters.strikes += 1
        self._core.note_faults()
        verdict = self.strikes.strike()
        told = "tolerated" if verdict is Verdict.TOLERATE else "too many in a row, so the listener is reset"
        acceptor = self._acceptor
        self._core.fault(("strike", acceptor.place, verdict), call, error, told, acceptor.owner.name)
        if verdict is Verdict.RESET:
            acceptor.reset(f"after {self.strikes.tolerated + 1} failures of {call} in a row: {faults.name(error)}")
            self._pause(self.strikes.pause())

    def worked(self) -> None:
        """An accept has worked."""
        if not self.strikes.clean:
            self.strikes.success()
        if self._core.accept_failing:
            self._core.accept_worked()

    def _pause(self, seconds: float) -> None:
        if seconds and not self.paused:
            self.paused = self._acceptor.owner.look_again = True
            self._core.timers.at(self._core.later(seconds), self._resume)

    def _resume(self) -> None:
        self.paused = False
        self._acceptor.owner.look_again = True
