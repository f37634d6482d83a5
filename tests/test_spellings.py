"""One address in different words: a reload from one to another keeps the listener, two services cannot have both."""

import os
import signal
import socket
from pathlib import Path

import pytest

from tests.conftest import tool
from tests.support import command, config
from tests.support.command import Serve
from tests.support.server import PATIENCE, read_all, wait_until
from tests.test_overlapping import reload
from tests.test_scoped_addresses import LINK_LOCAL, network, only_root

__all__ = ["network"]

TELLS = ["sh", "-c", "echo $IPCLOCALPATH"]
SPELLINGS = ["{}/run/demo.sock", "{}/link/demo.sock", "run/demo.sock", "./run/../link/demo.sock", "{}//run/demo.sock"]


@pytest.fixture
def file(tmp_path: Path) -> Path:
    (tmp_path / "run").mkdir()
    (tmp_path / "link").symlink_to("run")
    return tmp_path / "tcppar.toml"


def path(file: Path) -> Path:
    return file.parent / "run" / "demo.sock"


def write(file: Path, spelling: str) -> str:
    address = f"unix:{spelling.format(file.parent)}"
    config.write(file, {"one": {"listen": [address], "command": TELLS}})
    return address


def said_by(file: Path) -> str:
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(PATIENCE)
        client.connect(str(path(file)))
        return read_all(client).decode().strip()


def test_a_reload_to_each_other_spelling_of_a_path_keeps_the_socket(serve: Serve, file: Path) -> None:
    write(file, SPELLINGS[0])
    server = serve("-c", file, cwd=file.parent)
    before = path(file).lstat().st_ino
    for spelling in (*SPELLINGS[1:], SPELLINGS[0]):
        address = write(file, spelling)
        outcome = reload(server)
        assert outcome["event"] == "reloaded", outcome
        assert f"unix:{said_by(file)}" == address
    assert path(file).lstat().st_ino == before
    assert server.stop() == 0
    assert not path(file).exists()


def test_the_former_spelling_need_lead_nowhere_then(serve: Serve, file: Path) -> None:
    write(file, SPELLINGS[1])
    server = serve("-c", file, cwd=file.parent)
    write(file, SPELLINGS[0])
    reload(server)
    (file.parent / "link").unlink()
    server.signal(signal.SIGUSR1)
    server.wait_for_event("reset")
    path(file).unlink()
    server.wait_for_event("reset", 2)
    wait_until(path(file).exists)
    assert f"{said_by(file)}" == f"{path(file)}"


def test_a_path_in_another_folder_is_another(serve: Serve, file: Path) -> None:
    write(file, SPELLINGS[0])
    server = serve("-c", file, cwd=file.parent)
    (file.parent / "other").mkdir()
    write(file, "{}/other/demo.sock")
    assert reload(server)["event"] == "reloaded"
    assert (file.parent / "other" / "demo.sock").exists()
    wait_until(lambda: not path(file).exists())


def test_a_folder_may_have_been_renamed(serve: Serve, file: Path) -> None:
    write(file, SPELLINGS[0])
    server = serve("-c", file, cwd=file.parent)
    (file.parent / "run").rename(file.parent / "renamed")
    (file.parent / "run").symlink_to("renamed")
    write(file, "{}/renamed/demo.sock")
    outcome = reload(server)
    assert outcome["event"] == "reloaded", outcome
    assert said_by(file).endswith("/renamed/demo.sock")


@pytest.mark.parametrize("listed", [[], ["{}/other"]], ids=["alone", "with another"])
def test_a_link_may_lead_elsewhere_by_now(serve: Serve, file: Path, listed: list[str]) -> None:
    (file.parent / "new").mkdir()
    write(file, SPELLINGS[1])
    server = serve("-c", file, cwd=file.parent)
    (file.parent / "link").unlink()
    (file.parent / "link").symlink_to("new")
    addresses = [f"unix:{spelling.format(file.parent)}" for spelling in (SPELLINGS[0], *listed)]
    config.write(file, {"one": {"listen": addresses, "command": TELLS}})
    outcome = reload(server)
    assert outcome["event"] == "reloaded", outcome
    assert said_by(file) == str(path(file))


@only_root
def test_an_interface_may_be_named_by_its_number_in_a_reload(serve: Serve, file: Path, network: list[str]) -> None:
    def with_zone(zone: str) -> None:
        config.write(file, {"one": {"listen": [f"[{LINK_LOCAL}%{zone}]:7099"], "command": ["cat"]}})

    tool("ip")
    with_zone("lo")
    server = serve("-c", file, wrapper=network)
    for zone in ("1", "1", "lo"):
        with_zone(zone)
        outcome = reload(server)
        assert outcome["event"] == "reloaded", outcome


@pytest.mark.parametrize("command_name", ["check", "serve"])
@pytest.mark.parametrize("other", SPELLINGS[1:])
def test_two_spellings_of_a_path_overlap(file: Path, other: str, command_name: str) -> None:
    addresses = [f"unix:{spelling.format(file.parent)}" for spelling in (SPELLINGS[0], other)]
    services = {name: {"listen": [at], "command": ["cat"]} for name, at in zip("ab", addresses, strict=True)}
    config.write(file, services)
    outcome = command.run(command_name, "-c", file, cwd=file.parent)
    assert outcome.returncode == 100
    told = f"service.b.listen: {addresses[1]} overlaps with {addresses[0]} of service.a"
    assert outcome.stderr == f"tcppar: {file}: {told}\n"
    assert not os.path.lexists(path(file))
