"""TCPCH1: the child. It talks to one client, in as many exchanges as the client likes, and disturbs nobody.

    python samples/a-shell/child.py SOCKET

SOCKET is the number of the connection, which this process has inherited. TCPPAR (parallel_server.py) writes this
command into the control file of the job.
"""

import sys

from packets import receive, send

from tcppar.tcpx import TCPOP_CLOSE, tcpx

SILENCE = 60_000
"""For how many milliseconds a client may be silent."""


def main() -> None:
    sockport = int(sys.argv[1])
    exchanges = 0
    while (question := receive(sockport, SILENCE)) is not None:
        exchanges += 1
        if send(sockport, f"{exchanges} {question.upper()}", SILENCE) < 0:
            break
    tcpx(TCPOP_CLOSE, sockport=sockport)
    print(f"socket {sockport}: {exchanges} exchanges")  # this is in the job's LOG file


main()
