"""What must hold after a fault: a start that is refused in order, or everything goes on."""

import contextlib
import os
import signal
import socket
from pathlib import Path

from tests.support.handlers import answers, children_of, is_over
from tests.support.server import PATIENCE, Server, descendants, read_line, stat_fields, wait_until

_REFUSED = {100, 111}
# Of the time that passes, a server that does nothing may use so much of a processor.
_MOST_USE = 0.5
_LOOK = 0.3


def assert_refused_in_order(server: Server) -> None:
    """A start has failed: with a message, and the code for it."""
    assert server.process.returncode in _REFUSED, f"exit code {server.process.returncode}: {server.noise}"
    server.wait(PATIENCE)
    assert_no_traceback(server)
    assert any(line.startswith("tcppar: ") for line in server.noise), "no message"


def assert_no_traceback(server: Server) -> None:
    """No mistake of ours was seen."""
    assert not any("Traceback" in line for line in server.noise), "\n".join(server.noise)


def supervisor_of(server: Server, *, keep: bool) -> int:
    """Whoever serves now: the process that was started, the newest child of a keeper, or what a keeper has left."""
    if not keep:
        return server.pid
    found: list[int] = []

    def is_there() -> bool:
        found[:] = [pid for pid in children_of(server.pid) if not is_over(pid) and _serves(pid)]
        if not found and server.process.poll() is not None:
            found.extend(record["pid"] for record in server.events("keeper-lost"))
        return bool(found)

    wait_until(is_there)
    return found[-1]


def _serves(pid: int) -> bool:
    try:
        return b"\0serve\0" in Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return False


def assert_goes_on(server: Server, client: socket.socket | None, *, keep: bool) -> None:
    """Clients are served, and who was there is served still; nobody is busy."""
    if client is not None:
        assert answers(client), "the client that was there is lost"
    for _ in range(2):
        with server.connect() as another:
            read_line(another)
            assert answers(another)
    assert_no_traceback(server)
    assert_idle(supervisor_of(server, keep=keep))


def assert_idle(pid: int) -> None:
    """A process uses next to no time of a processor, soon."""
    wait_until(lambda: _use_of(pid) < _MOST_USE, 10.0)


def _use_of(pid: int) -> float:
    before = _ticks(pid)
    with contextlib.suppress(AssertionError):
        wait_until(lambda: is_over(pid), _LOOK)
    return (_ticks(pid) - before) / os.sysconf("SC_CLK_TCK") / _LOOK


def _ticks(pid: int) -> int:
    fields = stat_fields(pid)
    return int(fields[11]) + int(fields[12]) if fields else 0


def assert_stops(server: Server, *, keep: bool) -> None:
    """It stops when it is asked to, with code 0, and leaves no process."""
    main = server.pid if server.process.poll() is None else supervisor_of(server, keep=keep)
    left = {main, *descendants(main)}
    os.kill(main, signal.SIGTERM)
    if main == server.pid:
        assert_stopped(server, left)
    else:
        wait_until(lambda: is_over(main))
        server.wait_for_event("stopped")
        assert_nothing_left(left)


def assert_stopped(server: Server, left: set[int]) -> None:
    """The stop that was asked for comes to its end."""
    code = server.wait(PATIENCE)
    assert code == 0, f"exit code {code}: {server.noise}"
    assert_no_traceback(server)
    assert_nothing_left(left)


def assert_nothing_left(pids: set[int]) -> None:
    """All have ended."""
    wait_until(lambda: all(is_over(pid) for pid in pids), 10.0)
