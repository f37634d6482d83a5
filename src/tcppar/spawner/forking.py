"""Making a child, or a worker, by a fork of this process, which has loaded the handler.

For workers, and for children where the loop in C (`zygote.py`) is not to be had. A child gets what a fresh Python has:
default signals but for SIGPIPE, a group of its own, its own random numbers.
"""

import _signal  # type: ignore[import-not-found]
import gc
import os
import signal
import socket
from collections.abc import Callable, Collection
from typing import Any

import msgspec

from tcppar.child import contract
from tcppar.child.handlers import Handler
from tcppar.child.process import SUCCEEDED, limits, live
from tcppar.child.worker import Worker
from tcppar.net.calls import Calls
from tcppar.net.channel import Channel
from tcppar.records import ChildPlan, HandlerPlan, Hire, Offer, Order


class ForkLauncher:
    """Makes the processes of a handler.

    Args:
        plan: what the service's children get.
        handler: loaded.
        shared: descriptors of this process that its children must not have: its channel, what it waits with.
        calls: how workers talk to the supervisor.
    """

    def __init__(self, plan: ChildPlan, handler: Handler, shared: Collection[int], calls: Calls) -> None:
        assert plan.handler is not None
        self._plan = plan
        self._handler_plan: HandlerPlan = plan.handler
        self._limits = limits(plan.rlimits)
        self._handler = handler
        self._shared = tuple(shared)
        self._calls = calls
        handler.rehearse(plan.service)
        # What is there now is no garbage, and a collection in a child would only copy pages by looking at it.
        gc.collect()
        gc.freeze()

    def launch(self, descriptor: int, order: Offer | Hire) -> int:
        """Give a connection to a process, or make a worker; its process id, which is also its process group.

        Raises:
            OSError: no process could be made.
        """
        if isinstance(order, Hire):
            return self._fork(self._work, descriptor, order)
        return self._fork(self._converse, descriptor, order)

    def clean_up(self, number: int) -> None:
        """Nothing was made for a connection beside its process."""

    def _fork(self, *life: Any) -> int:
        pid = os.fork()
        if pid == 0:
            live(self._begin, life, self._handler_plan.target, self._limits)
        return pid

    # In the child.

    def _begin(self, life: Callable[..., int], *given: Any) -> int:
        signal.set_wakeup_fd(-1)
        for shared in self._shared:
            os.close(shared)
        os.setpgid(0, 0)
        # signal.signal is this function in a wrapper that makes enums of numbers, and touches 50 pages more.
        _signal.signal(_signal.SIGCHLD, _signal.SIG_DFL)
        return life(*given)

    def _converse(self, descriptor: int, offer: Offer) -> int:
        connection_id = contract.connection_id(self._plan, offer.number)
        return self._handler.converse(descriptor, connection_id, self._plan.service, offer.endpoints)

    def _work(self, descriptor: int, hire: Hire) -> int:
        channel = Channel(socket.socket(fileno=descriptor), msgspec.msgpack.Decoder(Order), self._calls)
        Worker(self._plan, self._handler_plan, self._handler, channel, tells=hire.tells).run()
        return SUCCEEDED
