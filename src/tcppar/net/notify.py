"""Telling others that the server is ready: a service manager (sd_notify(3)), or whoever holds a descriptor."""

import os
import re
import socket
from collections.abc import Iterable, Mapping

_READY = "ready"
# For a manager whose queue is full, in seconds: clients wait meanwhile.
_PATIENCE = 1.0
# As in /proc/mounts (proc(5)): what would part the words, and what marks the replacement itself.
_TO_ESCAPE = re.compile(r"[\s\\]", re.ASCII)
_ESCAPED = re.compile(r"\\([0-7]{3})")


def notify_manager(state: str, environ: Mapping[str, str] = os.environ) -> None:
    """Send a state such as `READY=1` to the service manager; nothing happens where there is none.

    The protocol is one datagram.
    """
    address = manager_address(environ)
    if address is None:
        return
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
            sock.settimeout(_PATIENCE)
            sock.sendto(state.encode(), address)
    except OSError:
        pass  # a manager that does not listen is no reason not to serve


def manager_address(environ: Mapping[str, str]) -> str | None:
    """The socket that the service manager hears on, which NOTIFY_SOCKET names (a leading @ is an abstract one); None if
    there is none.
    """
    address = environ.get("NOTIFY_SOCKET", "")
    if address[:1] not in ("/", "@"):
        return None
    return "\0" + address[1:] if address.startswith("@") else address


def write_ready_line(descriptor: int, addresses: Iterable[str]) -> None:
    """Write `ready ADDRESS...` to the descriptor that `--ready-fd` names, and close it.

    A line is s6's way to say ready (https://skarnet.org/software/s6/notifywhenup.html). Blanks and backslashes of a
    path are octal escapes (`\\040`).
    """
    words = [_TO_ESCAPE.sub(lambda found: rf"\{ord(found[0]):03o}", address) for address in addresses]
    _write_and_close(descriptor, " ".join([_READY, *words]))


def write_failure(descriptor: int, reason: str) -> None:
    """Write why there is no start to the descriptor that `--failure-fd` names, and close it."""
    _write_and_close(descriptor, reason)


def _write_and_close(descriptor: int, text: str) -> None:
    try:
        os.write(descriptor, text.encode(errors="backslashreplace") + b"\n")
        os.close(descriptor)
    except OSError:
        pass  # nobody waits for it any more


def ready_addresses(text: str) -> list[str] | None:
    """The addresses of a ready line; None if it is none."""
    words = text.removesuffix("\n").split(" ")
    if not text.endswith("\n") or words[0] != _READY:
        return None
    return [_ESCAPED.sub(lambda found: chr(int(found[1], 8)), word) for word in words[1:]]
