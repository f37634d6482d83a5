"""One service: its acceptors, its spawners, and the connections on their way from the ones to the others."""

from tcppar.config import ServiceConfig, listener_options
from tcppar.net.listener import Accepted
from tcppar.net.opening import ListenerOptions
from tcppar.policy import admission
from tcppar.policy.admission import Verdict
from tcppar.policy.idleness import Limits
from tcppar.policy.life import EndedBy, State
from tcppar.records import Busy, Ended, Failed, Taken
from tcppar.settings import WhenFull
from tcppar.supervisor.connection import Connection
from tcppar.supervisor.connections.enforcer import Enforcer
from tcppar.supervisor.connections.idleness import IdleWatch
from tcppar.supervisor.connections.lifetimes import Lifetimes
from tcppar.supervisor.connections.lingering import Lingering
from tcppar.supervisor.connections.remaining import remaining_of
from tcppar.supervisor.connections.table import Table
from tcppar.supervisor.core import Core
from tcppar.supervisor.dispatch.handover import Handover
from tcppar.supervisor.dispatch.pool import Pool
from tcppar.supervisor.dispatch.taker import Taker
from tcppar.supervisor.intake.acceptor import Acceptor, Phase
from tcppar.supervisor.intake.waiting_clients import WaitingClients
from tcppar.supervisor.snapshot import ServiceRecord

# Clients accepted but not yet with a child. The kernel's queue holds any number of others at no cost, and survives us.
MOST_IN_HAND = 32


class Service:
    """A service in operation. It keeps its name for life; settings, listeners and spawners change with a reload.

    Attributes:
        active: connections from their accept to their end record.
        linger: for how many seconds a connection outlives its child, for its client's sake; None if it does not.
    """

    def __init__(self, config: ServiceConfig, core: Core, table: Table, enforcer: Enforcer) -> None:
        self.name = config.name
        self.acceptors: list[Acceptor] = []
        self.active = 0
        self._core = core
        self._table = table
        self._enforcer = enforcer
        self._config = config
        self._in_hand = 0
        self._handover = Handover(self, core, table, config.settings.hand_over_timeout)
        self._waiting = self._handover.waiting
        self._lifetimes = Lifetimes(core, self.end_by)
        self._idle_watch = IdleWatch(self.name, core, lambda: self.listeners, self.end_by)
        self._lingering = Lingering(core, enforcer, config.settings.max_connections)
        self._waiting_clients = WaitingClients(self, core)
        self.linger: float | None = None
        self._ending = False
        self._wanted = False
        self.look_again = True
        """Something has changed for an acceptor: whether it is to look at its listener has to be decided anew."""
        # Settings at hand: they are asked for several times a connection.
        self._room = config.settings.max_connections
        self._tells_starts = config.settings.log_starts

    # What it is made of, which a reload changes.

    @property
    def config(self) -> ServiceConfig:
        """The settings in force."""
        return self._config

    @property
    def pool(self) -> Pool | None:
        """The spawners in use."""
        return self._handover.pool

    def put_in_force(self, config: ServiceConfig, pool: Pool) -> None:
        """Go on with other settings. The old spawners keep their children; whoever waits goes to the new ones."""
        former, self._handover.pool, self._config = self._handover.pool, pool, config
        self._core.structure_changed()
        pool.take_settings(config)
        self._room = config.settings.max_connections
        self._handover.patience = config.settings.hand_over_timeout
        self._tells_starts = config.settings.log_starts
        if former is not None and former is not pool:
            former.retire()
        for acceptor in self.acceptors:
            acceptor.tolerate(config.settings.strikes)
        self._lifetimes.take_limit(config.settings.max_lifetime)
        self.linger = config.settings.linger
        self._lingering.most = config.settings.max_connections
        limits = Limits(config.settings.idle_timeout, config.settings.end_when_client_gone)
        taken = (connection for connection in self._table.of_service(self) if connection.state is State.TAKEN)
        self._idle_watch.take_limits(limits, taken)

    # Going on in the place of a supervisor before this one.

    def describe(self, *, leaving: bool) -> ServiceRecord:
        """What a next supervisor must know of it, but for its pools."""
        open_ones = [acceptor for acceptor in self.acceptors if acceptor.phase in (Phase.SERVING, Phase.EMPTYING)]
        listeners = [acceptor.describe() for acceptor in open_ones]
        return ServiceRecord(self._config, leaving, listeners, list(self._lingering.describe()))

    def take_over(self, connection: Connection) -> None:
        """Take a connection of a supervisor before this one. They come in the order of their numbers."""
        self.active += 1
        if connection.state is State.TAKEN:
            if self._lifetimes.on:
                self._lifetimes.begin(connection)
            if self._idle_watch.on:
                self._idle_watch.begin(connection)
            if connection.ended_by is not None:
                self._end_now(connection)
        else:
            self._in_hand += 1
            if connection.state is State.WAITING:
                self._waiting.append(connection)

    @property
    def listener_options(self) -> ListenerOptions:
        """What its listeners are opened with."""
        return listener_options(self._config)

    # Accepting.

    @property
    def wants_clients(self) -> bool:
        """Whether the next client in the queue is to be accepted now."""
        return self._in_hand < MOST_IN_HAND and (self.active < self._room or self._verdict() is Verdict.REFUSE)

    @property
    def lets_clients_wait(self) -> bool:
        """Whether as many connections are open as there may be, and who comes now waits for the end of one."""
        return self.active >= self._room and self._verdict() is not Verdict.REFUSE

    @property
    def held_back(self) -> int:
        """How many clients were accepted though there is no room, and wait for the end of another's connection."""
        return len(self._waiting) if self.is_full else 0

    @property
    def listeners(self) -> list[int]:
        """Its listeners' descriptors, as far as they are open."""
        return [acceptor.fileno() for acceptor in self.acceptors if acceptor.phase in (Phase.SERVING, Phase.EMPTYING)]

    def _verdict(self) -> Verdict:
        settings = self._config.settings
        return admission.decide(
            active=self.active,
            max_connections=settings.max_connections,
            refuses_when_full=settings.when_full is WhenFull.REFUSE,
        )

    def admit(self, accepted: Accepted) -> None:
        """Take a connection that was just accepted."""
        refused = self.active >= self._room and self._verdict() is Verdict.REFUSE
        if self._waiting_clients.on:
            self._waiting_clients.note(accepted)
        connection = self._table.enter(self, accepted)
        self.active += 1
        self._in_hand += 1
        if refused:
            self.refuse(connection, EndedBy.FULL, f"{self._config.settings.max_connections} connections are open")
        else:
            self._waiting.append(connection)

    def on_new_acceptor(self, acceptor: Acceptor) -> None:
        """A reset or a reload brought a listener."""
        self.acceptors.append(acceptor)
        self.look_again = True

    def on_acceptor_closed(self, acceptor: Acceptor) -> None:
        """A listener is closed."""
        self.acceptors.remove(acceptor)

    # Handing over.

    def tend(self) -> None:
        """Do what the last pass of the loop made possible: look at the listeners or away, hand over, grow.

        In this order, for a listener that is being emptied is accepted from here, and there need not be another pass.
        """
        self._look_or_not()
        self._handover.tend()

    def _look_or_not(self) -> None:
        wanted = self.wants_clients and not self._core.short_of_descriptors
        if wanted is not self._wanted or self.look_again:
            self._wanted = wanted
            self.look_again = False
            if not wanted and self.lets_clients_wait:
                self._waiting_clients.begin()
            for acceptor in self.acceptors[:]:
                acceptor.look_or_not(wanted)

    @property
    def is_full(self) -> bool:
        """Whether as many have, or are being given, a child as may: whoever waits then waits for the end of another.

        More are accepted than there is room for when a listener has to be closed before its queue can be served, or
        when a reload lowers max_connections.
        """
        return self.active - len(self._waiting) >= self._room

    def on_taken(self, taker: Taker, taken: Taken) -> None:
        """A connection has a child, or a worker."""
        number = taken.number
        taker.children[number] = connection = taker.offered.pop(number)
        self._table.taken(connection, taken)
        if self._tells_starts:
            self._table.tell_start(connection)
        self._in_hand -= 1
        self._handover.worked()
        if self._lifetimes.on:
            self._lifetimes.begin(connection)
        if self._idle_watch.on:
            self._idle_watch.begin(connection)
        if connection.ended_by is not None:
            self._end_now(connection)

    def on_not_taken(self, connection: Connection, report: Busy | Failed) -> None:
        """A spawner could not make a child for a connection."""
        if isinstance(report, Busy):
            self.offer_again(connection)
            self._handover.fell_short(report.call, report.errno)
        else:
            self.refuse(connection, EndedBy.SPAWN_FAILED, report.reason)

    def offer_again(self, connection: Connection) -> None:
        """An offer was not taken."""
        self._handover.put_back(connection)

    # Ending.

    def end(self, connection: Connection, ended: Ended) -> None:
        """A child has ended."""
        self._lifetimes.forget(connection)
        if self._idle_watch.on:
            self._idle_watch.forget(connection)
        self._end(connection, ended)

    def end_untaken(self, connection: Connection, ended: Ended) -> None:
        """A connection was served before anybody asked whether it had been taken."""
        self._in_hand -= 1
        self._handover.worked()
        if self._tells_starts:
            self._table.tell_start(connection)
        self._end(connection, ended)

    def let_linger(self, descriptor: int, leader: int = 0) -> None:
        """A connection of which the child, `leader`, had ended under a supervisor before this one."""
        self._lingering.go_on(descriptor, self.linger or 0.0, leader)

    def _end(self, connection: Connection, ended: Ended) -> None:
        self.active -= 1
        if connection.ended_by is not None:
            self._enforcer.on_end(connection)
        kept, linger = connection.descriptor, self.linger
        if linger is None or kept is None:
            self._table.end(connection, ended)
        else:
            # By its log too, which it has no more after its end.
            remaining = remaining_of(connection, kept, self._core, self._enforcer)
            self._table.keep_no_copy(connection)
            self._table.end(connection, ended)
            self._lingering.begin(kept, linger, remaining)

    def refuse(self, connection: Connection, reason: EndedBy, detail: str = "") -> None:
        """Nobody will take a client who waits."""
        self.active -= 1
        self._in_hand -= 1
        self._table.refuse(connection, reason, detail)

    def end_by(self, connection: Connection, rule: EndedBy) -> None:
        """End a connection by a rule: SIGTERM to its processes, and SIGKILL after kill_timeout."""
        if connection.ended_by is None:
            self._table.ruled(connection, rule)
        if connection.state is State.TAKEN:
            self._end_now(connection)
        elif connection.state is State.WAITING:
            self._waiting.remove(connection)
            self.refuse(connection, connection.ended_by or rule)

    def _end_now(self, connection: Connection) -> None:
        self._enforcer.end(connection, self._config.settings.kill_timeout)

    # Stopping.

    def leave(self) -> None:
        """Stop listening: what is queued is still served, and children have all their time."""
        self._ending = True
        self._core.structure_changed()
        for acceptor in list(self.acceptors):
            acceptor.retire()

    def stop(self) -> None:
        """Stop listening; what is still open after drain_timeout is ended."""
        self.leave()
        self._core.timers.at(self._core.later(self._config.settings.drain_timeout), self.terminate)

    def terminate(self) -> None:
        """End all connections: SIGTERM, then SIGKILL after kill_timeout."""
        for acceptor in list(self.acceptors):
            acceptor.abandon()
        for connection in self._table.of_service(self):
            if connection.ended_by is None:
                self.end_by(connection, EndedBy.STOP)

    def kill(self) -> None:
        """End all connections at once."""
        self.terminate()
        self.linger = None
        self._lingering.give_up()
        for connection in self._table.of_service(self):
            if connection.state is State.TAKEN:
                self._enforcer.kill(connection)

    @property
    def finished(self) -> bool:
        """Whether it was told to stop, and nothing of it is left but spawners."""
        return self._ending and not self.acceptors and self.active == 0 and not self._lingering

    def dismiss(self) -> None:
        """Let the spawners go; only when finished."""
        if self.pool is not None:
            self.pool.retire()
