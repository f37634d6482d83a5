"""The books of a running server, made fit for a trial: its installed version goes on from a copy of them, and nothing
of the server's can be reached.

Whatever is open has a stand-in, a socket of the trial's own. Processes have numbers that no process can have, so that
whoever is signalled or waited for is not there: spawners and children count as dead. Paths are left out.
"""

import os
import socket
from collections.abc import Iterator
from itertools import count

import msgspec

from tcppar.net.address import Address
from tcppar.supervisor.snapshot import (
    ListenerRecord,
    OpenSocket,
    PoolRecord,
    ServiceRecord,
    Snapshot,
    TakerRecord,
    WorkerRecord,
    inode_of,
    open_socket,
)
from tcppar.supervisor.succession.entry import Entry
from tcppar.supervisor.succession.ledger import Ledger

# PID_MAX_LIMIT (proc_sys_kernel(5), pid_max): no process has a number beyond.
_FIRST_NUMBER_OF_NOBODY = (1 << 22) + 1


class Stage:
    """Stand-ins for what one server has.

    Attributes:
        descriptors: the stand-ins.
    """

    def __init__(self) -> None:
        self._channel, self._peer = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        self._channel.setblocking(False)
        self._pipe = os.pipe()
        for end in self._pipe:
            os.set_blocking(end, False)
        self._descriptors: dict[int, int] = {}
        self._pids: dict[int, int] = {}
        self._unused = count(_FIRST_NUMBER_OF_NOBODY)

    @property
    def descriptors(self) -> set[int]:
        """The stand-ins."""
        return set(self._descriptors.values())

    def descriptor(self, number: int, source: int | None = None) -> int:
        """The stand-in of a descriptor: a duplicate of `source`, or of one end of a channel that nobody reads."""
        if number not in self._descriptors:
            self._descriptors[number] = os.dup(self._channel.fileno() if source is None else source)
        return self._descriptors[number]

    def log(self, number: int, end: int) -> int:
        """That of an end of a log: 0 is the one that is read."""
        return self.descriptor(number, self._pipe[end])

    def pid(self, pid: int) -> int:
        """The stand-in of a process; nobody (0) stays nobody."""
        if pid and pid not in self._pids:
            self._pids[pid] = next(self._unused)
        return self._pids.get(pid, 0)

    # Records.

    def snapshot(self, left: Snapshot) -> Snapshot:
        """The same with stand-ins."""
        return msgspec.structs.replace(
            left,
            services=[self._service(record) for record in left.services],
            pools=[self._pool(record) for record in left.pools],
            control_files={},
            strangers=[],
            left_behind=[],
            unfinished={},
        )

    def _service(self, record: ServiceRecord) -> ServiceRecord:
        listeners = [self._listener(listener) for listener in record.listeners]
        return msgspec.structs.replace(record, listeners=listeners, lingering=[])

    def _listener(self, record: ListenerRecord) -> ListenerRecord:
        with socket.socket(_family(Address(record.address)), socket.SOCK_STREAM) as unbound:
            descriptor = self.descriptor(record.descriptor, unbound.fileno())
        return msgspec.structs.replace(
            record,
            descriptor=descriptor,
            inode=inode_of(descriptor),
            successor=None if record.successor is None else self._descriptors.get(record.successor),
        )

    def _pool(self, record: PoolRecord) -> PoolRecord:
        return msgspec.structs.replace(
            record,
            directory="",
            child_log=self._log(record.child_log),
            spawners=[self._taker(spawner) for spawner in record.spawners],
            workers=[self._worker(worker) for worker in record.workers],
        )

    def _log(self, record: OpenSocket | None) -> OpenSocket | None:
        return None if record is None else open_socket(self.log(record.descriptor, 0))

    def _taker(self, record: TakerRecord) -> TakerRecord:
        descriptor = self.descriptor(record.descriptor)
        return msgspec.structs.replace(
            record,
            descriptor=descriptor,
            inode=inode_of(descriptor),
            pid=self.pid(record.pid),
            outbox=[
                (order, [open_socket(self.descriptor(one)) for one in passed]) for order, passed in record.recorded
            ],
            log=self._log(record.log),
        )

    def _worker(self, record: WorkerRecord) -> WorkerRecord:
        return msgspec.structs.replace(record, taker=self._taker(record.taker), spawner=self.pid(record.spawner))


def _family(address: Address) -> socket.AddressFamily:
    if address.path:
        return socket.AF_UNIX
    return socket.AF_INET6 if ":" in address.host else socket.AF_INET


class RehearsedLedger(Ledger):
    """Books that name stand-ins.

    Args:
        descriptor: of a copy of a running server's.
    """

    def __init__(self, descriptor: int, stage: Stage) -> None:
        super().__init__(descriptor)
        self._stage = stage

    def entries(self) -> Iterator[Entry]:
        """The connections that were copied."""
        stage = self._stage
        for entry in super().entries():
            yield msgspec.structs.replace(
                entry,
                holder=None if entry.holder is None else stage.descriptor(entry.holder),
                copy=None if entry.copy is None else stage.descriptor(entry.copy),
                pid=stage.pid(entry.pid),
                log=(
                    None if entry.log[0] is None else stage.log(entry.log[0], 0),
                    None if entry.log[1] is None else stage.log(entry.log[1], 1),
                ),
            )


class Silence:
    """A log of which nobody hears."""

    congested = False
    due_at = float("inf")

    def emit(self, event: object) -> None:
        """Nothing."""

    def flush(self) -> None:
        """Nothing."""

    def finish(self, patience: float, /) -> None:
        """Nothing."""

    def use(self, log_format: object, /) -> None:
        """Nothing."""
