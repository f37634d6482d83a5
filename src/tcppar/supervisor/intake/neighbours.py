"""Listeners of one port whose addresses overlap: a reload has bound one beside others, which are closed soon."""

from collections.abc import Iterable
from dataclasses import dataclass
from functools import partial

from tcppar.net.listener import Listener
from tcppar.net.opening import ListenerOptions
from tcppar.supervisor.intake.acceptor import Acceptor, Phase


@dataclass(frozen=True, slots=True)
class Newcomer:
    """A listener that is bound beside others, and does not listen yet: it would take clients whom nobody serves."""

    listener: Listener
    options: ListenerOptions
    neighbours: list[Acceptor]

    def listen(self) -> None:
        """Take from the others the clients who mean this address more exactly.

        Raises:
            OSError: as setsockopt(2) and listen(2).
        """
        for acceptor in _open(self.neighbours):
            acceptor.listener.share_port()  # once more: after a reset that was under way it stood alone
        self.listener.apply(self.options)

    def stay(self, acceptor: Acceptor) -> None:
        """As the acceptor that it has become; it stands alone when the last of the others is closed."""
        left = set(_open(self.neighbours))
        for other in left:
            other.when_closed.append(partial(_lose, acceptor, left, other))
        if not left:
            acceptor.stand_alone()

    def leave(self) -> None:
        """It is closed; the others stay."""
        for acceptor in self.neighbours:
            acceptor.stand_alone()


def _open(acceptors: Iterable[Acceptor]) -> list[Acceptor]:
    return [acceptor for acceptor in acceptors if acceptor.phase is not Phase.CLOSED]


def _lose(acceptor: Acceptor, left: set[Acceptor], other: Acceptor) -> None:
    left.discard(other)
    if not left:
        acceptor.stand_alone()
