"""A client of TCPPAR: sends each word as a packet, and prints what comes back.

python samples/a-shell/client.py 127.0.0.1 7000 hello world
python samples/a-shell/client.py --tls --ca ca.pem www.example.com 7000 hello      over TLS
"""

import argparse
import sys

from packets import receive, send

from tcppar.tcpx import TCPOP_CLOSE, TCPOP_CONNECT, TCPOP_ERRMSG, TCPXFLG_TLS, tcpx

LIMIT = 10_000
"""For how many milliseconds it waits for the connection, and for each answer."""


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="A client of TCPPAR.")
    parser.add_argument("--tls", action="store_true", help="encrypt, and verify the server's certificate")
    parser.add_argument("--ca", metavar="FILE", help="whose certificates to trust, instead of the system's")
    parser.add_argument("host")
    parser.add_argument("port", type=int)
    parser.add_argument("word", nargs="+")
    return parser.parse_args()


def fail(what: str, status: int) -> int:
    """Tell what went wrong, in the words of the system."""
    print(f"client: {what}: {tcpx(TCPOP_ERRMSG, status=status).buffer.decode()}", file=sys.stderr)
    return 1


def main() -> int:
    options = arguments()
    connected = tcpx(
        TCPOP_CONNECT,
        sockport=options.port,
        hostname=options.host,
        flags=TCPXFLG_TLS if options.tls else 0,
        timer=LIMIT,
        tls=options.ca,
    )
    if connected.status < 0:
        return fail(f"{options.host} port {options.port}", connected.status)
    for word in options.word:
        status = send(connected.sockport, word, LIMIT)
        if status < 0:
            return fail("write", status)
        answer = receive(connected.sockport, LIMIT)
        if answer is None:
            print("client: the server gives no answer", file=sys.stderr)
            return 1
        print(answer)
    tcpx(TCPOP_CLOSE, sockport=connected.sockport)
    return 0


sys.exit(main())
