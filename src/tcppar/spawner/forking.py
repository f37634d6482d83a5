"""Making a child, or a worker, by a fork of this process, which has loaded the handler.

Children are made ahead in quiet moments: a few spare ones wait for a connection each, so that a client does not wait
for a fork. Under load, when there is never time to make them, the fork is made when the connection is there.

A child gets what a fresh Python has: default signals but for SIGPIPE, a group of its own, its own random numbers. (The
standard library's random and logging see to a fork themselves, by os.register_at_fork; OpenSSL does too.)
"""

import _signal  # type: ignore[import-not-found]
import gc
import os
import resource
import signal
import socket
import sys
import time
from collections import deque
from collections.abc import Callable, Collection
from functools import partial
from typing import NamedTuple, NoReturn

import msgspec

from tcppar.child import contract
from tcppar.child.handlers import SUCCEEDED, Handler, flush_and_exit, say_traceback
from tcppar.child.worker import Worker
from tcppar.net import channel as channels
from tcppar.net.channel import Channel, ChannelClosed
from tcppar.policy.timers import NEVER
from tcppar.records import ChildPlan, Endpoints, Family, HandlerMode, HandlerPlan, Hire, Offer, Order

_CANNOT_RUN = 111
_NUMPY_RANDOM = "numpy.random"

_SPARES = 4
_SHORTAGE_PAUSE = 1.0
# So long after a connection was handed over nothing is made: a fork would only slow down the child that serves it.
_QUIET = 0.003


class _Spare(NamedTuple):
    """A child that waits for its connection."""

    pid: int
    channel: Channel[Offer]


class ForkLauncher:
    """Makes the processes of a handler.

    Args:
        plan: what the service's children get.
        handler: loaded.
        shared: descriptors of this process that its children must not have: its channel, what it waits with.
    """

    def __init__(self, plan: ChildPlan, handler: Handler, shared: Collection[int]) -> None:
        assert plan.handler is not None
        self._plan = plan
        self._limits: HandlerPlan = plan.handler
        self._handler = handler
        self._rehearsal = handler.rehearsal()
        self._shared = tuple(shared)
        self._spares: deque[_Spare] = deque()
        self.prepare_at = NEVER
        """When to call `prepare`, in monotonic seconds."""
        self._prepare_in(0.0)
        self._offer_decoder = msgspec.msgpack.Decoder(Offer)
        # As every Python process has it; a spawner that lost the supervisor is told by an error.
        signal.signal(signal.SIGPIPE, signal.SIG_IGN)
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        # What is there now is no garbage, and a collection in a child would only copy pages by looking at it.
        gc.collect()
        gc.freeze()

    def launch(self, descriptor: int, order: Offer | Hire) -> int:
        """Give a connection to a process, or make a worker; its process id, which is also its process group.

        Raises:
            OSError: no process could be made, or the descriptor not be passed.
        """
        if isinstance(order, Hire):
            return self._fork(lambda: self._work(descriptor, order))
        while self._spares:
            spare = self._spares[0]
            try:
                spare.channel.send(order, descriptor)
            except (ChannelClosed, BrokenPipeError, ConnectionResetError):
                self._part_with(self._spares.popleft())  # somebody has killed it
                continue
            self._part_with(self._spares.popleft())
            self._prepare_in(_QUIET)
            return spare.pid
        self._prepare_in(_QUIET)
        return self._fork(lambda: self._converse(descriptor, order))

    def clean_up(self, number: int) -> None:
        """Nothing was made for a connection beside its process."""

    def prepare(self) -> None:
        """Make one spare child. To be called when there is nothing else to do, for a fork takes long."""
        try:
            self._make_spare()
        except OSError:
            self._prepare_in(_SHORTAGE_PAUSE)  # who needs a child meanwhile is told by `launch`
        else:
            self._prepare_in(0.0)

    def _prepare_in(self, seconds: float) -> None:
        lacking = len(self._spares) < _SPARES and self._limits.mode is HandlerMode.FORK
        self.prepare_at = time.monotonic() + seconds if lacking else NEVER

    def _make_spare(self) -> None:
        ours, its = channels.pair()
        waiting = Channel(its, self._offer_decoder)
        foreign = [ours.fileno(), *(spare.channel.fileno() for spare in self._spares)]
        try:
            pid = self._fork(partial(self._wait_for_connection, waiting, foreign))
        except OSError:
            ours.close()
            raise
        finally:
            its.close()
        self._spares.append(_Spare(pid, Channel(ours, self._offer_decoder)))

    def dismiss(self) -> None:
        """Let the spare children go."""
        self.prepare_at = NEVER
        while self._spares:
            self._part_with(self._spares.popleft())

    def _part_with(self, spare: _Spare) -> None:
        spare.channel.close()

    def _fork(self, life: Callable[[], int]) -> int:
        pid = os.fork()
        if pid == 0:
            self._live(life)
        return pid

    # In the child. What it executes before the handler it pays for page by page: every object that it looks at is
    # counted, and so written to, and so copied.

    def _live(self, life: Callable[[], int]) -> NoReturn:
        """The child's life. It never returns into the spawner's code, whatever happens."""
        code = _CANNOT_RUN
        try:
            signal.set_wakeup_fd(-1)
            for shared in self._shared:
                os.close(shared)
            os.setpgid(0, 0)
            # signal.signal is this function in a wrapper that makes enums of numbers, and touches 50 pages more.
            _signal.signal(_signal.SIGCHLD, _signal.SIG_DFL)
            if self._plan.rlimits:
                _limit(self._plan)
            if _NUMPY_RANDOM in sys.modules:
                sys.modules[_NUMPY_RANDOM].seed()
            code = life()
        except BaseException:  # noqa: BLE001 - whatever it is, it must not go on in the spawner's code
            say_traceback(f"a process for handler {self._limits.target} could not begin")
        finally:
            flush_and_exit(code)

    def _wait_for_connection(self, channel: Channel[Offer], foreign: list[int]) -> int:
        """A spare child's life: its one connection, or none if the spawner ends or has no more use for it."""
        for descriptor in foreign:
            os.close(descriptor)
        self._rehearse()
        try:
            offers, descriptors = channel.receive_with_descriptors()
        except (ChannelClosed, ConnectionError):
            return SUCCEEDED
        channel.close()
        return self._converse(descriptors[0], offers[0])

    def _rehearse(self) -> None:
        """Hold a conversation with oneself, so that the pages that this writes to are copied before a client waits."""
        ours, its = socket.socketpair()
        ours.send(b".")
        self._rehearsal.converse(its.detach(), "", self._plan.service, Endpoints(Family.UNIX, "", 0, "", 0))
        ours.close()

    def _converse(self, descriptor: int, offer: Offer) -> int:
        connection_id = contract.connection_id(self._plan, offer.number)
        return self._handler.converse(descriptor, connection_id, self._plan.service, offer.endpoints)

    def _work(self, descriptor: int, hire: Hire) -> int:
        channel = Channel(socket.socket(fileno=descriptor), msgspec.msgpack.Decoder(Order))
        Worker(self._plan, self._limits, self._handler, channel, tells=hire.tells).run()
        return SUCCEEDED


def _limit(plan: ChildPlan) -> None:
    for name, soft, hard in plan.rlimits:
        resource.setrlimit(getattr(resource, f"RLIMIT_{name.upper()}"), (soft, hard))
