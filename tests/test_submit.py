"""SUBMIT: the job that is started, its connection, its files, its end, and what happens when it cannot be."""

import json
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from shlex import quote
from typing import Any

import pytest

from tcppar.tcpx.jobs import Job, submit
from tests.conftest import HERE
from tests.support.server import PATIENCE, parent_of, read_all, read_line, stat_fields, wait_until

PYTHON = f"exec {quote(sys.executable)} -I -S"
FACTS = f"{PYTHON} {quote(str(HERE / 'children' / 'facts.py'))} {{fd}}"
# Not the shell's own redirection: by POSIX that need not know numbers above 9, and Debian's shell does not.
ECHO = f"{PYTHON} {quote(str(HERE / 'support' / 'echo_job.py'))} {{fd}}"
BOTH_GENERATIONS = pytest.mark.parametrize("detach", [False, True], ids=["child", "detached"])

Submit = Callable[..., Job]
Pair = tuple[socket.socket, socket.socket]


@pytest.fixture
def submitted(tmp_path: Path) -> Iterator[Submit]:
    """`submit` with its files in the test's folder; children that a test leaves are ended."""
    jobs: list[Job] = []

    def start(*arguments: Any, **settings: Any) -> Job:
        jobs.append(submit(*arguments, directory=tmp_path, **settings))
        return jobs[-1]

    yield start
    for job in jobs:
        if parent_of(job.pid) == os.getpid():
            os.kill(job.pid, signal.SIGKILL)
            job.wait()


@pytest.fixture(params=["127.0.0.1", "::1"], ids=["ipv4", "ipv6"])
def pair(request: pytest.FixtureRequest) -> Iterator[Pair]:
    """Both ends of a connection: the server's, and the client's."""
    family = socket.AF_INET6 if ":" in request.param else socket.AF_INET
    with socket.create_server((request.param, 0), family=family) as listener:
        client = socket.create_connection(listener.getsockname()[:2], timeout=PATIENCE)
        ours, _ = listener.accept()
    with ours, client:
        yield ours, client


def is_gone(pid: int) -> bool:
    return not stat_fields(pid)


def facts_of(client: socket.socket) -> dict[str, Any]:
    facts: dict[str, Any] = json.loads(read_all(client))
    return facts


# The connection


@BOTH_GENERATIONS
def test_a_job_has_the_connection_its_log_and_nothing_else(submitted: Submit, pair: Pair, detach: bool) -> None:
    ours, client = pair
    job = submitted(FACTS, socket=ours.fileno(), detach=detach)
    number = ours.fileno()
    ours.close()
    facts = facts_of(client)
    log = str(job.log_file)
    assert facts["descriptors"].pop(str(number)).startswith("socket:")
    assert facts["descriptors"] == {"0": "/dev/null", "1": log, "2": log}
    assert facts["arguments"] == [str(number)]
    assert facts["pid"] == facts["group"] == job.pid


@BOTH_GENERATIONS
def test_the_peer_does_not_notice_that_the_caller_closes_its_copy(
    submitted: Submit, pair: Pair, detach: bool, tmp_path: Path
) -> None:
    ours, client = pair
    gate = tmp_path / "gate"
    os.mkfifo(gate)
    submitted([f"read -r line <{gate}", FACTS], socket=ours.fileno(), detach=detach)
    ours.close()
    client.setblocking(False)
    with pytest.raises(BlockingIOError):
        client.recv(1)
    client.settimeout(PATIENCE)
    gate.write_text("go on\n")
    assert facts_of(client)["descriptors"]


def test_a_listener_of_the_callers_is_not_inherited(submitted: Submit, pair: Pair) -> None:
    ours, client = pair
    with socket.create_server(("127.0.0.1", 0)) as listener:
        submitted(FACTS, socket=ours.fileno())
        ours.close()
        assert str(listener.fileno()) not in facts_of(client)["descriptors"]


def test_a_job_need_not_have_a_connection(submitted: Submit) -> None:
    job = submitted("echo {fd}", wait=True)
    assert job.log_file.read_text() == "-1\n"


# The files


@BOTH_GENERATIONS
def test_lines_are_run_in_their_order_and_what_they_say_is_in_the_log(submitted: Submit, detach: bool) -> None:
    job = submitted(["# a comment", "echo one", "echo two >&2", "cat", "echo {fd} {print} '{ctl}'"], detach=detach)
    last = f"-1 {{print}} {job.control_file}\n"
    wait_until(lambda: job.log_file.read_text() == "one\ntwo\n" + last)
    assert (
        job.control_file.read_text()
        == f"# a comment\necho one\necho two >&2\ncat\necho -1 {{print}} '{job.control_file}'\n"
    )


def test_the_files_are_beside_each_other_and_nobody_elses_to_read(submitted: Submit, tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        job = submitted("true", name="NIGHT", wait=True)
    finally:
        os.umask(before)
    assert (job.control_file, job.log_file) == (tmp_path / "NIGHT.CTL", tmp_path / "NIGHT.LOG")
    assert {path.stat().st_mode & 0o777 for path in (job.control_file, job.log_file)} == {0o600}
    job.remove_files()
    job.remove_files()
    assert list(tmp_path.iterdir()) == []


def test_the_path_is_told_in_full(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    job = submit("cd / && cat '{ctl}'", wait=True)
    assert job.control_file.parent == tmp_path
    assert job.log_file.read_text() == job.control_file.read_text() != ""


@pytest.mark.parametrize("end", ["CTL", "LOG"])
def test_names_are_in_the_order_of_the_alphabet_and_none_that_is_taken(
    submitted: Submit, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, end: str
) -> None:
    monkeypatch.setattr("tcppar.tcpx.jobs._NUMBERS", iter(range(25, 28)))
    taken = tmp_path / f"TASABA.{end}"
    taken.write_text("an older job's")
    jobs = [submitted("true", wait=True) for _ in range(2)]
    assert [job.control_file.stem for job in jobs] == ["TASAAZ", "TASABB"]
    assert taken.read_text() == "an older job's"
    assert len(list(tmp_path.iterdir())) == 5
    with pytest.raises(FileExistsError, match="all job names"):
        submitted("true")


@pytest.mark.parametrize("end", ["CTL", "LOG"])
def test_a_name_that_was_asked_for_and_is_taken_is_an_error(submitted: Submit, tmp_path: Path, end: str) -> None:
    taken = tmp_path / f"NIGHT.{end}"
    taken.symlink_to("/etc/hostname")
    with pytest.raises(FileExistsError):
        submitted("true", name="NIGHT")
    assert list(tmp_path.iterdir()) == [taken]


def test_threads_that_submit_at_once_get_names_of_their_own(submitted: Submit, tmp_path: Path) -> None:
    threads = [threading.Thread(target=lambda: submitted("true", wait=True)) for _ in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(list(tmp_path.glob("TAS*.CTL"))) == 20


@BOTH_GENERATIONS
def test_the_runtime_reads_the_control_file(submitted: Submit, detach: bool) -> None:
    script = "import sys; print(open(sys.argv[2]).read(), sys.argv[1])"
    job = submitted(["RUN TCPCH1", "{fd}"], runtime=[sys.executable, "-c", script, "word"], detach=detach)
    wait_until(lambda: job.log_file.read_text() == "RUN TCPCH1\n-1\n word\n")


# The end


def test_poll_and_wait_tell_how_a_job_ended(submitted: Submit, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    os.mkfifo(gate)
    job = submitted([f"read -r line <{gate}", "exit 7"])
    assert job.poll() is None
    gate.write_text("go on\n")
    assert job.wait() == job.poll() == 7
    assert submitted("kill -TERM $$").wait() == -signal.SIGTERM


def test_with_wait_it_returns_when_the_job_has_ended(submitted: Submit) -> None:
    until_we_wait = "until grep -q '^State:.S' /proc/$PPID/status; do :; done"
    job = submitted([until_we_wait, "echo done", "exit 3"], wait=True)
    assert job.log_file.read_text() == "done\n"
    assert is_gone(job.pid)
    assert job.poll() == 3


def test_a_job_is_a_zombie_until_it_is_asked_for(submitted: Submit) -> None:
    job = submitted("true")
    wait_until(lambda: stat_fields(job.pid)[:1] == ["Z"])
    assert job.poll() == 0
    assert is_gone(job.pid)


def test_a_detached_job_is_nobodys_zombie_and_its_one_sigchld_comes_at_once(submitted: Submit, pair: Pair) -> None:
    ours, client = pair
    ends: list[int] = []
    before = signal.signal(signal.SIGCHLD, lambda *_: ends.append(1))
    try:
        job = submitted(ECHO, socket=ours.fileno(), detach=True)
        assert ends == [1]
        ours.close()
        with pytest.raises(ChildProcessError):
            os.waitpid(-1, os.WNOHANG)
        assert parent_of(job.pid) not in (os.getpid(), None)
        client.sendall(b"hello\n")
        assert read_line(client) == "hello"
        client.shutdown(socket.SHUT_WR)
        assert read_all(client) == b""
        wait_until(lambda: is_gone(job.pid))
        assert ends == [1]
    finally:
        signal.signal(signal.SIGCHLD, before)
    for ask in (job.poll, job.wait):
        with pytest.raises(ChildProcessError, match="detached"):
            ask()


@BOTH_GENERATIONS
def test_a_job_outlives_its_parent_and_the_signals_of_its_terminal(pair: Pair, tmp_path: Path, detach: bool) -> None:
    ours, client = pair
    call = f"submit({ECHO!r}, socket={ours.fileno()}, directory={str(tmp_path)!r}, detach={detach})"
    program = f"import os, signal\nfrom tcppar.tcpx.jobs import submit\n{call}\nos.killpg(0, signal.SIGINT)"
    parent = subprocess.run(
        [sys.executable, "-c", program],
        pass_fds=[ours.fileno()],
        start_new_session=True,
        stderr=subprocess.DEVNULL,
        check=False,
    )
    assert parent.returncode == -signal.SIGINT
    ours.close()
    client.sendall(b"hello\n")
    assert read_line(client) == "hello"


@BOTH_GENERATIONS
def test_a_job_ignores_and_blocks_no_signal(submitted: Submit, detach: bool) -> None:
    job = submitted("exec cat /proc/self/status", detach=detach)
    wait_until(lambda: "\nnonvoluntary" in job.log_file.read_text())
    masks = dict(line.split(":\t") for line in job.log_file.read_text().splitlines() if line.startswith("Sig"))
    known = sum(1 << number - 1 for number in signal.valid_signals())  # the C library has two more for itself
    assert [int(masks[name], 16) & known for name in ("SigIgn", "SigBlk")] == [0, 0]


# Failures


@BOTH_GENERATIONS
@pytest.mark.parametrize(("runtime", "error"), [("no-such-program", FileNotFoundError), ("/etc", PermissionError)])
def test_a_runtime_that_cannot_be_started_is_named(
    submitted: Submit, tmp_path: Path, pair: Pair, detach: bool, runtime: str, error: type[OSError]
) -> None:
    before = sorted(os.listdir("/proc/self/fd"))
    with pytest.raises(error, match=runtime):
        submitted("true", runtime=[runtime], socket=pair[0].fileno(), detach=detach)
    assert list(tmp_path.iterdir()) == []
    assert sorted(os.listdir("/proc/self/fd")) == before


def test_a_socket_that_is_not_open_is_told_before_anything_is_done(submitted: Submit, tmp_path: Path) -> None:
    with pytest.raises(OSError, match="Bad file descriptor"):
        submitted("true", socket=999)
    assert list(tmp_path.iterdir()) == []


def test_a_directory_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="nowhere"):
        submit("true", directory=tmp_path / "nowhere")


@pytest.mark.parametrize(
    ("settings", "error"),
    [
        ({"wait": True, "detach": True}, ValueError),
        ({"socket": 2}, ValueError),
        ({"socket": "7"}, TypeError),
    ],
    ids=lambda value: str(value) if isinstance(value, dict) else "",
)
def test_a_call_that_makes_no_sense_raises(
    submitted: Submit, tmp_path: Path, settings: dict[str, Any], error: type[Exception]
) -> None:
    with pytest.raises(error):
        submitted("true", **settings)
    assert list(tmp_path.iterdir()) == []


@BOTH_GENERATIONS
def test_a_hundred_jobs_leave_nothing_open(submitted: Submit, pair: Pair, detach: bool) -> None:
    before = sorted(os.listdir("/proc/self/fd"))
    for _ in range(100 if not detach else 10):
        job = submitted("true", socket=pair[0].fileno(), detach=detach)
        if not detach:
            job.wait()
        job.remove_files()
    assert sorted(os.listdir("/proc/self/fd")) == before
