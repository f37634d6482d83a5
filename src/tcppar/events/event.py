"""What all events have."""

from enum import StrEnum

from msgspec import Struct


class Level(StrEnum):
    """How much an event wants a person's eye."""

    INFO = "info"
    WARNING = "warning"
    ERROR = "error"


def open_text(connections: int) -> str:
    """How many are open, for a person to read."""
    return f"{connections} connection{'' if connections == 1 else 's'} open"


class Event(Struct, frozen=True, kw_only=True, tag_field="event", gc=False):
    """Base of all events."""

    @property
    def level(self) -> Level:
        """How much it wants a person's eye."""
        return Level.INFO

    def sentence(self) -> str:
        """The event for a person to read."""
        raise NotImplementedError
