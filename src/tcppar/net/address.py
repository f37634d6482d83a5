"""Addresses as users write them and as logs show them."""

import ipaddress
import os
import re
import socket

EXPECTED = (
    "expected IP:PORT, [IPv6]:PORT, :PORT or PORT (both families), unix:/PATH, unix:@NAME, or inherited[:NAME] "
    "(a listener passed by the service manager)"
)
_HIGHEST_PORT = 65535
_OF_IPV6 = re.compile(r"[0-9A-Fa-f:.\[\]]+(?:%.*)?")
# sockaddr_un has 108 bytes, the last of them for the NUL that ends the path (unix(7)).
_LONGEST_PATH = 107
# An abstract name has a NUL before it, and none behind it.
_LONGEST_NAME = len("@") + 107
# To all on this network (RFC 919, section 7). Those of other networks only the system knows.
_BROADCAST = ipaddress.IPv4Address("255.255.255.255")


class Address(str):
    """Where to listen: a text in canonical form, with its parts.

    Attributes:
        host: numeric IPv4 or IPv6 address, a link-local one with its interface (`fe80::1%eth0`); empty for both
            families, and for what is not TCP.
        port: 0 to 65535, 0 lets the system choose; 0 for what is not TCP.
        path: file name of a Unix socket, or `@` and its name where it is no file's; else empty.
        inherited: whether the listener comes from the service manager (sd_listen_fds(3)).
        name: the name (LISTEN_FDNAMES) that inherited listeners must have; empty takes them all.

    Raises:
        ValueError: the text is none of the forms; says what was expected.
    """

    __slots__ = ("host", "inherited", "name", "path", "port")

    host: str
    port: int
    path: str
    inherited: bool
    name: str

    def __new__(cls, text: object) -> "Address":
        if not isinstance(text, str):
            raise ValueError(f"{text!r} is not a string; {EXPECTED}")
        host, port, path, inherited, name = "", 0, "", False, ""
        if text.startswith("unix:"):
            path = text.removeprefix("unix:")
            if not path:
                raise ValueError(f"{text!r} has no path; {EXPECTED}")
            if "\0" in path:
                raise ValueError(f"{text!r} contains a NUL; {EXPECTED}")
            if path == "@":
                raise ValueError(f"{text!r} has no name; {EXPECTED}")
            if path.endswith("/") and not path.startswith("@"):
                raise ValueError(f"{text!r} ends with a slash: expected the path of a file")
            if len(os.fsencode(path)) > (_LONGEST_NAME if path.startswith("@") else _LONGEST_PATH):
                raise ValueError(f"{text!r} is too long: expected a path of at most {_LONGEST_PATH} bytes")
            canonical = text
        elif text == "inherited" or text.startswith("inherited:"):
            inherited, name = True, text.partition(":")[2]
            if ":" in name or text == "inherited:":
                # LISTEN_FDNAMES has a colon between names (sd_listen_fds(3)).
                raise ValueError(f"{text!r}: expected a name without colons; `inherited` alone takes all listeners")
            canonical = text
        else:
            host, port = _host_and_port(text)
            canonical = format_endpoint(host, port)
        self = super().__new__(cls, canonical)
        self.host, self.port, self.path, self.inherited, self.name = host, port, path, inherited, name
        return self

    @property
    def chosen_by_system(self) -> bool:
        """Whether the system chooses the port."""
        return self.port == 0 and not self.path and not self.inherited


def _host_and_port(text: str) -> tuple[str, int]:
    host, colon, port = text.rpartition(":")
    if not (port.isascii() and port.isdigit() and int(port) <= _HIGHEST_PORT):
        raise ValueError(f"{text!r} has no port between 0 and {_HIGHEST_PORT}; {EXPECTED}")
    if not colon or host in ("", "*"):
        return "", int(port)
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
    elif ":" in host and _OF_IPV6.fullmatch(host):
        raise ValueError(f"{text!r}: put an IPv6 address in brackets, as in [::1]:7000")
    try:
        ip = ipaddress.ip_address(host)
    except ValueError:
        raise ValueError(f"{text!r}: {host!r} is not a numeric address; {EXPECTED}") from None
    return _canonical(ip, text), int(port)


def _canonical(ip: ipaddress.IPv4Address | ipaddress.IPv6Address, text: str) -> str:
    """An address that the system would not listen on is refused here, for it says no more than EINVAL."""
    meant = getattr(ip, "ipv4_mapped", None) or ip
    if meant.is_multicast or meant == _BROADCAST:
        kind = "multicast" if meant.is_multicast else "broadcast"
        raise ValueError(f"{text!r}: {ip} is a {kind} address, to which nobody can connect")
    if isinstance(ip, ipaddress.IPv6Address):
        if ip.is_link_local and ip.scope_id is None:
            raise ValueError(f"{text!r}: a link-local address needs an interface, as in [{ip}%eth0]")
        if ip.scope_id is not None and not ip.is_link_local:
            raise ValueError(f"{text!r}: only a link-local address (fe80::/10) can have an interface (%)")
        ip = ip.ipv4_mapped or ip  # its clients are IPv4's, and shown as such
    return str(ip)


def split_zone(host: str) -> tuple[str, int | str]:
    """A numeric address and the number of its interface (RFC 4007, section 11); 0 where none is named, and the name
    itself where no interface has it.
    """
    host, _, zone = host.partition("%")
    if not zone:
        return host, 0
    by_name = {text: index for index, name in socket.if_nameindex() for text in (str(index), name)}
    return host, by_name.get(zone, zone)


def with_zone(name: tuple[str, int, int, int] | tuple[str, int]) -> str:
    """The numeric address in a socket's name, and its interface if it is of one."""
    if len(name) == 2 or not name[3]:
        return name[0]
    try:
        return f"{name[0]}%{socket.if_indextoname(name[3])}"
    except OSError:
        return f"{name[0]}%{name[3]}"  # the interface is gone


def format_endpoint(host: str, port: int) -> str:
    """`127.0.0.1:7000`, `[::1]:7000`, or `:7000` where the host is empty."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
