"""A supervisor's place between the one before and the one after it."""

from collections.abc import Callable
from dataclasses import dataclass

from tcppar.supervisor.snapshot import Snapshot
from tcppar.supervisor.succession.ledger import Ledger


@dataclass(frozen=True, slots=True)
class Succession:
    """A supervisor's place between the one before and the one after it.

    Attributes:
        found: descriptors that were open when this process, or program, began.
        kept: those among them that others in this process have use for.
        books: what the former supervisor has left, if there was one.
        former: how it ended; empty if there was none.
        upgraded: whether it was replaced, and did not die.
        keeper: its process id; None without a keeper.
        news: the pipe on which it tells of ends that it sees.
        answers: how many upgrades were answered before this supervisor.
        replace: lets the installed program go on from the books, of which that is the so-manieth answer. Returns never,
            or with an OSError.
        replace_alone: the same without a keeper.
    """

    found: set[int]
    kept: set[int]
    replace: Callable[[Ledger, int], object]
    replace_alone: Callable[[Ledger, int], object]
    books: Ledger | None = None
    left: Snapshot | None = None
    former: str = ""
    upgraded: bool = False
    keeper: int | None = None
    news: int | None = None
    answers: int = 0

    @property
    def strangers(self) -> set[int]:
        """Descriptors that nobody of ours knows, whoever left them open: none of our business."""
        return self.found - self.kept if self.left is None else set(self.left.strangers)
