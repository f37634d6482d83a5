"""Exceptions that users meet, and the exit codes they end with."""

from collections.abc import Sequence
from enum import IntEnum


class ExitCode(IntEnum):
    """Exit codes of the command, as UCSPI-TCP's tools use them (https://cr.yp.to/ucspi-tcp/tcpserver.html)."""

    OK = 0
    USAGE = 100
    """The command line or the configuration is wrong: a person has to change it."""
    SYSTEM = 111
    """The system refused something: the port is taken, a right is missing, memory is short."""


class TcpparError(Exception):
    """Base of every error that tcppar reports to its user; its text is a whole sentence for a person."""

    exit_code = ExitCode.SYSTEM


class ConfigurationError(TcpparError):
    """Settings that cannot work.

    Attributes:
        mistakes: every mistake found, each saying where it stands, what was read and what was expected.
    """

    exit_code = ExitCode.USAGE

    def __init__(self, mistakes: Sequence[str]) -> None:
        super().__init__("\n".join(mistakes))
        self.mistakes = tuple(mistakes)


class SystemRefused(TcpparError):
    """The operating system refused something that the server cannot start without."""


class ConversationError(Exception):
    """Base of what can happen to a handler in its conversation with the peer."""


class PeerGone(ConversationError):
    """The peer has ended its stream too early, or the connection itself is broken.

    Attributes:
        partial: what had come of what was to be read. It is no longer in the connection's buffer.
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
