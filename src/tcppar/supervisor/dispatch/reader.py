"""Reading what a spawner or a worker reports. Nothing that a hostile one sends makes the server wait or spin."""

from typing import Protocol

from tcppar.net.channel import Channel, ChannelClosed, NotAFrame
from tcppar.policy import faults
from tcppar.policy.faults import Remedy
from tcppar.records import Report
from tcppar.supervisor.core import Core

# The rest of a frame comes as soon as there is room for it: who has sent a part alone for so long sends no frames. A
# large one, which tells of thousands of files, takes many turns of both sides, each of which may wait for a processor.
_LONGEST_PART = 1.0
_SLOWEST_PART = 1 << 18
# With books, what has come in part stays to be read, and would end every wait at once.
_PART_PAUSE = 0.01
_SHORTAGE_PAUSE = 0.05
# A dead one's last words are read in spite of so many failures; and no more of them than a socket's buffer can hold:
# a process that it left behind may go on to write.
_MOST_FAILURES = 8
_MOST_READS = 64


class Reporter(Protocol):
    """Whose reports they are."""

    def fileno(self) -> int: ...
    def on_ready(self) -> None: ...
    def take(self, batches: list[list[Report]]) -> str | None:
        """Act upon reports; what is wrong with them if one cannot be so."""

    def give_up(self, reason: str) -> None: ...
    def lose_channel(self, *, unread: bool = True) -> None: ...


class Reader:
    """Of one channel."""

    def __init__(self, reporter: Reporter, core: Core, channel: Channel[list[Report]]) -> None:
        self._reporter = reporter
        self._core = core
        self._channel = channel
        self._muted = False
        self._resting = False
        self._closed = False
        self._part_since: float | None = None
        self._failures = 0

    def read(self) -> bool:
        """Read what is there; whether there was anything.

        For the sake of a next supervisor, it is let go of only when what it led to is written (`Core.unsettled`).
        """
        try:
            batches = self._receive()
        except BlockingIOError:
            return False
        except NotAFrame as error:
            return self._misbehaved(str(error))
        except (ChannelClosed, ConnectionResetError) as error:
            self._reporter.lose_channel(unread=isinstance(error, ConnectionResetError))
            return False
        except OSError as error:
            return self._receive_failed(error)
        self._failures = 0
        if not self._muted and (mistake := self._reporter.take(batches)) is not None:
            self._misbehaved(mistake)
            return True
        if self._channel.is_in_part or self._part_since is not None:
            self._on_part(came=bool(batches))
        return True

    def _receive(self) -> list[list[Report]]:
        if not self._core.books.are_kept:
            return self._channel.receive()
        self._channel.forget()
        self._core.unsettled.append(self._channel)
        return self._channel.look()

    def _misbehaved(self, what: str) -> bool:
        """It says what cannot be so. From now on its words are read and mean nothing, until it has ended: how its
        channel ends tells whether it has read its last offer.
        """
        if self._muted:
            # Not even frames: nothing is to be known from it.
            self._reporter.lose_channel()
        else:
            self._muted = True
            self._reporter.give_up(what)
        return False

    def _receive_failed(self, error: OSError) -> bool:
        """A shortage passes; anything else is the end of the channel."""
        self._failures += 1
        number = error.errno or 0
        if faults.of_spawn(number) is not Remedy.BACK_OFF:
            self._reporter.lose_channel()
        else:
            self._core.fault(("receive", number), "recv", number, "tried again until it succeeds")
            self._rest(_SHORTAGE_PAUSE)
        return False

    def _on_part(self, *, came: bool) -> None:
        """A part of a frame is there, or was: the rest must follow soon."""
        if not self._channel.is_in_part:
            self._part_since = None
        elif self._part_since is None or came:
            self._part_since = self._core.now
            self._rest(_PART_PAUSE)
        elif self._core.now - self._part_since > _LONGEST_PART + self._channel.part_size / _SLOWEST_PART:
            self._misbehaved("it sent only part of a report")
        else:
            self._rest(_PART_PAUSE)

    def _rest(self, seconds: float) -> None:
        """Do not read for a while."""
        if not self._resting and not self._closed:
            self._resting = True
            self._core.waiter.unregister(self._reporter)
            self._core.timers.at(self._core.later(seconds), self._wake)

    def _wake(self) -> None:
        if self._closed:
            return
        self._resting = False
        try:
            self._core.waiter.register(self._reporter)
        except OSError:
            self._rest(_SHORTAGE_PAUSE)  # no memory to watch it with
            return
        if self._part_since is not None and not self.read() and self._channel.is_in_part:
            self._on_part(came=False)

    def read_to_the_end(self) -> None:
        """It is dead: read what it still had to say. The end of the stream may never come: a process that it left
        behind may have a duplicate of its end.
        """
        for _ in range(_MOST_READS):
            if self._closed or not (self.read() or 0 < self._failures < _MOST_FAILURES):
                break

    def close(self) -> None:
        """Read no more."""
        self._closed = True
        if not self._resting:
            self._core.waiter.unregister(self._reporter)
