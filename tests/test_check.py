"""`tcppar check`, as users run it."""

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

import tcppar


def check(*words: str | Path, environment: Mapping[str, str] | None = None) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-m", "tcppar", "check", *map(str, words)]
    return subprocess.run(command, capture_output=True, text=True, env=os.environ | dict(environment or {}))


def explained(*words: str | Path, environment: Mapping[str, str] | None = None) -> str:
    """What is said of a sound configuration."""
    done = check(*words, environment=environment)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


def mistakes(*words: str | Path) -> list[str]:
    """What is said of one that is not."""
    done = check(*words)
    assert (done.returncode, done.stdout) == (100, "")
    return done.stderr.splitlines()


@pytest.fixture
def two_services(tmp_path: Path) -> Path:
    file = tmp_path / "two.toml"
    file.write_text("""
        [service.web]
        listen = ["192.0.2.1:80", "[2001:db8::1]:80"]
        command = ["cat", "{remote_ip}"]

        [service.local]
        listen = ["unix:/run/local"]
        command = ["cat"]
        """)
    return file


def test_a_sound_command_line_is_said_to_have_no_mistakes() -> None:
    assert explained("127.0.0.1:0", "--", "cat") == "command line: no mistakes, services: cat\n"


def test_a_sound_file_is_said_to_have_no_mistakes_and_its_services_are_named(two_services: Path) -> None:
    assert explained("-c", two_services) == f"{two_services}: no mistakes, services: web, local\n"


def test_every_mistake_has_a_line_and_the_exit_code_is_100() -> None:
    lines = mistakes("localhost:80", "--nice=20", "--", "no-such-program")
    assert len(lines) == 3
    assert all(line.startswith("tcppar: command line: ") for line in lines)


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--max-conections=3"], "tcppar: No such option '--max-conections'"),
        (["-c"], "tcppar: Option '-c' requires an argument."),
    ],
)
def test_a_mistake_in_a_flag_itself_ends_with_100_too(words: list[str], told: str) -> None:
    [line] = mistakes(*words)
    assert line.startswith(told)


def test_nothing_is_listened_on(tmp_path: Path) -> None:
    path = tmp_path / "socket"
    explained(f"unix:{path}", "--", "cat")
    assert not path.exists()


def test_a_client_is_shown_its_verdict_command_and_environment() -> None:
    text = explained(
        *("192.0.2.1:80", "--max-connections=2", "--when-full=refuse", "--environment=A=b c"),
        *("--from=198.51.100.7", "--", "printf", "%s says hello\\n", "{remote_ip}"),
    )
    assert "service printf: a client from 198.51.100.7:50000 to 192.0.2.1:80" in text
    assert "verdict: gets a process; when 2 connections are open, it is accepted and closed at once" in text
    assert "command: printf '%s says hello\\n' 198.51.100.7\n" in text
    for line in ("PROTO=TCP", "TCPREMOTEIP=198.51.100.7", "TCPLOCALIP=192.0.2.1", "TCPLOCALPORT=80", "A=b c"):
        assert f"\n  {line}\n" in f"{text}\n"


def test_a_client_that_waits_when_all_is_full_is_told_so() -> None:
    text = explained("127.0.0.1:0", "--from=127.0.0.1", "--", "cat")
    assert "when 1000 connections are open, it waits in the kernel's queue until a connection ends" in text


def test_the_environment_is_the_one_that_the_server_would_give() -> None:
    text = explained(
        *("127.0.0.1:0", "--from=127.0.0.1", "--clear-environment", "--keep-environment=KEPT", "--", "cat"),
        environment={"KEPT": "yes", "LEFT_OUT": "no", "NOTIFY_SOCKET": "/run/notify"},
    )
    assert "\n  KEPT=yes\n" in text
    assert "LEFT_OUT" not in text
    assert "NOTIFY_SOCKET" not in text


def test_the_environment_has_systemds_names_where_the_child_gets_them() -> None:
    text = explained("127.0.0.1:0", "--descriptors=listen-fds", "--from=127.0.0.1", "--", "cat")
    assert "\n  LISTEN_FDS=1\n" in text
    assert "\n  LISTEN_FDNAMES=connection\n" in text
    assert "\n  LISTEN_PID=(the child's pid)\n" in text


def test_what_is_no_text_in_the_environment_is_shown_escaped_and_on_one_line() -> None:
    odd = {"ODD": os.fsdecode(b"a\xff\nB=b\x1b[0m\\")}
    text = explained("127.0.0.1:0", "--from=127.0.0.1", "--", "cat", environment=odd)
    assert "\n  ODD=a\\udcff\\nB=b\\x1b[0m\\\n" in text


@pytest.mark.parametrize("words", [[], ["--from=127.0.0.1"]], ids=["mistakes only", "explained"])
def test_an_answer_that_cannot_be_written_is_told_and_ends_with_111(words: list[str]) -> None:
    command = [sys.executable, "-m", "tcppar", "check", "127.0.0.1:0", *words, "--", "cat"]
    with open("/dev/full", "wb") as full:
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True)
    assert (done.returncode, done.stderr) == (111, "tcppar: cannot write the output: No space left on device\n")


def test_a_program_whose_name_is_no_plain_word_gives_its_service_one(tmp_path: Path) -> None:
    program = tmp_path / "my prog\n"
    program.symlink_to("/bin/cat")
    assert explained("127.0.0.1:0", "--", program) == "command line: no mistakes, services: my_prog_\n"


def test_a_control_file_is_shown_as_it_would_be_written() -> None:
    text = explained("127.0.0.1:0", "--control-file=ip {remote_ip}", "--from=192.0.2.9", "--", "cat", "{ctl}")
    [path] = [line.removeprefix("command: cat ") for line in text.splitlines() if line.startswith("command:")]
    assert text.endswith(f"control file {path}:\n  ip 192.0.2.9\n")


def test_a_client_comes_to_the_listener_of_its_family(two_services: Path) -> None:
    text = explained("-c", two_services, "--service=web", "--from=2001:db8::7")
    assert "service web: a client from [2001:db8::7]:50000 to [2001:db8::1]:80" in text
    assert "command: cat 2001:db8::7\n" in text


def test_a_client_of_a_bare_port_may_be_of_either_family() -> None:
    for ip, local in (("192.0.2.7", "127.0.0.1:80"), ("2001:db8::7", "[::1]:80")):
        assert f" to {local}\n" in explained(":80", f"--from={ip}", "--", "cat")


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--from=somewhere", "--service=web"], "--from 'somewhere': expected a numeric IPv4 or IPv6 address"),
        (["--from=192.0.2.7"], "--service is missing: expected one of web, local"),
        (["--from=192.0.2.7", "--service=wbe"], "--service wbe: expected one of web, local"),
        (["--service=wbe"], "--service wbe: expected one of web, local"),
        (["--from=192.0.2.7", "--service=local"], "service local has no listener for an ipv4 client"),
    ],
)
def test_a_client_that_cannot_come_is_told_why(words: list[str], told: str, two_services: Path) -> None:
    assert mistakes("-c", two_services, *words) == [f"tcppar: {told}"]


def test_help_and_version_end_with_0() -> None:
    assert explained("--help").startswith("Usage: ")
    shown = subprocess.run([sys.executable, "-m", "tcppar", "--version"], capture_output=True, text=True, check=True)
    assert tcppar.__version__ in shown.stdout
