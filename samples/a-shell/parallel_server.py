"""TCPPAR: the parallel server. Each client gets a child (TCPCH1, child.py) that talks to it and to nobody else.

    python samples/a-shell/parallel_server.py 7000
    python samples/a-shell/client.py 127.0.0.1 7000 hello world        in another terminal

With `--interrupted raw` a child that ends can cut the CHECK short, which then returns -1 ("not owner"), as under AIX.
That is what the counter is for. With `retry`, the default, it never happens, and the counter stays at 0.
"""

import argparse
import sys
from pathlib import Path
from shlex import quote

from tcppar.tcpx import (
    TCPOP_ACCEPT,
    TCPOP_CHECK,
    TCPOP_CLOSE,
    TCPOP_ERRMSG,
    TCPXFLG_ASYNC,
    TCPXFLG_KEEPLISTEN,
    TCPXFLG_LISTEN,
    Job,
    reopen,
    submit,
    tcpx,
)

PERIOD = 2000  # milliseconds; so often at least it keeps house
BACKLOG = 128  # so many clients can wait to be accepted
TOLERATED = 3  # so many failures of CHECK in a row are passed over
TCPCH1 = f"exec {quote(sys.executable)} {quote(str(Path(__file__).with_name('child.py')))} {{fd}}"


def main(port: int, bind: str, interrupted: str, published_reset: bool, directory: str) -> None:
    listener = open_listener(port, bind)
    say(f"listening on port {port}")
    jobs: list[Job] = []
    failures = 0
    while True:
        jobs = keep_house(jobs)
        status = tcpx(TCPOP_CHECK, sockport=listener, timer=PERIOD, interrupted=interrupted).status
        failures = failures + 1 if status < 0 else 0
        if failures > TOLERATED:
            say(f"status {status} {failures} times in a row: reset")
            if published_reset or reopen(listener, BACKLOG).status < 0:  # it is Linux that can reopen
                listener = open_again(listener, port, bind)
            failures = 0
        if status > 0:
            jobs += serve_one(listener, interrupted, directory)


def open_listener(port: int, bind: str) -> int:
    """Open the listening socket, without waiting for a client."""
    opened = tcpx(TCPOP_ACCEPT, sockport=port, flags=TCPXFLG_LISTEN, bind=bind, backlog=BACKLOG)
    if opened.status < 0:
        sys.exit(f"TCPPAR: port {port}: {tcpx(TCPOP_ERRMSG, status=opened.status).buffer.decode()}")
    return opened.sockport


def open_again(listener: int, port: int, bind: str) -> int:
    """The published reset. Who is in the queue is lost, and who comes in between is refused; `reopen` loses nobody."""
    tcpx(TCPOP_CLOSE, sockport=listener)
    return open_listener(port, bind)


def serve_one(listener: int, interrupted: str, directory: str) -> list[Job]:
    """Accept one client, while the listening socket stays open, and start its child."""
    keep = TCPXFLG_ASYNC | TCPXFLG_KEEPLISTEN
    accepted = tcpx(TCPOP_ACCEPT, sockport=listener, flags=keep, timer=PERIOD, interrupted=interrupted)
    if accepted.status < 0:
        return []  # the client has gone again, or a signal came: then it is still in the queue
    try:
        return [submit(TCPCH1, socket=accepted.sockport, directory=directory)]
    except OSError as error:
        say(f"no child could be started: {error}")
        return []
    finally:
        tcpx(TCPOP_CLOSE, sockport=accepted.sockport)  # our copy; the child has its own, and the client notices nothing


def keep_house(jobs: list[Job]) -> list[Job]:
    """Let go of the children that have ended: of their zombies, and of their files. The others are returned."""
    ended = [job for job in jobs if job.poll() is not None]
    for job in ended:
        job.remove_files()
    return [job for job in jobs if job not in ended]


def say(text: str) -> None:
    print(f"TCPPAR: {text}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="TCPPAR, the parallel server.")
    parser.add_argument("port", type=int)
    parser.add_argument("--bind", default="0.0.0.0", help="the address to listen on; default: every IPv4 address")
    parser.add_argument("--interrupted", choices=["retry", "errno", "raw"], default="retry")
    parser.add_argument("--published-reset", action="store_true", help="close and open, which can lose clients")
    parser.add_argument("--directory", default=".", help="where the control files and logs are; default: here")
    main(**vars(parser.parse_args()))
