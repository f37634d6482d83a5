"""A folder of configuration files: read together, by `check`, by a start and by a reload."""

import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from tcppar import config_file
from tcppar.config import Config
from tcppar.errors import ConfigurationError
from tcppar.settings import LogFormat
from tests.support import command
from tests.support.server import PATIENCE, Server

Serve = Callable[..., Server]


def service(name: str, *, listen: str = "127.0.0.1:0", more: str = "") -> str:
    return f'[service.{name}]\nlisten = ["{listen}"]\ncommand = ["echo", "{name}"]\n{more}\n'


def fill(folder: Path, **files: str) -> Path:
    """Write files, each `NAME.toml`."""
    for name, text in files.items():
        (folder / f"{name}.toml").write_text(text)
    return folder


def load(folder: Path, **files: str) -> Config:
    return config_file.load(fill(folder, **files))


def mistakes(folder: Path, **files: str) -> tuple[str, ...]:
    with pytest.raises(ConfigurationError) as error:
        load(folder, **files)
    return error.value.mistakes


def test_the_services_of_all_files_are_joined_in_the_order_of_the_files_names(tmp_path: Path) -> None:
    read = load(tmp_path, b=service("second"), a=service("first"), c=service("third") + service("fourth"))
    assert list(read.services) == ["first", "second", "third", "fourth"]


def test_settings_of_the_server_may_stand_in_a_file_of_their_own(tmp_path: Path) -> None:
    read = load(tmp_path, a=service("web"), server='log_format = "json"')
    assert read.server.log_format is LogFormat.JSON


@pytest.mark.parametrize(
    "name", [".web.toml", "web.toml~", "web.toml.dpkg-new", "web.toml.bak", "README", ".#web.toml", "web.TOML"]
)
def test_other_files_are_left_out(name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text("= no TOML")
    (tmp_path / "notes").mkdir()
    assert list(load(tmp_path, web=service("web")).services) == ["web"]


def test_a_service_that_stands_in_two_files_is_refused_with_both(tmp_path: Path) -> None:
    told = mistakes(tmp_path, a=service("web"), b=service("web"))
    assert told == (f"{tmp_path}/b.toml: service.web: is already defined in {tmp_path}/a.toml",)


def test_a_setting_of_the_server_that_stands_in_two_files_is_refused_with_both(tmp_path: Path) -> None:
    told = mistakes(tmp_path, a=f"reload = true\n{service('web')}", b="reload = false")
    assert told == (f"{tmp_path}/b.toml: reload: is already defined in {tmp_path}/a.toml",)


def test_addresses_of_two_files_that_overlap_are_refused(tmp_path: Path) -> None:
    told = mistakes(tmp_path, a=service("one", listen="127.0.0.1:80"), b=service("two", listen=":80"))
    place = f"{tmp_path}/b.toml: service.two.listen"
    assert told == (f"{place}: :80 overlaps with 127.0.0.1:80 of service.one",)


def test_mistakes_of_all_files_are_told_at_once_each_with_its_file(tmp_path: Path) -> None:
    told = mistakes(tmp_path, a=service("one", more="nice = 20"), b=service("two", more="nice = 21"))
    assert [mistake.partition(": ")[0] for mistake in told] == [f"{tmp_path}/a.toml", f"{tmp_path}/b.toml"]


def test_files_that_are_no_toml_are_told_at_once(tmp_path: Path) -> None:
    told = mistakes(tmp_path, a="= 1", b="user = nobody", c=service("web"))
    assert [mistake.partition(": ")[0] for mistake in told] == [f"{tmp_path}/a.toml", f"{tmp_path}/b.toml"]


def test_a_folder_without_files_is_refused(tmp_path: Path) -> None:
    [told] = mistakes(tmp_path)
    assert told == f"{tmp_path}: this folder has 0 files *.toml: expected 1 to 1000"


def test_files_without_a_service_are_refused(tmp_path: Path) -> None:
    [told] = mistakes(tmp_path, a='log_format = "json"')
    assert told == f"{tmp_path}: no service: expected at least one table [service.NAME]"


def test_files_that_are_too_large_together_are_refused(tmp_path: Path) -> None:
    half = "#" * (config_file.LARGEST_FILE // 2)
    [told] = mistakes(tmp_path, a=half, b=half + service("web"))
    assert told == f"{tmp_path}/b.toml: is too large: expected at most 1048576 bytes, together with the files before it"


def test_more_files_than_anybody_has_are_refused(tmp_path: Path) -> None:
    [told] = mistakes(tmp_path, **{f"f{number}": "" for number in range(config_file.MOST_FILES + 1)})
    assert told.startswith(f"{tmp_path}: this folder has 1001 files *.toml")


@pytest.mark.parametrize("again", [False, True], ids=["first", "again"])
def test_what_could_keep_its_reader_waiting_is_not_read(again: bool, tmp_path: Path) -> None:
    fill(tmp_path, web=service("web"))
    os.mkfifo(tmp_path / "pipe.toml")
    (tmp_path / "zeros.toml").symlink_to("/dev/zero")
    (tmp_path / "folder.toml").mkdir()
    (tmp_path / "gone.toml").symlink_to("/nonexistent")
    with pytest.raises(ConfigurationError) as error:
        config_file.load(tmp_path, again=again)
    assert [mistake.partition(": ")[0] for mistake in error.value.mistakes] == [
        f"{tmp_path}/{name}.toml" for name in ("folder", "gone", "pipe", "zeros")
    ]


def test_a_file_with_a_name_of_odd_bytes_is_told(tmp_path: Path) -> None:
    (tmp_path / os.fsdecode(b"\xff.toml")).write_text("= 1")
    [told] = mistakes(tmp_path)
    assert told.startswith(f"{tmp_path}/\\xff.toml: is not TOML")


def test_check_and_serve_read_a_folder_alike(serve: Serve, tmp_path: Path) -> None:
    fill(tmp_path, b=service("two"), a=service("one"))
    assert command.run("check", "-c", tmp_path).stdout == f"{tmp_path}: no mistakes, services: one, two\n"
    server = serve("-c", tmp_path)
    assert [record["service"] for record in server.wait_for_event("listening", 2)] == ["one", "two"]


def test_a_reload_reads_the_folder_again(serve: Serve, tmp_path: Path) -> None:
    server = serve("-c", fill(tmp_path, a=service("one"), b=service("two")))
    server.wait_for_event("listening", 2)
    (tmp_path / "a.toml").unlink()
    fill(tmp_path, c=service("three"))
    server.signal(signal.SIGHUP)
    [record] = server.wait_for_event("reloaded")
    assert (record["added"], record["removed"]) == (["three"], ["one"])


def test_a_reload_of_a_folder_with_a_mistake_changes_nothing(serve: Serve, tmp_path: Path) -> None:
    server = serve("-c", fill(tmp_path, a=service("one")))
    fill(tmp_path, b=service("one"))
    server.signal(signal.SIGHUP)
    [record] = server.wait_for_event("reload-failed")
    [checked] = command.run("check", "-c", tmp_path).stderr.splitlines()
    assert [checked] == [f"tcppar: {mistake}" for mistake in record["mistakes"]]
    assert server.exchange(b"") == b"one\n"


# A pipe in place of a file.


def test_a_pipe_that_nobody_writes_to_keeps_no_check_waiting_for_ever(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    checked = command.run("check", "-c", pipe)
    assert checked.returncode == 100
    assert checked.stderr == f"tcppar: {pipe}: cannot be read: it is a pipe, and nothing was written to it for 10 s\n"


def test_a_pipe_that_is_written_to_later_is_read_to_its_end(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    with command.running("check", "-c", pipe, stdout=-1) as checking:
        with pipe.open("w") as writer:  # which waits for the reader
            for line in service("web").splitlines(keepends=True):
                writer.write(line)
                writer.flush()
        assert checking.communicate(timeout=PATIENCE)[0] == f"{pipe}: no mistakes, services: web\n".encode()
