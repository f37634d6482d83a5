"""Tells its client, as JSON, what it was given: arguments, environment, descriptors, ids, limits; then ends.

The first argument is the number of the descriptor that is the connection (the placeholder {fd}).
"""

import fcntl
import json
import os
import resource
import socket
import sys

_HIGHEST = 1024


def open_descriptors() -> dict[int, str]:
    found = {}
    for number in range(_HIGHEST):
        try:
            found[number] = os.readlink(f"/proc/self/fd/{number}")
        except FileNotFoundError:
            pass
    return found


def umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def option(descriptor: int, level: int, name: int) -> bool | None:
    """A socket option; None for what is no such socket."""
    try:
        with socket.socket(fileno=os.dup(descriptor)) as connection:
            return bool(connection.getsockopt(level, name))
    except OSError:
        return None


def main() -> None:
    connection = int(sys.argv[1])
    facts = {
        "arguments": sys.argv[1:],
        "environment": dict(os.environ),
        "descriptors": open_descriptors(),
        "blocking": not fcntl.fcntl(connection, fcntl.F_GETFL) & os.O_NONBLOCK,
        "pid": os.getpid(),
        "group": os.getpgrp(),
        "umask": umask(),
        "directory": os.getcwd(),
        "nice": os.nice(0),
        "limits": {
            name.removeprefix("RLIMIT_").lower(): resource.getrlimit(getattr(resource, name))
            for name in dir(resource)
            if name.startswith("RLIMIT_")
        },
        "keepalive": option(connection, socket.SOL_SOCKET, socket.SO_KEEPALIVE),
        "nodelay": option(connection, socket.IPPROTO_TCP, socket.TCP_NODELAY),
    }
    with open(connection, "wb") as client:
        client.write(json.dumps(facts).encode())


main()
