"""The working directory, which is looked up for each connection: releases change under a running server."""

import os
from pathlib import Path

import pytest

from tests.support.command import Serve
from tests.support.server import Server, read_all

WHERE = ["--", "sh", "-c", "pwd -P"]
HANDLER = "import os\ndef handle(conn): conn.write(os.getcwd().encode())\n"


@pytest.fixture(params=["program", "rlimits", "fork", "pool"])
def kind(request: pytest.FixtureRequest) -> str:
    """What runs, and with `rlimits` another way to make it in the portable profile."""
    return str(request.param)


@pytest.fixture
def words(kind: str, tmp_path: Path) -> list[str]:
    """What makes the server tell each client its directory."""
    if kind in ("fork", "pool"):
        (tmp_path / "where.py").write_text(HANDLER)
        return ["--handler", f"{tmp_path}/where.py:handle", "--mode", kind]
    return [*(["--rlimit", "nofile=64"] if kind == "rlimits" else []), *WHERE]


def folder(path: Path) -> Path:
    path.mkdir()
    path.chmod(0o755)
    return path


def turn(link: Path, to: Path) -> None:
    """`ln -sfn TO LINK`."""
    new = link.with_name("new")
    new.symlink_to(to)
    new.rename(link)


def directory_of_next(server: Server) -> Path:
    with server.connect() as client:
        return Path(read_all(client).decode().strip())


def test_a_link_that_is_turned_takes_effect_with_the_next_connection(
    serve: Serve, words: list[str], tmp_path: Path
) -> None:
    first, second, link = folder(tmp_path / "release1"), folder(tmp_path / "release2"), tmp_path / "current"
    turn(link, first)
    server = serve("127.0.0.1:0", "--directory", link, *words)
    assert directory_of_next(server) == first
    turn(link, second)
    assert directory_of_next(server) == second
    turn(link, first)
    assert directory_of_next(server) == first


def test_a_folder_that_was_removed_and_made_again_is_entered(serve: Serve, words: list[str], tmp_path: Path) -> None:
    place = folder(tmp_path / "place")
    server = serve("127.0.0.1:0", "--directory", place, *words)
    assert directory_of_next(server) == place
    place.rmdir()
    assert directory_of_next(server) == Path()
    folder(place)
    assert directory_of_next(server) == place


def test_a_relative_directory_is_where_the_server_was_started(serve: Serve, words: list[str], tmp_path: Path) -> None:
    first, second, link = folder(tmp_path / "release1"), folder(tmp_path / "release2"), tmp_path / "current"
    turn(link, first)
    server = serve("127.0.0.1:0", "--directory", "current", *words, cwd=tmp_path)
    assert directory_of_next(server) == first
    turn(link, second)
    assert directory_of_next(server) == second


def test_a_directory_that_is_gone_is_told(serve: Serve, tmp_path: Path) -> None:
    place = folder(tmp_path / "place")
    server = serve("127.0.0.1:0", "--directory", place, *WHERE)
    place.rmdir()
    assert directory_of_next(server) == Path()
    (refused,) = server.wait_for_event("refused")
    assert refused["reason"] == "spawn_failed"
    assert f"directory {place}: ENOENT" in refused["detail"]


@pytest.mark.parametrize("mode", ["fork", "pool"])
def test_a_handlers_directory_that_is_gone_is_told(serve: Serve, mode: str, tmp_path: Path) -> None:
    (tmp_path / "where.py").write_text(HANDLER)
    place = folder(tmp_path / "place")
    handler = ["--handler", f"{tmp_path}/where.py:handle", "--mode", mode]
    server = serve("127.0.0.1:0", "--directory", place, *handler)
    place.rmdir()
    assert directory_of_next(server) == Path()
    (end,) = server.wait_for_event("end")
    assert end["exit"] == 111
    (said,) = server.wait_for_event("stderr")
    assert f"directory {place}: No such file or directory" in said["line"]


def test_a_folder_that_may_be_entered_no_more_is_still_good(serve: Serve, open_folder: Path) -> None:
    """A child could else keep the next ones out, by taking the rights of its own directory away."""
    if os.geteuid() != 0:
        pytest.skip("only root can start children as somebody else")
    place = folder(open_folder / "place")
    os.chown(place, 65534, 65534)
    server = serve(
        "127.0.0.1:0", "--user", "nobody", "--directory", place, "--", "sh", "-c", f"chmod 0 {place}; echo $?"
    )
    for _ in range(2):
        with server.connect() as client:
            assert read_all(client) == b"0\n"
