"""The life of a connection: its states, the steps between them, and the rules that may end it."""

from enum import Enum, StrEnum


class State(Enum):
    """Where a connection stands. At every moment it has exactly one owner."""

    WAITING = "accepted, the supervisor has it, no spawner was asked yet"
    OFFERED = "a spawner was asked; the supervisor still has its copy"
    TAKEN = "a child has it"
    ENDED = "gone, and recorded"

    allowed: tuple["State", ...]
    """The states that may come next. An attribute, for a dictionary would hash the member at every step."""


State.WAITING.allowed = (State.OFFERED, State.ENDED)
State.OFFERED.allowed = (State.WAITING, State.TAKEN, State.ENDED)
State.TAKEN.allowed = (State.ENDED,)
State.ENDED.allowed = ()


class EndedBy(StrEnum):
    """Which rule of ours ended a connection, if one did. New ones come last: the ledger counts on their order."""

    MAX_LIFETIME = "max_lifetime"
    STOP = "stop"
    HAND_OVER_TIMEOUT = "hand_over_timeout"
    SPAWN_FAILED = "spawn_failed"
    FULL = "max_connections"
    IDLE_TIMEOUT = "idle_timeout"
    CLIENT_GONE = "end_when_client_gone"


def step(before: State, after: State) -> State:
    """`after`, if a connection may go there from `before`.

    Raises:
        AssertionError: the life of a connection has no such step; a mistake of ours, never of a client.
    """
    assert after in before.allowed, f"no step from {before} to {after}"
    return after
