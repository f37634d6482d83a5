"""Orders that must not be lost, on their way to a spawner or a worker."""

import os
from collections import deque

from tcppar.net.channel import Channel, ChannelClosed
from tcppar.records import Order, Report
from tcppar.supervisor.core import Core

# It reads again when it has made the child it is at: some milliseconds at the most.
_FULL_CHANNEL_PAUSE = 0.005


class Outbox:
    """Of one channel. An offer does not wait here: if there is no room for it, another can take the connection.

    Attributes:
        waiting: the orders that are not sent, each with the descriptors that go with it.
    """

    def __init__(self, core: Core, channel: Channel[list[Report]]) -> None:
        self._core = core
        self._channel = channel
        self.waiting: deque[tuple[Order, tuple[int, ...]]] = deque()

    def post(self, order: Order, *passed: int) -> None:
        """Send an order in its turn, as soon as there is room.

        Args:
            passed: descriptors that go with it, and are closed here then.
        """
        self.waiting.append((order, passed))
        if len(self.waiting) == 1:
            self._empty()

    def _empty(self) -> None:
        while self.waiting:
            order, passed = self.waiting[0]
            try:
                self._channel.send(order, *passed)
            except (ChannelClosed, BrokenPipeError, ConnectionResetError):
                return  # it is gone; its children are orphans when it is reaped, and signalled then
            except OSError:
                # No room, or too many descriptors in flight: both pass.
                self._core.timers.at(self._core.later(_FULL_CHANNEL_PAUSE), self._empty)
                return
            self.waiting.popleft()
            for descriptor in passed:
                os.close(descriptor)

    def discard(self) -> None:
        """The channel is closed: nothing can be sent any more."""
        for _, passed in self.waiting:
            for descriptor in passed:
                os.close(descriptor)
        self.waiting.clear()
