"""A listening socket: accepting, resetting without a loss, and closing without one."""

import os
import select
import socket
import struct
from collections.abc import Sequence
from dataclasses import replace

from msgspec import Struct

from tcppar.errors import SystemRefused
from tcppar.net import calls, opening, steering, unix_sockets
from tcppar.net.address import Address, format_endpoint, with_zone
from tcppar.net.opening import ListenerOptions
from tcppar.net.platform import Features, socket_of
from tcppar.policy import faults
from tcppar.records import Endpoints, Family, PeerCredentials

_FAMILIES = {socket.AF_INET: Family.IPV4, socket.AF_INET6: Family.IPV6, socket.AF_UNIX: Family.UNIX}
_CREDENTIALS = struct.Struct("3i")
_MAPPED = "::ffff:"
_LONGEST_DEVICE = 16  # IFNAMSIZ, with its end (netdevice(7))


class Accepted(Struct, frozen=True, gc=False):
    """A connection just accepted.

    Attributes:
        descriptor: blocking, closed on exec; the caller owns it.
        queued: seconds in the kernel's queue; None where the system does not tell.
        credentials: who is at the other end of a Unix socket.
    """

    descriptor: int
    endpoints: Endpoints
    queued: float | None = None
    credentials: PeerCredentials | None = None


class Listener:
    """One listening socket.

    Args:
        sock: bound and listening, non-blocking, closed on exec.
        address: what the user asked for; two listeners may come from one address.
        inherited: the service manager opened it, and keeps it open beyond our end.
        name: its host and port, or its path and 0; None: the system is asked.

    Attributes:
        both_families: IPv4 clients come to it too, though it is of IPv6. They are told as what they are.
        device: the network interface that it is bound to; empty for all.
    """

    def __init__(
        self,
        sock: socket.socket,
        address: Address,
        features: Features,
        *,
        inherited: bool = False,
        name: tuple[str, int] | None = None,
    ) -> None:
        self._socket = sock
        self._features = features
        self.address = address
        self.inherited = inherited
        self.family = _FAMILIES[sock.family]
        self.fileno = sock.fileno
        self._calls = calls.of(features)
        self._kind = (sock.family, sock.type, sock.proto)
        self._host, self._port = name or self._local_name()
        self.device = _device_of(sock)
        self.both_families = self.family is Family.IPV6 and not sock.getsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY)
        self._shares_port = False
        # Of a listener on all addresses each connection has one of its own.
        self._asks_for_host = self._host in ("0.0.0.0", "::")
        self._in_a_file = self.family is Family.UNIX and not unix_sockets.is_abstract(self._host)
        self._file = unix_sockets.identity(self._host) if self._in_a_file else None

    def _local_name(self) -> tuple[str, int]:
        name = self._socket.getsockname()
        if self.family is Family.UNIX:
            # The system goes on telling the name under which it was bound, before it was put in its place.
            return self.address.path or path_text(name), 0
        return with_zone(name), name[1]

    def __str__(self) -> str:
        return f"unix:{self._host}" if self.family is Family.UNIX else format_endpoint(self._host, self._port)

    def accept(self) -> Accepted:
        """Accept one connection.

        Raises:
            OSError: as accept(2); faults.of_accept sorts them.
        """
        if self.family is Family.UNIX:
            accepted = self._of_unix(*self._socket._accept())  # type: ignore[attr-defined]
        else:
            accepted = self._of_tcp(*self._calls.accept(self._socket, self._asks_for_host, self._features.tcp_info))
        if not self._features.inherited_options:
            os.set_blocking(accepted.descriptor, True)
        return accepted

    def is_empty(self) -> bool:
        """Whether nobody is in its queue."""
        poll = select.poll()
        poll.register(self._socket, select.POLLIN)
        return not poll.poll(0)

    def accepted_before(self, descriptor: int) -> Accepted | None:
        """A connection that another process accepted from this listener and left; None if it is none, or is gone."""
        try:
            with socket_of(descriptor) as duplicate:
                kind = (duplicate.family, duplicate.type, duplicate.proto)
                peer, own = duplicate.getpeername(), duplicate.getsockname()
        except OSError:
            return None
        if kind != self._kind:
            return None
        if self.family is Family.UNIX:
            return self._of_unix(descriptor, peer) if own == self._socket.getsockname() else None
        if own[1] != self._port or self._host not in (with_zone(own), "0.0.0.0", "::"):
            return None
        told = self._calls.look(descriptor, self._asks_for_host, self._features.tcp_info)
        return self._of_tcp(descriptor, peer[0], peer[1], *told)

    def _of_tcp(self, descriptor: int, peer: str, port: int, host: str | None, queued: float | None) -> Accepted:
        family, local = self.family, host or self._host
        if self.both_families and peer.startswith(_MAPPED) and "." in peer:
            # An IPv4 client (RFC 4291, 2.5.5.2): programs and logs are to know it by the address that everybody knows.
            family, peer, local = Family.IPV4, peer.removeprefix(_MAPPED), local.removeprefix(_MAPPED)
        return Accepted(descriptor, Endpoints(family, peer, port, local, self._port), queued)

    def _of_unix(self, descriptor: int, peer: object) -> Accepted:
        endpoints = Endpoints(Family.UNIX, path_text(peer), 0, self._host, 0)
        return Accepted(descriptor, endpoints, None, self._credentials(descriptor))

    def _credentials(self, descriptor: int) -> PeerCredentials | None:
        if not hasattr(socket, "SO_PEERCRED"):
            return None
        view = socket.SocketType(*self._kind, descriptor)
        option = view.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
        view.detach()
        return PeerCredentials(*_CREDENTIALS.unpack(option))

    def apply(self, options: ListenerOptions) -> None:
        """Give new options to a listener that is open; queued connections are not touched (listen(2))."""
        opening.set_options(self._socket, options)
        self._socket.listen(options.backlog)

    def open_beside(self, options: ListenerOptions) -> "Listener | None":
        """Reset: a new listener for the same address, to which all new clients come from now on.

        This one keeps its queue: the caller accepts it to its end, once handshakes under way have had time to
        finish, and then closes it. None where that cannot be done: see `open_again`.

        Raises:
            OSError: the new listener cannot be opened; this one is as it was.
        """
        if self.family is Family.UNIX:
            if unix_sockets.is_abstract(self._host):
                return None  # of such a name there is one at a time
            return self._renewed(unix_sockets.replace(self._host, options.backlog, options.rights, self._file))
        if not self._features.steering:
            return None
        return self._renewed(steering.bind_beside(self._socket, self._as_bound(options)))

    def _as_bound(self, options: ListenerOptions) -> ListenerOptions:
        # Of the two listeners of a bare port, none takes both families, whatever the setting says.
        return replace(options, ipv6_only=not self.both_families)

    def open_again(self, options: ListenerOptions) -> "Listener":
        """Reset where nothing better exists: close, then open. Clients that come in between are refused.

        Raises:
            OSError: it cannot be opened again; this one is closed.
        """
        self._socket.close()
        if self.family is Family.UNIX:
            return self._renewed(unix_sockets.bind(self._host, options.backlog, options.rights))
        return self._renewed(opening.bind_tcp(self._host, self._port, self._as_bound(options)))

    def is_in_order(self, options: ListenerOptions) -> bool:
        """Whether it is as it should be for those who look for it: false for a Unix socket whose file was removed, or
        has other rights than are wanted. A reset mends that.
        """
        if self.inherited or not self._in_a_file:
            return True
        return unix_sockets.is_in_order(self._host, self._file, options.rights)

    @property
    def has_file(self) -> bool:
        """Whether it is a Unix socket that we have put in its place, where clients find it by its file."""
        return self._file is not None and not self.inherited

    def is_at(self, path: str) -> bool:
        """Whether a path leads to its file."""
        return self.has_file and unix_sockets.identity(path) == self._file

    @property
    def has_lost_file(self) -> bool:
        """Whether nothing is there any more."""
        return unix_sockets.is_gone(self._host)

    def rename(self, address: Address) -> bool:
        """Name a Unix socket by another path to its file: the former one may soon lead nowhere.

        Returns:
            Whether it had another name.
        """
        if self.inherited or not self._in_a_file or address == self.address:
            return False
        self.address, self._host = address, address.path
        return True

    def _renewed(self, sock: socket.socket) -> "Listener":
        # New clients may be queued already: nothing that can fail comes between.
        return Listener(sock, self.address, self._features, name=(self._host, self._port))

    def stand_alone(self) -> None:
        """After a reset, when the old listener is closed: no other process may be bound beside this one."""
        if self.family is not Family.UNIX and (self._features.steering or self._shares_port):
            steering.exclude_others(self._socket)
            self._shares_port = False

    def share_port(self) -> None:
        """Until it stands alone again, others of this process may be bound to its port.

        Raises:
            OSError: as setsockopt(2).
        """
        self._shares_port = True
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)

    def turn_away(self) -> None:
        """Before a planned end: let no new client in. What is queued can still be accepted.

        A listener of the service manager's stays as it is: the manager goes on queueing for the next start.
        """
        if self.inherited:
            return
        if self._in_a_file:
            unix_sockets.remove(self._host, self._file)
        elif self.family is not Family.UNIX and self._features.turning_away:
            steering.ignore_new_clients(self._socket)

    def close(self) -> None:
        """Close it; the system refuses what is still queued."""
        self._socket.close()


def path_text(name: object) -> str:
    """A Unix socket's name as text that can stand anywhere: zero bytes become @, as in ss(8), odd bytes escapes."""
    raw = os.fsencode(name) if isinstance(name, str) else name if isinstance(name, bytes) else b""
    return raw.replace(b"\0", b"@").decode(errors="backslashreplace")


def _device_of(sock: socket.socket) -> str:
    if sock.family == socket.AF_UNIX or not hasattr(socket, "SO_BINDTODEVICE"):
        return ""
    return sock.getsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, _LONGEST_DEVICE).rstrip(b"\0").decode()


def taken_up(descriptor: int, address: Address, features: Features, *, inherited: bool) -> Listener:
    """A listener that another process, or program, has opened and handed on."""
    return Listener(socket.socket(fileno=descriptor), address, features, inherited=inherited)


def open_among(address: Address, options: ListenerOptions, features: Features, others: Sequence[Listener]) -> Listener:
    """A listener whose address overlaps with those of others that are open. It listens as soon as options are applied
    to it. When the others are closed, or if it is closed itself, those who are left are to stand alone.

    For that the system wants SO_REUSEPORT on all of them, and one user who has bound them. It is on from here until
    they stand alone: see `steering`. Clients come to whoever listens and is bound most exactly.

    Args:
        address: of TCP, with a host.

    Raises:
        SystemRefused: it cannot be had.
    """
    try:
        for other in others:
            other.share_port()
    except OSError as error:
        raise SystemRefused(f"cannot listen on {address} beside others: {faults.name(error.errno or 0)}") from error
    listener = Listener(opening.bind_shared(address, options), address, features)
    listener.share_port()
    return listener


def open_listeners(address: Address, options: ListenerOptions, features: Features) -> list[Listener]:
    """Open every listener that an address stands for: two for a bare port, else one.

    Raises:
        SystemRefused: one of them cannot be opened, or the service manager passed none such; none is open then.
    """
    inherited = address.inherited
    sockets = opening.take_inherited(address) if inherited else opening.open_sockets(address, options)
    return [Listener(sock, address, features, inherited=inherited) for sock in sockets]
