"""What must hold in the simulated system whenever the supervisor waits, and at its end."""

from collections import Counter
from signal import Signals

from tcppar.events import ConnectionEnded, ConnectionRefused, Stopped
from tcppar.policy.life import EndedBy, State
from tcppar.supervisor.connection import Connection as Entry
from tcppar.supervisor.dispatch.spawner_process import MOST_OFFERS
from tcppar.supervisor.dispatch.worker_process import WorkerProcess
from tcppar.supervisor.service import Service
from tests.simulation.books import EndRecord, SimulatedLog
from tests.simulation.kernel import OpenFile, Process
from tests.simulation.network import Client, Connection, Fate, ListeningSocket
from tests.simulation.processes import Child, SpawnerProcess, Worker
from tests.simulation.world import World

_IN_THE_SERVER = (Fate.CONNECTED, Fate.CLOSED)


class Checks:
    """Compares what is with what the supervisor's books say.

    Attributes:
        may_lose: whether a queue may have been lost: its listener was closed to be opened again, or by force.
        may_serve_twice: whether a spawner was killed where nobody can find a child that it had made and not told of.
    """

    def __init__(self, world: World) -> None:
        self._world = world
        self.may_lose = False
        self._in_force: set[OpenFile] = set()
        self.may_serve_twice = False
        world.kernel.on_signal = self._signalled

    # Signals.

    def _signalled(self, sender: Process, target: Process | None, number: int) -> None:
        """Only the parent of a process knows that a number is still its own; and nobody is ended without a rule."""
        if target is None:
            assert not self._world.profile.features.subreaper or self._world.profile.keep, "a signal to nobody"
            return
        if isinstance(target, Child | Worker):
            assert self._may_signal(sender, target), f"{sender.pid} signals {target.pid}, whose parent it is not"
            client = target.client
            if client is not None:
                entries = [entry for entry in self._entries() if entry.endpoints.remote_port == client.port]
                assert all(entry.ended_by is not None for entry in entries), f"{client} is ended, and no rule says so"
        elif number != Signals.SIGKILL:
            raise AssertionError(f"signal {number} to {target.pid}")

    def _may_signal(self, sender: Process, target: Process) -> bool:
        if target.parent is sender:
            return True
        is_ours = sender is self._world.life.process
        # A spawner of ours has made it; or the keeper has the orphans; without a subreaper nobody has.
        return is_ours and (
            isinstance(target.parent, SpawnerProcess) or target.parent in (self._world.life.keeper, None)
        )

    # All.

    def hold(self) -> None:
        """All that must hold while the supervisor waits."""
        self._nobody_is_lost()
        self._nobody_is_served_twice()
        if self._world.life.process.lives and self._world.life.supervisor.has_begun:
            self._each_client_is_somewhere_once()
            self._counters_balance()
            self._services_agree_with_the_table()
            self._holders_agree_with_the_table()
            self._descriptors_are_accounted_for()
            self._listeners_are_few()

    def _entries(self) -> list[Entry]:
        return self._world.life.supervisor.running.table.all_open()

    def _records(self) -> list[EndRecord]:
        log = self._world.life.supervisor.core.log
        assert isinstance(log, SimulatedLog)
        return [event for event in log.told if isinstance(event, ConnectionEnded | ConnectionRefused)]

    def _nobody_is_lost(self) -> None:
        if not self.may_lose:
            clients = self._world.network.clients
            lost = [client for client in clients if client.fate is Fate.LOST and client.listener in self._in_force]
            assert not lost, f"{lost} were in a queue that was closed"

    def _nobody_is_served_twice(self) -> None:
        for client in self._world.network.clients:
            serving = [process for process in client.servers if process.client is client and process.lives]
            assert len(serving) < 2 or self.may_serve_twice, f"{client} is served twice"
            assert len(client.servers) < 2 or self.may_serve_twice, f"{client} was served twice"

    def _each_client_is_somewhere_once(self) -> None:
        entries = Counter(entry.endpoints.remote_port for entry in self._entries())
        records = Counter(_port(record) for record in self._records())
        in_doubt = {
            _port(event)
            for event in self._world.life.in_doubt
            if isinstance(event, ConnectionEnded | ConnectionRefused)
        }
        for client in self._world.network.clients:
            places = entries[client.port] + records[client.port]
            expected = client.fate in _IN_THE_SERVER
            least = expected and not _may_be_unknown(client)
            assert least <= places <= expected + (client.port in in_doubt), (
                f"{client}: {entries[client.port]} entries, {records[client.port]} records"
            )
        self._who_was_not_served_was_refused()
        assert all(record.pid for record in self._records() if isinstance(record, ConnectionEnded)), "ended by nobody"

    def _who_was_not_served_was_refused(self) -> None:
        accounted = {_port(record) for record in self._records() if self._accounts_for_unserved(record)}
        for client in self._world.network.clients:
            if client.fate is Fate.CLOSED and not client.servers and not _may_be_unknown(client):
                assert client.port in accounted, f"{client} was closed unserved"

    def _accounts_for_unserved(self, record: EndRecord) -> bool:
        """Refusals do. And if a supervisor was killed while it offered, and the worker to whom it did as well, nobody
        can know whether it has read it; to offer it again could mean to serve it twice.
        """
        if isinstance(record, ConnectionRefused):
            return True
        return self._world.profile.keep and record.signal == Signals.SIGKILL.name and record.ended_by is None

    def _counters_balance(self) -> None:
        counters = self._world.life.supervisor.core.counters
        open_now = len(self._entries())
        assert counters.accepted == counters.ended + counters.refused + open_now, f"{counters}, {open_now} open"
        known = [client for client in self._world.network.clients if client.fate in _IN_THE_SERVER]
        unknown = [client for client in known if _may_be_unknown(client)]
        assert len(known) - len(unknown) <= counters.accepted <= len(known), (
            f"{counters.accepted} counted, {len(known)} accepted, of whom {len(unknown)} have left"
        )

    def _services_agree_with_the_table(self) -> None:
        supervisor = self._world.life.supervisor
        for service in (*supervisor.running.services.values(), *supervisor.running.leaving):
            entries = [entry for entry in self._entries() if entry.service is service]
            waiting = {entry.number for entry in entries if entry.state is State.WAITING}
            in_hand = [entry for entry in entries if entry.state in (State.WAITING, State.OFFERED)]
            assert service.active == len(entries), f"{service.active} active, {len(entries)} in the table"
            assert service._in_hand == len(in_hand), f"{service._in_hand} in hand, {len(in_hand)} in the table"
            queued = [entry.number for entry in service._waiting]
            assert sorted(queued) == sorted(waiting), f"{queued} wait, {waiting} in the table"

    def _holders_agree_with_the_table(self) -> None:
        for entry in self._entries():
            holder = entry.holder
            if entry.state is State.WAITING:
                assert holder is None
            elif entry.state is State.OFFERED:
                assert holder is not None
                most = 1 if isinstance(holder, WorkerProcess) else MOST_OFFERS
                assert len(holder.offered) <= most, f"{holder.offered} were offered to one"
                assert holder.offered.get(entry.number) is entry
                assert entry.number not in holder.children
            elif holder is not None:
                assert holder.children.get(entry.number) is entry
                assert entry.number not in holder.offered

    def _descriptors_are_accounted_for(self) -> None:
        """Each descriptor of the supervisor is somebody's, and what somebody has is open."""
        process = self._world.life.process
        assert process.waiter.watches_only_what_is_open()
        for entry in self._entries():
            if entry.state is not State.TAKEN:
                assert entry.descriptor is not None
            if entry.descriptor is not None:
                file = process.table.get(entry.descriptor)
                assert isinstance(file, Connection)
                assert file.client.port == entry.endpoints.remote_port, "the descriptor is another's"
        supervisor = self._world.life.supervisor
        services = (*supervisor.running.services.values(), *supervisor.running.leaving)
        copies = {entry.descriptor for entry in self._entries()}
        copies |= {tail.fileno() for service in services for tail in service._lingering._tails}
        listeners = {acceptor.fileno() for service in services for acceptor in service.acceptors}
        self._in_force |= {process.table[listener] for listener in listeners if listener in process.table}
        if supervisor.reloading.rollout is not None:
            listeners |= {one.fileno() for opened in supervisor.reloading.rollout._listeners.values() for one in opened}
        for descriptor, file in process.table.items():
            if isinstance(file, Connection):
                assert descriptor in copies, f"a copy of {file.client} is left open"
            elif isinstance(file, ListeningSocket):
                assert descriptor in listeners, f"a listener of {file.place} is left open"

    def _listeners_are_few(self) -> None:
        for place in {listener.place for listener in self._world.network.listening}:
            assert len(self._world.network.at(place)) <= 2, "a heap of listeners"

    # After a while, and at the end.

    @property
    def number_of_given_up(self) -> int:
        """How many were refused because nobody could be found to serve them."""
        records = [record for record in self._records() if isinstance(record, ConnectionRefused)]
        return sum(record.reason is EndedBy.HAND_OVER_TIMEOUT for record in records)

    def nobody_waits_for_nothing(self) -> None:
        """When nothing has failed for long: nobody is queued, or accepted and not served, for whom there is room."""
        supervisor = self._world.life.supervisor
        for service in (*supervisor.running.services.values(), *supervisor.running.leaving):
            in_hand = [
                entry for entry in self._entries() if entry.service is service and entry.state is not State.TAKEN
            ]
            full = service.active >= service.config.settings.max_connections
            if not full and not self._all_workers_are_busy(service):
                assert not in_hand, f"{in_hand} wait, and nothing is wrong"
                for acceptor in service.acceptors:
                    listener = self._world.life.process.table.get(acceptor.fileno())
                    assert isinstance(listener, ListeningSocket), (
                        "it could not be opened again, though nothing is wrong"
                    )
                    assert not listener.queue, f"{listener.queue} are queued, and nothing is wrong"

    def _all_workers_are_busy(self, service: Service) -> bool:
        settings = service.config.settings
        return self._world.profile.pool and len(self._world.busy_workers) >= settings.workers.most

    def all_is_over(self) -> None:
        """After a stop: nothing is left."""
        world = self._world
        assert not world.life.process.lives, f"it has not ended; {self._entries()} are open"
        if world.life.keeper is not None:
            assert world.life.keeper.over
        left = [process for process in world.kernel.processes.values() if process is not world.life.keeper]
        if self.may_serve_twice:
            left = [process for process in left if process.parent is not None]  # nobody knows of the others
        assert not left, f"{left} live still, or are zombies"
        assert not world.network.listening
        self._each_client_is_somewhere_once()
        self._counters_balance()
        self._nobody_is_served_twice()
        stopped = [event for event in world.life.written if isinstance(event, Stopped)]
        assert len(stopped) == 1 or world.profile.keep, (
            "it was stopped twice"
        )  # the first was killed in its last moment
        assert stopped[-1].accepted == stopped[-1].ended + stopped[-1].refused


def _may_be_unknown(client: Client) -> bool:
    """Whether it can have been accepted by a supervisor that died before it could enter it, and have left then."""
    return client.has_left and client.fate is Fate.CLOSED and not client.servers


def _port(record: EndRecord) -> int:
    return int(record.peer.rpartition(":")[2])
