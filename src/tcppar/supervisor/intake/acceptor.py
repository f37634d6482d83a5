"""One listener and how clients are accepted from it: strikes, resets, and the end without a loss."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from enum import Enum
from typing import Protocol

from tcppar.events import ListenerClosed, ListenerReset
from tcppar.net.address import Address
from tcppar.net.listener import Accepted, Listener
from tcppar.net.opening import ListenerOptions
from tcppar.policy.strikes import Backoff, Strikes
from tcppar.supervisor.core import Core
from tcppar.supervisor.intake import file_watch
from tcppar.supervisor.intake.failures import Failures
from tcppar.supervisor.snapshot import ListenerRecord, inode_of

# After new clients are led elsewhere, handshakes may be under way whose last packet is yet to come: this is how long
# the listener stays to receive them. It covers the round trip of nearly every client (RFC 6298 expects less than 1 s).
HANDSHAKE_GRACE = 0.2
_REOPEN_FIRST_DELAY = 0.1
_REOPEN_LONGEST_DELAY = 5.0


class Phase(Enum):
    """The life of an acceptor."""

    SERVING = "new clients come here"
    EMPTYING = "new clients go elsewhere, the queue is accepted to its end"
    BROKEN = "its listener could not be opened again, which is tried until it can"
    CLOSED = "done"


class AcceptorOwner(Protocol):
    """Whoever takes the connections: the service."""

    name: str
    look_again: bool

    @property
    def listener_options(self) -> ListenerOptions: ...
    @property
    def wants_clients(self) -> bool: ...
    def admit(self, accepted: Accepted) -> None: ...
    def let_linger(self, descriptor: int) -> None: ...
    def on_new_acceptor(self, acceptor: "Acceptor") -> None: ...
    def on_acceptor_closed(self, acceptor: "Acceptor") -> None: ...


class Acceptor:
    """Accepts from one listener for its owner.

    Args:
        listener: open, not watched yet.
        owner: takes what is accepted. It changes when a reload gives the listener to another service.
        strikes: how many unexpected failures in a row are tolerated.
    """

    def __init__(self, listener: Listener, owner: AcceptorOwner, core: Core, strikes: int) -> None:
        self.listener = listener
        self.owner = owner
        self.phase = Phase.SERVING
        self.announced = False
        self.when_closed: list[Callable[[], None]] = []
        self._core = core
        self._rights = owner.listener_options.rights
        self._failures = Failures(self, core, Strikes(strikes))
        self._closes_when_empty = False
        self._successor: Acceptor | None = None
        self._predecessor: Acceptor | None = None
        self._reset_asked: str | None = None
        self._reopen = Backoff(_REOPEN_FIRST_DELAY, _REOPEN_LONGEST_DELAY)
        self.fileno = listener.fileno
        self._watched = False
        file_watch.watch(self, core)

    @property
    def is_to_last(self) -> bool:
        """Whether it is to serve until something else is wanted."""
        return self.phase in (Phase.SERVING, Phase.BROKEN)

    @property
    def place(self) -> str:
        """Where its clients come to."""
        return str(self.listener)

    def describe(self) -> ListenerRecord:
        """What a next supervisor must know of it; not for one that is broken or closed."""
        successor = self._successor
        return ListenerRecord(
            descriptor=self.fileno(),
            inode=inode_of(self.fileno()),
            address=str(self.listener.address),
            inherited=self.listener.inherited,
            emptying=self.phase is Phase.EMPTYING,
            successor=successor.fileno() if successor is not None and successor.phase is not Phase.CLOSED else None,
        )

    def go_on(self, former: ListenerRecord, others: Mapping[int, "Acceptor"]) -> None:
        """Take up what a supervisor before this one has left; `others` are all acceptors by their descriptors."""
        self.announced = True
        if former.emptying:
            self._successor = None if former.successor is None else others.get(former.successor)
            if self._successor is not None:
                self._successor._predecessor = self
            self._empty_after_grace()

    def move_to(self, owner: AcceptorOwner, options: ListenerOptions) -> None:
        """A reload: serve this owner with these options from now on. Queued clients are not touched.

        A Unix socket whose file was removed, or is to have other rights, gets another one, with a new listener.
        """
        if owner is not self.owner:
            self.owner.on_acceptor_closed(self)
            self.owner = owner
            owner.on_new_acceptor(self)
        if self.phase is Phase.SERVING:
            try:
                self.listener.apply(options)
            except OSError as error:
                self._fault("options", "reload", error, "it keeps its current options")
            if self.listener.is_in_order(self._after_former_rights(options)):
                self._rights = options.rights
            else:
                self.reset("its file is gone or must get other permissions")

    def _after_former_rights(self, options: ListenerOptions) -> ListenerOptions:
        return replace(options, rights=options.rights.instead_of(self._rights))

    def rename(self, address: Address) -> None:
        """A reload: name it as the configuration does now, which may lead to the same file by another path."""
        if self.listener.rename(address):
            self.announced = False

    def tolerate(self, strikes: int) -> None:
        """Change how many strikes in a row are tolerated."""
        self._failures.strikes.tolerated = strikes

    def look_or_not(self, wanted: bool) -> None:
        """Watch the listener if its clients are wanted now; else leave them in the kernel's queue."""
        takes_all = self._closes_when_empty and self._takes_all
        wanted = wanted or (takes_all and not self._core.short_of_descriptors)
        wanted = wanted and not self._failures.paused and self.phase is not Phase.BROKEN
        if wanted and not self._watched:
            self._watch()
        elif self._watched and not wanted:
            self._unwatch()
        if self._closes_when_empty:
            if wanted or takes_all:
                self.owner.look_again = True  # until it is closed
            self._empty(wanted)

    def on_ready(self) -> None:
        """Accept one client. One a pass: the next pass comes soon, and nobody else has to wait for a long queue."""
        if self.owner.wants_clients:
            self._accept_one()

    def _accept_one(self) -> bool:
        """Accept one client; whether there was one."""
        try:
            accepted = self.listener.accept()
        except OSError as error:
            self._failures.note(error.errno or 0)
            return False
        self._failures.worked()
        self.owner.admit(accepted)
        return True

    def reset(self, reason: str) -> None:
        """Put a new listener in this one's place, without losing anybody where the system can do that.

        While an earlier reset is under way, it is remembered and done afterwards: a storm of requests gives one reset
        after the other, never a heap of listeners.
        """
        if self.phase is not Phase.SERVING or self.listener.inherited:
            return
        if self._predecessor is not None:
            self._reset_asked = reason
            return
        options = self._after_former_rights(self.owner.listener_options)
        try:
            beside = self.listener.open_beside(options)
        except OSError as error:
            self._fault("reset", "reset", error, "the old listener stays in use")
            return
        if beside is None:
            self._open_again(options)
        else:
            self._hand_on_to(beside)
        self._core.counters.resets += 1
        self._core.note_faults()
        self._core.log.emit(
            ListenerReset(
                service=self.owner.name, address=str(self.listener), reason=reason, lossless=beside is not None
            )
        )

    def _hand_on_to(self, listener: Listener) -> None:
        strikes = self._failures.strikes
        successor = Acceptor(listener, self.owner, self._core, strikes.tolerated)
        successor._failures.strikes = strikes
        successor._predecessor = self
        successor.announced = self.announced
        self._successor = successor
        self.owner.on_new_acceptor(successor)
        self._empty_after_grace()
        self._core.structure_changed()

    def _open_again(self, options: ListenerOptions) -> None:
        if self.phase is Phase.CLOSED:
            return  # while it could not be opened, it came to be wanted no more
        if self.phase is not Phase.BROKEN:
            self._accept_the_queue()
            self._unwatch()
        try:
            self.listener = self.listener.open_again(options)
        except OSError as error:
            self.phase = Phase.BROKEN
            self._fault("reopen", "open again", error, "tried again until it succeeds")
            self._core.timers.at(self._core.later(self._reopen.fail()), lambda: self._open_again(options))
            return
        self._reopen.succeed()
        self._core.structure_changed()
        self.phase = Phase.SERVING
        self.owner.look_again = True
        self.fileno = self.listener.fileno

    def _accept_the_queue(self) -> None:
        """Accept all that wait, also beyond the limits, for the close that follows would refuse them."""
        while True:
            try:
                accepted = self.listener.accept()
            except OSError:
                return
            self.owner.admit(accepted)

    def retire(self) -> None:
        """A planned end: let no new client in, accept the queue to its end, close."""
        if self.phase is Phase.BROKEN:
            self._finish()
        elif self.phase is Phase.SERVING:
            try:
                self.listener.turn_away()
            except OSError as error:
                self._fault("retire", "close", error, "a client that arrives at the last moment may be refused")
            self._empty_after_grace()

    def _empty_after_grace(self) -> None:
        self.phase = Phase.EMPTYING
        self._core.structure_changed()
        self._core.timers.at(self._core.later(HANDSHAKE_GRACE), self._close_when_empty)

    def _close_when_empty(self) -> None:
        self._closes_when_empty = self.owner.look_again = True

    @property
    def _takes_all(self) -> bool:
        """Whether its queue is accepted to the end also if there is no room.

        At a planned end it is: as long as it is open, nobody else can have the port, and who comes gets no answer for
        minutes. Those who are accepted wait with their service. After a reset new clients have a place to go to, and a
        service manager's listener stays open anyway: there the queue can wait.
        """
        has_place = self._successor is not None and self._successor.phase is Phase.SERVING
        return not has_place and not self.listener.inherited

    def _empty(self, wanted: bool) -> None:
        """Accept what is left, if that is wanted now; close when nothing is."""
        while wanted and (self.owner.wants_clients or self._takes_all):
            try:
                accepted = self.listener.accept()
            except BlockingIOError:
                self._finish()
                return
            except OSError as error:
                self._failures.note(error.errno or 0)
                return
            self.owner.admit(accepted)
        if self.listener.is_empty():
            self._finish()

    def abandon(self) -> None:
        """Close at once; the system refuses what is still queued."""
        if self.phase is not Phase.CLOSED:
            self._finish()

    def _finish(self) -> None:
        self._unwatch()
        self.phase = Phase.CLOSED
        self._core.structure_changed()
        self.listener.close()
        if self._successor is not None:
            self._successor._after_predecessor()
        else:
            self._core.log.emit(ListenerClosed(service=self.owner.name, address=str(self.listener)))
        self.owner.on_acceptor_closed(self)
        for tell in self.when_closed:
            tell()

    def _after_predecessor(self) -> None:
        self._predecessor = None
        self.stand_alone()
        if self._reset_asked is not None:
            reason, self._reset_asked = self._reset_asked, None
            self.reset(reason)

    def stand_alone(self) -> None:
        """Clients come here alone now. Until no other process can be bound beside it, this is tried again."""
        if self.phase is Phase.CLOSED:
            return
        try:
            self.listener.stand_alone()
        except OSError as error:
            self._fault("alone", "setsockopt", error, "tried again until it succeeds")
            self._core.timers.at(self._core.later(self._reopen.fail()), self.stand_alone)

    def _fault(self, kind: str, what: str, error: OSError, remedy: str) -> None:
        self._core.fault((kind, self.place), what, error.errno or 0, remedy, self.owner.name)

    def _watch(self) -> None:
        self._core.waiter.register(self)
        self._watched = True

    def _unwatch(self) -> None:
        if self._watched:
            self._watched = False
            self._core.waiter.unregister(self)
