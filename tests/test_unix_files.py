"""The files of Unix sockets: their names in the system's lists, their rights, and what happens when they are gone."""

import grp
import os
import signal
import socket
import stat
import subprocess
from pathlib import Path

import pytest

from tests.conftest import tool, unavailable
from tests.support import command, config
from tests.support.command import Serve
from tests.support.server import PATIENCE, Server, read_all, wait_until
from tests.support.succession import upgrade

NOBODY = 65534
GREETING = ["echo", "served"]
MODE_0660 = 0o660
MODE_0640 = 0o640
MODE_0604 = 0o604


@pytest.fixture
def path(open_folder: Path) -> Path:
    return open_folder / "run" / "demo.sock"


@pytest.fixture(autouse=True)
def _folder(path: Path) -> None:
    path.parent.mkdir()
    path.parent.chmod(0o755)


@pytest.fixture
def file(open_folder: Path) -> Path:
    return open_folder / "tcppar.toml"


def said_by(name: str | Path) -> bytes:
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(PATIENCE)
        client.connect(str(name))
        return read_all(client)


def is_served(path: Path) -> bool:
    try:
        return said_by(path) == b"served\n"
    except (FileNotFoundError, ConnectionRefusedError):
        return False


def names(path: Path) -> list[str]:
    """What the system shows of listeners below the path's folder, or of others with a name that begins as its does."""
    words = [line.split()[-1] for line in Path("/proc/net/unix").read_text().splitlines() if len(line.split()) > 7]
    return [word for word in words if path.name in word]


def rights(path: Path) -> tuple[int, int, int]:
    found = path.lstat()
    return stat.S_IMODE(found.st_mode), found.st_uid, found.st_gid


def reset(server: Server) -> None:
    before = len(server.events("reset"))
    server.signal(signal.SIGUSR1)
    server.wait_for_event("reset", before + 1)


def reload(server: Server) -> None:
    before = len(server.events("reloaded"))
    server.signal(signal.SIGHUP)
    server.wait_for_event("reloaded", before + 1)


def test_after_a_reset_the_system_shows_the_path(serve: Serve, path: Path) -> None:
    if os.geteuid() != 0:
        unavailable("only root can bind a path in the place of a socket that is there (chroot(2))")
    server = serve(f"unix:{path}", "--", *GREETING)
    for _ in range(2):
        reset(server)
        assert said_by(path) == b"served\n"
        wait_until(lambda: names(path) == [str(path)])
    assert os.listdir(path.parent) == [path.name]


def test_in_a_folder_of_another_user_too(serve: Serve, path: Path) -> None:
    if os.geteuid() != 0:
        unavailable("only root has files of several users")
    os.chown(path.parent, NOBODY, NOBODY)
    server = serve(f"unix:{path}", "--", *GREETING)
    assert names(path) == [str(path)]
    reset(server)
    assert said_by(path) == b"served\n"
    wait_until(lambda: names(path) == [str(path)])
    assert os.listdir(path.parent) == [path.name]


def test_a_relative_path_is_shown_as_it_is_configured(serve: Serve, path: Path) -> None:
    server = serve(f"unix:run/{path.name}", "--", *GREETING, cwd=path.parent.parent)
    reset(server)
    assert said_by(path) == b"served\n"
    wait_until(lambda: len(names(path)) == 1)
    if os.geteuid() == 0:
        assert names(path) == [f"run/{path.name}"]


@pytest.mark.parametrize("how", [reset, reload])
def test_a_file_that_was_removed_is_there_again(serve: Serve, path: Path, file: Path, how: object) -> None:
    config.write(file, {"one": {"listen": [f"unix:{path}"], "command": GREETING}})
    server = serve("-c", file)
    path.unlink()
    assert callable(how)
    how(server)
    wait_until(lambda: is_served(path))


@pytest.mark.parametrize("how", [reset, reload])
def test_so_it_is_if_the_folder_was_removed_and_made_again(serve: Serve, path: Path, file: Path, how: object) -> None:
    config.write(file, {"one": {"listen": [f"unix:{path}"], "command": GREETING}})
    server = serve("-c", file)
    path.unlink()
    path.parent.rmdir()
    path.parent.mkdir()
    assert callable(how)
    how(server)
    wait_until(lambda: is_served(path))


def test_a_file_that_a_child_removes_is_there_again_unasked(serve: Serve, path: Path) -> None:
    server = serve(f"unix:{path}", "--", "sh", "-c", f"rm -f {path}; echo served")
    for count in (1, 2):
        assert is_served(path)
        assert server.wait_for_event("reset", count)[-1]["reason"] == "its file is gone"
        wait_until(path.exists)
    assert server.stop() == 0


def test_a_file_that_another_has_put_there_is_left_alone(serve: Serve, path: Path) -> None:
    server = serve(f"unix:{path}", "--", "echo", "served")
    beside = path.with_suffix(".new")
    beside.write_text("another's")
    beside.rename(path)
    look = path.with_suffix(".look")
    second = serve(f"unix:{look}", "--", "echo", "served")
    look.unlink()
    second.wait_for_event("reset")  # it was looked at after the other one
    assert path.read_text() == "another's"
    assert server.events("reset") == []


def test_a_reload_leaves_a_file_alone_that_is_in_order(serve: Serve, path: Path, file: Path) -> None:
    config.write(file, {"one": {"listen": [f"unix:{path}"], "command": GREETING}})
    server = serve("-c", file)
    before = path.lstat().st_ino
    path.chmod(0o600)
    reload(server)
    assert path.lstat().st_ino == before
    assert server.events("reset") == []


def test_a_reload_does_not_take_the_path_of_another_server(serve: Serve, path: Path, file: Path) -> None:
    config.write(file, {"one": {"listen": [f"unix:{path}"], "command": GREETING}})
    server = serve("-c", file)
    path.unlink()
    with socket.socket(socket.AF_UNIX) as other:
        other.bind(str(path))
        other.listen()
        before = path.lstat().st_ino
        reload(server)
        assert path.lstat().st_ino == before


def test_the_mode_is_set_whatever_the_umask(serve: Serve, path: Path) -> None:
    server = serve(f"unix:{path}", "--socket-mode", "0660", "--", *GREETING, umask=0o077)
    assert rights(path)[0] == MODE_0660
    reset(server)
    assert rights(path)[0] == MODE_0660


def test_the_mode_is_there_before_anybody_can_connect(serve: Serve, path: Path) -> None:
    """It is that of the file's first moment: a mode that is given later lets others in before."""
    trace = path.parent.parent / "trace"
    # The server is what is started, and strace its child: signals go to the server.
    wrapper = [tool("strace"), "-D", "-o", str(trace), "-e", "trace=bind,chmod,fchmod,fchmodat"]
    server = serve(f"unix:{path}", "--socket-mode", "0600", "--", *GREETING, wrapper=wrapper, umask=0)
    assert server.stop() == 0
    wait_until(lambda: "exited with 0" in trace.read_text())
    calls = trace.read_text()
    assert f'sun_path="{path}"' in calls
    assert "chmod" not in calls


def test_user_and_group_are_set(serve: Serve, path: Path) -> None:
    if os.geteuid() != 0:
        unavailable("only root can give a file away")
    group = grp.getgrgid(NOBODY).gr_name
    owner = ["--socket-user", "nobody", "--socket-group", group, "--socket-mode", "0600"]
    server = serve(f"unix:{path}", *owner, "--", *GREETING)
    assert rights(path) == (0o600, NOBODY, NOBODY)
    reset(server)
    assert rights(path) == (0o600, NOBODY, NOBODY)
    assert said_by(path) == b"served\n"


def test_in_a_folder_of_another_user_they_are_set_too(serve: Serve, path: Path) -> None:
    if os.geteuid() != 0:
        unavailable("only root has files of several users")
    os.chown(path.parent, NOBODY, NOBODY)
    serve(f"unix:{path}", "--socket-user", "nobody", "--socket-mode", "0640", "--", *GREETING)
    assert rights(path) == (0o640, NOBODY, 0)


def test_a_reload_changes_the_mode_and_loses_nobody(serve: Serve, path: Path, file: Path) -> None:
    service: dict[str, object] = {"listen": [f"unix:{path}"], "command": GREETING}
    config.write(file, {"one": service | {"socket_mode": "0600"}})
    server = serve("-c", file)
    config.write(file, {"one": service | {"socket_mode": "0666"}})
    reload(server)
    wait_until(lambda: rights(path)[0] == 0o666)
    assert said_by(path) == b"served\n"


def test_a_reload_takes_back_what_the_settings_gave(serve: Serve, path: Path, file: Path) -> None:
    given: dict[str, object] = {"socket_mode": "0604"}
    if os.geteuid() == 0:
        given |= {"socket_user": "nobody", "socket_group": str(NOBODY)}
    service: dict[str, object] = {"listen": [f"unix:{path}"], "command": GREETING}
    config.write(file, {"one": service})
    server = serve("-c", file)
    as_made = rights(path)
    for setting, value in given.items():
        config.write(file, {"one": service | {setting: value}})
        reload(server)
        wait_until(lambda: rights(path) != as_made)  # a reset waits for the one before it
        config.write(file, {"one": service})
        reload(server)
        wait_until(lambda: rights(path) == as_made)
    assert said_by(path) == b"served\n"


def test_what_others_have_given_it_stays(serve: Serve, path: Path, file: Path) -> None:
    service: dict[str, object] = {"listen": [f"unix:{path}"], "command": GREETING}
    config.write(file, {"one": service | {"socket_mode": "0604"}})
    server = serve("-c", file)
    config.write(file, {"one": service})
    reload(server)
    path.chmod(0o640)
    for how in (reload, reset, reload):
        how(server)
        assert rights(path)[0] == MODE_0640


@pytest.mark.parametrize("serve", ["full"], indirect=True)
def test_after_an_upgrade_it_is_known_what_the_settings_gave(serve: Serve, path: Path, file: Path) -> None:
    service: dict[str, object] = {"listen": [f"unix:{path}"], "command": GREETING}
    config.write(file, {"one": service | {"socket_mode": "0604"}})
    server = serve("-c", file)
    upgrade(server)
    config.write(file, {"one": service})
    reload(server)
    wait_until(lambda: rights(path)[0] != MODE_0604)


def test_what_is_no_socket_is_told_and_left_alone(path: Path) -> None:
    path.write_text("mine")
    outcome = command.run("serve", f"unix:{path}", "--", "cat")
    assert outcome.returncode == 111
    assert f"cannot listen on unix:{path}: a regular file is there: expected a socket or nothing" in outcome.stderr
    assert path.read_text() == "mine"


@pytest.mark.parametrize(("make", "kind"), [(os.mkdir, "a directory"), (os.mkfifo, "a pipe")])
def test_its_kind_is_told(path: Path, make: object, kind: str) -> None:
    assert callable(make)
    make(path)
    assert f"{kind} is there" in command.run("serve", f"unix:{path}", "--", "cat").stderr


def test_a_path_that_is_served_already_is_told(serve: Serve, path: Path) -> None:
    serve(f"unix:{path}", "--", *GREETING)
    outcome = command.run("serve", f"unix:{path}", "--", "cat")
    assert outcome.returncode == 111
    assert "EADDRINUSE" in outcome.stderr
    assert "another server listens there" in outcome.stderr


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["127.0.0.1:0", "--socket-mode", "0600"], "socket_mode: can only be used with unix:/PATH"),
        (["unix:@x", "--socket-user", "nobody"], "socket_user: can only be used with unix:/PATH"),
        (["unix:/x", "--socket-user", "nobody-of-this-name"], "socket_user: 'nobody-of-this-name': no such user"),
        (["unix:/x", "--socket-group", "nobody-of-this-name"], "socket_group: 'nobody-of-this-name': no such group"),
        (["unix:/x", "--socket-mode", "rw"], "socket_mode: 'rw' is not a file mode"),
    ],
)
def test_rights_that_make_no_sense_are_mistakes(words: list[str], said: str) -> None:
    outcome = command.run("check", *words, "--", "cat")
    assert outcome.returncode == 100
    assert said in outcome.stderr


def test_only_root_gives_sockets_away(path: Path) -> None:
    if os.geteuid() == 0:
        words = [*command.words("check", f"unix:{path}", "--socket-user", "root", "--", "cat")]
        try:
            outcome = subprocess.run(words, user=NOBODY, group=NOBODY, extra_groups=[], capture_output=True, text=True)
        except PermissionError:
            unavailable("nobody cannot reach this package")
    else:
        outcome = command.run("check", f"unix:{path}", "--socket-user", "root", "--", "cat")
    assert outcome.returncode == 100
    assert "socket_user: 'root': the server runs as user " in outcome.stderr
    assert "only root can give the socket to another user" in outcome.stderr


# Abstract sockets.


@pytest.fixture
def name() -> str:
    return f"@tcppar-test-{os.getpid()}"


def said_by_abstract(name: str) -> bytes:
    return said_by("\0" + name[1:])


def test_an_abstract_socket_makes_no_file(serve: Serve, name: str, path: Path) -> None:
    server = serve(f"unix:{name}", "--", "sh", "-c", 'echo "$IPCLOCALPATH"', cwd=path.parent)
    assert said_by_abstract(name) == f"{name}\n".encode()
    assert os.listdir(path.parent) == []
    assert server.events("listening")[0]["address"] == f"unix:{name}"


def test_it_can_be_reset_and_stopped(serve: Serve, name: str, path: Path) -> None:
    server = serve(f"unix:{name}", "--", *GREETING, cwd=path.parent)
    reset(server)
    assert said_by_abstract(name) == b"served\n"
    assert not server.events("reset")[0]["lossless"]
    assert server.stop() == 0
    with pytest.raises(ConnectionRefusedError):
        said_by_abstract(name)


def test_a_name_that_is_taken_is_told(serve: Serve, name: str) -> None:
    serve(f"unix:{name}", "--", *GREETING)
    outcome = command.run("serve", f"unix:{name}", "--", "cat")
    assert outcome.returncode == 111
    assert "EADDRINUSE" in outcome.stderr


def test_a_reset_leaves_alone_what_somebody_else_has_put_there(serve: Serve, path: Path) -> None:
    server = serve(f"unix:{path}", "--", *GREETING)
    path.unlink()
    path.write_text("somebody's data")
    server.signal(signal.SIGUSR1)
    [fault] = server.wait_for_event("fault")
    assert "EEXIST" in fault["error"]
    assert path.read_text() == "somebody's data"
    path.unlink()
    server.signal(signal.SIGUSR1)
    wait_until(lambda: is_served(path))


def test_a_reset_does_not_take_another_servers_place(serve: Serve, path: Path) -> None:
    server = serve(f"unix:{path}", "--", *GREETING)
    path.unlink()
    with socket.socket(socket.AF_UNIX) as another:
        another.bind(str(path))
        another.listen()
        server.signal(signal.SIGUSR1)
        [fault] = server.wait_for_event("fault")
        assert "EADDRINUSE" in fault["error"]
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(str(path))
            another.accept()[0].close()
    # Nobody listens there any more.
    server.signal(signal.SIGUSR1)
    wait_until(lambda: is_served(path))
