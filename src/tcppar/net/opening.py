"""Opening listening sockets, and telling why it could not be done."""

import errno
import os
import re
import socket
import sys
from dataclasses import dataclass, replace

from tcppar.errors import SystemRefused
from tcppar.net import unix_sockets
from tcppar.net.address import Address, split_zone
from tcppar.net.folders import Explained
from tcppar.net.platform import FREE_BIND
from tcppar.net.socket_rights import AS_MADE, Rights
from tcppar.net.unix_sockets import NoSocket
from tcppar.policy import faults
from tcppar.policy.faults import Remedy

_NUMBER = re.compile(r"[0-9]{1,6}")
_ANY_PORT = 9
_FIRST_INHERITED = 3  # SD_LISTEN_FDS_START, sd_listen_fds(3)


@dataclass(frozen=True, slots=True)
class ListenerOptions:
    """What a listener is opened with.

    Attributes:
        backlog: length of the kernel's queue; the system cuts it to its own maximum (net.core.somaxconn).
        keepalive, nodelay: SO_KEEPALIVE and TCP_NODELAY of its connections (tcp(7)).
        ipv6_only: IPV6_V6ONLY (ipv6(7)); if not, a listener on `::` takes IPv4 clients too.
        free_bind: IP_FREEBIND (ip(7)): the address may be one that this machine has not, or not yet.
        device: the network interface to which it is bound, SO_BINDTODEVICE (socket(7)); empty for all.
        rights: of a Unix socket's file.
    """

    backlog: int
    keepalive: bool = False
    nodelay: bool = False
    ipv6_only: bool = True
    free_bind: bool = False
    device: str = ""
    rights: Rights = AS_MADE


def set_options(sock: socket.socket, options: ListenerOptions) -> None:
    """Set the options that connections inherit from their listener."""
    sock.setblocking(False)
    if sock.family != socket.AF_UNIX:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, options.keepalive)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, options.nodelay)


def unbound(family: int, options: ListenerOptions) -> socket.socket:
    """A TCP socket on which everything is set that has to be set before it is bound.

    Raises:
        OSError: as setsockopt(2): ENODEV, there is no such interface; EPERM.
    """
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, options.ipv6_only)
        if (options.free_bind or options.device) and sys.platform != "linux":
            raise OSError(errno.EOPNOTSUPP, os.strerror(errno.EOPNOTSUPP))
        if options.free_bind:
            sock.setsockopt(*FREE_BIND[sock.family], 1)
        if options.device:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, options.device.encode() + b"\0")
        set_options(sock, options)
    except OSError:
        sock.close()
        raise
    return sock


def bind_tcp(host: str, port: int, options: ListenerOptions) -> socket.socket:
    """A listening TCP socket.

    Raises:
        OSError: as setsockopt(2), bind(2) and listen(2).
    """
    sock = _bound_tcp(host, port, options)
    try:
        sock.listen(options.backlog)
    except OSError:
        sock.close()
        raise
    return sock


def _name(host: str, port: int) -> tuple[str, int] | tuple[str, int, int, int]:
    """As bind(2) wants it: of a link-local address with the number of its interface, which Python would drop."""
    address, interface = split_zone(host)
    if isinstance(interface, str):
        raise OSError(errno.ENODEV, os.strerror(errno.ENODEV))
    return (address, port, 0, interface) if interface else (address, port)


def _bound_tcp(host: str, port: int, options: ListenerOptions, *, shared: bool = False) -> socket.socket:
    sock = unbound(socket.AF_INET6 if ":" in host else socket.AF_INET, options)
    try:
        if shared:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        sock.bind(_name(host, port))
        _refuse_broadcast(host)
    except OSError:
        sock.close()
        raise
    return sock


def _refuse_broadcast(host: str) -> None:
    """The system binds and listens there, but no client can connect. Which addresses these are depends on the masks of
    the interfaces; connect(2) says EACCES of a datagram socket that is not meant for them (ip(7)).
    """
    if ":" in host or host == "0.0.0.0":
        return
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect((host, _ANY_PORT))
        except PermissionError:
            told = "it is a broadcast address, to which nobody can connect"
            raise Explained(errno.EADDRNOTAVAIL, told) from None
        except OSError:
            pass  # of an address that comes later nothing is known


def bind_shared(address: Address, options: ListenerOptions) -> socket.socket:
    """A TCP socket that is bound with SO_REUSEPORT, and does not listen yet.

    Raises:
        SystemRefused: it cannot be had; says why.
    """
    try:
        return _bound_tcp(address.host, address.port, options, shared=True)
    except OSError as error:
        raise _refused(address, error, options) from error


def open_sockets(address: Address, options: ListenerOptions) -> list[socket.socket]:
    """Bind all sockets that an address stands for.

    Raises:
        SystemRefused: one of them cannot be opened; says why, and who has the port where it can be known.
    """
    sockets: list[socket.socket] = []
    try:
        if address.path:
            sockets.append(unix_sockets.bind(address.path, options.backlog, options.rights))
        elif address.host:
            sockets.append(bind_tcp(address.host, address.port, options))
        else:
            # One for each family, so that no peer is shown as ::ffff:192.0.2.1 to those who ask the socket.
            options = replace(options, ipv6_only=True)
            sockets.append(bind_tcp("0.0.0.0", address.port, options))
            port = sockets[0].getsockname()[1]
            if has_ipv6():
                sockets.append(bind_tcp("::", port, options))
    except OSError as error:
        for sock in sockets:
            sock.close()
        raise _refused(address, error, options) from error
    return sockets


def refusal(address: Address, options: ListenerOptions) -> str | None:
    """Why the system would not let anybody listen on an address, found out without doing it; None if it would.

    Whoever listens there now is none of the reasons: mostly it is the server that is to be reloaded.
    """
    try:
        if address.path:
            unix_sockets.refuse_if_unusable(address.path, options.rights)
        elif not address.inherited:
            # A port that needs a right is tried itself; with another one, somebody who begins there just now could be
            # disturbed.
            port = address.port if address.port < _lowest_free_port() else 0
            _bound_tcp(address.host or "0.0.0.0", port, options).close()
    except OSError as error:
        return None if error.errno == errno.EADDRINUSE else _reason(error, address, options)
    return None


def _lowest_free_port() -> int:
    """The first port that needs no right (ip_unprivileged_port_start, ip(7))."""
    try:
        with open("/proc/sys/net/ipv4/ip_unprivileged_port_start") as file:
            return int(file.read())
    except (OSError, ValueError):
        return 1024


def has_ipv6() -> bool:
    """Whether this machine has IPv6, which a bare port is listened on too then."""
    try:
        with socket.socket(socket.AF_INET6, socket.SOCK_STREAM) as probe:
            probe.bind(("::1", 0))
    except OSError as error:
        return faults.of_accept(error.errno or 0) is Remedy.BACK_OFF  # a shortage says nothing of it
    return True


def _refused(address: Address, error: OSError, options: ListenerOptions) -> SystemRefused:
    return SystemRefused(f"cannot listen on {address}: {_reason(error, address, options)}")


def _reason(error: OSError, address: Address, options: ListenerOptions) -> str:
    reason = faults.name(error.errno or 0)
    if isinstance(error, NoSocket):
        return str(error.strerror)
    if isinstance(error, Explained):
        return f"{reason}: {error.strerror}"
    if error.errno == errno.EADDRINUSE:
        holders = ["another server"] if address.path else _holders(address)
        return f"{reason}{': ' + ', '.join(holders) + ' listens there' if holders else ''}"
    if error.errno == errno.EACCES and 0 < address.port < (lowest := _lowest_free_port()):
        return f"{reason}: ports below {lowest} need root or CAP_NET_BIND_SERVICE"
    if error.errno == errno.ENODEV:
        return f"{reason}: no interface of this machine is called {options.device or address.host.partition('%')[2]}"
    if error.errno == errno.EADDRNOTAVAIL:
        return f"{reason}: no interface of this machine has that address (to listen on it anyway, set free_bind = true)"
    if error.errno == errno.EPERM and options.device:
        return f"{reason}: bind_to_device needs CAP_NET_RAW here"
    return reason


def _holders(address: Address) -> list[str]:
    """Which processes listen on the port, as far as we may see them."""
    if not address.port:
        return []
    import psutil  # only for this message: its megabyte is not the supervisor's to carry

    found: set[str] = set()
    try:
        for connection in psutil.net_connections("tcp"):
            port = connection.laddr.port if connection.laddr else 0
            if connection.status == psutil.CONN_LISTEN and port == address.port and connection.pid:
                found.add(f"{psutil.Process(connection.pid).name()} (pid {connection.pid})")
    except (psutil.Error, OSError):
        pass  # the message is still right without the name
    return sorted(found)


def take_inherited(address: Address) -> list[socket.socket]:
    """The listeners that the service manager passed (sd_listen_fds(3)), or those of them with the wanted name.

    Raises:
        SystemRefused: it passed none such, or one that is no listening stream socket.
    """
    names = os.environ.get("LISTEN_FDNAMES", "").split(":")
    sockets = []
    for index in range(_number_passed(address)):
        name = names[index] if index < len(names) else ""
        if address.name in ("", name):
            sockets.append(_adopt(_FIRST_INHERITED + index, address))
    if not sockets:
        raise SystemRefused(
            f"cannot listen on {address}: the service manager did not pass such a listener (LISTEN_FDS)"
        )
    return sockets


def take_over_from(keeper: int) -> None:
    """What the service manager has passed to this process's keeper is meant for this process."""
    if os.environ.get("LISTEN_PID") == str(keeper):
        os.environ["LISTEN_PID"] = str(os.getpid())


def _number_passed(address: Address) -> int:
    """How many descriptors the service manager passed to this process."""
    if os.environ.get("LISTEN_PID") != str(os.getpid()):
        return 0
    text = os.environ.get("LISTEN_FDS", "0")
    if not _NUMBER.fullmatch(text):
        raise SystemRefused(f"cannot listen on {address}: LISTEN_FDS={text!r}: expected a number below a million")
    return int(text)


_TCP = {socket.IPPROTO_TCP, getattr(socket, "IPPROTO_MPTCP", socket.IPPROTO_TCP)}


def _adopt(descriptor: int, address: Address) -> socket.socket:
    where = f"cannot listen on {address}: descriptor {descriptor}"
    try:
        os.set_inheritable(descriptor, False)
        # A duplicate, so that the number stays what the service manager made of it after a reload.
        sock = socket.socket(fileno=os.dup(descriptor))
        mistake = _unfit(sock)
    except OSError as error:
        raise SystemRefused(f"{where}: {error.strerror}") from error
    if mistake is not None:
        sock.close()
        raise SystemRefused(f"{where} {mistake}: expected a listening TCP or Unix socket")
    sock.setblocking(False)
    return sock


def _unfit(sock: socket.socket) -> str | None:
    """Why a socket cannot be served; None if it can."""
    family = getattr(sock.family, "name", f"number {sock.family}")
    if sock.family not in (socket.AF_INET, socket.AF_INET6, socket.AF_UNIX):
        return f"has the address family {family}"
    if sock.type != socket.SOCK_STREAM or not sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
        return "is not a listening stream socket"
    if sock.family != socket.AF_UNIX and sock.proto not in _TCP:
        return f"has the protocol {sock.proto}, not TCP"
    return None
