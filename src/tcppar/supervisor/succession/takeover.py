"""Going on where a supervisor before this one has stopped: it was replaced by an upgrade, or it died.

Everything that matters is still there: listeners, channels and connections, by their descriptors; spawners and
children, which have noticed nothing; and the books (ledger.py, snapshot.py). What is made anew is this process's own:
objects, timers, what it waits with.
"""

import errno
import os
import socket
import stat

from tcppar.net import calls
from tcppar.net import listener as listeners
from tcppar.net.address import Address
from tcppar.net.listener import Accepted
from tcppar.net.platform import socket_of
from tcppar.policy.life import EndedBy, State
from tcppar.records import Ended, Endpoints
from tcppar.supervisor import snapshot
from tcppar.supervisor.connection import Connection, Holder
from tcppar.supervisor.connections.enforcer import Enforcer
from tcppar.supervisor.dispatch.modes import pool_for
from tcppar.supervisor.dispatch.parts import Parts
from tcppar.supervisor.dispatch.pool import Pool
from tcppar.supervisor.dispatch.reaper import Reaper
from tcppar.supervisor.dispatch.taker import Taker
from tcppar.supervisor.dispatch.worker_process import WorkerProcess
from tcppar.supervisor.intake.acceptor import Acceptor
from tcppar.supervisor.service import Service
from tcppar.supervisor.snapshot import PoolRecord, ServiceRecord, Snapshot
from tcppar.supervisor.succession.entry import Entry, Mark
from tcppar.supervisor.succession.ledger import Ledger
from tcppar.supervisor.succession.place import Succession

_STATES = {
    Mark.WAITING: State.WAITING,
    Mark.OFFERING: State.OFFERED,
    Mark.OFFERED: State.OFFERED,
    Mark.TAKEN: State.TAKEN,
    # What has told of the end tells of it once more.
    Mark.ENDING: State.TAKEN,
}


class Takeover:
    """One of them."""

    def __init__(
        self,
        succession: Succession,
        left: Snapshot,
        books: Ledger,
        parts: Parts,
        reaper: Reaper,
        enforcer: Enforcer,
    ) -> None:
        self._left = left
        self.serving: dict[str, Service] = {}
        self.leaving: list[Service] = []
        self._ledger = books
        self._parts = parts
        self._core = parts.core
        self._table = parts.table
        self._reaper = reaper
        self._enforcer = enforcer
        # Whoever was killed may have told it since it was noted.
        self._read_before = left.unfinished if succession.upgraded else {}
        self._unclaimed = succession.found - succession.kept - succession.strangers
        self._acceptors: dict[int, Acceptor] = {}
        self._pools: list[Pool] = []
        self._takers: dict[int, Taker] = {}
        self._peers: set[tuple[str, int]] = set()

    def rebuild(self) -> None:
        """Make everything of what was left."""
        entries = sorted(self._ledger.entries(), key=lambda entry: entry.facts.number)
        self._go_on_counting(entries)
        self._reaper.control_files.update(self._left.control_files)
        self._parts.logs.read_before = dict(self._read_before)
        services = [self._rebuild_service(record) for record in self._left.services]
        for service_record in self._left.services:
            for listener in service_record.listeners:
                if (acceptor := self._acceptors.get(listener.descriptor)) is not None:
                    # Only now: after a reload the successor can be another service's.
                    acceptor.go_on(listener, self._acceptors)
        for record in self._left.pools:
            self._rebuild_pool(record, services)
        for service_record, service in zip(self._left.services, services, strict=True):
            self._let_linger(service_record, service)
        self._rebuild_logs()
        for connection in self._rebuild_connections(entries, services):
            self._settle(connection)
        for pool in self._pools:
            pool.find_idle()
        self._parts.logs.read_before.clear()
        self._adopt_or_close()
        self._reaper.find_the_lost()

    def _go_on_counting(self, entries: list[Entry]) -> None:
        """Every connection has a number, and is open or has ended: that holds, wherever the books were cut off."""
        core, ledger = self._core, self._ledger
        counters = core.counters
        (_, _, counters.refused, counters.strikes, counters.resets, counters.client_faults) = ledger.counters()
        counters.accepted = max([ledger.last_number, *(entry.facts.number for entry in entries)])
        counters.ended = counters.accepted - counters.refused - len(entries)
        self._table.go_on_counting(counters.accepted)
        core.workers_hired = ledger.workers_hired

    # Services and pools.

    def _rebuild_service(self, record: ServiceRecord) -> Service:
        service = Service(record.config, self._core, self._table, self._enforcer)
        if record.leaving:
            self.leaving.append(service)
        else:
            self.serving[service.name] = service
        for listener in record.listeners:
            if not listener.is_there:
                continue
            self._unclaimed.discard(listener.descriptor)
            opened = listeners.taken_up(
                listener.descriptor, Address(listener.address), self._core.features, inherited=listener.inherited
            )
            acceptor = Acceptor(opened, service, self._core, record.config.settings.strikes)
            self._acceptors[listener.descriptor] = acceptor
            service.on_new_acceptor(acceptor)
        return service

    def _let_linger(self, record: ServiceRecord, service: Service) -> None:
        for left in record.lingering:
            if left.is_there:
                self._unclaimed.discard(left.descriptor)
                service.let_linger(left.descriptor, left.leader)

    def _rebuild_pool(self, record: PoolRecord, services: list[Service]) -> None:
        owners = [service for service in services if service.name == record.service]
        if not owners:
            return  # a reload had prepared it for a new service; its spawners end, for their channels are closed
        # Of two services of one name, one was removed before the other came; each has its own pool in force.
        owner = next((service for service in owners if service.pool is None), owners[0])
        # Before anything is made of the record: what the pool closes on the way is then another's, or nobody's.
        self._unclaimed.difference_update(snapshot.descriptors_of(record))
        pool = pool_for(record.config)(owner, record.config, self._parts, self._reaper, record)
        self._pools.append(pool)
        if record.in_force:
            owner.put_in_force(owner.config, pool)
        elif not record.retired:
            pool.retire()  # a reload had prepared it
        for taker in (*pool.crew.spawners, *pool.takers):
            self._takers[taker.fileno()] = taker

    def _rebuild_logs(self) -> None:
        """Logs of who was left behind. Those of connections are found with these."""
        for record in self._left.left_behind:
            if record.is_there:
                # Before it is read: one that is at its end is closed at once, and its number may be another's then.
                self._unclaimed.discard(record.descriptor)
                self._parts.logs.follow_left_behind(record)
        self._unclaimed.difference_update(self._parts.logs.descriptors)

    def _take_up_log(self, connection: Connection, entry: Entry) -> None:
        """Our end of its log; and the other one, if nobody is known to have it."""
        reader, writer = entry.log
        if reader is None or reader not in self._unclaimed or not _may_be_log(reader):
            return
        if writer not in self._unclaimed or not _may_be_log(writer) or connection.state is State.TAKEN:
            writer = None
        self._unclaimed -= {reader, writer}
        self._parts.logs.take_up(connection, reader, writer)

    # Connections.

    def _rebuild_connections(self, entries: list[Entry], services: list[Service]) -> list[Connection]:
        copies = self._find_copies(entries)
        connections = []
        for entry in entries:
            self._peers.add(_peer(entry.facts.endpoints))
            connection = self._connection_of(entry, copies.get(entry.slot), services)
            self._table.take_over(connection)
            self._take_up_log(connection, entry)
            if entry.mark is Mark.ENDING and not entry.pid:
                # It was refused, and nobody knows whether the record of that was written.
                self._table.refuse(connection, entry.ended_by or EndedBy.STOP, "reported by the next supervisor")
                continue
            if connection.state is State.TAKEN:
                connection.close_copy_unless_kept()
            if entry.mark is Mark.OFFERING and connection.holder is not None:
                self._settle_offer(connection, connection.holder)
            connections.append(connection)
        return connections

    def _find_copies(self, entries: list[Entry]) -> dict[int, int]:
        """Our copies, by the slots of their connections.

        Those that no child has taken have theirs for certain. The others' may be closed, and its number be another's
        by now; and if that one's client is gone, the system does not tell whose it is. So they come last.
        """
        copies: dict[int, int] = {}
        for entry in sorted(entries, key=lambda entry: entry.mark >= Mark.TAKEN):
            if (
                entry.copy is not None
                and entry.copy in self._unclaimed
                and (entry.mark < Mark.TAKEN or _is_socket_of(entry.copy, entry.facts.endpoints))
            ):
                copies[entry.slot] = entry.copy
                self._unclaimed.discard(entry.copy)
        return copies

    def _connection_of(self, entry: Entry, copy: int | None, services: list[Service]) -> Connection:
        facts = entry.facts
        return Connection(
            facts.number,
            next(service for service in services if service.name == facts.service),
            Accepted(-1 if copy is None else copy, facts.endpoints, facts.queued, facts.credentials),
            facts.accepted_at,
            facts.accepted_at,
            copy,
            state=_STATES[entry.mark],
            holder=None if entry.holder is None else self._takers.get(entry.holder),
            pid=entry.pid,
            spawn_seconds=entry.spawn_seconds,
            ended_by=entry.ended_by,
            slot=entry.slot,
            attempts=entry.attempts,
        )

    def _settle_offer(self, connection: Connection, holder: Holder) -> None:
        """It was about to be offered, and may have been.

        A worker has one at a time. If it has something unread, that is this offer; if it has the connection, it was.
        """
        if isinstance(holder, WorkerProcess):
            if not holder.has_read():
                return
            if self._reaper.has_open(holder.pid, connection):
                self._table.found_taken(connection, holder.pid)
                return
        self._offer_once_more(connection, holder)

    def _offer_once_more(self, connection: Connection, holder: Holder) -> None:
        try:
            holder.send_offer(connection, again=True)
            self._table.was_offered(connection)
        except OSError as error:
            # No room in the channel means that it was not read for long: there is an end to that.
            if error.errno in (errno.EPIPE, errno.ECONNRESET):
                self._table.orphaned(connection)

    def _settle(self, connection: Connection) -> None:
        """Put it where its state says."""
        holder = connection.holder
        if connection.state is State.OFFERED and holder is None:
            self._find_holder(connection)
        if connection.state is State.TAKEN:
            if holder is not None:
                holder.children[connection.number] = connection
            if isinstance(holder, WorkerProcess):
                holder.serves(connection)
            connection.service.take_over(connection)
            if holder is None:
                self._reaper.look_after(connection)
            return
        if connection.state is State.OFFERED and holder is not None:
            holder.offered[connection.number] = connection
            if isinstance(holder, WorkerProcess):
                # The books have the worker's process with the offer; with the worker itself perhaps not yet.
                self._table.expect_child(connection.pid or holder.pid, connection)
                holder.serves(connection)
        connection.service.take_over(connection)
        if connection.state is State.OFFERED and holder is None:
            connection.service.end_untaken(connection, Ended(connection.number, None, 0.0, None))

    def _find_holder(self, connection: Connection) -> None:
        """Whoever was asked is dead: its child may be there all the same, or have served and ended."""
        if (pid := self._reaper.child_of(connection)) is not None:
            self._table.found_taken(connection, pid)
        elif not self._reaper.was_served(connection):
            self._table.found_waiting(connection)

    # What nobody has claimed.

    def _adopt_or_close(self) -> None:
        """A supervisor that was killed may have accepted a client and not have entered it; or not have closed its copy
        of a connection that a child has. Connections whose child has ended may still be lingering. And what it waited
        with is of no more use.
        """
        for descriptor in sorted(self._unclaimed):
            if not self._adopted(descriptor):
                calls.close_shared(descriptor)

    def _adopted(self, descriptor: int) -> bool:
        if not stat.S_ISSOCK(os.fstat(descriptor).st_mode):
            return False
        for acceptor in self._acceptors.values():
            accepted = acceptor.listener.accepted_before(descriptor)
            if accepted is not None:
                if accepted.endpoints.remote_port and _peer(accepted.endpoints) in self._peers:
                    return False
                if _is_shut(descriptor):
                    acceptor.owner.let_linger(descriptor)
                else:
                    acceptor.owner.admit(accepted)
                return True
        return False


def _may_be_log(descriptor: int | None) -> bool:
    """Whether it is open, and an end of a pair; or of a pipe, which former versions have made."""
    try:
        mode = os.fstat(-1 if descriptor is None else descriptor).st_mode
    except OSError:
        return False
    return stat.S_ISSOCK(mode) or stat.S_ISFIFO(mode)


def _peer(endpoints: Endpoints) -> tuple[str, int]:
    return endpoints.remote_ip, endpoints.remote_port


def _is_shut(descriptor: int) -> bool:
    """Whether the end of the stream was sent already, or the client is gone."""
    with socket_of(descriptor) as duplicate:
        try:
            duplicate.send(b"", socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL)
        except BlockingIOError:
            return False
        except OSError:
            return True
    return False


def _is_socket_of(descriptor: int, endpoints: Endpoints) -> bool:
    """Whether a descriptor still is the connection that it was, and not another one's by now."""
    try:
        with socket_of(descriptor) as duplicate:
            peer = duplicate.getpeername()
    except OSError as error:
        return error.errno == errno.ENOTCONN  # the client is gone; that is for its child to find out
    return not endpoints.remote_port or tuple(peer[:2]) == _peer(endpoints)
