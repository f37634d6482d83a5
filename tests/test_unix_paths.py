"""Unix sockets in folders of users who are not trusted: nothing of theirs is followed or believed."""

import os
import shutil
import socket
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from tcppar.errors import SystemRefused
from tcppar.net.address import Address
from tcppar.net.listener import Listener, open_listeners
from tcppar.net.opening import ListenerOptions
from tcppar.net.platform import detect
from tests.conftest import unavailable

HOSTILE = 65534
"""nobody; everything is owned by numbers."""
FULL = detect({})
OPTIONS = ListenerOptions(backlog=10)
RESETS = 200


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder of root's that everybody may enter, with one of the hostile user's in it, `theirs`."""
    if os.geteuid() != 0:
        unavailable("only root has files of several users")
    with tempfile.TemporaryDirectory(dir="/tmp") as name:
        os.chmod(name, 0o755)
        theirs = Path(name) / "theirs"
        theirs.mkdir()
        os.chown(theirs, HOSTILE, HOSTILE)
        yield Path(name)


def opened(path: Path) -> Listener:
    [listener] = open_listeners(Address(f"unix:{path}"), OPTIONS, FULL)
    return listener


def reset(listener: Listener) -> Listener:
    new = listener.open_beside(OPTIONS)
    assert new is not None
    listener.close()
    return new


@contextmanager
def exchanging(folder: Path, victim: Path) -> Iterator[None]:
    script = Path(__file__).parent / "support" / "exchanging.py"
    words = [sys.executable, str(script), str(folder), str(victim), str(HOSTILE)]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "begun\n"
        try:
            yield
        finally:
            process.kill()


def test_a_reset_never_changes_the_rights_of_another_file(folder: Path) -> None:
    victim = folder / "victim"
    victim.touch(mode=0o600)
    listener = opened(folder / "theirs" / "socket")
    os.chmod(listener.address.path, 0o666)
    os.chown(listener.address.path, HOSTILE, HOSTILE)
    done = 0
    with exchanging(folder / "theirs", victim):
        for _ in range(RESETS):
            try:
                listener = reset(listener)
                done += 1
            except OSError:
                pass  # what was exchanged was noticed; the old one goes on
    listener.close()
    found = victim.stat()
    assert (stat.S_IMODE(found.st_mode), found.st_uid) == (0o600, 0)


def test_the_rights_of_what_somebody_has_put_there_are_not_believed(folder: Path) -> None:
    path = folder / "theirs" / "socket"
    listener = opened(path)
    before = path.lstat()
    path.unlink()
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))  # nobody listens on it
    os.chown(path, HOSTILE, HOSTILE)
    path.chmod(0o666)
    with closing(reset(listener)):
        after = path.lstat()
        assert stat.S_ISSOCK(after.st_mode)
        assert (after.st_uid, after.st_mode) == (before.st_uid, before.st_mode)


def test_a_link_that_somebody_has_put_there_is_neither_followed_nor_removed(folder: Path) -> None:
    path, victim = folder / "theirs" / "socket", folder / "victim"
    victim.write_text("mine")
    listener = opened(path)
    path.unlink()
    path.symlink_to(victim)
    with pytest.raises(OSError, match="a symbolic link is there"):
        reset(listener)
    assert path.is_symlink()
    assert victim.read_text() == "mine"
    path.unlink()
    with closing(reset(listener)):
        assert stat.S_ISSOCK(path.lstat().st_mode)


def test_a_folder_that_can_be_led_elsewhere_is_refused(folder: Path) -> None:
    elsewhere = folder / "elsewhere"
    elsewhere.mkdir()
    (folder / "theirs" / "run").symlink_to(elsewhere)
    os.chown(folder / "theirs" / "run", HOSTILE, HOSTILE, follow_symlinks=False)
    with pytest.raises(SystemRefused, match=f"EPERM .*'run' on the way there .* user {HOSTILE}"):
        opened(folder / "theirs" / "run" / "socket")
    assert not list(elsewhere.iterdir())


def test_one_that_is_led_elsewhere_later_is_refused_then(folder: Path) -> None:
    elsewhere, run = folder / "elsewhere", folder / "theirs" / "run"
    elsewhere.mkdir()
    run.mkdir()
    os.chown(run, HOSTILE, HOSTILE)
    listener = opened(run / "socket")
    shutil.move(run, folder / "theirs" / "away")
    os.link(folder / "theirs" / "away" / "socket", elsewhere / "socket")
    run.symlink_to(elsewhere)
    os.chown(run, HOSTILE, HOSTILE, follow_symlinks=False)
    with closing(listener):
        with pytest.raises(OSError, match="on the way there"):
            listener.open_beside(OPTIONS)
        with pytest.raises(OSError, match="on the way there"):
            listener.turn_away()
    assert [file.name for file in elsewhere.iterdir()] == ["socket"]


def test_links_of_roots_are_followed(folder: Path) -> None:
    (folder / "run").symlink_to("theirs")
    with closing(opened(folder / "run" / "socket")):
        assert (folder / "theirs" / "socket").is_socket()


def test_nothing_is_left_but_the_socket(folder: Path) -> None:
    with closing(reset(opened(folder / "theirs" / "socket"))) as listener:
        assert os.listdir(folder / "theirs") == ["socket"]
        listener.turn_away()
        assert os.listdir(folder / "theirs") == []


def test_a_server_whose_queue_is_full_lives_and_keeps_nobody_waiting() -> None:
    with tempfile.TemporaryDirectory(dir="/tmp") as name, socket.socket(socket.AF_UNIX) as other:
        path = Path(name) / "socket"
        other.bind(str(path))
        other.listen(0)
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(str(path))
            with pytest.raises(SystemRefused, match="EADDRINUSE"):
                opened(path)
