"""The supervisor's memory is that of the connections which are open, and not of those which were."""

from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.support.command import Serve
from tests.support.handlers import said_by, start
from tests.support.server import Server

WARM_UP, MORE = 300, 1500
MOST_KB = 256
"""What noise of the allocator may be. A leak of half a kilobyte a connection is three times as much."""


def own_memory_kb(pid: int) -> int:
    """Of the process alone (RssAnon, proc_pid_status(5))."""
    with open(f"/proc/{pid}/status") as status:
        return next(int(line.split()[1]) for line in status if line.startswith("RssAnon"))


def serve_some(server: Server, number: int) -> None:
    with ThreadPoolExecutor(8) as clients:
        assert set(clients.map(lambda _: said_by(server, b"x"), range(number))) == {"x"}


@pytest.mark.parametrize("mode", ["program", "fork", "pool"])
def test_what_is_over_leaves_nothing_in_memory(serve: Serve, mode: str) -> None:
    server = serve("127.0.0.1:0", "--", "cat") if mode == "program" else start(serve, "echoing:handle", mode=mode)
    serve_some(server, WARM_UP)
    before = own_memory_kb(server.pid)
    serve_some(server, MORE)
    assert own_memory_kb(server.pid) - before < MOST_KB
