"""`tcppar selftest`: what it says of a machine where all is well, and of one where something is lost."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import msgspec
import pytest

import tcppar
from tcppar.errors import ExitCode
from tcppar.testing import selftest
from tests.conftest import tool
from tests.support import command
from tests.support.command import Completed, environment_with, words

PATIENCE = 150

pytestmark = pytest.mark.timeout(PATIENCE + 10)


def run(*arguments: str, environment: Mapping[str, str] | None = None) -> Completed:
    """Run `tcppar selftest` for as short as it can be."""
    return subprocess.run(
        words("selftest", "--seconds", "1", *arguments),
        env=environment_with(environment),
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )


@pytest.mark.usefixtures("many_descriptors")
def test_on_this_machine_nothing_is_lost() -> None:
    done = run()
    assert done.returncode == ExitCode.OK, done.stdout + done.stderr
    *verdicts, last = done.stdout.splitlines()
    assert last == "nothing was lost"
    names = [*(part.name for part in selftest.PARTS), "what is left", "stop"]
    assert [line[:6].rstrip() for line in verdicts] == ["ok"] * len(names)
    assert [line[7:].partition(":")[0] for line in verdicts] == names
    assert "20 x reset" in verdicts[1]
    assert "connections, none lost" in verdicts[1]
    assert done.stderr == ""


@pytest.mark.usefixtures("many_descriptors")
def test_what_is_lost_is_told_and_is_a_failure(open_folder: Path) -> None:
    (open_folder / "sh").symlink_to(shutil.which("sh") or "")  # and no `cat`: the program cannot answer
    done = run("--only", "load", "--json", environment={"PATH": str(open_folder)})
    assert done.returncode == 1
    answer = json.loads(done.stdout)
    assert answer["passed"] is False
    lost = {verdict["part"]: verdict["lost"] for verdict in answer["verdicts"]}
    assert any("of program" in loss and ("cut" in loss or "reset" in loss) for loss in lost["load"])
    assert not any("of pool" in loss or "of fork" in loss for loss in lost["load"])


def test_a_part_that_is_not_known_is_a_mistake() -> None:
    done = run("--only", "nonsense")
    assert done.returncode == ExitCode.USAGE
    assert done.stderr.startswith("tcppar: --only 'nonsense': expected one of 'load', 'resets'")


def test_where_too_few_descriptors_may_be_open_it_is_not_tried() -> None:
    limited = f'ulimit -n {selftest.DESCRIPTORS // 4} && exec "$@"'
    # Root raises the limit, unless it has not the right to.
    unprivileged = [tool("setpriv"), "--bounding-set=-sys_resource"] if os.geteuid() == 0 else []
    done = command.run("selftest", "--only", "load", wrapper=[*unprivileged, "sh", "-c", limited, "sh"])
    assert done.returncode == ExitCode.SYSTEM
    assert done.stderr.startswith(f"tcppar: the clients need {selftest.DESCRIPTORS} open descriptors")
    assert done.stdout == ""


@pytest.mark.usefixtures("many_descriptors")
def test_a_server_that_does_not_start_is_a_message(tmp_path: Path) -> None:
    done = run("--only", "load", environment={"PATH": str(tmp_path)})
    assert done.returncode == ExitCode.SYSTEM
    assert done.stderr.startswith("tcppar: the server under test does not start: ")
    assert "no such program" in done.stderr
    assert done.stdout == ""


@pytest.mark.usefixtures("many_descriptors")
@pytest.mark.skipif(os.geteuid() != 0, reason="only root becomes somebody else who cannot reach what is root's own")
def test_it_works_from_a_folder_that_is_roots_own(tmp_path: Path) -> None:
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o700)
    shutil.copytree(tcppar.__path__[0], closed / "tcppar")
    python = closed / "python"
    python.symlink_to(os.path.realpath(sys.executable))
    path = f"{closed}{os.pathsep}{Path(msgspec.__file__).parents[1]}"
    words = [str(python), "-m", "tcppar", "selftest", "--seconds", "1", "--only", "shortages"]
    environment = environment_with({"PYTHONPATH": path})  # the checkout, with its .venv, is elsewhere
    done = subprocess.run(
        words, env=environment, cwd="/", capture_output=True, text=True, timeout=PATIENCE, check=False
    )
    # Of what is left after so short a run nothing is said here: its processes have still to take the memory they need.
    assert "ok     shortages: 1 x out of descriptors, 1 x out of processes" in done.stdout, done.stdout + done.stderr
    assert done.stderr == ""
