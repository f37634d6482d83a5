"""A spawner without a supervisor: a test gives the orders and reads the reports."""

import os
import socket
import sys
from typing import Any, TypeVar

import msgspec

from tcppar.net import calls, platform
from tcppar.net import channel as channels
from tcppar.net.channel import Channel
from tcppar.net.platform import Features
from tcppar.records import (
    ChildPlan,
    Endpoints,
    Family,
    HandlerMode,
    HandlerPlan,
    Hire,
    Offer,
    Ready,
    Report,
    Taken,
)
from tcppar.supervisor.dispatch import spawner_process
from tests.support.handlers import HANDLERS
from tests.support.server import PATIENCE

UNIX = Endpoints(Family.UNIX, "", 0, "/run/service", 0)

Kind = TypeVar("Kind")


class Taker:
    """Whoever takes connections, at the other end of a channel."""

    def __init__(self) -> None:
        self.end, self.its = channels.pair()
        self.end.settimeout(PATIENCE)
        decoder = msgspec.msgpack.Decoder(list[Report])
        self.channel: Channel[list[Report]] = Channel(self.end, decoder, calls.PLAIN)
        self.clients: list[socket.socket] = []
        self._reports: list[Report] = []

    def report(self) -> Report:
        """The next report."""
        while not self._reports:
            for batch in self.channel.receive():
                self._reports += batch
        return self._reports.pop(0)

    def reported(self, kind: type[Kind]) -> Kind:
        """The next report, which is one of this kind."""
        report = self.report()
        assert isinstance(report, kind), report
        return report

    def offer(self, number: int, **more: Any) -> socket.socket:
        """Offer a connection; the client's end of it."""
        ours, its = socket.socketpair()
        ours.settimeout(PATIENCE)
        self.clients.append(ours)
        with its:
            self.channel.send(Offer(number, UNIX, **more), its.fileno())
        return ours

    def leave(self) -> None:
        """Leave it, and let all clients leave."""
        for sock in (self.end, *self.clients):
            sock.close()


class Spawner(Taker):
    """A spawner of a handler's processes.

    Args:
        plan: settings in the plan that the tests' handlers do not all have.
    """

    def __init__(
        self,
        target: str = "waiting:handle",
        mode: HandlerMode = HandlerMode.FORK,
        features: Features | None = None,
        handler: dict[str, Any] | None = None,
        **plan: Any,
    ) -> None:
        super().__init__()
        environment = {os.fsencode(name): os.fsencode(value) for name, value in os.environ.items()}
        handled = HandlerPlan(target, mode, (str(HANDLERS), *sys.path), **handler or {})
        wanted = ChildPlan("service", "prefix", b"", (), environment, handler=handled, **plan)
        with self.its:
            self.pid = spawner_process.start(self.its.fileno(), 2, wanted, features or platform.detect())
        self.channel.send(wanted)

    def taken(self, number: int, **more: Any) -> tuple[socket.socket, Taken]:
        """Offer a connection and wait until it is taken."""
        client = self.offer(number, **more)
        taken = self.reported(Taken)
        assert taken.number == number
        return client, taken

    def hire(self, number: int, *, tells: bool) -> "Hired":
        """Have a worker made."""
        worker = Hired()
        with worker.its:
            self.channel.send(Hire(number, tells), worker.its.fileno())
        taken = self.reported(Taken)
        assert taken.number == number
        worker.pid = taken.pid
        assert worker.reported(Ready).pid == worker.pid
        return worker

    def close(self) -> int:
        """Leave it, and let all clients leave; its exit code."""
        self.leave()
        return os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])


class Hired(Taker):
    """A worker."""

    pid = 0
