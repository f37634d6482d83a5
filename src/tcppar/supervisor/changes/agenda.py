"""One change at a time: what is asked for while another is under way comes after it."""

from collections.abc import Callable
from enum import Enum

from tcppar.supervisor.core import Core


class Change(Enum):
    """What can be put off, in the order in which it is done then."""

    RELOAD = "the file may have changed since the one under way was read"
    UPGRADE = "a next program is to go on from what the reload has made"


class Agenda:
    """What is under way, and what comes next.

    Attributes:
        is_busy: whether a rollout is under way.
    """

    def __init__(self, core: Core) -> None:
        self._core = core
        self.is_busy = False
        self._put_off: dict[Change, Callable[[], None]] = {}

    def begin(self) -> None:
        """A rollout begins."""
        self.is_busy = True

    def put_off(self, change: Change, do: Callable[[], None]) -> None:
        """Do something when nothing is under way any more: once, however often it is asked for."""
        self._put_off[change] = do

    def over(self) -> None:
        """The rollout is over, or has come to nothing."""
        self.is_busy = False
        if self._put_off:
            self._core.timers.at(self._core.now, self._go_on)

    def _go_on(self) -> None:
        for change in Change:
            if not self.is_busy and (do := self._put_off.pop(change, None)) is not None:
                do()
