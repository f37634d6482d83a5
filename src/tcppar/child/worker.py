"""A worker of a pool: takes connections from its channel, one at a time, and serves each to its end."""

import errno
import os
import resource
import time

from tcppar.child import contract
from tcppar.child.handlers import Handler
from tcppar.child.process import flush
from tcppar.net.channel import Channel, ChannelClosed
from tcppar.records import Busy, ChildPlan, Ended, HandlerPlan, Leaving, Offer, Order, Ready, Retire, Taken

_EXITED = 8  # an exit code stands in the second byte of a wait status


class Worker:
    """One worker.

    Args:
        plan: what its service's children get.
        handler: what serves the connections.
        channel: to the supervisor; blocking.
        tells: whether it reports each connection that it takes.
    """

    def __init__(
        self, plan: ChildPlan, limits: HandlerPlan, handler: Handler, channel: Channel[Order], *, tells: bool
    ) -> None:
        self._plan = plan
        self._limits = limits
        self._handler = handler
        self._channel = channel
        self._tells = tells
        self._served = 0
        self._last_offer: Offer | None = None
        self._cpu = 0.0
        self._pid = os.getpid()

    def run(self) -> None:
        """Serve until told to retire, until there is reason to be replaced, or until the supervisor is gone."""
        self._cpu = time.process_time()
        self._channel.send([Ready(pid=self._pid)])
        leaving = False
        while not leaving:
            try:
                orders, descriptors = self._channel.receive_with_descriptors()
                for order in orders:
                    if isinstance(order, Retire):
                        return
                    if isinstance(order, Offer) and descriptors:
                        leaving = self._serve(order, descriptors.pop(0))
                    elif isinstance(order, Offer):
                        # It did not fit into our table, and nothing will; the supervisor has still got its own.
                        self._channel.send([Leaving(), Busy(order.number, errno.EMFILE, "recvmsg", order.attempt)])
                        return
            except (ChannelClosed, OSError):
                return

    def _serve(self, offer: Offer, descriptor: int) -> bool:
        """Serve one connection; whether it was the last one."""
        if offer.repeats(self._last_offer):
            os.close(descriptor)
            return False
        self._last_offer = offer
        if self._tells:
            # Before the handler runs: a connection of which it was not said can be given to another worker.
            self._channel.send([Taken(offer.number, self._pid, 0.0)])
        code = self._handler.converse(
            descriptor, contract.connection_id(self._plan, offer.number), self._plan.service, offer.endpoints
        )
        flush()  # what was written belongs to this connection
        self._served += 1
        # Between two connections it waits, which takes no processor.
        before, self._cpu = self._cpu, time.process_time()
        ended = Ended(offer.number, code << _EXITED, self._cpu - before, None)
        leaving = self._is_to_be_replaced()
        # The leaving first: with the end alone it would be offered the next.
        self._channel.send([Leaving(), ended] if leaving else [ended])
        return leaving

    def _is_to_be_replaced(self) -> bool:
        limits = self._limits
        if limits.connections_per_worker is not None and self._served >= limits.connections_per_worker:
            return True
        return limits.worker_memory_kb is not None and _peak_kb() > limits.worker_memory_kb


def _peak_kb() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
