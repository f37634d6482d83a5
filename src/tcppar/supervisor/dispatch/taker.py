"""Whoever takes connections from the supervisor, a spawner or a worker: its channel, and what it has in hand."""

import errno
import os
import signal
import socket
from enum import Enum

import msgspec

from tcppar.events import GivenUp
from tcppar.net import calls, processes
from tcppar.net.channel import Channel, ChannelClosed
from tcppar.net.processes import Process
from tcppar.records import Busy, Ended, Failed, Offer, Order, Ready, Refused, Report, Retire, Taken
from tcppar.supervisor.connection import Connection
from tcppar.supervisor.dispatch.child_log import ChildLog
from tcppar.supervisor.dispatch.outbox import Outbox
from tcppar.supervisor.dispatch.parts import Parts
from tcppar.supervisor.dispatch.reader import Reader
from tcppar.supervisor.snapshot import Outbox as OutboxRecord
from tcppar.supervisor.snapshot import TakerRecord, inode_of, open_socket


class TakerState(Enum):
    """The life of one."""

    STARTING = "entering its user and limits, and loading"
    READY = "takes offers"
    RETIRING = "gets no more offers, ends with what it has"
    LOST = "its channel is closed"


class Misconduct(Exception):
    """A report does not fit what the supervisor knows: whoever sent it is not to be believed any more."""


_LONGEST_QUOTE = 200


def expect(fits: bool, report: Report) -> None:
    """Raise Misconduct unless a report fits what is known."""
    if not fits:
        raise Misconduct(f"it sent an impossible report: {str(report)[:_LONGEST_QUOTE]}")


# The names of all files that a large program is made of; other reports are a few dozen bytes.
_LARGEST_REPORT = 1 << 22
_decoder = msgspec.msgpack.Decoder(list[Report])
_encoder = msgspec.msgpack.Encoder()
_order_decoder = msgspec.msgpack.Decoder(Order)


class Taker:
    """One process at the other end of a channel.

    Args:
        end: our end of the channel.

    Attributes:
        pid: its process; a worker's is 0 until it is known.
        offered: connections it was asked to take, by number, not answered yet.
        children: connections that it has, or whose child it has made, by number.
        leaving: whether it was told to end, or has said that it does.
        began: whether it has ever been ready.
        given_up: whether it is being ended, for it does not do what it should.
        passes_log: whether it gives what it makes a log that comes with the order.
        log: where its own descriptor 2 leads, if to the log.
    """

    def __init__(self, parts: Parts, end: socket.socket) -> None:
        self._parts = parts
        self._core = core = parts.core
        self.state = TakerState.STARTING
        self.pid = 0
        self.offered: dict[int, Connection] = {}
        self.children: dict[int, Connection] = {}
        self._channel: Channel[list[Report]] = Channel(end, _decoder, calls.of(core.features), largest=_LARGEST_REPORT)
        self.leaving = False
        self.began = False
        self.given_up = False
        self.passes_log = False
        self.log: ChildLog | None = None
        self.left_unread = False
        self._may_repeat = False
        self._reader = Reader(self, core, self._channel)
        self._outbox = Outbox(core, self._channel)
        self.fileno = end.fileno

    def prepare_for(self, connection: Connection) -> None:
        """It is about to be asked to take a connection (`Table.offer`).

        Raises:
            OSError: what belongs to that cannot be had.
        """

    def was_asked(self, connection: Connection) -> None:
        """It was asked to take a connection."""

    def send_offer(self, connection: Connection, *, again: bool) -> None:
        """Ask it to take a connection.

        Args:
            again: unless it was asked already, which nobody knows.

        Raises:
            OSError: it could not be asked.
        """
        assert connection.descriptor is not None
        accepted = connection.accepted
        offer = Offer(connection.number, accepted.endpoints, accepted.credentials, connection.attempts, again)
        try:
            log = connection.log
            if self.passes_log and log is not None and log.writer is not None:
                self._channel.send(offer, connection.descriptor, log.writer)
            else:
                self._channel.send(offer, connection.descriptor)
        except ChannelClosed as error:
            raise BrokenPipeError(errno.EPIPE, str(error)) from error

    def deliver(self, connection: Connection, number: signal.Signals) -> None:
        """Let a signal be sent to the process group of the child that has a connection."""
        raise NotImplementedError

    def post(self, order: Order, *passed: int) -> None:
        """Send an order that must not be lost: in its turn, as soon as there is room.

        Args:
            passed: descriptors that go with it, and are closed here then.
        """
        if self.state is not TakerState.LOST:
            self._outbox.post(order, *passed)
            return
        for descriptor in passed:
            os.close(descriptor)

    def on_ready(self) -> None:
        """Read what it reports."""
        self._reader.read()

    def take(self, batches: list[list[Report]]) -> str | None:
        """Act upon reports; what is wrong with them if one cannot be so."""
        try:
            for batch in batches:
                if not batch:
                    return "it sent an empty report"
                for report in batch:
                    if not self._may_repeat or self._is_news(report):
                        self._act_upon(report)
        except Misconduct as error:
            return str(error)
        self._may_repeat = False
        return None

    # What its owner does about it.

    def _act_upon(self, report: Report) -> None:
        """Do what a report calls for.

        Raises:
            Misconduct: it does not fit what is known.
        """
        raise NotImplementedError

    def give_up(self, reason: str) -> None:
        """End it, for it does not answer, or says what cannot be so."""
        raise NotImplementedError

    def _channel_closed(self) -> None:
        """Its channel is closed: it ends."""
        raise NotImplementedError

    def _is_news(self, report: Report) -> bool:
        """Whether a report was not acted upon by a supervisor that died before it could let go of it."""
        if isinstance(report, Busy) and (connection := self.offered.get(report.number)) is not None:
            return report.attempt == connection.attempts
        if isinstance(report, Taken | Busy | Failed):
            return report.number in self.offered or report.number < 0
        if isinstance(report, Ended):
            return report.number in self.children or report.number in self.offered or report.number < 0
        if isinstance(report, Ready | Refused):
            return not self.began
        return True

    def read_to_the_end(self) -> None:
        """It is dead: read what it still had to say. The end of the stream may never come: a process that it left
        behind may have a duplicate of its end.
        """
        self._reader.read_to_the_end()
        self.lose_channel()

    # Its process.

    @property
    def maker_pid(self) -> int:
        """The process that makes the processes of the connections it has; 0 if that has ended."""
        raise NotImplementedError

    @property
    def lawful_parents(self) -> set[int]:
        """Who can be the parent of its own process, for the process to be the one that is meant."""
        raise NotImplementedError

    def process(self) -> Process | None:
        """Its process, if the kernel says that it is the one that is meant; None where that cannot be known."""
        if not self._core.features.pidfds or not self.pid:
            return None
        process = processes.look(self.pid)
        return process if process is not None and process.parent in self.lawful_parents else None

    def send_signal(self, number: signal.Signals) -> None:
        """Send a signal to its own process, if it can be named."""
        try:
            if (process := self.process()) is not None:
                processes.send(process, number)
        except OSError as error:
            self._core.fault(("signal",), "signal a process", error.errno or 0, "tried again until it succeeds")

    def kill_for(self, reason: str, *, service: str, role: str) -> None:
        """End it, and say why; once, however often it is tried."""
        if not self.given_up:
            self.given_up = True
            self._core.structure_changed()
            self._core.log.emit(GivenUp(service=service, role=role, pid=self.pid, reason=reason))
        self.send_signal(signal.SIGKILL)

    def prepare_for_signal(self) -> None:
        """A signal is about to be sent to the process that has one of its connections."""

    def retire(self) -> None:
        """Give it no more offers; it ends when it has no connection left."""
        if self.state in (TakerState.STARTING, TakerState.READY):
            self.state = TakerState.RETIRING
            self.leaving = True
            self._core.structure_changed()
            self._order_to_retire()

    def _order_to_retire(self) -> None:
        self.post(Retire())

    # Handing on to a next supervisor.

    @property
    def serves_as(self) -> int:
        """The process that serves what it is offered, if that is known before."""
        return 0

    @property
    def can_be_handed_on(self) -> bool:
        """Whether nothing of what it said is here in part."""
        return self._channel.is_between_frames

    def describe(self) -> TakerRecord:
        """What a next supervisor must know of it, but for its connections."""
        waiting = self._outbox.waiting
        outbox: OutboxRecord = [(_encoder.encode(order), list(map(open_socket, passed))) for order, passed in waiting]
        descriptor = self.fileno()
        return TakerRecord(
            descriptor,
            inode_of(descriptor),
            self.pid,
            self.state.name,
            self.leaving,
            outbox,
            self.passes_log,
            None if self.log is None else open_socket(self.log.fileno()),
        )

    def go_on(self, former: TakerRecord) -> None:
        """Take up what a supervisor before this one has left."""
        self.state = TakerState[former.state]
        self.began = self.state is not TakerState.STARTING
        self.leaving = former.leaving
        self._may_repeat = True
        self.passes_log = former.passes_log
        for order, passed in former.waiting:
            self.post(_order_decoder.decode(order), *passed)

    def follow_log(self, service: str, former: TakerRecord) -> None:
        """Read on what it writes itself."""
        if former.log is not None and former.log.is_there:
            self.log = self._parts.logs.follow(service, self, former.log.descriptor)

    @property
    def can_deliver(self) -> bool:
        """Whether `deliver` can be called."""
        return self.state is not TakerState.LOST

    def has_read(self) -> bool:
        """Whether it has read all that it was sent, and lives (Linux alone). If memory is too short to find out, it
        counts as not known yet."""
        try:
            return self._channel.all_read() and not self._channel.is_hung_up()
        except OSError:
            return False

    def lose_channel(self, *, unread: bool = True) -> None:
        """Its end of the channel is closed: it ends, or has ended.

        Args:
            unread: whether there may be an offer that it has not read.
        """
        self.left_unread = unread
        if self.state is not TakerState.LOST:
            self._core.structure_changed()
            self._reader.close()
            self.state = TakerState.LOST
            self._outbox.discard()
            if self.log is not None:
                self.log.end()
            self._channel_closed()
            # Before its channel's number can be another's, but when it is settled what it has had.
            for connection in (*self.children.values(), *self.offered.values()):
                self._parts.table.channel_lost(connection)
            self._channel.close()
