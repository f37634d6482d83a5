"""The processes below the supervisor.

Spawners run the program's own loop; children, workers and trials are simulated.
"""

from collections.abc import Callable
from signal import Signals
from types import SimpleNamespace
from typing import Any

from tcppar.descriptors import CHANNEL_DESCRIPTOR
from tcppar.net.channel import ChannelClosed
from tcppar.policy.timers import NEVER
from tcppar.records import (
    Busy,
    ChildPlan,
    Ended,
    Hire,
    Leaving,
    Offer,
    Ready,
    Refused,
    Retire,
    Taken,
)
from tcppar.spawner.loop import Spawner
from tests.simulation.channel import End, PipeWriter, SimulatedChannel
from tests.simulation.faults import Call
from tests.simulation.kernel import Kernel, OpenFile, Process
from tests.simulation.network import Client, Connection
from tests.simulation.waiter import SimulatedWaiter

_EXITED = 8


class Child(Process):
    """A program that serves one connection, until the test lets it end.

    Attributes:
        stubborn: whether it goes on after SIGTERM.
    """

    def __init__(
        self,
        kernel: Kernel,
        parent: Process,
        connection: Connection,
        log: OpenFile | None,
        environment: list[bytes],
    ) -> None:
        super().__init__(kernel, parent, environment=environment)
        self.client = connection.client
        self.stubborn = self.client.port % 3 == 0
        self.client.servers.append(self)
        kernel.open(connection, self.table)
        self.log = log
        if log is not None:
            kernel.open(log, self.table)

    @property
    def number(self) -> int:
        """What its lines are known by."""
        return self.client.port

    def obey(self, number: int) -> None:
        if not (self.stubborn and number == Signals.SIGTERM):
            super().obey(number)


class Copier(Process):
    """What a wrapper leaves when it becomes the program: it copies to the connection, until the test lets it end.

    Attributes:
        connection: of its child.
    """

    def __init__(self, child: Child) -> None:
        super().__init__(child.kernel, child, environment=child.environment)
        self.session = child.session
        self.connection = next(file for file in child.table.values() if isinstance(file, Connection))
        child.kernel.open(self.connection, self.table)


class SpawnerProcess(Process):
    """A spawner: the program's own loop, with a launcher that makes simulated processes.

    Attributes:
        refusal: why it will say that it cannot begin; None if it can.
    """

    def __init__(self, kernel: Kernel, parent: Process, channel: OpenFile, stderr: OpenFile | None) -> None:
        super().__init__(kernel, parent)
        if stderr is not None:
            kernel.open(stderr, self.table)
        self.refusal: str | None = None
        self.table[CHANNEL_DESCRIPTOR] = channel
        channel.references += 1
        self._channel = SimulatedChannel(kernel, End(kernel, CHANNEL_DESCRIPTOR))
        self._waiter = SimulatedWaiter(kernel, self, resumed=True)
        self._loop: Callable[[], None] | None = None

    @property
    def has_begun(self) -> bool:
        """Whether it takes offers."""
        return self._loop is not None

    def step(self) -> bool:
        if not self.lives or (self._loop is not None and not self._waiter.would_return):
            return False
        if self._loop is None:
            if not self.table[CHANNEL_DESCRIPTOR].readable:
                return False
            with self.kernel.run(self):
                self._begin()
        elif self._waiter.step(self._loop):
            self.kernel.exit(self, 0)
        return True

    @property
    def wakes_at(self) -> float:
        return self._waiter.deadline if self.lives and self.has_begun else NEVER

    def _begin(self) -> None:
        try:
            plan = self._channel.receive_first()
        except ChannelClosed:
            self.kernel.exit(self, 1 << _EXITED)
            return
        if self.refusal is not None:
            self._channel.send([Refused(self.refusal)])
            self.kernel.exit(self, 1 << _EXITED)
            return
        self._channel.send([Ready()])
        self.caught.add(Signals.SIGCHLD)
        launcher = Launcher(self.kernel, self, plan)
        self._loop = Spawner(
            self._channel,  # type: ignore[arg-type]
            self._waiter,  # type: ignore[arg-type]
            launcher,
            children_can_be_found=plan.handler is None,
            passes_log=plan.passes_log,
            score=SimpleNamespace(be_as_children=lambda: None, be_own_again=lambda: None),  # type: ignore[arg-type]
        ).run


class Launcher:
    """In the place of `tcppar.spawner.launch.Launcher` and `tcppar.spawner.forking.ForkLauncher`."""

    def __init__(self, kernel: Kernel, spawner: Process, plan: ChildPlan) -> None:
        self._kernel = kernel
        self._spawner = spawner
        self._plan = plan

    def launch(self, descriptor: int, order: Any, log: int | None) -> int:
        self._kernel.faults.meet(Call.LAUNCH)
        file = self._kernel.file(descriptor)
        stderr = None if log is None else self._kernel.file(log)
        if isinstance(order, Hire):
            return Worker(self._kernel, self._spawner, file, stderr, self._plan, tells=order.tells).pid
        assert isinstance(file, Connection)
        # Only a program has it in its environment; a forked handler has that of its spawner.
        number = f"TCPPAR_CONNECTION_ID={self._plan.id_prefix}-{order.number}".encode()
        environment = [number] if self._plan.handler is None else []
        return Child(self._kernel, self._spawner, file, stderr, environment).pid

    def clean_up(self, number: int) -> None: ...


class Worker(Process):
    """A worker: as `tcppar.child.worker.Worker`, with conversations that end when the test lets them."""

    def __init__(
        self,
        kernel: Kernel,
        parent: Process,
        channel: OpenFile,
        log: OpenFile | None,
        plan: ChildPlan,
        *,
        tells: bool,
    ) -> None:
        super().__init__(kernel, parent)
        self.log = log
        if log is not None:
            kernel.open(log, self.table)
        assert plan.handler is not None
        self._most = plan.handler.connections_per_worker
        self._tells = tells
        self._channel = SimulatedChannel(kernel, End(kernel, kernel.open(channel, self.table)))
        self._begun = False
        self._served = 0
        self._last_offer: Offer | None = None
        self._serving: tuple[int, int] | None = None

    @property
    def client(self) -> Client | None:
        """Whom it serves."""
        if self._serving is None or not self.lives:
            return None
        file = self.table[self._serving[1]]
        assert isinstance(file, Connection)
        return file.client

    def step(self) -> bool:
        if not self.lives or self._serving is not None:
            return False
        with self.kernel.run(self):
            if not self._begun:
                self._begun = True
                return self._say([Ready(pid=self.pid)])
            try:
                orders, descriptors = self._channel.receive_with_descriptors()
            except BlockingIOError:
                return False
            except (ChannelClosed, OSError):
                return self._leave()
            for order in orders:
                self._obey_order(order, descriptors)
        return True

    def _obey_order(self, order: object, descriptors: list[int]) -> None:
        if isinstance(order, Retire):
            self._leave()
        elif isinstance(order, Offer) and not descriptors:
            self._say([Leaving(), Busy(order.number, 24, "recvmsg", order.attempt)])
            self._leave()
        elif isinstance(order, Offer) and order.repeats(self._last_offer):
            self.kernel.close(descriptors.pop())
        elif isinstance(order, Offer):
            assert self._serving is None, "it is offered a connection while it serves another"
            self._last_offer = order
            self._serving = order.number, descriptors.pop()
            client = self.client
            assert client is not None
            client.servers.append(self)
            if self._tells:
                self._say([Taken(order.number, self.pid, 0.0)])

    def finish(self, code: int) -> None:
        """Its conversation is over."""
        assert self._serving is not None
        (number, descriptor), self._serving = self._serving, None
        with self.kernel.run(self):
            self.kernel.close(descriptor)
            self._served += 1
            ended = Ended(number, code << _EXITED, 0.0, None)
            if self._most is not None and self._served >= self._most:
                self._say([Leaving(), ended])
                self._leave()
            else:
                self._say([ended])

    def _say(self, reports: list[Any]) -> bool:
        try:
            self._channel.send(reports)
        except BrokenPipeError:
            self._leave()
        return True

    def _leave(self) -> bool:
        self.kernel.exit(self, 0)
        return True


class Trial(Process):
    """The installed program, which tries whether it could go on."""

    def __init__(self, kernel: Kernel, parent: Process, writer: PipeWriter) -> None:
        super().__init__(kernel, parent)
        self._pipe = writer.pipe
        kernel.open(writer, self.table)

    @classmethod
    def started(cls, kernel: Kernel, writer: int) -> "Trial":
        """Start one that speaks to this descriptor."""
        kernel.tick()
        kernel.faults.meet(Call.START)
        file = kernel.file(writer)
        assert isinstance(file, PipeWriter)
        return cls(kernel, kernel.running, file)

    def step(self) -> bool:
        if not self.lives:
            return False
        complaint = self.kernel.faults.complaint
        if complaint is not None:
            self._pipe.written += complaint.encode()
        self.kernel.exit(self, 0 if complaint is None else 1 << _EXITED)
        return True


def start_spawner(kernel: Kernel, channel: int, stderr: int, plan: ChildPlan, features: object) -> int:
    """In the place of `tcppar.supervisor.dispatch.spawner_process.start`."""
    kernel.tick()
    kernel.faults.meet(Call.START)
    # Where the server's own log leads is nobody's descriptor here.
    return SpawnerProcess(kernel, kernel.running, kernel.file(channel), kernel.running.table.get(stderr)).pid
