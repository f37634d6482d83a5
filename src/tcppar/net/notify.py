"""Telling others that the server is ready: a service manager (sd_notify(3)), or whoever holds a descriptor."""

import os
import re
import socket
from collections.abc import Iterable, Mapping

_READY = "ready"
_REFUSED = "refused "
# As in /proc/mounts (proc(5)): what would part the words, and what marks the replacement itself.
_TO_ESCAPE = re.compile(r"[\s\\]", re.ASCII)
_ESCAPED = re.compile(r"\\([0-7]{3})")


def notify_manager(state: str, environ: Mapping[str, str] = os.environ) -> None:
    """Send a state such as `READY=1` to the service manager; nothing happens where there is none.

    The protocol is one datagram to the socket that NOTIFY_SOCKET names (a leading @ is an abstract one).
    """
    address = environ.get("NOTIFY_SOCKET", "")
    if address[:1] not in ("/", "@"):
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        try:
            sock.sendto(state.encode(), "\0" + address[1:] if address.startswith("@") else address)
        except OSError:
            pass  # a manager that does not listen is no reason not to serve


class ReadyDescriptor:
    """The descriptor that `--ready-fd` names: told once how the start went, and closed.

    A line is s6's way to say ready (https://skarnet.org/software/s6/notifywhenup.html).

    Args:
        descriptor: None if nobody wants to know.
    """

    def __init__(self, descriptor: int | None) -> None:
        self._descriptor = descriptor

    def ready(self, addresses: Iterable[str]) -> None:
        """Write `ready ADDRESS...`. Blanks and backslashes of a path are octal escapes (`\\040`)."""
        words = [_TO_ESCAPE.sub(lambda found: rf"\{ord(found[0]):03o}", address) for address in addresses]
        self._say(" ".join([_READY, *words]) + "\n")

    def refused(self, reason: str) -> None:
        """Write why there is no start, without an end of the line: who waits for that must not think us ready."""
        self._say(_REFUSED + reason.replace("\n", "; "))

    def _say(self, text: str) -> None:
        # Closed, the number may soon be that of something else.
        descriptor, self._descriptor = self._descriptor, None
        if descriptor is None:
            return
        try:
            os.write(descriptor, text.encode(errors="backslashreplace"))
            os.close(descriptor)
        except OSError:
            pass  # nobody waits for it any more


def ready_addresses(said: str) -> list[str] | None:
    """The addresses in what a server wrote to its ready descriptor; None if it did not become ready."""
    words = said.removesuffix("\n").split(" ")
    if not said.endswith("\n") or words[0] != _READY:
        return None
    return [_ESCAPED.sub(lambda found: chr(int(found[1], 8)), word) for word in words[1:]]


def refusal(said: str) -> str:
    """Why a server did not start, as it wrote it; empty if it did not say."""
    return said.removeprefix(_REFUSED) if said.startswith(_REFUSED) else ""
