"""Arguments and variables that are not UTF-8 come to the program as they are, whoever goes on with the server."""

import os
import shutil
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.conftest import tool
from tests.support import command
from tests.support.command import Serve
from tests.support.server import Server
from tests.support.succession import kill_supervisor, upgrade

RAW = b"caf\xe9 \xff {remote_port} \xc3"
AS_PYTHON_HAS_IT = os.fsdecode(RAW)
SAYS_WORDS = ["--environment", f"RAW={AS_PYTHON_HAS_IT}", "--argv0", os.fsdecode(b"\xfe-sh"), "--", "sh", "-c"]
SAYS_WORDS += ['printf "%s|%s|" "$1" "$RAW"; tr "\\0" "|" < /proc/$$/cmdline', "sh", AS_PYTHON_HAS_IT]


def check(server: Server) -> None:
    with server.connect() as client:
        port = str(client.getsockname()[1]).encode()
        argument, variable, name, *_ = client.makefile("rb").read().split(b"|")
    assert argument == RAW.replace(b"{remote_port}", port)
    assert variable == RAW
    assert name == b"\xfe-sh"


@pytest.mark.parametrize("limits", [[], ["--rlimit", "core=0"]], ids=["spawn", "fork"])
def test_they_are_not_changed(serve: Serve, limits: list[str]) -> None:
    check(serve("127.0.0.1:0", *limits, *SAYS_WORDS))


def reload(server: Server) -> None:
    server.signal(signal.SIGHUP)
    server.wait_for_event("reloaded")


@pytest.mark.parametrize("go_on", [reload, upgrade, kill_supervisor])
def test_whoever_goes_on_does_not_change_them_either(go_on: Callable[[Server], object]) -> None:
    with Server("127.0.0.1:0", "--keep", *SAYS_WORDS) as server:
        go_on(server)
        check(server)


def test_a_program_may_have_any_name(serve: Serve, tmp_path: Path) -> None:
    program = tmp_path / os.fsdecode(b"\xe9cho")
    shutil.copy(tool("echo"), program)
    server = serve("127.0.0.1:0", "--", program, "hello")
    assert server.exchange(b"") == b"hello\n"
    program.unlink()
    assert server.exchange(b"") == b""
    [refused] = server.wait_for_event("refused")
    assert "\\xe9cho: ENOENT" in refused["detail"]


def test_what_would_happen_is_told_in_text_that_can_be_printed() -> None:
    told = command.run("check", "127.0.0.1:0", *SAYS_WORDS[:-1], AS_PYTHON_HAS_IT)
    assert told.returncode == 0, told.stderr
    told = command.run("check", "--from", "127.0.0.1", "127.0.0.1:0", *SAYS_WORDS)
    assert told.returncode == 0, told.stderr
    assert "RAW=caf\\udce9" in told.stdout
