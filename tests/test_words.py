"""Whatever stands in a configuration: it is read, or refused with a message; and what is read can be kept and told."""

import datetime
import math
import os
import signal
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from tcppar import config, config_file
from tcppar.config import Config, child_plan, from_tree
from tcppar.conversion import from_text
from tcppar.errors import ConfigurationError
from tcppar.records import ChildPlan
from tcppar.settings import ServerSettings, ServiceSettings
from tests.support import command
from tests.support.config import write
from tests.support.server import PATIENCE, Server

Serve = Callable[..., Server]

SOUND = '[service.one]\nlisten = ["127.0.0.1:0"]\ncommand = ["cat"]\n'
HUGE = 2**64
DEEP = 100_000

# What a file may say of a setting: mostly what it should be, sometimes anything that TOML can express.
numbers = (
    st.integers()
    | st.builds(pow, st.just(10), st.just(5000))
    | st.sampled_from([0, 1, 2**31, 2**63, HUGE, -HUGE])
    | st.floats()
)
texts = st.text(max_size=40) | st.sampled_from(
    [
        "30s",
        "64M",
        "unlimited",
        "0027",
        "2-16",
        ":0",
        "unix:/x",
        "inherited",
        "cat",
        "{ctl}",
        "nobody",
        "\0",
        "x" * 9999,
    ]
)
times = st.datetimes() | st.dates() | st.times()
plain = numbers | texts | times | st.booleans()
values = st.recursive(
    plain,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=9), inner, max_size=4),
    max_leaves=9,
)
names = st.sampled_from([*ServiceSettings.__struct_fields__, *ServerSettings.__struct_fields__, "service"])
tables = st.dictionaries(names | st.text(max_size=9), values, max_size=6)
services = tables.map(lambda table: {"listen": [":0"], "command": ["cat"]} | table)
trees = st.builds(
    lambda server, named: server | {"service": named},
    st.just({}) | tables,
    st.dictionaries(st.sampled_from(["one", "two", "a b", "x" * 65]), services | values, max_size=3),
)
fuzzed = settings(deadline=None, suppress_health_check=list(HealthCheck))


def assert_can_be_kept(read: Config) -> None:
    """By the books, with a keeper and at an upgrade; and each service's spawner can be told its plan."""
    assert msgspec.msgpack.decode(config.encoded(read), type=Config, dec_hook=from_text) == read
    for service in read.services.values():
        plan = child_plan(service, "prefix", {"PATH": os.defpath}, options_inherited=True)
        assert msgspec.msgpack.decode(msgspec.msgpack.encode(plan), type=ChildPlan) == plan


@fuzzed
@given(trees)
@example({"service": {"one": {"listen": [":0"], "command": ["cat"], "max_connections": HUGE}}})
@example({"service": {"one": {"listen": [":0"], "command": ["cat"], "user": str(HUGE)}}})
def test_a_tree_is_read_or_refused(tree: dict[str, Any]) -> None:
    try:
        read = from_tree(tree, "tree")
    except ConfigurationError:
        return
    assert_can_be_kept(read)


pieces = st.sampled_from(
    [*"[]{}=,.\"'#\n \\0", "\ufeff", "1e999", "nan", "-inf", "0x", "1979-05-27T07:32:00Z", SOUND, '"""']
)


@fuzzed
@given(st.lists(pieces | st.text(max_size=5), max_size=30).map("".join))
@example("a = " + "[" * DEEP)
@example("a = " + "{a=" * DEEP)
@example("a." * DEEP + "a = 1")
@example(SOUND + "nice = " + "9" * 5000)
@example(SOUND + f"nice = 0x{'f' * 5000}")
def test_a_text_is_read_or_refused(tmp_path_factory: pytest.TempPathFactory, text: str) -> None:
    file = tmp_path_factory.getbasetemp() / "fuzzed.toml"
    file.write_text(text)
    try:
        read = config_file.load(file)
    except ConfigurationError:
        return
    assert_can_be_kept(read)


# What `check` refuses, for it could not be served or kept.

REFUSED = {
    "a number beyond 64 bits": f"max_connections = {HUGE}",
    "a number of thousands of digits": f"max_connections = 0x{'f' * 9999}",
    "strikes beyond 64 bits": f"strikes = {HUGE}",
    "a billion spawners": "spawners = 1000000000",
    "not a number": f"max_lifetime = {math.nan}",
    "no end": f"drain_timeout = {math.inf}",
    "a user's number beyond all": f'user = "{HUGE}"',
    "a date": f"user = {datetime.date(2026, 1, 31)}",
    "a key twice": "nice = 1\nnice = 1",
    "a word that is too long to be run": f'environment = {{ A = "{"x" * 200_000}" }}',
    "more words than can be run": f"environment = {{ {', '.join(f'A{n} = 1' for n in range(9))} }}",
    "nesting without end": f"nice = {'[' * DEEP}",
}


@pytest.mark.parametrize("line", REFUSED.values(), ids=REFUSED)
def test_check_refuses(line: str, tmp_path: Path) -> None:
    file = tmp_path / "tcppar.toml"
    file.write_text(f"{SOUND}{line}\n")
    outcome = command.run("check", "-c", file)
    assert outcome.returncode == 100
    assert outcome.stderr.startswith(f"tcppar: {file}: ")
    assert "Traceback" not in outcome.stderr
    assert len(outcome.stderr) < 2000


def test_check_refuses_workers_without_number(tmp_path: Path) -> None:
    file = tmp_path / "tcppar.toml"
    write(file, {"one": {"handler": "json:dumps", "mode": "pool", "workers": "999999999"}})
    assert "one.workers: '999999999' is not a range" in command.run("check", "-c", file).stderr


def test_check_refuses_more_words_than_the_system_takes(tmp_path: Path) -> None:
    file = tmp_path / "tcppar.toml"
    file.write_text(SOUND.replace('"cat"', '"cat",' + '"x",' * 230_000))
    outcome = command.run("check", "-c", file)
    assert outcome.returncode == 100
    assert "its arguments and its environment are too large" in outcome.stderr


def test_check_refuses_a_file_that_is_too_large(tmp_path: Path) -> None:
    file = tmp_path / "tcppar.toml"
    write(file, {"one": {"command": ["echo", *["x"] * 2_000_000]}})
    assert f"{file}: is too large" in command.run("check", "-c", file).stderr


def test_check_refuses_more_services_than_can_be_kept(tmp_path: Path) -> None:
    file = tmp_path / "tcppar.toml"
    file.write_text("".join(f'[service.s{n}]\nlisten = ["unix:/s{n}"]\ncommand = ["cat"]\n' for n in range(10_000)))
    assert "is too large: " in command.run("check", "-c", file).stderr


def test_a_name_has_its_place_in_the_books(tmp_path: Path) -> None:
    file = tmp_path / "tcppar.toml"
    file.write_text(SOUND.replace("one", "x" * 65))
    assert "expected a name of at most 64 letters" in command.run("check", "-c", file).stderr


# A server that serves.


def assert_survives(server: Server, count: int, said: str) -> None:
    """It says what is wrong, and goes on."""
    server.signal(signal.SIGHUP)
    mistakes = server.wait_for_event("reload-failed", count)[-1]["mistakes"]
    assert said in mistakes[0]
    assert server.exchange(b"hello") == b"hello"


def test_a_reload_of_whatever_stands_there_leaves_the_server_as_it_is(serve: Serve, tmp_path: Path) -> None:
    file = tmp_path / "tcppar.toml"
    file.write_text(SOUND)
    server = serve("-c", file)
    file.write_text("a = " + "[" * DEEP)
    assert_survives(server, 1, "is nested too deeply")
    file.write_bytes(b"\xff" * 1000)
    assert_survives(server, 2, "is not UTF-8")
    file.write_text("a." * DEEP)
    assert_survives(server, 3, "expected at most 10000 dots")
    with file.open("wb") as sparse:
        sparse.truncate(1 << 40)
    assert_survives(server, 4, "is too large")
    file.write_text(f"{SOUND}max_connections = {HUGE}\n")
    assert_survives(server, 5, "max_connections")
    file.unlink()
    assert_survives(server, 6, "cannot be read")
    os.mkfifo(file)
    assert_survives(server, 7, "it is not a regular file")
    file.unlink()
    file.symlink_to("/dev/zero")
    assert_survives(server, 8, "it is not a regular file")
    file.unlink()
    file.mkdir()
    assert_survives(server, 9, "this folder has 0 files *.toml")
    assert server.stop() == 0


def test_the_first_reading_may_be_of_a_pipe(tmp_path: Path) -> None:
    """`-c /dev/stdin`, as a script does it."""
    reader, writer = os.pipe()
    os.write(writer, SOUND.encode())
    os.close(writer)
    with Server("-c", "/dev/stdin", stdin=reader) as server:
        os.close(reader)
        assert_survives(server, 1, "it is not a regular file")


# The environment.

ENVIRONMENTS = {
    "another's heritage": {"TCPPAR_HERITAGE": "abc"},
    "a heritage that is not open": {"TCPPAR_HERITAGE": "999999999999999999999"},
    "a heritage that is none": {"TCPPAR_HERITAGE": "0"},
    "a heritage without end": {"TCPPAR_HERITAGE": f"{'9' * 5000}:1"},
    "a limit without end": {"TCPPAR_GIVEN_DESCRIPTORS": "9" * 5000},
    "a limit of none": {"TCPPAR_GIVEN_DESCRIPTORS": "0"},
    "a limit in words": {"TCPPAR_GIVEN_DESCRIPTORS": "all"},
    "a trial without end": {"TCPPAR_TRIAL": "9" * 5000},
    "a trial of nothing": {"TCPPAR_TRIAL": "x"},
    "a trial of what is no book": {"TCPPAR_TRIAL": "0"},
}


@pytest.mark.parametrize("environment", ENVIRONMENTS.values(), ids=ENVIRONMENTS)
def test_what_only_the_server_sets_is_refused(environment: dict[str, str]) -> None:
    outcome = command.run("serve", "127.0.0.1:0", "--", "cat", environment=environment)
    assert outcome.returncode == 111
    assert outcome.stderr.startswith("tcppar: ")
    assert outcome.stderr.count("\n") == 1


@pytest.mark.parametrize("number", ["abc", "-1", "999999999999999999", "\u0663", "999999", "1"])
@pytest.mark.parametrize("address", ["inherited", "inherited:name"])
def test_a_service_manager_that_passes_nonsense_is_refused(number: str, address: str) -> None:
    """Descriptor 3 is not open here."""
    become = 'LISTEN_PID=$$; export LISTEN_PID; exec 3<&- "$@"'
    outcome = command.run(
        *("serve", address, "--", "cat"),
        environment={"LISTEN_FDS": number, "LISTEN_FDNAMES": "x"},
        wrapper=["sh", "-c", become, "sh"],
    )
    assert outcome.returncode == 111
    assert outcome.stderr.startswith("tcppar: cannot listen on inherited")
    assert outcome.stderr.count("\n") == 1


def test_a_service_manager_that_does_not_read_keeps_nobody_waiting(serve: Serve, tmp_path: Path) -> None:

    with (
        socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager,
        socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as full,
    ):
        manager.bind(str(tmp_path / "notify"))
        full.setblocking(False)
        try:
            while True:
                full.sendto(b"x", str(tmp_path / "notify"))
        except BlockingIOError:
            pass
        server = serve("127.0.0.1:0", "--", "cat", environment={"NOTIFY_SOCKET": str(tmp_path / "notify")})
        assert server.exchange(b"hello") == b"hello"
        assert server.stop(patience=PATIENCE) == 0
