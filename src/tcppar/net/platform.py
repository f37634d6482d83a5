"""What this system can do, decided once at start."""

import os
import select
import socket
import sys
from collections.abc import Mapping

from msgspec import Struct

# linux/prctl.h and asm-generic/socket.h; the socket module does not name them.
PR_SET_CHILD_SUBREAPER = 36
SO_ATTACH_REUSEPORT_CBPF = 51
SO_ATTACH_FILTER = 26


class Features(Struct, frozen=True):
    """The means beyond POSIX that may be used. Without any of them the server is slower, not wrong.

    Attributes:
        epoll: epoll(7) instead of poll(2).
        subreaper: orphans come to the supervisor (PR_SET_CHILD_SUBREAPER, prctl(2)) and can be waited for.
        steering: a listener beside another one, and a filter that sends new clients to it (socket(7)).
        tcp_info: TCP_INFO tells how long a connection was queued (tcp(7)).
        credentials: SO_PASSCRED tells which process wrote to the log socket (unix(7)).
        fast_spawn: children may be made by vfork(2) directly (spawner/vfork.py).
        tells_unread: a Unix socket tells what the other side has not read, and that it was closed with something
            unread (unix(7)): who has read an offer need not say so.
        inherited_options: a connection has the TCP options of its listener from the start.
    """

    epoll: bool
    subreaper: bool
    steering: bool
    tcp_info: bool
    credentials: bool
    tells_unread: bool
    inherited_options: bool
    fast_spawn: bool


PORTABLE = Features(**dict.fromkeys(Features.__struct_fields__, False))


def detect(environ: Mapping[str, str] = os.environ) -> Features:
    """The features of this system; those of the portable profile if TCPPAR_PORTABLE=1 is in `environ`."""
    if environ.get("TCPPAR_PORTABLE") == "1":
        return PORTABLE
    linux = sys.platform == "linux"
    return Features(
        epoll=hasattr(select, "epoll"),
        subreaper=linux,
        steering=linux and hasattr(socket, "SO_REUSEPORT"),
        tcp_info=linux and hasattr(socket, "TCP_INFO"),
        credentials=linux and hasattr(socket, "SO_PASSCRED"),
        tells_unread=linux,
        inherited_options=linux,
        fast_spawn=linux,
    )


def become_subreaper() -> bool:
    """Let orphaned descendants become our children (prctl(2)); False where the system refuses."""
    import ctypes  # for this one call: spawners use this module too, and their memory counts many times

    libc = ctypes.CDLL(None, use_errno=True)
    return bool(libc.prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) == 0)


def ensure_standard_descriptors() -> None:
    """Open /dev/null on 0, 1 and 2 where they are closed, lest a socket get one of these numbers."""
    while (descriptor := os.open(os.devnull, os.O_RDWR)) <= 2:
        pass
    os.close(descriptor)
