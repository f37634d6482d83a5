"""Addresses that the system refuses: `check` asks it, as `serve` does, and leaves nothing behind."""

import os
import socket
import stat
from pathlib import Path

import pytest

from tests.conftest import tool, unavailable
from tests.support import command
from tests.test_check import told_by_check_and_serve

only_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can be somebody else, and leave its rights")


def passes(address: str, *words: str) -> None:
    """That `check` finds nothing."""
    checked = command.run("check", address, *words, "--", "cat")
    assert (checked.returncode, checked.stderr) == (0, "")


@pytest.fixture
def nobody() -> list[str]:
    """A wrapper that runs a command as nobody."""
    wrapper = [tool("setpriv"), "--reuid=nobody", "--regid=nogroup", "--clear-groups"]
    if command.run("--version", wrapper=wrapper).returncode != 0:
        unavailable("nobody cannot read where tcppar is")
    return wrapper


@pytest.fixture
def sticky(open_folder: Path) -> Path:
    open_folder.chmod(0o1777)
    return open_folder / "socket"


def dead_socket(path: Path) -> os.stat_result:
    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind(str(path))
    return path.lstat()


@pytest.mark.skipif(not os.path.exists("/proc/self"), reason="needs a file system without sockets")
def test_a_file_system_without_sockets_is_told() -> None:
    assert told_by_check_and_serve("unix:/proc/x.sock").startswith("cannot listen on unix:/proc/x.sock: E")


@only_root
@pytest.mark.parametrize("flag", ["--socket-user", "--socket-group"])
@pytest.mark.parametrize("mode", [0o755, 0o777], ids=["closed", "open"])
def test_rights_that_cannot_be_given_are_told(open_folder: Path, flag: str, mode: int) -> None:
    open_folder.chmod(mode)
    wrapper = [tool("setpriv"), "--bounding-set=-chown", "--inh-caps=-chown"]
    told = told_by_check_and_serve(f"unix:{open_folder}/socket", flag, "1", wrapper=wrapper)
    assert told.endswith("EPERM (Operation not permitted): socket_user and socket_group need CAP_CHOWN here")
    assert os.listdir(open_folder) == []


@only_root
def test_a_dead_socket_of_somebody_else_in_a_sticky_folder_is_told(sticky: Path, nobody: list[str]) -> None:
    dead_socket(sticky)
    sticky.chmod(0o666)  # else nobody cannot find out that it is dead
    before = sticky.lstat()
    told = told_by_check_and_serve(f"unix:{sticky}", wrapper=nobody)
    assert told.endswith("EPERM (Operation not permitted): a socket of user 0 is there, which this user may not remove")
    assert os.path.samestat(sticky.lstat(), before)


@only_root
def test_so_it_is_if_nobody_can_tell_whether_it_is_dead(sticky: Path, nobody: list[str]) -> None:
    dead_socket(sticky)
    sticky.chmod(0o600)
    assert command.run("check", f"unix:{sticky}", "--", "cat", wrapper=nobody).returncode == 100
    assert command.run("serve", f"unix:{sticky}", "--", "cat", wrapper=nobody).returncode == 111


def test_a_dead_socket_that_may_be_removed_stays_until_a_start(sticky: Path) -> None:
    before = dead_socket(sticky)
    passes(f"unix:{sticky}")
    assert os.path.samestat(sticky.lstat(), before)
    assert os.listdir(sticky.parent) == [sticky.name]


@pytest.mark.parametrize("mode", [0o755, 0o777, 0o1777], ids=oct)
def test_nothing_is_left_and_whoever_listens_there_gets_no_client(open_folder: Path, mode: int) -> None:
    open_folder.chmod(mode)
    passes(f"unix:{open_folder}/new", "--socket-mode", "0600")
    assert os.listdir(open_folder) == []
    with socket.socket(socket.AF_UNIX) as other:
        other.bind(f"{open_folder}/taken")
        other.listen()
        other.setblocking(False)
        passes(f"unix:{open_folder}/taken")
        with pytest.raises(BlockingIOError):
            other.accept()
    assert os.listdir(open_folder) == ["taken"]
    assert stat.S_ISSOCK((open_folder / "taken").lstat().st_mode)


def test_a_broadcast_address_of_an_interface_is_told() -> None:
    told = told_by_check_and_serve("127.255.255.255:0")
    assert told.endswith("it is a broadcast address, to which nobody can connect")


@only_root
def test_the_system_says_which_ports_need_a_right(nobody: list[str]) -> None:
    setting = "/proc/sys/net/ipv4/ip_unprivileged_port_start"
    set_up = f'ip link set lo up && echo 2000 > {setting} && exec "$@"'
    wrapper = [tool("unshare"), "--net", "sh", "-c", set_up, "sh"]
    if command.run("--version", wrapper=wrapper).returncode != 0:
        unavailable("no network can be made, or its ports cannot be set")
    told = told_by_check_and_serve("127.0.0.1:1999", wrapper=[*wrapper, *nobody])
    assert told.endswith("EACCES (Permission denied): ports below 2000 need root or CAP_NET_BIND_SERVICE")
