"""`./run demo`: serve demo.sh, and say how to talk to it as soon as it can be talked to."""

import os
import signal
import sys
from pathlib import Path

import tcppar

PROGRAM = Path(__file__).with_name("demo.sh")
# An address to connect to, for those that mean all interfaces.
OWN_ADDRESS = {"0.0.0.0": "127.0.0.1", "::": "::1"}
CANNOT_WRITE = 111


def main(address: str) -> int:
    """Serve until Control-C; the exit code, as that of `tcppar serve`."""
    try:
        server = tcppar.Server(address, command=[str(PROGRAM)])
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, lambda number, _: server.send_signal(number))
        server.start()
    except tcppar.ConfigurationError as error:
        wrong = error.mistakes[0].removeprefix("settings: listen: entry 1: ").partition("; ")[0]
        print(f"demo: {wrong}; expected a port, such as 7001, or an address, such as 127.0.0.1:7001", file=sys.stderr)
        return error.exit_code
    except tcppar.SystemRefused as error:
        # The server itself has said what was refused.
        if "cannot listen" in str(error):
            print("Choose another port, such as: ./run demo 7005", file=sys.stderr)
        return error.exit_code
    hint = f"""\
tcppar serves samples/demo.sh: every connection gets a process of its own that runs it.
In other terminals, one or several, try: {client_for(server.addresses[0])}
What you type comes back with the number of your process; "quit" ends it. Control-C here stops the server."""
    try:
        print(hint, flush=True)
    except OSError as error:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # or Python would try once more at its end
        server.stop()
        print(f"demo: cannot write the output: {error.strerror}", file=sys.stderr)
        return CANNOT_WRITE
    server.wait()
    return 0


def client_for(address: tuple[str, int] | str) -> str:
    """A command that connects to an address."""
    if isinstance(address, str):
        return f"nc -U {address}"
    host, port = address
    return f"nc {OWN_ADDRESS.get(host, host)} {port}"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
