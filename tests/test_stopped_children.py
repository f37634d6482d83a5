"""Children that are stopped when they are to end: they are let go on, so that they can end in order."""

import os
import signal
import socket
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from tests.support.command import Serve
from tests.support.server import read_all, read_line, stat_fields, wait_until

STOPS_ITSELF = 'trap "echo bye; exit 3" TERM; echo $$; kill -STOP $$; echo not reached'


@contextmanager
def stopped(client: socket.socket) -> Iterator[int]:
    """The process that tells its number, when it is stopped. It is killed afterwards, if it is so still."""
    pid = int(read_line(client))
    wait_until(lambda: stat_fields(pid)[0] == "T")
    try:
        yield pid
    except BaseException:
        os.kill(pid, signal.SIGKILL)
        raise


def test_one_that_is_stopped_can_end_in_order(serve: Serve) -> None:
    options = ["--drain-timeout", "0", "--kill-timeout", "1h"]
    server = serve("127.0.0.1:0", *options, "--", "sh", "-c", STOPS_ITSELF)
    with server.connect() as client, stopped(client):
        server.signal(signal.SIGTERM)
        assert read_all(client) == b"bye\n"
    [end] = server.wait_for_event("end")
    assert (end["exit"], end["ended_by"]) == (3, "stop")


def test_so_can_others_of_its_connection_wherever_they_are(serve: Serve) -> None:
    program = f"setsid -w sh -c '{STOPS_ITSELF}'"
    options = ["--drain-timeout", "0", "--kill-timeout", "1h"]
    server = serve("127.0.0.1:0", *options, "--", "sh", "-c", program)
    if server.portable:
        pytest.skip("only Linux tells which processes are whose")
    with server.connect() as client, stopped(client) as pid:
        assert os.getsid(pid) == pid
        server.signal(signal.SIGTERM)
        assert read_all(client) == b"bye\n"
