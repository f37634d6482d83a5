"""Both ends of a connection, in the forms that a child is told of them.

What handlers' processes are forked from has loaded this, and so it imports nothing: see `child/conversation.py`.
"""

Address = tuple[str, int] | str
"""A numeric address, without brackets, and a port; or the path of a Unix socket."""


class Ends:
    """The forms, for a class that has the fields.

    Attributes:
        family: "ipv4", "ipv6" or "unix".
        remote_ip: the peer's numeric address, or its path, which mostly is empty.
        remote_port: 0 for a Unix socket, as `local_port` is.
        local_ip: what the peer has connected to: a numeric address, or the listener's path.
    """

    __slots__ = ()
    family: str
    remote_ip: str
    remote_port: int
    local_ip: str
    local_port: int

    @property
    def peer(self) -> str:
        """The peer as logs show it: `192.0.2.1:4000`, `[2001:db8::1]:4000` or `unix:/path`."""
        if self.family == "ipv4":
            return f"{self.remote_ip}:{self.remote_port}"
        if self.family == "ipv6":
            return f"[{self.remote_ip}]:{self.remote_port}"
        return f"unix:{self.remote_ip}"

    @property
    def remote_address(self) -> Address:
        """The peer's address and port; of a Unix socket its path."""
        return self._address(self.remote_ip, self.remote_port)

    @property
    def local_address(self) -> Address:
        """The address and port that the peer has connected to; of a Unix socket its path."""
        return self._address(self.local_ip, self.local_port)

    def _address(self, host: str, port: int) -> Address:
        return host if self.family == "unix" else (host, port)


class PlainEnds(Ends):
    """As `records.Endpoints`, where nobody has loaded msgspec."""

    __slots__ = ("family", "local_ip", "local_port", "remote_ip", "remote_port")

    def __init__(self, family: str, remote_ip: str, remote_port: int, local_ip: str, local_port: int) -> None:
        self.family = family
        self.remote_ip = remote_ip
        self.remote_port = remote_port
        self.local_ip = local_ip
        self.local_port = local_port
