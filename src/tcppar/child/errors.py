"""What can happen to a handler in its conversation with the peer. Names for users: `tcppar.PeerGone` and the like."""


class ConversationError(Exception):
    """Base of what can happen to a handler in its conversation with the peer."""


class PeerGone(ConversationError):
    """The peer has ended its stream too early, or the connection itself is broken.

    Attributes:
        partial: what had arrived of the data to be read. It is no longer in the connection's buffer.
    """

    def __init__(self, reason: str, partial: bytes = b"") -> None:
        super().__init__(reason)
        self.partial = partial


class TimedOut(ConversationError):
    """The time limit of a call has passed. What was read stays in the connection's buffer, for the next call."""


class LimitExceeded(ConversationError):
    """No separator came within the limit. What was read stays in the connection's buffer, for the next call.

    Attributes:
        limit: the limit, in bytes.
    """

    def __init__(self, limit: int) -> None:
        super().__init__(f"no separator within {limit} bytes")
        self.limit = limit
