"""Command lines that are not quite right: what is said of them, by the command itself."""

import os
import subprocess

import pytest

from tests.support import command


def said(*words: str) -> str:
    """The one line that `tcppar WORD...` answers with, which is a refusal."""
    outcome = command.run(*words)
    assert outcome.returncode == 100
    assert outcome.stderr.startswith("tcppar: ")
    return outcome.stderr.removeprefix("tcppar: ").removesuffix("\n")


@pytest.mark.parametrize("name", ["serve", "check"])
@pytest.mark.parametrize(
    ("words", "corrected"),
    [
        (["127.0.0.1:0", "cat"], "127.0.0.1:0 -- cat"),
        (["127.0.0.1:0", "cat", "-u"], "127.0.0.1:0 -- cat -u"),
        ([":0", "/bin/sh", "-c", "echo hello"], ":0 -- /bin/sh -c 'echo hello'"),
        (["--user", "cat", "127.0.0.1:0", "cat"], "--user cat 127.0.0.1:0 -- cat"),
        (["--nodelay", "--nice=3", "0", "[::1]:0", "./no-such-program"], "--nodelay --nice=3 0 '[::1]:0' -- ./no-such"),
        (["cat"], "-- cat"),
        (["127.0.0.1:0", "tcppar-no-program", "-x"], "127.0.0.1:0 -- tcppar-no-program -x"),
        (["7000", "python3", "-c", "pass"], "7000 -- python3 -c pass"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_a_program_without_the_dashes_is_told_with_where_they_belong(
    name: str, words: list[str], corrected: str
) -> None:
    line = said(name, *words)
    assert f": put -- before the program: tcppar {name} {corrected}" in line
    assert line.startswith("command line: ")


@pytest.mark.parametrize(
    "words", [["localhost:80"], ["127.0.0.1"], ["tcp:80"], ["127.0.0.1:80", "unix:"], ["127.0.0.1:80", "10.0.0.1"]]
)
def test_a_word_that_is_no_program_is_told_as_an_address(words: list[str]) -> None:
    assert "expected IP:PORT" in said("serve", *words) + said("serve", *words, "--", "cat")


def test_with_a_handler_a_word_is_an_address() -> None:
    assert "'cat' has no port" in said("serve", "127.0.0.1:0", "cat", "--handler", "json:dumps")


@pytest.mark.parametrize("name", ["serve", "check"])
def test_an_empty_name_is_no_folder(name: str) -> None:
    told = "Invalid value for '-c' / '--config': expected the name of a file or a folder, not an empty string"
    assert said(name, "-c", "") == told


@pytest.mark.parametrize(
    ("flag", "told"),
    [
        ("--max-conections", "; did you mean --max-connections?"),
        ("--max_connections", "; did you mean --max-connections?"),
        ("--max-conn", "; did you mean --max-connections?"),
        ("--rlimits", "; did you mean --rlimit?"),
        ("--dir", "; did you mean --directory?"),
        ("--tls-cert", ""),
        ("--certfile", ""),
        ("--bind", ": addresses are given without a flag: ADDRESS... -- PROGRAM"),
        ("--processes", ""),
        ("--listen", ": addresses are given without a flag: ADDRESS... -- PROGRAM"),
        ("--command", ": the program and its arguments go at the end: ADDRESS... -- PROGRAM [ARGUMENT]..."),
        ("-p", ""),
    ],
)
def test_for_a_flag_that_does_not_exist_only_what_is_meant_is_suggested(flag: str, told: str) -> None:
    assert said("serve", flag, "x", "127.0.0.1:0", "--", "cat") == f"No such option {flag!r}{told}"


@pytest.mark.parametrize("flag", ["--keep", "--no-keep"])
def test_a_flag_of_another_command_is_told_as_that(flag: str) -> None:
    assert f"No such option {flag!r}: it is a flag of tcppar serve" in said("check", "127.0.0.1:0", flag, "--", "cat")


def test_another_commands_flags_are_suggested_in_the_same_way() -> None:
    assert said("selftest", "--tls") == "No such option '--tls'"
    assert (
        said("upgrade", "--timeouts", "3", str(os.getpid())) == "No such option '--timeouts'; did you mean --timeout?"
    )


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (
            ("upgrade", "--timeout", "x", "5"),
            "'x' is not a duration: expected a number of seconds, or numbers with the",
        ),
        (("upgrade", "--timeout", "nan", "5"), "'nan' is not a duration: expected a number of seconds"),
        (("upgrade", "--timeout=-1", "5"), "'-1' is not a duration: expected a number of seconds"),
        (("upgrade", "x"), "'x': expected a whole number"),
        (("selftest", "--seconds", "0"), "'0': expected 1s or more"),
        (("selftest", "--seconds", "500ms"), "'500ms': expected 1s or more"),
        (("serve", "--ready-fd", "x", "127.0.0.1:0", "--", "cat"), "'x': expected a whole number"),
    ],
)
def test_a_number_is_asked_for_in_words_of_the_command(words: tuple[str, ...], told: str) -> None:
    assert told in said(*words)


@pytest.mark.parametrize("flag", ["-h", "--help"])
@pytest.mark.parametrize("name", [[], ["serve"], ["check"], ["upgrade"], ["selftest"]], ids=lambda name: " ".join(name))
def test_help_is_on_standard_output(name: list[str], flag: str) -> None:
    outcome = command.run(*name, flag)
    assert (outcome.returncode, outcome.stderr) == (0, "")
    assert outcome.stdout.startswith("Usage: ")


def test_without_a_command_there_is_the_help() -> None:
    outcome = command.run()
    assert (outcome.returncode, outcome.stdout) == (100, "")
    assert outcome.stderr == command.run("--help").stdout


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["hceck"], "no such command 'hceck'; did you mean check?"),
        ([""], "no such command '': expected one of check, selftest, serve, upgrade; see tcppar --help"),
        (["help"], "no such command 'help': expected one of check, selftest, serve, upgrade; see tcppar --help"),
        (["--hlep"], "No such option '--hlep'; did you mean --help?"),
        (["--nope"], "No such option '--nope'"),
        (["serve"], "serve: expected ADDRESS... -- PROGRAM [ARGUMENT]..., or -c FILE; see tcppar serve --help"),
        (["check"], "check: expected ADDRESS... -- PROGRAM [ARGUMENT]..., or -c FILE; see tcppar check --help"),
        (["upgrade"], "Missing argument 'PID'."),
        (["upgrade", "0"], "Invalid value for 'PID': '0': expected a whole number, 1 or more"),
        (
            ["serve", ":0", "--command", "cat"],
            "No such option '--command': the program and its arguments go at the end: ADDRESS... -- PROGRAM "
            "[ARGUMENT]...",
        ),
        (["check", ":0", "--umsak", "027", "cat"], "No such option '--umsak'; did you mean --umask?"),
        (["check", ":0", "--service", "", "--", "cat"], "--service '': expected one of cat"),
        (["check", "-c", "file", ":0", ""], "command line: :0 '': with -c, this belongs in the file (file)"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_an_empty_or_wrong_command_is_told_once_with_what_is_expected(words: list[str], told: str) -> None:
    assert said(*words) == told


NO_MODULE = "expected the name of a module, such as json or package.module"


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--handler", ""], """handler: '': expected "module:name" or "path/file.py:name\""""),
        (["--handler", "", "--", "cat"], """handler: '': expected "module:name" or "path/file.py:name\""""),
        (["--handler", "json:dumps", "--preload", ""], f"preload: '': {NO_MODULE}"),
        (["--handler", "json:dumps", "--preload", "./x.py"], f"preload: './x.py': {NO_MODULE}"),
        (
            ["--clear-environment", "--keep-environment", "", "--", "cat"],
            "keep_environment: '': not a name for a variable: expected one without = and NUL",
        ),
        (
            ["--clear-environment", "--keep-environment", "A=B", "--", "cat"],
            "keep_environment: 'A=B': not a name for a variable: expected one without = and NUL",
        ),
        (["--environment", "", "--", "cat"], "--environment '': expected NAME=VALUE"),
        (["--user", "", "--", "cat"], "user: '': no such user on this system"),
        (["--directory", "", "--", "cat"], "directory: '': no such directory"),
        (["--log-format", "", "--", "cat"], "log_format: '': expected one of text, json"),
        (["--nice", "", "--", "cat"], "nice: '': expected a whole number from -20 to 19"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_an_empty_value_is_one_mistake(words: list[str], told: str) -> None:
    assert said("check", ":0", *words) == f"command line: {told}"


def test_an_empty_control_file_is_a_file_too() -> None:
    outcome = command.run("check", ":0", "--control-file", "", "--from", "127.0.0.1", "--", "cat", "{ctl}")
    assert "\ncommand: cat /tmp/tcppar-cat-XXXXXXXX/files/" in outcome.stdout


@pytest.mark.parametrize("words", [["--help"], ["--version"], ["serve", "--help"], ["check", ":0", "--", "cat"]])
def test_output_that_cannot_be_written_is_told(words: list[str]) -> None:
    with open("/dev/full", "w") as full:
        outcome = subprocess.run(command.words(*words), stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert (outcome.returncode, outcome.stderr) == (111, "tcppar: cannot write the output: No space left on device\n")
