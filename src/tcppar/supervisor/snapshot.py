"""What a supervisor leaves to the next one, but for the connections themselves (ledger.py): plain records.

They are written by one version and read by another, after an upgrade: names are kept with the values, so that what a
newer version adds has its default where it is missing. What cannot be read so needs another VERSION.
"""

import errno
import os
from collections.abc import Iterator

import msgspec
from msgspec import Struct

import tcppar
from tcppar import config
from tcppar.config import Config, ServiceConfig
from tcppar.conversion import from_text
from tcppar.errors import SystemRefused

VERSION = 1


class OpenSocket(Struct, frozen=True):
    """A socket that is left. Whoever is killed may have closed it a moment before, and its number be another's.

    Attributes:
        inode: of the socket, which no other one has.
    """

    descriptor: int
    inode: int

    @property
    def is_there(self) -> bool:
        """Whether the descriptor still is this socket."""
        return inode_of(self.descriptor) == self.inode != 0


def inode_of(descriptor: int) -> int:
    """What tells an open file from others; 0 if the descriptor is not open.

    Raises:
        OSError: memory is short, and nobody can know.
    """
    try:
        return os.fstat(descriptor).st_ino
    except OSError as error:
        if error.errno != errno.EBADF:
            raise  # what counts as closed would be lost
        return 0


def open_socket(descriptor: int) -> OpenSocket:
    """What a descriptor is now."""
    return OpenSocket(descriptor, inode_of(descriptor))


class ListenerRecord(OpenSocket, frozen=True):
    """An acceptor and its listener.

    Attributes:
        address: what the user asked for.
        emptying: whether new clients go elsewhere, and it is closed when its queue is empty.
        successor: the descriptor of the listener that came in its place by a reset.
    """

    address: str
    inherited: bool
    emptying: bool
    successor: int | None


class LingeringRecord(OpenSocket, frozen=True):
    """Our copy of a connection whose child has ended, and others of whose processes may go on to write.

    Attributes:
        leader: the child.
    """

    leader: int


class ServiceRecord(Struct, frozen=True):
    """A service; `leaving` if it was removed, and only its connections are still served."""

    config: ServiceConfig
    leaving: bool
    listeners: list[ListenerRecord]
    lingering: list[LingeringRecord] = []


Outbox = list[tuple[bytes, list[OpenSocket | int] | int | None]]
"""Orders, encoded, and what goes with each. A former version wrote numbers, and one at the most."""


class TakerRecord(OpenSocket, frozen=True):
    """A spawner: its process and our end of its channel.

    Attributes:
        state: the name of its TakerState.
        outbox: orders that found no room in the channel yet, encoded, and descriptors that go with them; a former
            version knew of one at the most.
        passes_log: whether a log goes with each offer, or hire; a spawner of a former version does not expect any.
        log: of what it writes itself.
    """

    pid: int
    state: str
    leaving: bool
    outbox: Outbox
    passes_log: bool = False
    log: OpenSocket | None = None

    @property
    def recorded(self) -> list[tuple[bytes, list[int]]]:
        """The outbox, whatever is there of it."""
        return [(order, [_number_of(one) for one in _listed(passed)]) for order, passed in self.outbox]

    @property
    def waiting(self) -> list[tuple[bytes, list[int]]]:
        """What waits in the outbox. What was to go with an order and is not there any more has gone, and the order too;
        of a former version's nobody can tell.
        """
        return [
            (order, [_number_of(one) for one in _listed(passed)])
            for order, passed in self.outbox
            if all(isinstance(one, int) or one.is_there for one in _listed(passed))
        ]


def _listed(passed: list[OpenSocket | int] | int | None) -> list[OpenSocket | int]:
    return [] if passed is None else passed if isinstance(passed, list) else [passed]


def _number_of(passed: OpenSocket | int) -> int:
    return passed if isinstance(passed, int) else passed.descriptor


class WorkerRecord(Struct, frozen=True):
    """A worker: what its spawner knows it by, and the spawner's process."""

    taker: TakerRecord
    number: int
    spawner: int
    began: bool
    owes_order: bool


class PipeRecord(OpenSocket, frozen=True):
    """The log of a conversation that is over, for the processes that were left behind.

    Attributes:
        id: of the connection; None for none.
        pid: its child; 0 for none.
    """

    service: str
    id: str | None
    pid: int


class PoolRecord(Struct, frozen=True):
    """The spawners of a service that share one plan.

    Attributes:
        in_force: whether new connections go to it.
        child_log: the one socket that all children's descriptors 2 led to in a former version.
        directory: where control files are; empty if there are none.
    """

    service: str
    config: ServiceConfig
    in_force: bool
    retired: bool
    directory: str
    sources: list[str]
    spawners: list[TakerRecord]
    workers: list[WorkerRecord]
    child_log: OpenSocket | None = None


def descriptors_of(pool: PoolRecord) -> Iterator[int]:
    """All that a pool goes on with, as far as it still is what it was."""
    if pool.child_log is not None and pool.child_log.is_there:
        yield pool.child_log.descriptor
    spawners = [record for record in pool.spawners if record.is_there]
    pids = {record.pid for record in spawners}
    workers = [record.taker for record in pool.workers if record.spawner in pids and record.taker.is_there]
    for taker in (*spawners, *workers):
        yield taker.descriptor
        if taker.log is not None and taker.log.is_there:
            yield taker.log.descriptor
        for _, passed in taker.waiting:
            yield from passed


class Snapshot(Struct, frozen=True):
    """All of it.

    Attributes:
        written_by: the version of tcppar.
        stopping: whether a stop was under way.
        strangers: descriptors that were open when the server was started, and that nobody of ours uses.
        control_files: of orphans, by the number of their connection.
        left_behind: logs of conversations that are over.
        unfinished: what was read of logs and not told, by the descriptor that it came from; only true when it is
            written, in an upgrade.
    """

    version: int
    written_by: str
    id_prefix: str
    stopping: bool
    config: Config
    services: list[ServiceRecord]
    pools: list[PoolRecord]
    control_files: dict[int, str]
    strangers: list[int]
    left_behind: list[PipeRecord] = []
    unfinished: dict[int, bytes] = {}


class _Versioned(Struct):
    version: int
    written_by: str


def encoded(snapshot: Snapshot) -> bytes:
    """As the books keep it."""
    return config.encoded(snapshot)


def decoded(structure: bytes | None) -> Snapshot | None:
    """What a supervisor left in its books; None if none has served yet.

    Raises:
        SystemRefused: it was written by a version that cannot be gone on from.
    """
    if structure is None:
        return None
    try:
        known = msgspec.msgpack.decode(structure, type=_Versioned)
        if known.version == VERSION:
            return msgspec.msgpack.decode(structure, type=Snapshot, dec_hook=from_text)
    except msgspec.MsgspecError as error:
        raise SystemRefused(f"cannot read the state of the running server: {error}") from None
    raise SystemRefused(
        f"the state of the running server (tcppar {known.written_by}, state {known.version}) cannot be taken over by "
        f"tcppar {tcppar.__version__} (state {VERSION}): stop it and start it again"
    )
