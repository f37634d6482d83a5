"""`tcppar check`, as users run it."""

import os
import socket
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

import tcppar
from tcppar.config import from_tree
from tcppar.supervisor.succession import trial
from tests.conftest import tool, unavailable
from tests.support import command


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
        listen = ["127.0.0.1:7080", "[::1]:7080"]
        command = ["cat", "{remote_ip}"]

        [service.local]
        listen = ["unix:/tmp/tcppar-local"]
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
        *("127.0.0.1:7080", "--max-connections=2", "--when-full=refuse", "--environment=A=b c"),
        *("--from=198.51.100.7", "--", "printf", "%s says hello\\n", "{remote_ip}"),
    )
    assert "service printf: a client from 198.51.100.7:50000 to 127.0.0.1:7080" in text
    assert "verdict: gets a process; when 2 connections are open, it is accepted and closed at once" in text
    assert "command: printf '%s says hello\\n' 198.51.100.7\n" in text
    for line in ("PROTO=TCP", "TCPREMOTEIP=198.51.100.7", "TCPLOCALIP=127.0.0.1", "TCPLOCALPORT=7080", "A=b c"):
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
    assert "service web: a client from [2001:db8::7]:50000 to [::1]:7080" in text
    assert "command: cat 2001:db8::7\n" in text


def test_a_client_of_a_bare_port_may_be_of_either_family() -> None:
    for ip, local in (("192.0.2.7", "127.0.0.1:7080"), ("2001:db8::7", "[::1]:7080")):
        assert f" to {local}\n" in explained(":7080", f"--from={ip}", "--", "cat")


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--from=somewhere", "--service=web"], "--from 'somewhere': expected a numeric IPv4 or IPv6 address"),
        (["--from=192.0.2.7"], "--service is missing: expected one of web, local"),
        (["--from=192.0.2.7", "--service=wbe"], "--service 'wbe': expected one of web, local"),
        (["--service=wbe"], "--service 'wbe': expected one of web, local"),
        (["--from=192.0.2.7", "--service=local"], "service local has no listener for an ipv4 client"),
    ],
)
def test_a_client_that_cannot_come_is_told_why(words: list[str], told: str, two_services: Path) -> None:
    assert mistakes("-c", two_services, *words) == [f"tcppar: {told}"]


def test_help_and_version_end_with_0() -> None:
    assert explained("--help").startswith("Usage: ")
    shown = subprocess.run([sys.executable, "-m", "tcppar", "--version"], capture_output=True, text=True, check=True)
    assert tcppar.__version__ in shown.stdout


# What the system would refuse at the start.


def told_by_check_and_serve(*words: str | Path, wrapper: Sequence[str] = ()) -> str:
    """Why neither would listen, which both tell alike."""
    checked, served = (command.run(name, *words, "--", "cat", wrapper=wrapper) for name in ("check", "serve"))
    assert (checked.returncode, served.returncode) == (100, 111)
    said = checked.stderr.removeprefix("tcppar: command line: service.cat: ")
    assert served.stderr == f"tcppar: {said}"
    return said.removesuffix("\n")


def test_an_address_of_another_machine_is_told() -> None:
    told = (
        "EADDRNOTAVAIL (Cannot assign requested address): no interface of this machine has that address "
        "(to listen on it anyway, set free_bind = true)"
    )
    assert told_by_check_and_serve("192.0.2.1:7000") == f"cannot listen on 192.0.2.1:7000: {told}"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can leave its rights")
def test_a_low_port_without_the_right_to_it_is_told() -> None:
    wrapper = [tool("setpriv"), "--bounding-set=-net_bind_service", "--inh-caps=-net_bind_service"]
    told = told_by_check_and_serve("127.0.0.1:1", wrapper=wrapper)
    assert told.endswith("ports below 1024 need root or CAP_NET_BIND_SERVICE")


def test_a_folder_of_a_socket_that_is_not_there_is_told(tmp_path: Path) -> None:
    assert "ENOENT" in told_by_check_and_serve(f"unix:{tmp_path}/gone/socket")


def test_a_file_that_is_in_the_place_of_a_socket_is_told(tmp_path: Path) -> None:
    (tmp_path / "socket").write_text("")
    checked = check(f"unix:{tmp_path}/socket", "--", "cat")
    assert checked.returncode == 100
    assert "a regular file is there: expected a socket or nothing" in checked.stderr


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can be somebody else")
def test_a_folder_in_which_no_socket_can_be_made_is_told(open_folder: Path) -> None:
    wrapper = [tool("setpriv"), "--reuid=nobody", "--clear-groups"]
    if command.run("--version", wrapper=wrapper).returncode != 0:
        unavailable("nobody cannot read where tcppar is")
    assert "EACCES" in told_by_check_and_serve(f"unix:{open_folder}/socket", wrapper=wrapper)


def test_who_listens_there_now_is_no_mistake(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken, socket.socket(socket.AF_UNIX) as taken_path:
        taken_path.bind(str(tmp_path / "socket"))
        taken_path.listen()
        places = [f"127.0.0.1:{taken.getsockname()[1]}", f"unix:{tmp_path}/socket"]
        assert explained(*places, "--", "cat") == "command line: no mistakes, services: cat\n"
        assert (tmp_path / "socket").is_socket()


def test_a_handler_that_is_never_loaded_keeps_no_check_waiting(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trial, "_PATIENCE", 0.2)
    (tmp_path / "endless.py").write_text("import signal\nwhile True:\n    signal.pause()\n")
    tree = {"service": {"one": {"listen": ["127.0.0.1:0"], "handler": f"{tmp_path}/endless.py:handle"}}}
    [service] = from_tree(tree, "tree").services.values()
    assert list(trial.refusals(service)) == ["its spawner was not ready within 0.2 s"]
