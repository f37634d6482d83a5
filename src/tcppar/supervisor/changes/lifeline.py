"""A descriptor whose end asks for a stop (`--lifeline-fd`).

Whoever holds the other end of a pipe need not be able to say that it is no longer there: the system closes the pipe for
a process that was killed too.
"""

import os
from collections.abc import Callable

from tcppar.errors import ConfigurationError
from tcppar.net.waiter import Waiter

_PIECE = 65536


class Lifeline:
    """Watches a descriptor to its end. What is written to it means nothing.

    It is never closed: its number may be one of the standard descriptors, and must not become that of a socket.

    Args:
        descriptor: of a pipe, a socket or a terminal; nobody else reads from it.
        on_end: called once.

    Raises:
        ConfigurationError: it is of a kind that cannot be waited for, such as a file.
    """

    def __init__(self, descriptor: int, waiter: Waiter, on_end: Callable[[], None]) -> None:
        self._descriptor = descriptor
        self._waiter = waiter
        self._on_end = on_end
        try:
            waiter.register(self)
        except OSError as error:
            expected = "expected a pipe, a socket or a terminal"
            raise ConfigurationError([f"--lifeline-fd: {descriptor}: {error.strerror}: {expected}"]) from None

    def fileno(self) -> int:
        """The descriptor."""
        return self._descriptor

    def on_ready(self) -> None:
        """Something was written, or the other end is gone."""
        try:
            ended = not os.read(self._descriptor, _PIECE)
        except BlockingIOError:
            return  # whoever made it did not want it to block
        except OSError:
            ended = True  # a connection that was reset, a terminal that hung up
        if ended:
            self._waiter.unregister(self)
            self._on_end()
