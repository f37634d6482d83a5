"""One spawner as the supervisor sees it: its process, its channel, and the connections it holds."""

import errno
import os
import signal
import sys
from collections import deque
from enum import Enum
from typing import TYPE_CHECKING, Protocol

import msgspec

import tcppar
from tcppar.net import channel as channels
from tcppar.net.channel import Channel, ChannelClosed
from tcppar.records import CHANNEL_DESCRIPTOR, ChildPlan, Deliver, Offer, Order, Report, Retire
from tcppar.supervisor.table import Connection

if TYPE_CHECKING:
    from tcppar.supervisor.core import Core


class SpawnerState(Enum):
    """The life of a spawner."""

    STARTING = "entering its user and limits"
    READY = "takes offers"
    RETIRING = "gets no more offers, ends with its last child"
    LOST = "its channel is closed"


class SpawnerOwner(Protocol):
    """Whoever answers for a spawner."""

    def on_report(self, spawner: "SpawnerProcess", report: Report) -> None: ...
    def on_channel_closed(self, spawner: "SpawnerProcess") -> None: ...


# Offers that a spawner may have in hand: enough that it never waits for the supervisor, few enough that another,
# idle spawner does not wait for this one.
MOST_OFFERS = 6

# It reads again when it has made the child it is at: some milliseconds at the most.
_FULL_CHANNEL_PAUSE = 0.005

_decoder = msgspec.msgpack.Decoder(list[Report])


class SpawnerProcess:
    """A running spawner.

    Attributes:
        offered: connections it was asked to take, by number, not answered yet.
        children: connections whose child it has made, by number.
    """

    def __init__(self, owner: SpawnerOwner, core: "Core", plan: ChildPlan, stderr: int) -> None:
        """Start it.

        Args:
            stderr: the descriptor that becomes its descriptor 2, and so its children's.

        Raises:
            OSError: no process or no descriptor is left.
        """
        self._owner = owner
        self._core = core
        self.state = SpawnerState.STARTING
        self.offered: dict[int, Connection] = {}
        self.children: dict[int, Connection] = {}
        ours, its = channels.pair()
        try:
            self.pid = _start(its.fileno(), stderr)
        except OSError:
            ours.close()
            raise
        finally:
            its.close()
        self._channel: Channel[list[Report]] = Channel(ours, _decoder)
        self._outbox: deque[Order] = deque()
        self.fileno = ours.fileno
        # The plan may be larger than the channel's buffer: this once we wait until the spawner reads it.
        self._channel.send(plan)
        ours.setblocking(False)
        core.waiter.register(self)

    def offer(self, connection: Connection) -> None:
        """Ask it to take a connection.

        Raises:
            OSError: it could not be asked; the connection is still the caller's.
        """
        assert connection.descriptor is not None
        try:
            self._channel.send(
                Offer(connection.number, connection.accepted.endpoints, connection.accepted.credentials),
                connection.descriptor,
            )
        except ChannelClosed as error:
            raise BrokenPipeError(errno.EPIPE, str(error)) from error
        self.offered[connection.number] = connection
        connection.holder = self

    def deliver(self, connection: Connection, number: signal.Signals) -> None:
        """Let it send a signal to the process group of one of its children."""
        self._post(Deliver(connection.number, number))

    def _post(self, order: Order) -> None:
        """Send an order that must not be lost: in its turn, as soon as there is room."""
        self._outbox.append(order)
        if len(self._outbox) == 1:
            self._empty_outbox()

    def _empty_outbox(self) -> None:
        while self._outbox and self.state is not SpawnerState.LOST:
            try:
                self._channel.send(self._outbox[0])
            except BlockingIOError:
                self._core.timers.at(self._core.later(_FULL_CHANNEL_PAUSE), self._empty_outbox)
                return
            except (ChannelClosed, OSError):
                return  # it is gone; its children are orphans when it is reaped, and signalled then
            self._outbox.popleft()

    def on_ready(self) -> None:
        """Read what it reports."""
        try:
            batches = self._channel.receive()
        except BlockingIOError:
            return
        except (ChannelClosed, OSError):
            self.lose_channel()
            return
        on_report = self._owner.on_report
        for batch in batches:
            for report in batch:
                on_report(self, report)

    def read_to_the_end(self) -> None:
        """It is dead: read what it still had to say."""
        while self.state is not SpawnerState.LOST:
            self.on_ready()

    def retire(self) -> None:
        """Give it no more offers; it ends when its last child has."""
        if self.state in (SpawnerState.STARTING, SpawnerState.READY):
            self.state = SpawnerState.RETIRING
            self._post(Retire())

    def lose_channel(self) -> None:
        """Its end of the channel is closed: it ends, or has ended."""
        if self.state is not SpawnerState.LOST:
            self._core.waiter.unregister(self)
            self._channel.close()
            retired = self.state is SpawnerState.RETIRING
            self.state = SpawnerState.LOST
            if not retired:
                self._owner.on_channel_closed(self)

    def kill(self) -> None:
        """End it at once. Only before it is reaped, so that the number cannot be another's."""
        os.kill(self.pid, signal.SIGKILL)


# Isolated (-I), without the site packages' start-up costs (-S): only the two folders that a spawner needs.
_BOOTSTRAP = "import sys; sys.path[:0] = sys.argv[1:]; from tcppar.spawner.loop import main; main()"
_FOLDERS = [os.path.dirname(package) for package in (*tcppar.__path__, *msgspec.__path__)]


def _start(channel: int, stderr: int) -> int:
    """Start a lean interpreter with its end of the channel and its log; its process id."""
    return os.posix_spawn(
        sys.executable,
        [sys.executable, "-I", "-S", "-c", _BOOTSTRAP, *_FOLDERS],
        os.environ,
        file_actions=(
            (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
            (os.POSIX_SPAWN_OPEN, 1, os.devnull, os.O_WRONLY, 0),
            (os.POSIX_SPAWN_DUP2, stderr, 2),
            (os.POSIX_SPAWN_DUP2, channel, CHANNEL_DESCRIPTOR),
        ),
        # Its own group: an interrupt typed at the terminal is for the supervisor alone.
        setpgroup=0,
        setsigdef=signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP},
        setsigmask=(),
    )
