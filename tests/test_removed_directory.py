"""A server whose working directory has been removed goes on: nothing that it serves needs to be there."""

import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.support.command import Serve
from tests.support.handlers import HANDLERS, answers, ask_for_reload
from tests.support.server import Server, read_line
from tests.support.succession import kill_supervisor, upgrade
from tests.test_keeper import kept

HANDLER = f"{HANDLERS}/waiting.py:handle"
KINDS = {"fork": ("--handler", HANDLER), "pool": ("--handler", HANDLER, "--mode", "pool", "--workers", "1")}


@pytest.fixture
def place(tmp_path: Path) -> Path:
    folder = tmp_path / "removed"
    folder.mkdir()
    return folder


def assert_serves(server: Server) -> None:
    with server.connect() as client:
        read_line(client)
        assert answers(client)


@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
def test_the_next_supervisor_goes_on(kind: Sequence[str], place: Path) -> None:
    with kept("127.0.0.1:0", *kind, cwd=place) as server:
        place.rmdir()
        for _ in range(2):
            kill_supervisor(server)
            assert_serves(server)
        assert server.stop() == 0


@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
def test_it_is_reloaded_and_upgraded(kind: Sequence[str], place: Path, serve: Serve) -> None:
    server = serve("127.0.0.1:0", *kind, cwd=place)
    place.rmdir()
    assert ask_for_reload(server)["event"] == "reloaded"
    upgrade(server)
    assert_serves(server)


def test_a_handler_that_was_there_is_told_to_be_gone(place: Path, serve: Serve) -> None:
    file = place / "echoing.py"
    file.write_text((HANDLERS / file.name).read_text())
    server = serve("127.0.0.1:0", "--handler", "echoing.py:handle", cwd=place)
    shutil.rmtree(place)
    refused = ask_for_reload(server)
    assert refused["event"] == "reload-failed"
    assert "'echoing.py': the server's working directory has been removed" in str(refused)
    assert server.exchange(b"x") == b"x"


_PROGRAM = """
import os, sys
import tcppar
from waiting import handle

os.rmdir(os.getcwd())
with tcppar.Server("127.0.0.1:0", handler=handle) as server:
    print(server.addresses)
"""


def test_a_program_starts_one_from_there(place: Path) -> None:
    path = os.pathsep.join([str(HANDLERS), *sys.path])
    ran = subprocess.run(
        [sys.executable, "-c", _PROGRAM],
        cwd=place,
        env=os.environ | {"PYTHONPATH": path},
        capture_output=True,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr.decode()
