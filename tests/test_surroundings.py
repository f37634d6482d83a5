"""What tests are started in, and what they leave: the means of this suite itself."""

import os
import resource
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from tests.conftest import HERE, tool
from tests.support import surroundings

SETTLED = """
import os, subprocess
from tests.support import surroundings
surroundings.settle()
print(open("/proc/self/status").read(), subprocess.check_output(["cat", "/proc/self/status"], text=True), sep="ends\\n")
"""
SIGHUP_SIGINT_SIGQUIT = 1 << 0 | 1 << 1 | 1 << 2
SIGPIPE_SIGXFSZ = 1 << 12 | 1 << 24


def status_of(wrapper: list[str]) -> list[dict[str, str]]:
    """What the system says of a process that has settled, and of one that it has started (proc_pid_status(5))."""
    words = [*wrapper, sys.executable, "-c", SETTLED]
    said = subprocess.run(words, cwd=HERE.parent, check=True, capture_output=True, text=True).stdout
    return [dict(line.split(":", 1) for line in one.splitlines() if ":" in line) for one in said.split("ends\n")]


def test_programs_have_all_signals_at_their_defaults_whatever_the_run_was_started_with() -> None:
    ours, theirs = status_of([tool("env"), "--ignore-signal", "--block-signal"])
    assert int(theirs["SigIgn"], 16) == int(theirs["SigBlk"], 16) == int(ours["SigBlk"], 16) == 0
    # What a terminal sends, and was to be ignored, does not end the run all the same: it is caught.
    assert int(ours["SigIgn"], 16) == SIGPIPE_SIGXFSZ
    assert int(ours["SigCgt"], 16) == SIGHUP_SIGINT_SIGQUIT


def test_the_umask_is_the_usual_one() -> None:
    before = os.umask(0o077)
    try:
        surroundings.settle()
        assert os.umask(0o077) == 0o022
    finally:
        os.umask(before)


@pytest.mark.usefixtures("many_descriptors")
def test_a_low_limit_of_descriptors_is_raised_as_far_as_it_may_be() -> None:
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (surroundings.DESCRIPTORS // 4, before[1]))
    try:
        surroundings.settle()
        assert resource.getrlimit(resource.RLIMIT_NOFILE) == (surroundings.DESCRIPTORS, before[1])
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)


def test_a_folder_that_is_left_is_told_and_removed() -> None:
    left = ""
    with (
        pytest.raises(AssertionError, match=r"temporary files: .*'tcppar-left-"),
        surroundings.nothing_is_left(),
    ):
        left = tempfile.mkdtemp(prefix="tcppar-left-")
    assert not Path(left).exists()


def leave_a_process() -> int:
    script = "sleep 1000 >/dev/null & echo $!"
    return int(subprocess.run(["sh", "-c", script], check=True, stdout=subprocess.PIPE).stdout)


def test_a_process_that_is_left_is_told_though_it_is_nobodys_child() -> None:
    left = []
    with (
        pytest.raises(AssertionError, match=r"processes: .*'sleep', '1000'"),
        surroundings.nothing_is_left(patience=0.1),
    ):
        left.append(leave_a_process())
    os.kill(left[0], signal.SIGKILL)


def test_where_nothing_is_left_nothing_is_told() -> None:
    before = dict(os.environ), tempfile.gettempdir()
    with surroundings.nothing_is_left(), tempfile.TemporaryDirectory() as name:
        assert Path(name).parent != Path(before[1])
        subprocess.run(["true"], check=True)
    assert (dict(os.environ), tempfile.gettempdir()) == before
