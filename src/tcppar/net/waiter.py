"""The one place that waits."""

import errno
import os
import select
import signal
import time
from collections.abc import Callable, Collection
from types import FrameType
from typing import Protocol

from tcppar.policy import faults
from tcppar.policy.strikes import Strikes, Verdict
from tcppar.policy.timers import NEVER


class Source(Protocol):
    """Something that can become readable."""

    def fileno(self) -> int:
        """Its descriptor."""

    def on_ready(self) -> None:
        """Called when there is something to read, a connection to accept, or the end of the stream."""


class Poller(Protocol):
    """What epoll and poll objects have in common."""

    def register(self, descriptor: int, events: int, /) -> None: ...
    def unregister(self, descriptor: int, /) -> None: ...
    def poll(self, timeout: float | None = None, /) -> list[tuple[int, int]]: ...


# The calls take no more than some weeks in milliseconds; whoever wakes too early waits again.
_LONGEST_WAIT = 86400.0
# A wait that fails at once and again would take the whole processor; this is what it takes instead.
_FAILED_WAIT_PAUSE = 0.01
# What epoll_ctl(2) lacks for one source more, and how soon that is tried again.
_SHORTAGE = {errno.ENOMEM, errno.ENOSPC}
_SHORTAGE_PAUSE = 0.05


class Waiter:
    """Waits for readable sources, for signals and for a deadline.

    Signal handlers do nothing but note the signal; the wakeup descriptor (signal.set_wakeup_fd) makes the wait
    return. A signal that interrupts the wait itself is not seen by anybody: the interpreter resumes the wait with
    what is left of its time (PEP 475), and finds the wakeup descriptor readable.

    A source that the system has no room for now is watched as soon as there is: whoever registers one need not know.
    `on_shortage` is told.

    A wait that fails is a strike against the waiter. After too many in a row it makes a new poller, registers
    everything again, and tells `on_strike`; it never raises.

    Args:
        use_epoll: epoll(7), else poll(2).
        strikes: how many failed waits in a row are tolerated.
    """

    def __init__(self, *, use_epoll: bool, strikes: Strikes) -> None:
        self._use_epoll = use_epoll
        self._strikes = strikes
        self._sources: dict[int, Source] = {}
        self._first: set[int] = set()
        self._unwatched: set[int] = set()
        self.on_shortage: Callable[[OSError], None] = lambda error: None
        self._signals: set[int] = set()
        self._wakeup, self._wakeup_writer = os.pipe()
        for end in (self._wakeup, self._wakeup_writer):
            os.set_blocking(end, False)
        self.on_strike: Callable[[OSError, Verdict], None] = lambda error, verdict: None
        try:
            self._poller = self._new_poller()
        except OSError as error:
            # Where a filter of system calls forbids epoll (seccomp(2)), poll does the same.
            if error.errno not in faults.FORBIDDEN:
                raise
            self._use_epoll = False
            self._poller = self._new_poller()

    def _new_poller(self) -> Poller:
        poller: Poller = select.epoll() if self._use_epoll else _PollInSeconds()
        for descriptor in (self._wakeup, *self._sources):
            poller.register(descriptor, select.POLLIN)
        self._unwatched.clear()
        return poller

    def register(self, source: Source) -> None:
        """Watch a source. One that has `comes_first` is told before others that are readable at the same time.

        Raises:
            OSError: it is of a kind that cannot be waited for, or watched already.
        """
        descriptor = source.fileno()
        self._watch(descriptor)
        self._sources[descriptor] = source
        if getattr(source, "comes_first", False):
            self._first.add(descriptor)

    def _watch(self, descriptor: int) -> None:
        try:
            self._poller.register(descriptor, select.POLLIN)
        except OSError as error:
            if error.errno not in _SHORTAGE:
                raise
            self._unwatched.add(descriptor)
            self.on_shortage(error)

    def _watch_the_unwatched(self) -> None:
        unwatched, self._unwatched = self._unwatched, set()
        for descriptor in unwatched:
            self._watch(descriptor)

    def unregister(self, source: Source) -> None:
        """Stop watching a source.

        It must happen before the descriptor is closed: a child that was just made may hold a duplicate for a
        moment, and epoll would go on reporting a descriptor that is no longer ours.
        """
        descriptor = source.fileno()
        self._first.discard(descriptor)
        if self._sources.pop(descriptor, None) is None:
            return
        if descriptor in self._unwatched:
            self._unwatched.discard(descriptor)
        else:
            try:
                self._poller.unregister(descriptor)
            except OSError:
                self._replace_poller()  # the new one knows nothing of it

    def watches(self, source: Source) -> bool:
        """Whether the source is watched."""
        return self._sources.get(source.fileno()) is source

    def catch(self, signals: Collection[signal.Signals]) -> None:
        """Note these signals from now on, and let each of them end the wait. Main thread only."""
        signal.set_wakeup_fd(self._wakeup_writer, warn_on_full_buffer=False)
        for number in signals:
            signal.signal(number, self._note)
            # Calls of the C library that a library makes for us should not fail for a signal either.
            signal.siginterrupt(number, False)
        # Whoever started us may have blocked them.
        signal.pthread_sigmask(signal.SIG_UNBLOCK, signals)

    def release(self, signals: Collection[signal.Signals]) -> None:
        """Give these signals their default again. Of those that come until the next `catch`, nobody is told."""
        for number in signals:
            signal.signal(number, signal.SIG_DFL)

    @property
    def descriptors(self) -> list[int]:
        """What it holds itself: a process that was forked from this one must close them."""
        poller = [self._poller.fileno()] if self._use_epoll else []  # type: ignore[attr-defined]
        return [*poller, self._wakeup, self._wakeup_writer]

    def _note(self, number: int, frame: FrameType | None) -> None:
        self._signals.add(number)

    @property
    def signalled(self) -> bool:
        """Whether a signal came that was not taken yet."""
        return bool(self._signals)

    def take_signals(self) -> set[int]:
        """The numbers of the signals that came since the last call, each once."""
        # One step that a handler cannot split: what comes after it goes into the new set.
        taken, self._signals = self._signals, set()
        return taken

    def wait(self, deadline: float) -> list[Source]:
        """Wait until a source is readable, a signal came, or the monotonic time `deadline` (NEVER: for ever).

        This is the only call of a process of ours that blocks.
        """
        if self._unwatched:
            self._watch_the_unwatched()
            deadline = min(deadline, time.monotonic() + _SHORTAGE_PAUSE)
        try:
            ready = self._poller.poll(None if deadline == NEVER else _seconds_to(deadline))
        except OSError as error:
            self._fail(error)
            return []
        if not self._strikes.clean:
            self._strikes.success()
        sources: list[Source] = []
        known = self._sources
        for descriptor, _ in ready:
            if descriptor in known:
                source = known[descriptor]
                if descriptor in self._first:
                    sources.insert(0, source)
                else:
                    sources.append(source)
            elif descriptor == self._wakeup:
                self._drain_wakeup()
        return sources

    def _drain_wakeup(self) -> None:
        # The bytes only wake; which signals came stands in the set, which cannot overflow as the pipe can.
        try:
            os.read(self._wakeup, 65536)  # what is left, if ever, wakes once more
        except OSError:
            pass  # nothing there, or no memory for it: it wakes once more

    def _fail(self, error: OSError) -> None:
        if faults.of_wait(error.errno or 0) is faults.Remedy.GO_ON:
            return
        verdict = self._strikes.strike()
        pause = _FAILED_WAIT_PAUSE
        if verdict is Verdict.RESET:
            pause += self._strikes.pause()
            self._replace_poller()
        self.on_strike(error, verdict)
        # The poller is what failed, so that another call has to wait; a signal ends this one too.
        try:
            select.select([self._wakeup], [], [], pause)
        except (OSError, ValueError):
            time.sleep(_FAILED_WAIT_PAUSE)

    def _replace_poller(self) -> None:
        try:
            poller = self._new_poller()
        except OSError:
            return  # no descriptor is left for it: go on with the old one, which may be better than it seems
        if self._use_epoll:
            self._poller.close()  # type: ignore[attr-defined]
        self._poller = poller


def _seconds_to(deadline: float) -> float:
    """Seconds until the deadline, never negative, which poll would take for ever; poll itself rounds up."""
    left = deadline - time.monotonic()
    return min(left, _LONGEST_WAIT) if left > 0 else 0.0


class _PollInSeconds:
    """poll(2) with the time limit in seconds, as epoll objects take it."""

    def __init__(self) -> None:
        self._poll = select.poll()
        self.register = self._poll.register
        self.unregister = self._poll.unregister

    def poll(self, timeout: float | None = None, /) -> list[tuple[int, int]]:
        return self._poll.poll(None if timeout is None else timeout * 1000)
