"""Each mistake of a configuration is told once: what would only follow from another one is no mistake of its own."""

import os
from pathlib import Path
from typing import Any

import pytest

from tcppar import config_file
from tcppar.errors import ConfigurationError
from tests.support import command

LISTEN = 'listen = ["127.0.0.1:0"]\n'
CAT = 'command = ["cat"]\n'
HANDLER = 'handler = "json:dumps"\n'

# Tables of a service, and the beginnings of all that is said of them.
TABLES: dict[str, tuple[str, list[str]]] = {
    "directory that is no text": (LISTEN + 'command = ["./x"]\ndirectory = 3\n', ["directory: 3"]),
    "directory that is not there": (
        LISTEN + 'command = ["./x"]\ndirectory = "/nowhere"\n',
        ["directory: '/nowhere': no such directory"],
    ),
    "control file that is no text": (LISTEN + 'command = ["cat", "{ctl}"]\ncontrol_file = 3\n', ["control_file: 3"]),
    "control file with a wrong place": (
        LISTEN + 'command = ["cat", "{ctl}"]\ncontrol_file = "{ct}"\n',
        ["control_file: {ct}: unknown placeholder"],
    ),
    "clear_environment": (
        LISTEN + CAT + 'clear_environment = "yes"\nkeep_environment = ["A"]\n',
        ["clear_environment: 'yes'"],
    ),
    "mode": (LISTEN + HANDLER + 'mode = "poool"\nworkers = 3\n', ["mode: 'poool'"]),
    "handler": (LISTEN + 'handler = 3\nmode = "pool"\nworkers = 3\n', ["handler: 3"]),
    "command": (LISTEN + 'command = "cat"\n', ["command: 'cat'"]),
    "listen": ('listen = ["x"]\nsocket_mode = "0600"\n' + CAT, ["listen: entry 1: 'x'"]),
    "listen for both families": ('listen = ["[::x]:0"]\nipv6_only = false\n' + CAT, ["listen: entry 1: '[::x]:0'"]),
    "environment": (
        LISTEN + 'command = ["tcppar-no-program"]\nenvironment = {PATH = 3, A = "x"}\n',
        ["environment.PATH: 3"],
    ),
    "name of listen": ("lisen = 3\nfree_bind = true\n" + CAT, ["lisen: unknown setting; did you mean listen?"]),
    "name of command": (LISTEN + 'comand = ["cat"]\n', ["comand: unknown setting; did you mean command?"]),
    "name of handler": (LISTEN + 'handlr = "a:b"\nmode = "pool"\n', ["handlr: unknown setting; did you mean handler?"]),
    "place of listen": (
        CAT + "[service.one.environment]\n" + LISTEN,
        ["environment.listen: this is a service setting"],
    ),
    "user": (LISTEN + CAT + 'user = "no-such-user"\nrlimits = {core = 0}\n', ["user: 'no-such-user'"]),
    "command without a name": (
        'listen = ["x"]\ncommand = [""]\ndirectory = "/nowhere"\nenvironment = {PATH = 3}\n',
        ["listen: entry 1: 'x'", "command: '': no such program", "directory: '/nowhere'", "environment.PATH: 3"],
    ),
    "no time": (LISTEN + CAT + "rlimits = {cpu = 0}\n", ["rlimits.cpu: 0: the system would end each child at once"]),
    "no time at first": (LISTEN + CAT + 'rlimits = {cpu = "0:9"}\n', ["rlimits.cpu: 0: the system would end"]),
    # Those that do not depend on each other are told together.
    "several": (
        'listen = ["x"]\ncommand = ["tcppar-no-program", "{ctl}"]\numask = 3\nmode = "pool"\n',
        [
            "umask: 3",
            "listen: entry 1: 'x'",
            "mode: can only",
            "command: {ctl} is used",
            "command: 'tcppar-no-program'",
        ],
    ),
}


def mistakes_in(folder: Path, text: str) -> list[str]:
    file = folder / "tcppar.toml"
    file.write_text(text)
    with pytest.raises(ConfigurationError) as error:
        config_file.load(file)
    return [mistake.removeprefix(f"{file}: ").removeprefix("service.one.") for mistake in error.value.mistakes]


@pytest.mark.parametrize("name", TABLES)
def test_what_follows_from_a_mistake_is_none(name: str, tmp_path: Path) -> None:
    table, expected = TABLES[name]
    found = mistakes_in(tmp_path, f"[service.one]\n{table}")
    assert len(found) == len(expected), found
    for beginning in expected:
        assert [mistake for mistake in found if mistake.startswith(beginning)], (beginning, found)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (f"[echo]\n{LISTEN}{CAT}", "echo: unknown table: expected [service.echo]"),
        (f"{LISTEN}[service.one]\n{CAT}", "listen: this is a service setting: put it in a table [service.NAME]"),
        ('log_format = "text"\n', "no service: expected at least one table [service.NAME]"),
    ],
)
def test_what_stands_in_the_wrong_table_is_one_mistake(text: str, expected: str, tmp_path: Path) -> None:
    assert mistakes_in(tmp_path, text) == [expected]


def test_a_service_without_a_name_is_told_what_it_lacks(tmp_path: Path) -> None:
    told = "this is a service setting: put it in a table [service.NAME]"
    found = mistakes_in(tmp_path, f"[service]\n{LISTEN}{CAT}")
    assert found == [f"service.listen: {told}", f"service.command: {told}"]


def test_the_name_of_a_service_hides_no_other_mistake(tmp_path: Path) -> None:
    found = mistakes_in(tmp_path, f'[service."a b"]\n{LISTEN}command = [""]\nfoo = 1\n')
    assert [mistake.split(": ")[:2] for mistake in found] == [
        ["service", "'a b'"],
        ["service.'a b'.foo", "unknown setting"],
        ["service.'a b'.command", "''"],
    ]


def test_the_keeper_is_asked_for_by_a_flag(tmp_path: Path) -> None:
    found = mistakes_in(tmp_path, f"keep = true\n[service.one]\n{LISTEN}{CAT}")
    assert found == ["keep: this is not a setting, but a flag: tcppar serve --keep"]


@pytest.mark.parametrize("more", [["--", "./program"], ["--handler", "file.py:handle"]], ids=["program", "handler"])
def test_a_directory_that_is_not_utf_8_is_one_mistake_and_shown_as_it_is(more: list[Any]) -> None:
    outcome = command.run("check", "127.0.0.1:0", "--directory", os.fsdecode(b"not-\xff"), *more)
    told = r"directory: 'not-\xff': expected a string in UTF-8 without NUL"
    assert (outcome.returncode, outcome.stderr) == (100, f"tcppar: command line: {told}\n")
