"""Telling others that the server is ready: a service manager (sd_notify(3)), or whoever holds a descriptor."""

import os
import socket
from collections.abc import Mapping


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


def write_ready_line(descriptor: int, line: str) -> None:
    """Write a line to the descriptor that `--ready-fd` names, and close it: s6's way to say ready."""
    try:
        os.write(descriptor, line.encode() + b"\n")
        os.close(descriptor)
    except OSError:
        pass  # nobody waits for it any more
