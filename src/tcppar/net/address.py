"""Addresses as users write them and as logs show them."""

import ipaddress
import os

EXPECTED = (
    "expected IP:PORT, [IPv6]:PORT, :PORT or PORT (both families), unix:/PATH, or inherited[:NAME] "
    "(a listener of the service manager's)"
)
_HIGHEST_PORT = 65535
# sockaddr_un has 108 bytes, the last of them for the NUL that ends the path (unix(7)).
_LONGEST_PATH = 107


class Address(str):
    """Where to listen: a text in canonical form, with its parts.

    Attributes:
        host: numeric IPv4 or IPv6 address; empty for both families, and for what is not TCP.
        port: 0 to 65535, 0 lets the system choose; 0 for what is not TCP.
        path: file name of a Unix socket, else empty.
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
            raise ValueError(f"{text!r} is no text; {EXPECTED}")
        host, port, path, inherited, name = "", 0, "", False, ""
        if text.startswith("unix:"):
            path = text.removeprefix("unix:")
            if not path:
                raise ValueError(f"{text!r} has no path; {EXPECTED}")
            if "\0" in path:
                raise ValueError(f"{text!r} has a NUL in it; {EXPECTED}")
            if len(os.fsencode(path)) > _LONGEST_PATH:
                raise ValueError(f"{text!r} is too long: expected a path of at most {_LONGEST_PATH} bytes")
            canonical = text
        elif text == "inherited" or text.startswith("inherited:"):
            inherited, name = True, text.partition(":")[2]
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
    elif ":" in host:
        raise ValueError(f"{text!r}: put an IPv6 address in brackets, as in [::1]:7000")
    try:
        return str(ipaddress.ip_address(host)), int(port)
    except ValueError:
        raise ValueError(f"{text!r}: {host!r} is not a numeric address; {EXPECTED}") from None


def format_endpoint(host: str, port: int) -> str:
    """`127.0.0.1:7000`, `[::1]:7000`, or `:7000` where the host is empty."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
