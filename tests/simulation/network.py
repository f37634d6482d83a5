"""Clients, the queues they wait in, and the listeners of the simulated system."""

import errno
import os
from collections import deque
from enum import Enum
from typing import TYPE_CHECKING

from tcppar.errors import SystemRefused
from tcppar.net.address import Address
from tcppar.net.listener import Accepted
from tcppar.net.opening import ListenerOptions
from tcppar.net.platform import Features
from tcppar.records import Endpoints, Family
from tcppar.supervisor.intake.acceptor import HANDSHAKE_GRACE
from tests.simulation.faults import Call
from tests.simulation.kernel import Kernel, OpenFile

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.simulation.processes import Child, Worker

_CLIENTS_IP = "192.0.2.1"
_FIRST_CLIENT_PORT = 20_000
# A client whose first packet is dropped sends it again after so long (RFC 6298).
_RETRY = 1.0


class Fate(Enum):
    """Where a client is: always in one place."""

    TRYING = "its first packet was dropped, and it will send it again"
    QUEUED = "in a listener's queue, and believes to be connected"
    CONNECTED = "accepted, and somebody has a descriptor of it"
    CLOSED = "the last descriptor of it is closed"
    TURNED_AWAY = "nobody listened when it came: it was never let in"
    LOST = "it was in a queue, and that was closed"


class Client:
    """One client.

    Attributes:
        listener: whose queue it came into, if it was let in.
        has_left: whether it has gone by a reset.
        servers: the processes that have begun to serve it.
        inode: of its connection, when it was accepted.
    """

    def __init__(self, place: str, number: int) -> None:
        self.place = place
        self.port = _FIRST_CLIENT_PORT + number
        self.fate = Fate.TRYING
        self.tries_at = 0.0
        self.listener: ListeningSocket | None = None
        self.has_left = False
        self.servers: list[Child | Worker] = []
        self.inode: int | None = None

    def __repr__(self) -> str:
        return f"<client {self.port} of {self.place}: {self.fate.name}, served by {[p.pid for p in self.servers]}>"


class Connection(OpenFile):
    """An accepted connection.

    Attributes:
        is_shut: whether the end of the stream was sent.
    """

    def __init__(self, client: Client) -> None:
        super().__init__()
        self.client = client
        self.client.inode = self.inode
        self.is_shut = False

    @property
    def readable(self) -> bool:
        """Some clients close as soon as the end of the stream has come to them, and others never do."""
        return self.client.has_left or (self.is_shut and self.client.port % 2 == 0)

    @property
    def peer(self) -> tuple[str, int]:
        """Who is at its other end.

        Raises:
            OSError: nobody any more.
        """
        if self.client.has_left:
            raise OSError(errno.ENOTCONN, os.strerror(errno.ENOTCONN))
        return _CLIENTS_IP, self.client.port

    def released(self) -> None:
        self.client.fate = Fate.CLOSED


class ListeningSocket(OpenFile):
    """A listener and its queue.

    Attributes:
        left_at: since when new clients go elsewhere or are dropped; None while they come here.
    """

    def __init__(self, network: "Network", place: str) -> None:
        super().__init__()
        self._network = network
        self.place = place
        self.queue: deque[Client] = deque()
        self.left_at: float | None = None
        self.drops = False
        network.listening.append(self)

    @property
    def readable(self) -> bool:
        return bool(self.queue)

    def released(self) -> None:
        self._network.listening.remove(self)
        self._network.closed.append(self)
        for client in self.queue:
            client.fate = Fate.LOST

    def let_in(self, client: Client) -> None:
        """A handshake is complete."""
        client.fate = Fate.QUEUED
        client.listener = self
        self.queue.append(client)


class Network:
    """All clients and all listeners."""

    def __init__(self, kernel: Kernel) -> None:
        self._kernel = kernel
        self.clients: list[Client] = []
        self.listening: list[ListeningSocket] = []
        self.closed: list[ListeningSocket] = []

    def at(self, place: str) -> list[ListeningSocket]:
        """The listeners of a place, the newest last."""
        return [listener for listener in self.listening if listener.place == place]

    def connect(self, place: str) -> Client:
        """A new client comes."""
        client = Client(place, len(self.clients))
        self.clients.append(client)
        self._try(client)
        return client

    def connect_late(self, which: int) -> None:
        """A client comes whose handshake began when new clients still came to a listener that they do not come to now.

        If that is closed already, the client is lost.
        """
        left = [listener for listener in (*self.listening, *self.closed) if self._can_have_begun(listener)]
        if left:
            listener = left[which % len(left)]
            client = Client(listener.place, len(self.clients))
            self.clients.append(client)
            listener.let_in(client)
            if listener in self.closed:
                client.fate = Fate.LOST

    def _can_have_begun(self, listener: ListeningSocket) -> bool:
        return listener.left_at is not None and self._kernel.now - listener.left_at < HANDSHAKE_GRACE

    def _try(self, client: Client) -> None:
        here = [listener for listener in self.at(client.place) if listener.left_at is None]
        if here:
            here[-1].let_in(client)
        elif any(listener.drops for listener in self.at(client.place)):
            client.tries_at = self._kernel.now + _RETRY
        else:
            client.fate = Fate.TURNED_AWAY

    def _trying(self) -> "Iterator[Client]":
        return (client for client in self.clients if client.fate is Fate.TRYING)

    @property
    def next_try_at(self) -> float:
        """When a client sends its first packet again."""
        return min((client.tries_at for client in self._trying()), default=float("inf"))

    def try_again(self) -> None:
        """Let those try whose time has come."""
        for client in list(self._trying()):
            if client.tries_at <= self._kernel.now:
                self._try(client)


class SimulatedListener:
    """In the place of `tcppar.net.listener.Listener`; TCP, with a fixed port."""

    inherited = False
    both_families = False
    device = ""

    def __init__(self, network: Network, kernel: Kernel, descriptor: int, address: Address, features: Features) -> None:
        self._network = network
        self._kernel = kernel
        self._descriptor = descriptor
        self._features = features
        self.address = address

    @classmethod
    def opened(cls, network: Network, kernel: Kernel, address: Address, features: Features) -> "SimulatedListener":
        kernel.tick()
        kernel.faults.meet(Call.OPEN)
        return cls(network, kernel, kernel.open(ListeningSocket(network, str(address))), address, features)

    @property
    def _socket(self) -> ListeningSocket:
        self._kernel.tick()
        file = self._kernel.file(self._descriptor)
        assert isinstance(file, ListeningSocket)
        return file

    def __str__(self) -> str:
        return str(self.address)

    def fileno(self) -> int:
        return self._descriptor

    def accept(self) -> Accepted:
        listener = self._socket
        self._kernel.faults.meet(Call.ACCEPT)
        if not listener.queue:
            raise BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN))
        client = listener.queue.popleft()
        client.fate = Fate.CONNECTED
        descriptor = self._kernel.open(Connection(client))
        self._kernel.tick()
        return Accepted(descriptor, endpoints(client, self.address))

    def is_empty(self) -> bool:
        return not self._socket.queue

    def accepted_before(self, descriptor: int) -> Accepted | None:
        file = self._kernel.file(descriptor)
        if not isinstance(file, Connection) or file.client.place != str(self.address) or file.client.has_left:
            return None
        return Accepted(descriptor, endpoints(file.client, self.address))

    def apply(self, options: ListenerOptions) -> None:
        self._kernel.tick()

    def rename(self, address: Address) -> bool:
        return False

    def is_in_order(self, options: ListenerOptions) -> bool:
        return True

    @property
    def has_file(self) -> bool:
        return False

    def open_beside(self, options: ListenerOptions) -> "SimulatedListener | None":
        if not self._features.steering:
            return None
        new = self.opened(self._network, self._kernel, self.address, self._features)
        self._socket.left_at = self._kernel.now
        return new

    def open_again(self, options: ListenerOptions) -> "SimulatedListener":
        self.close()
        return self.opened(self._network, self._kernel, self.address, self._features)

    def stand_alone(self) -> None:
        others = [listener for listener in self._network.at(str(self.address)) if listener is not self._socket]
        assert not others, "it is to be alone, and there are others"

    def turn_away(self) -> None:
        listener = self._socket
        self._kernel.faults.meet(Call.TURN_AWAY)
        if self._features.turning_away:
            listener.drops = True
            if listener.left_at is None:
                listener.left_at = self._kernel.now

    def close(self) -> None:
        if self._descriptor >= 0:
            descriptor, self._descriptor = self._descriptor, -1
            self._kernel.tick()
            self._kernel.close(descriptor)


def endpoints(client: Client, address: Address) -> Endpoints:
    """Both ends of a client's connection."""
    return Endpoints(Family.IPV4, _CLIENTS_IP, client.port, address.host, address.port)


def open_listeners(network: Network, kernel: Kernel, address: Address, features: Features) -> list[SimulatedListener]:
    """In the place of `tcppar.net.listener.open_listeners`."""
    if network.at(str(address)):
        raise SystemRefused(f"cannot listen on {address}: in use")
    try:
        return [SimulatedListener.opened(network, kernel, address, features)]
    except OSError as error:
        raise SystemRefused(f"cannot listen on {address}: {error.strerror}") from error
