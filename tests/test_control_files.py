"""Control files, whatever children do to their folder: every later client is served."""

import os
import shutil
import signal
import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.conftest import unavailable
from tests.support.handlers import spawner_of
from tests.support.server import Server, read_line

Serve = Callable[..., Server]

CONTROLLED = ["127.0.0.1:0", "--control-file", "text of {connection_id}"]
# Says where its control file is; then what stands there; then does what the client asks for.
PROGRAM = ["--", "sh", "-c", 'export f="$1" d="${1%/*}"; echo "$f"; cat "$f"; sh', "sh", "{ctl}"]
DEEP = 1500

pytestmark = pytest.mark.parametrize("serve", ["full"], indirect=True)

ATTACKS = {
    "the file is removed": 'rm "$f"',
    "the folder is removed": 'rm -rf "$d"',
    "the folder and the one around it are removed": 'rm -rf "$d"; rmdir "$d/.."; rmdir "${d%/*}"',
    "the folder lets nobody in": 'chmod 0 "$d"',
    "a file is in its place": 'rm -rf "$d"; echo > "$d"',
    "a link is in its place": 'rm -rf "$d"; ln -s /nowhere "$d"',
    "the next files are there already": 'for n in 2 3 4; do echo theirs > "${f%-*}-$n"; done',
    "folders are in the place of the next ones": 'for n in 2 3 4; do mkdir -p "${f%-*}-$n/a"; done',
    "links are in the place of the next ones": 'for n in 2 3 4; do ln -s /nowhere "${f%-*}-$n"; done',
}


@pytest.fixture(params=["the same user", "nobody"])
def server(request: pytest.FixtureRequest, serve: Serve) -> Server:
    if request.param == "the same user":
        return serve(*CONTROLLED, *PROGRAM)
    if os.geteuid() != 0:
        unavailable("only root can have children of another user")
    return serve(*CONTROLLED, "--user", "nobody", "--directory", "/", *PROGRAM)


def ask(server: Server, script: str) -> tuple[Path, str]:
    """Let a child run a script, in which $f is its control file and $d its folder; the file, and what it held."""
    path, text, *_ = server.exchange(f"{script}\n".encode()).decode().splitlines()
    return Path(path), text


@pytest.mark.parametrize("attack", ATTACKS.values(), ids=ATTACKS)
def test_every_later_client_has_its_own(server: Server, attack: str) -> None:
    first, _ = ask(server, attack)
    for _ in range(3):
        path, text = ask(server, "true")
        assert path.parent == first.parent
        assert text == f"text of {path.name}"
    assert server.stop() == 0
    shutil.rmtree(first.parent.parent, ignore_errors=True)


def test_the_folder_is_private_and_nobody_elses_to_take_away(server: Server) -> None:
    path, _ = ask(server, "true")
    outer = path.parent.parent.stat()
    assert (outer.st_uid, stat.S_IMODE(outer.st_mode)) == (os.geteuid(), 0o711)
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert server.stop() == 0
    assert not path.parent.parent.exists()


def test_the_end_of_the_server_removes_nothing_elsewhere(server: Server, tmp_path: Path) -> None:
    (tmp_path / "kept").mkdir(mode=0o777)
    (tmp_path / "kept" / "file").touch()
    path, _ = ask(server, f'ln -s {tmp_path}/kept "$d/link"; ln -s {tmp_path}/kept/file "$d/other"')
    assert server.stop() == 0
    assert (tmp_path / "kept" / "file").exists()
    assert not path.parent.parent.exists()


def test_the_end_of_the_server_is_not_held_up_by_what_children_leave(server: Server) -> None:
    """Folders in folders without end, for which a removal would need as many calls within calls."""
    nest = f'cd "$d"; for n in $(seq {DEEP}); do mkdir a && cd a || exit; done'
    path, _ = ask(server, nest)
    assert server.stop() == 0
    inner = path.parent
    for _ in range(DEEP):  # by steps: no path is that long
        if not (inner / "a" / "a").exists():
            break
        os.rename(inner / "a" / "a", inner / "b")
        os.rmdir(inner / "a")
        os.rename(inner / "b", inner / "a")
    shutil.rmtree(path.parent.parent)


LARGE = 'truncate -s 64M "$d/beside"; truncate -s 64M "$f"'
"""Holes, which take no room; to whoever removes them they look as large as what does."""


def test_no_large_file_is_freed_by_the_supervisor(server: Server) -> None:
    """The whole server waited until the last of its gigabytes was freed."""
    path, _ = ask(server, LARGE)
    assert server.stop() == 0
    assert [file.stat().st_size for file in path.parent.parent.rglob("*") if file.is_file()] == [64 << 20]
    shutil.rmtree(path.parent.parent)


def test_nor_is_an_orphans(server: Server) -> None:
    with server.connect() as client:
        client.sendall(f"{LARGE}\n".encode())
        path = Path(read_line(client))
        kill_spawner_of(server)
    server.wait_for_event("end")
    assert not path.exists()
    assert max(file.stat().st_size for file in path.parent.parent.iterdir()) == 64 << 20
    assert server.stop() == 0
    shutil.rmtree(path.parent.parent)


def kill_spawner_of(server: Server) -> None:
    os.kill(spawner_of(server), signal.SIGKILL)
    server.wait_for_event("spawner-died")
