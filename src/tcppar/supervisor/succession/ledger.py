"""The books, in memory that outlives the supervisor: what the next one must know to go on in its place.

A file in memory (memfd_create(2); elsewhere one without a name) holds a header, the structure (services, listeners,
spawners; see snapshot.py) and a slot for each open connection. A process can be killed between any two instructions,
and whoever comes next reads what is there. So nothing is written over that is in force: the structure has two places,
and the header says which one holds; a slot is filled before its first byte says so; and what goes with a state is
written before the state.
"""

import errno
import mmap
import os
import struct
from collections.abc import Iterator

import msgspec

from tcppar.errors import SystemRefused
from tcppar.policy.life import EndedBy, State
from tcppar.supervisor.books import Counters
from tcppar.supervisor.connection import Connection
from tcppar.supervisor.succession.cover import BEGAN_AT, CURRENT_AT, PATIENCE, PATIENCE_AT
from tcppar.supervisor.succession.entry import Entry, Facts, Mark
from tcppar.supervisor.succession.memory import MAGIC, SLOT_SIZE, SLOTS_AT, new_books

_CURRENT = struct.Struct("<B")
_COUNT = struct.Struct("Q")  # native, and so written at once
_LAST_NUMBER_AT = 16
_SLOTS_USED_AT = 24
_COUNTERS = struct.Struct("<6Q")
_COUNTERS_AT = 32
_FAULTS = struct.Struct("<3Q")  # the last of them
_FAULTS_AT = _COUNTERS_AT + _COUNTERS.size - _FAULTS.size
_WORKERS_AT = 80

_PLACES_AT = (1 << 16, 1 << 24)
_LARGEST_STRUCTURE = (1 << 24) - (1 << 16) - 4
_LENGTH = struct.Struct("<I")

# What changes in a slot, each at its place; then what does not.
_RULE_AT = 1
_ATTEMPTS_AT = 2
_HOLDER = struct.Struct("<i")
_HOLDER_AT = 4
_TAKEN = struct.Struct("<iid")  # process, our copy of the connection, seconds to make the process
_PID = struct.Struct("<i")
_TAKEN_AT = 8
_FACTS_LENGTH = struct.Struct("<H")
_FACTS_LENGTH_AT = 28
_FACTS_AT = 30
# Both ends of the log's pair, each plus one, so that what was never written says that there is none: books of a former
# version have facts there at the most, of which only paths longer than any that are possible would reach so far.
_LOG = struct.Struct("<ii")
_LOG_AT = SLOT_SIZE - _LOG.size
_MOST_FACTS = _LOG_AT - _FACTS_AT

# What a supervisor opens for itself before it can close what the one before has left, and some more.
RESERVE = 12

_RULES = tuple(EndedBy)
_NOBODY = -1


# Members of an enum are looked up slowly, and these are asked for in every connection.
_FREE, _WAITING, _OFFERING, _OFFERED_MARK, _TAKEN_MARK, _ENDING = map(int, Mark)


class Ledger:
    """The books.

    Args:
        descriptor: of the file in memory; new, or of a supervisor before this one.

    Raises:
        SystemRefused: it is no ledger of ours.
        OSError: the system is short of something. The descriptor stays open.
    """

    def __init__(self, descriptor: int) -> None:
        self.descriptor = descriptor
        try:
            self._memory = mmap.mmap(descriptor, 0)
        except (OSError, ValueError) as error:
            if isinstance(error, OSError) and error.errno == errno.ENOMEM:
                size = os.fstat(descriptor).st_size >> 20
                raise SystemRefused(
                    f"not enough memory for the state of the server, which takes {size} MB; raise the limit "
                    "(ulimit -v, or the container's)"
                ) from None
            raise SystemRefused(f"descriptor {descriptor} does not hold a state: {error}") from None
        if self._memory[: len(MAGIC)] != MAGIC or len(self._memory) < SLOTS_AT:
            raise SystemRefused(f"descriptor {descriptor} does not hold a state that this version can take over")
        self._encode = msgspec.msgpack.Encoder().encode
        self._free: list[int] = []
        self._ended: list[int] = []
        self._slots_used = self._number_at(_SLOTS_USED_AT)
        self.are_kept = True
        self.stale = True
        """Whether the structure has changed since it was saved."""

    @classmethod
    def new(cls) -> "Ledger":
        """One with nothing in it.

        Raises:
            OSError: the system is short of something.
        """
        descriptor = new_books()
        try:
            return cls(descriptor)
        except (OSError, SystemRefused):
            os.close(descriptor)
            raise

    def hold_reserve(self) -> None:
        """Hold some descriptors, which are free for the next supervisor if all others are in use when this one dies."""
        try:
            for _ in range(RESERVE):
                os.dup(self.descriptor)
        except OSError:
            pass  # that many are not left: then the server was started with too few to serve anybody

    def close(self) -> None:
        """Let go of it, and of its memory if nobody else has it."""
        self._memory.close()
        os.close(self.descriptor)

    # The structure.

    def save(self, structure: bytes) -> None:
        """Put a structure in force.

        Raises:
            SystemRefused: it is larger than any should be.
        """
        if len(structure) > _LARGEST_STRUCTURE:
            raise SystemRefused(f"the state has {len(structure)} bytes, but at most {_LARGEST_STRUCTURE} can be kept")
        place = 0 if self._memory[CURRENT_AT] == 2 else 1
        at = _PLACES_AT[place]
        _LENGTH.pack_into(self._memory, at, len(structure))
        self._memory[at + _LENGTH.size : at + _LENGTH.size + len(structure)] = structure
        _CURRENT.pack_into(self._memory, CURRENT_AT, place + 1)
        self.stale = False

    def structure(self) -> bytes | None:
        """The structure in force; None if none ever was."""
        current = self._memory[CURRENT_AT]
        if not current:
            return None
        at = _PLACES_AT[current - 1]
        (length,) = _LENGTH.unpack_from(self._memory, at)
        return bytes(self._memory[at + _LENGTH.size : at + _LENGTH.size + length])

    def structure_changed(self) -> None:
        """The structure that is in force is not what holds any more."""
        self.stale = True

    def note_begun(self) -> None:
        """The supervisor of the moment has come to serve."""
        self._memory[BEGAN_AT] = 1

    # Numbers.

    @property
    def last_number(self) -> int:
        """The number of the last connection that was entered."""
        return self._number_at(_LAST_NUMBER_AT)

    def counters(self) -> tuple[int, ...]:
        """The counters as they were noted last, in the order of their declaration."""
        return _COUNTERS.unpack_from(self._memory, _COUNTERS_AT)

    @property
    def workers_hired(self) -> int:
        """How many workers there ever were."""
        return self._number_at(_WORKERS_AT)

    def note_patience(self, drain: float, kill: float) -> None:
        """How many seconds children have in a stop to end by themselves, and after SIGTERM."""
        PATIENCE.pack_into(self._memory, PATIENCE_AT, drain, kill)

    def note_hired(self, workers: int) -> None:
        """Another worker is about to be hired."""
        _COUNT.pack_into(self._memory, _WORKERS_AT, workers)

    def note_faults(self, counters: Counters) -> None:
        """Those counters that hang together with no connection: the others change with its slot (`settle`)."""
        _FAULTS.pack_into(self._memory, _FAULTS_AT, *counters.values()[3:])

    def _number_at(self, place: int) -> int:
        return int(_COUNT.unpack_from(self._memory, place)[0])

    # One connection.

    def enter(self, connection: Connection) -> None:
        """A connection was accepted."""
        facts = self._encoded_facts(connection)
        connection.slot = slot = self._free.pop() if self._free else self._another_slot()
        memory, at = self._memory, SLOTS_AT + slot * SLOT_SIZE
        _FACTS_LENGTH.pack_into(memory, at + _FACTS_LENGTH_AT, len(facts))
        memory[at + _FACTS_AT : at + _FACTS_AT + len(facts)] = facts
        memory[at + _RULE_AT] = 0
        _HOLDER.pack_into(memory, at + _HOLDER_AT, _NOBODY)
        copy = _NOBODY if connection.descriptor is None else connection.descriptor
        _TAKEN.pack_into(memory, at + _TAKEN_AT, 0, copy, 0.0)
        _LOG.pack_into(memory, at + _LOG_AT, 0, 0)
        memory[at] = _WAITING
        # Only now: who is not in the books is found by whoever comes next, and gets a number then.
        _COUNT.pack_into(memory, _LAST_NUMBER_AT, connection.number)

    def copy(self, connection: Connection) -> None:
        """Enter one that is open already, as it stands."""
        self.enter(connection)
        if connection.log is not None:
            self.log_is(connection, connection.log.fileno(), connection.log.writer)
        if connection.holder is not None:
            self.offering(connection, connection.holder.fileno(), connection.pid)
        if connection.state is State.OFFERED:
            self.offered(connection)
        elif connection.state is State.TAKEN:
            self.taken(connection, connection.pid, connection.spawn_seconds)
        if connection.ended_by is not None:
            self.ruled(connection, connection.ended_by)

    def go_on_counting(self, last_number: int) -> None:
        """The number of the last connection that there was."""
        _COUNT.pack_into(self._memory, _LAST_NUMBER_AT, last_number)

    def _encoded_facts(self, connection: Connection) -> bytes:
        accepted = connection.accepted
        facts = Facts(
            connection.number,
            connection.service.name,
            accepted.endpoints,
            accepted.credentials,
            accepted.queued,
            connection.accepted_at,
        )
        encoded = self._encode(facts)
        if len(encoded) > _MOST_FACTS:  # a peer's path of a hundred odd bytes, each an escape
            short = msgspec.structs.replace(accepted.endpoints, remote_ip="")
            encoded = self._encode(msgspec.structs.replace(facts, endpoints=short))
        return encoded

    def _another_slot(self) -> int:
        slot = self._slots_used
        needed = SLOTS_AT + (slot + 1) * SLOT_SIZE
        if needed > len(self._memory):
            self._memory.resize(SLOTS_AT + 2 * (needed - SLOTS_AT))
        self._slots_used = slot + 1
        _COUNT.pack_into(self._memory, _SLOTS_USED_AT, self._slots_used)
        return slot

    def offering(self, connection: Connection, holder: int, pid: int) -> None:
        """It is about to be offered to whoever is at the other end of a channel; `pid` if that is who will serve it."""
        at = SLOTS_AT + connection.slot * SLOT_SIZE
        _HOLDER.pack_into(self._memory, at + _HOLDER_AT, holder)
        _PID.pack_into(self._memory, at + _TAKEN_AT, pid)
        self._memory[at + _ATTEMPTS_AT] = connection.attempts
        self._memory[at] = _OFFERING

    def offered(self, connection: Connection) -> None:
        """The offer was sent."""
        self._memory[SLOTS_AT + connection.slot * SLOT_SIZE] = _OFFERED_MARK

    def waits(self, connection: Connection) -> None:
        """It was not taken, or could not be offered."""
        _PID.pack_into(self._memory, SLOTS_AT + connection.slot * SLOT_SIZE + _TAKEN_AT, 0)
        self._memory[SLOTS_AT + connection.slot * SLOT_SIZE] = _WAITING

    def taken(self, connection: Connection, pid: int, spawn_seconds: float) -> None:
        """A child has it. The supervisor's copy is closed next, or kept: whoever takes over looks for it."""
        at = SLOTS_AT + connection.slot * SLOT_SIZE
        copy = _NOBODY if connection.descriptor is None else connection.descriptor
        _TAKEN.pack_into(self._memory, at + _TAKEN_AT, pid, copy, spawn_seconds)
        self._memory[at] = _TAKEN_MARK

    def orphaned(self, connection: Connection) -> None:
        """Whoever had made its child is dead."""
        _HOLDER.pack_into(self._memory, SLOTS_AT + connection.slot * SLOT_SIZE + _HOLDER_AT, _NOBODY)

    def log_is(self, connection: Connection, reader: int | None, writer: int | None) -> None:
        """Which ends of its log's pair are open. What is noted is open: it is noted after the one, before the other."""
        ends = (0 if end is None else end + 1 for end in (reader, writer))
        _LOG.pack_into(self._memory, SLOTS_AT + connection.slot * SLOT_SIZE + _LOG_AT, *ends)

    def ruled(self, connection: Connection, rule: EndedBy) -> None:
        """A rule of ours ends it."""
        self._memory[SLOTS_AT + connection.slot * SLOT_SIZE + _RULE_AT] = _RULES.index(rule) + 1

    def ended(self, connection: Connection) -> None:
        """Its record was told. The slot is let go with the next `settle`, when that is written."""
        self._memory[SLOTS_AT + connection.slot * SLOT_SIZE] = _ENDING
        self._ended.append(connection.slot)

    @property
    def owes(self) -> bool:
        """Whether there is something to settle."""
        return bool(self._ended)

    def settle(self, counters: Counters) -> None:
        """What was told in this pass is written: let go of what had ended."""
        for slot in self._ended:
            self._memory[SLOTS_AT + slot * SLOT_SIZE] = _FREE
        self._free.extend(self._ended)
        self._ended.clear()
        _COUNTERS.pack_into(self._memory, _COUNTERS_AT, *counters.values())

    # All connections, for whoever takes over.

    def entries(self) -> Iterator[Entry]:
        """All open connections, in the order of their slots. Those that are free now are found on the way."""
        decode = msgspec.msgpack.Decoder(Facts).decode
        for slot in range(self._slots_used):
            at = SLOTS_AT + slot * SLOT_SIZE
            mark = Mark(self._memory[at])
            if mark is Mark.FREE:
                self._free.append(slot)
                continue
            (holder,) = _HOLDER.unpack_from(self._memory, at + _HOLDER_AT)
            pid, copy, spawn_seconds = _TAKEN.unpack_from(self._memory, at + _TAKEN_AT)
            (length,) = _FACTS_LENGTH.unpack_from(self._memory, at + _FACTS_LENGTH_AT)
            reader, writer = _LOG.unpack_from(self._memory, at + _LOG_AT)
            rule = self._memory[at + _RULE_AT]
            yield Entry(
                slot=slot,
                mark=mark,
                facts=decode(self._memory[at + _FACTS_AT : at + _FACTS_AT + length]),
                holder=None if holder == _NOBODY or mark is Mark.WAITING else holder,
                pid=pid,
                copy=None if copy == _NOBODY else copy,
                spawn_seconds=spawn_seconds,
                ended_by=_RULES[rule - 1] if rule else None,
                attempts=self._memory[at + _ATTEMPTS_AT],
                log=(reader - 1 if reader > 0 else None, writer - 1 if writer > 0 else None),
            )
