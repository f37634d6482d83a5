"""What ps shows of the server's processes."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from tcppar.testing.subject import PACKAGE, may_enter
from tests.conftest import tool, unavailable
from tests.support.command import Serve
from tests.support.handlers import HANDLERS, answers, children_of, spawner_of, start
from tests.support.server import Server, descendants, wait_until

LONGEST_NAME = "x" * 64
MODES = {"fork": "child", "pool": "worker"}


def titles(*pids: int) -> list[str]:
    """What ps shows of processes: words with a blank between two, and none at the end."""
    words = [tool("ps"), "-o", "args=", *(f"-p{pid}" for pid in pids)]
    return subprocess.run(words, stdout=subprocess.PIPE, text=True).stdout.splitlines()


def assert_titles(server: Server, of_spawner: str, of_child: str) -> None:
    """Of a spawner; and, while a client is served, of all that it has made. (A spare one may just have been forked.)"""
    spawner = spawner_of(server)
    assert titles(spawner) == [of_spawner]
    with server.connect() as client:
        assert answers(client)
        wait_until(lambda: {*titles(*children_of(spawner))} == {of_child})


@pytest.mark.parametrize("mode", MODES)
def test_a_spawner_and_the_handlers_processes_say_what_they_are(serve: Serve, mode: str) -> None:
    server = start(serve, "echoing:handle", mode=mode)
    assert_titles(server, "tcppar: spawner echoing", f"tcppar: {MODES[mode]} echoing")


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("serve", ["full"], indirect=True)
@pytest.mark.usefixtures("compiled_loop")
def test_those_of_another_user_do_too(serve: Serve, open_folder: Path, mode: str) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root can become another user")
    if not may_enter("nobody", PACKAGE):
        unavailable("nobody cannot reach this package")
    handler = shutil.copyfile(HANDLERS / "echoing.py", open_folder / "echoing.py")
    server = serve("127.0.0.1:0", "--handler", f"{handler}:handle", "--mode", mode, "--user", "nobody")
    assert_titles(server, "tcppar: spawner echoing", f"tcppar: {MODES[mode]} echoing")


def test_a_program_keeps_its_own_words(serve: Serve) -> None:
    server = serve("127.0.0.1:0", "--", "cat", "-u", "-")
    assert_titles(server, "tcppar: spawner cat", "cat -u -")


@pytest.mark.parametrize("mode", MODES)
def test_the_longest_name_of_a_service_has_room(serve: Serve, tmp_path: Path, mode: str) -> None:
    file = tmp_path / "tcppar.toml"
    file.write_text(
        f"[service.{LONGEST_NAME}]\nlisten = ['127.0.0.1:0']\nhandler = 'echoing:handle'\n"
        f"mode = '{mode}'\ndirectory = '{HANDLERS}'\n"
    )
    server = serve("-c", file)
    assert_titles(server, f"tcppar: spawner {LONGEST_NAME}", f"tcppar: {MODES[mode]} {LONGEST_NAME}")


def test_only_the_server_is_named_as_the_server(serve: Serve) -> None:
    """`pkill -HUP tcppar`, which goes by the other name, would end the others."""
    server = start(serve, "echoing:handle")
    with server.connect() as client:
        assert answers(client)
        named = [pid for pid in descendants(server.pid) if Path(f"/proc/{pid}/comm").read_text().startswith("tcppar")]
    assert named == []
    assert Path(f"/proc/{server.pid}/comm").read_text() == "tcppar serve\n"
