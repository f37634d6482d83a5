"""The attacker as a program: it greets its client, and echoes what it reads, unless that orders an attack.

It imports nothing before it is known to be an attack: most of its clients are only there to see if they are served.
"""

import os
import sys

ORDER = b"attack "


def main() -> None:
    """Serve one client on descriptors 0 and 1."""
    os.write(1, f"{os.environ['TCPPAR_CONNECTION_ID']} {os.getpid()}\n".encode())
    data = os.read(0, 65536)
    if data.startswith(ORDER):
        sys.path.insert(0, __file__.removesuffix("/tests/hostile/attacker/program.py"))
        from tests.hostile.attacker import every
        from tests.hostile.attacker.base import Mode

        every.obey(Mode.PROGRAM, 1, data)
    while data:
        rest = memoryview(data)
        while rest:
            rest = rest[os.write(1, rest) :]
        data = os.read(0, 65536)


try:
    main()
except (BrokenPipeError, ConnectionResetError):
    pass  # the client has left
