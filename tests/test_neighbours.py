"""What processes of one user can do to each other, and whom the server tells of it."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import unavailable
from tests.support.server import Server

Serve = Callable[..., Server]

HERE = Path(__file__).parent
NOBODY = 65534


def an_ordinary_user() -> dict[str, Any]:
    """How to start something as one: root may trace everybody."""
    if os.geteuid() != 0:
        return {}
    options: dict[str, Any] = {"user": NOBODY, "group": NOBODY, "extra_groups": [], "cwd": "/"}
    try:
        subprocess.run([sys.executable, "-c", "import tcppar"], check=True, capture_output=True, **options)
    except (OSError, subprocess.CalledProcessError):
        unavailable("another user cannot read this checkout")
    return options


@pytest.mark.parametrize("keep", [["--keep"], []], ids=["keeper", "alone"])
def test_a_child_of_the_servers_own_user_takes_nothing_from_it(keep: list[str]) -> None:
    attack = [sys.executable, str(HERE / "children" / "neighbour.py")]
    options = an_ordinary_user()
    with Server(*("127.0.0.1:0", *keep, "--", *attack), environment={"TCPPAR_TRACEABLE": "0"}, **options) as server:
        assert server.exchange(b"").split() == [b"EPERM"] * 4
        assert server.exchange(b"").split() == [b"EPERM"] * 4
        assert server.stop() == 0


def test_a_server_that_nobody_may_trace_can_be_upgraded_and_writes_its_log() -> None:
    """Its own entries in /proc are root's then."""
    with Server("127.0.0.1:0", "--", "cat", environment={"TCPPAR_TRACEABLE": "0"}, **an_ordinary_user()) as server:
        server.signal(signal.SIGUSR2)
        server.wait_for_event("upgraded")
        server.wait_for_event("reloaded")
        assert server.exchange(b"hello") == b"hello"
        assert server.stop() == 0


def test_a_service_that_runs_as_the_servers_user_is_told_of_once(serve: Serve) -> None:
    server = serve("127.0.0.1:0", "--", "cat")
    server.signal(signal.SIGHUP)
    server.stop()
    [told] = server.events("shared-user")
    assert (told["level"], told["services"], told["user"]) == ("warning", ["cat"], os.geteuid())


def test_one_that_has_a_user_of_its_own_is_not(serve: Serve) -> None:
    if os.geteuid() != 0:
        unavailable("only root can have children of another user")
    server = serve("127.0.0.1:0", "--user", "nobody", "--directory", "/", "--", "cat")
    assert server.stop() == 0
    assert not server.events("shared-user")
