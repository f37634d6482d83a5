"""Making a child, or a worker, by a fork of this process, which has loaded the handler.

Where the loop in C (`zygote.py`) is not to be had. A child gets what a fresh Python has: default signals but for
SIGPIPE, a group of its own, its own random numbers.
"""

import _signal  # type: ignore[import-not-found]
import errno
import mmap
import os
import signal
import socket
from collections import deque
from collections.abc import Callable, Collection
from typing import TYPE_CHECKING, Any

import msgspec

from tcppar.child import contract
from tcppar.child.handlers import Handler
from tcppar.child.own_path import OwnPath
from tcppar.child.process import SUCCEEDED, begin, limits, live, tell_copies_by
from tcppar.child.worker import Worker
from tcppar.mark import mark_of
from tcppar.net.calls import Calls
from tcppar.net.channel import Channel, ChannelClosed
from tcppar.records import (
    Busy,
    ChildPlan,
    Ended,
    HandlerPlan,
    Hire,
    Leaving,
    Offer,
    Order,
    Ready,
    Report,
    Taken,
)
from tcppar.spawner import marking
from tcppar.spawner.settling import settle
from tcppar.spawner.title import CHILD, WORKER, Title

if TYPE_CHECKING:
    from tcppar.child.worker import Given


_NO_DESCRIPTOR = -1


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
        self._title = Title(plan.service)
        with OwnPath():
            handler.rehearse(plan.service)
        settle()
        if plan.handler.tells_imports:
            handler.watch_imports(_Said().is_first)

    def launch(self, descriptor: int, order: Offer | Hire, log: int | None) -> int:
        """Give a connection to a process, or make a worker; its process id, which is also its process group.

        Args:
            log: where its descriptors 1 and 2 are to lead; None for where ours do.

        Raises:
            OSError: no process could be made.
        """
        if isinstance(order, Hire):
            return self._fork(log, _lead_group, self._work, descriptor, order)
        return self._fork(log, os.setsid, self._converse, descriptor, order)

    def clean_up(self, number: int) -> None:
        """Nothing was made for a connection beside its process."""

    def _fork(self, *life: Any) -> int:
        pid = os.fork()
        if pid == 0:
            live(self._begin, life, self._handler_plan.target, None)
        return pid

    # In the child.

    def _begin(self, log: int | None, lead: Callable[[], object], life: Callable[..., int], *given: Any) -> int:
        signal.set_wakeup_fd(-1)
        for shared in self._shared:
            os.close(shared)
        lead()
        if log is not None:
            os.dup2(log, 1)  # where a handler prints to
            os.dup2(log, 2)
            os.close(log)
        # signal.signal is this function in a wrapper that makes enums of numbers, and touches 50 pages more.
        _signal.signal(_signal.SIGCHLD, _signal.SIG_DFL)
        _note_copies()
        begin(self._limits)
        return life(*given)

    def _converse(self, descriptor: int, offer: Offer) -> int:
        self._title.show(CHILD)
        marking.take(mark_of(self._plan.id_prefix, offer.number))
        connection_id = contract.connection_id(self._plan, offer.number)
        return self._handler.converse(descriptor, connection_id, self._plan.service, offer.endpoints)

    def _work(self, descriptor: int, hire: Hire) -> int:
        self._title.show(WORKER)
        channel = Channel(socket.socket(fileno=descriptor), msgspec.msgpack.Decoder(Order), self._calls)
        Worker(
            self._plan.service,
            self._plan.id_prefix,
            self._handler,
            _ChannelLine(channel, self._plan.id_prefix, tells=hire.tells),
            most_connections=self._handler_plan.connections_per_worker,
            most_memory_kb=self._handler_plan.worker_memory_kb,
        ).run()
        return SUCCEEDED


def _note_copies() -> None:
    """Let what this process forks know that it is no process of ours."""
    os.register_at_fork(after_in_child=lambda: tell_copies_by(lambda: True))


class _Said:
    """What one of the processes has told: lines in memory that all share. Of two who look at once, both may tell."""

    def __init__(self) -> None:
        self._page = mmap.mmap(-1, mmap.PAGESIZE)
        self._page.write(b"\n")

    def is_first(self, text: str) -> bool:
        line, known = f"{text}\n".encode(), self._page[:].rstrip(b"\0")
        if b"\n" + line in known or len(known) + len(line) > len(self._page):
            return False
        self._page[len(known) : len(known) + len(line)] = line
        return True


def _lead_group() -> None:
    """Workers have groups of their own and no sessions: see `start` in supervisor/dispatch/spawner_process.py."""
    os.setpgid(0, 0)


class _ChannelLine:
    """A worker's line to the supervisor (`child.worker.Line`).

    Args:
        channel: blocking.
        id_prefix: of the connections.
    """

    def __init__(self, channel: Channel[Order], id_prefix: str, *, tells: bool) -> None:
        self._id_prefix = id_prefix
        self.tells = tells
        self._channel = channel
        self._orders: deque[tuple[Order, list[int]]] = deque()

    def next(self) -> "Given | None":
        while not self._orders:
            try:
                orders, descriptors = self._channel.receive_with_descriptors()
            except (ChannelClosed, OSError):
                return None
            # What has come belongs to the last of them.
            self._orders += [(order, descriptors if order is orders[-1] else []) for order in orders]
        order, came = self._orders.popleft()
        descriptor = came.pop(0) if came and isinstance(order, Offer) else _NO_DESCRIPTOR
        for unused in came:
            os.close(unused)
        if not isinstance(order, Offer):
            return None  # it retires
        marking.take(mark_of(self._id_prefix, order.number))
        return descriptor, order.number, order.endpoints, order.attempt, order.again

    def say_ready(self, pid: int) -> bool:
        return self._say(Ready(pid=pid))

    def say_lost(self, number: int, attempt: int) -> bool:
        return self._say(Leaving(), Busy(number, errno.EMFILE, "recvmsg", attempt))

    def say_taken(self, number: int, pid: int) -> bool:
        return self._say(Taken(number, pid, 0.0))

    def say_ended(self, number: int, status: int, cpu_seconds: float, leaving: bool) -> bool:
        ended = Ended(number, status, cpu_seconds, None)
        # The leaving first: with the end alone it would be offered the next.
        return self._say(Leaving(), ended) if leaving else self._say(ended)

    def _say(self, *reports: Report) -> bool:
        try:
            self._channel.send(reports)
        except (ChannelClosed, OSError):
            return False
        return True
