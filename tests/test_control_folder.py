"""Where the folder of control files is made: whose user cannot write there is refused, and nothing is left."""

import os
from pathlib import Path

import pytest

from tests.conftest import unavailable
from tests.support import command

CONTROLLED = ["127.0.0.1:0", "--control-file", "text of {connection_id}"]


@pytest.mark.parametrize("name", ["check", "serve"])
def test_a_folder_that_the_user_cannot_reach_is_told(name: str, open_folder: Path) -> None:
    if os.geteuid() != 0:
        unavailable("only root can have children of another user")
    open_folder.chmod(0o700)
    words = [*CONTROLLED, "--user", "nobody", "--directory", "/", "--", "cat"]
    outcome = command.run(name, *words, environment={"TMPDIR": str(open_folder)})
    assert outcome.returncode == (100 if name == "check" else 111)
    assert "control_file: user nobody cannot write to" in outcome.stderr
    assert f"(at {open_folder}/): Permission denied (TMPDIR chooses another folder)\n" in outcome.stderr
    assert os.listdir(open_folder) == []


def test_a_check_leaves_no_folder(tmp_path: Path) -> None:
    outcome = command.run("check", *CONTROLLED, "--", "cat", environment={"TMPDIR": str(tmp_path)})
    assert (outcome.returncode, outcome.stderr) == (0, "")
    assert os.listdir(tmp_path) == []
