"""All logs of children: who is read when, so that nobody waits for another, and the server for nobody.

A log is in one of three states. It is watched; or it is in the queue, because there may be more to read than was
read, and is not watched, for it would wake the loop again and again; or it is new. Most conversations are over before
that has changed: these are never watched at all, and read once, when they end.

Those in the queue have a turn one after the other, so much in each pass of the loop, and none while the server's own
log is not read as fast as it is written. Who writes more than that waits, as for any reader.
"""

from tcppar.events import ChildOutput, Fault
from tcppar.net import calls
from tcppar.policy.timers import Timer
from tcppar.supervisor.connection import Connection
from tcppar.supervisor.core import Core
from tcppar.supervisor.dispatch.child_log import ChildLog, Turn, Writer
from tcppar.supervisor.snapshot import PipeRecord

# How long a new log is not watched: nearly every short conversation is over by then.
_NEW = 0.01
# What is told in one pass, in bytes, and what a line costs beside its own.
_MOST_IN_A_PASS = 1 << 16
_COST_OF_A_LINE = 256
# When the next in the queue have their turn: after a pass for the others; while the log is congested; and those that
# cannot be watched.
_NEXT_TURN = 0.001
_PAUSE = 0.02
_BLIND_PAUSE = 0.5
_LATER = "it is checked from time to time"
_MOST_LEFT_BEHIND = 256
"""How many logs of conversations that are over a service keeps for processes that were left behind. Each takes a
descriptor, and up to a megabyte of the kernel's memory if somebody wants it to. As many short-lived ones are left by a
thousand conversations a second that each leave something for a quarter of one.
"""


class ChildLogs:
    """Those that something can come from."""

    def __init__(self, core: Core) -> None:
        self._core = core
        core.spare_descriptors = self.spare_descriptors
        self.pair = calls.of(core.features).log_pair
        self.read = calls.of(core.features).read_log
        self._open: set[ChildLog] = set()
        self._new: list[ChildLog] = []
        self._queue: dict[ChildLog, None] = {}
        self._left_behind: dict[str, dict[ChildLog, None]] = {}
        self._due: Timer | None = None
        self._pass_at = 0.0
        self._left_in_pass = _MOST_IN_A_PASS
        self.read_before: dict[int, bytes] = {}
        """What a supervisor before this one had read and not told, by the descriptor that it came from."""

    def __len__(self) -> int:
        return len(self._open)

    # More and fewer.

    def give(self, connection: Connection) -> None:
        """Make a connection its own, with an end for its child.

        Raises:
            OSError: no descriptor is left.
        """
        self.take_up(connection, *self.pair())

    def take_up(self, connection: Connection, reader: int, writer: int | None) -> None:
        """Let a connection have a pair that was made for it, perhaps by a supervisor before this one."""
        connection_id = self._core.id_of(connection.number)
        connection.log = log = ChildLog(self, connection.service.name, reader, connection, connection_id)
        log.writer, log.connection = writer, connection
        self._add(log)
        self.changed(log)
        if writer is None:
            self.watch_soon(log)

    def follow(self, service: str, process: Writer | None, reader: int) -> ChildLog:
        """Read what a worker or a spawner writes; None for nobody in particular."""
        log = ChildLog(self, service, reader, process, comes_first=True)
        self._add(log)
        self._watch(log)
        return log

    def follow_left_behind(self, record: PipeRecord) -> None:
        """One of a conversation that was over under a supervisor before this one."""
        log = ChildLog(self, record.service, record.descriptor, record, record.id)
        self._add(log)
        log.end()

    def _add(self, log: ChildLog) -> None:
        log.go_on(self.read_before.pop(log.fileno(), b""))
        self._open.add(log)

    def changed(self, log: ChildLog) -> None:
        """Note for a next supervisor which ends of it are open."""
        if log.connection is None:
            self._core.structure_changed()
        else:
            self._core.books.log_is(log.connection, log.fileno() if log in self._open else None, log.writer)

    def forget(self, log: ChildLog) -> None:
        """It is about to be closed."""
        self._look_away(log)
        self._open.discard(log)
        self._queue.pop(log, None)
        self._left_behind.get(log.service, {}).pop(log, None)
        self.changed(log)

    @property
    def descriptors(self) -> set[int]:
        """All that they have open."""
        writers = {log.writer for log in self._open if log.writer is not None}
        return {log.fileno() for log in self._open} | writers

    def describe(self) -> list[PipeRecord]:
        """What a next supervisor must know of those whose conversation is over."""
        return [log.describe() for logs in self._left_behind.values() for log in logs]

    def unfinished(self) -> dict[int, bytes]:
        """What was read and not told, by the descriptor that it came from."""
        return {log.fileno(): log.unfinished for log in self._open if log.unfinished}

    # Turns.

    def watch_soon(self, log: ChildLog) -> None:
        """Watch a new one, if it still is open then."""
        if not self._new:
            self._core.timers.at(self._core.later(_NEW), self._watch_new)
        self._new.append(log)

    def _watch_new(self) -> None:
        new, self._new = self._new, []
        for log in new:
            if log in self._open and log not in self._queue:
                self._watch(log)

    def _watch(self, log: ChildLog) -> None:
        if self._core.waiter.watches(log):
            return
        try:
            self._core.waiter.register(log)
        except OSError as error:
            self._core.fault(("watch a child's log", log.service), "watch a child's log", error.errno or 0, _LATER)
            self._queue[log] = None
            self._take_turns_in(_BLIND_PAUSE)

    def _look_away(self, log: ChildLog) -> None:
        if self._core.waiter.watches(log):
            self._core.waiter.unregister(log)

    def is_behind(self, log: ChildLog) -> bool:
        """Whether it may have been written more than was read."""
        return log in self._queue

    def offer_turn(self, log: ChildLog) -> None:
        """Something may be there: it has its turn now, or after others."""
        if self._queue or not self._may_tell():
            self._put_in_queue(log)
        else:
            self._give_turn(log)

    def end(self, log: ChildLog) -> None:
        """Its conversation is over: it is one of those that are left behind, unless all of it is read."""
        self.offer_turn(log)
        if log.is_open:
            logs = self._left_behind.setdefault(log.service, {})
            logs[log] = None
            self._core.structure_changed()
            if len(logs) > _MOST_LEFT_BEHIND:
                self._give_up(next(iter(logs)))

    def _may_tell(self) -> bool:
        if self._core.now != self._pass_at:
            self._pass_at, self._left_in_pass = self._core.now, _MOST_IN_A_PASS
        return self._left_in_pass > 0 and not self._core.log.congested

    def tell(self, event: ChildOutput) -> None:
        """Write a line."""
        self._left_in_pass -= len(event.line) + _COST_OF_A_LINE
        self._core.log.emit(event)

    def _put_in_queue(self, log: ChildLog) -> None:
        self._look_away(log)
        self._queue.setdefault(log)
        self._take_turns_in(_PAUSE if self._core.log.congested else _NEXT_TURN)

    def _give_turn(self, log: ChildLog) -> None:
        turn = log.turn()
        if turn is Turn.MORE:
            self._put_in_queue(log)
        elif turn is Turn.DRAINED:
            self._watch(log)

    def _take_turns_in(self, seconds: float) -> None:
        at = self._core.later(seconds)
        if self._due is None or at < self._due.at:
            if self._due is not None:
                self._due.cancel()
            self._due = self._core.timers.at(at, self._take_turns)

    def _take_turns(self) -> None:
        self._due = None
        for _ in range(len(self._queue)):
            if not self._may_tell():
                break
            log = next(iter(self._queue))
            del self._queue[log]
            self._give_turn(log)
        if self._queue and self._due is None:
            self._take_turns_in(_PAUSE if self._core.log.congested else _NEXT_TURN)

    # Giving up.

    def _give_up(self, log: ChildLog) -> None:
        """Wait no more for what processes may write that were left behind."""
        if count := self._core.throttle.note(("left behind", log.service), self._core.now):
            self._core.log.emit(
                Fault(
                    what="logs of processes that children left behind",
                    error=f"more than {_MOST_LEFT_BEHIND} are open",
                    remedy="the oldest is closed",
                    count=count,
                    service=log.service,
                )
            )
        log.turn()
        if log.is_open:
            log.close()

    def spare_descriptors(self) -> None:
        """Give up all that only processes have which were left behind: somebody needs the descriptors."""
        for log in [log for logs in self._left_behind.values() for log in logs]:
            log.turn()
            if log.is_open:
                log.close()

    def finish(self) -> None:
        """The server ends: read what is there, and wait for nothing more."""
        for log in list(self._open):
            log.finish()
