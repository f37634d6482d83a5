"""What the system refuses a service: the message says which setting and value, to whom, and what is missing."""

import os
import resource
from pathlib import Path

import pytest

from tests.conftest import HERE, tool, unavailable
from tests.support import command

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root can leave its rights")

PROGRAM = ["--", "cat"]
HANDLER = ["--handler", f"{HERE}/handlers/echoing.py:handle"]
SYSTEMS_MOST = int(Path("/proc/sys/fs/nr_open").read_text()) if Path("/proc/sys/fs/nr_open").exists() else 2**20


def told(*words: str, wrapper: list[str]) -> str:
    """What check and serve say alike."""
    checked, served = (command.run(verb, "127.0.0.1:0", *words, wrapper=wrapper) for verb in ("check", "serve"))
    assert checked.returncode != 0, checked
    assert served.returncode != 0, served
    [line] = checked.stderr.splitlines()
    place, _, said = line.removeprefix("tcppar: ").partition(": ")
    assert place == "command line"
    said = said.split(": ", 1)[1] if said.startswith("service.") else said
    assert said in served.stderr
    return said


def without(*capabilities: str) -> list[str]:
    rights = "".join(f",-{capability}" for capability in capabilities).removeprefix(",")
    return [tool("setpriv"), f"--bounding-set={rights}", f"--inh-caps={rights}"]


ABOVE = "cannot go above the server's own hard limit, 100 (CAP_SYS_RESOURCE is missing)"


@pytest.mark.parametrize("what", [PROGRAM, HANDLER], ids=["program", "handler"])
@pytest.mark.parametrize(
    ("words", "lacking", "said"),
    [
        (["--nice=-5"], "sys_nice", "nice: -5: user root cannot set it: "),
        (["--user=nobody"], "setgid", "user: 'nobody': user root cannot change to it: setgroups: "),
        (["--user=nobody"], "setuid", "user: 'nobody': user root cannot change to it: setresuid: "),
        (["--group=daemon"], "setgid", "group: 'daemon': user root cannot change to it: setgroups: "),
        (["--rlimit=core=5:101"], "sys_resource", "rlimits.core: 5:101: user root cannot go above the server's own "),
        (["--rlimit=core=101"], "sys_resource", "rlimits.core: 101: user root cannot go above the server's own "),
    ],
)  # fmt: skip
def test_a_missing_capability_is_named(words: list[str], lacking: str, said: str, what: list[str]) -> None:
    limit = [tool("prlimit"), "--core=100"]
    message = told(*words, *what, wrapper=[*limit, *without(lacking)])
    assert message.startswith(said)
    assert message.endswith(f" (CAP_{lacking.upper()} is missing)")


def test_more_files_than_the_system_allows_is_nobodys_right() -> None:
    message = told(f"--rlimit=nofile={SYSTEMS_MOST + 1}", *PROGRAM, wrapper=[])
    assert message == (
        f"rlimits.nofile: {SYSTEMS_MOST + 1}: the system allows nobody more than {SYSTEMS_MOST} (fs.nr_open)"
    )


def test_what_a_user_namespace_forbids_is_no_missing_capability() -> None:
    wrapper = [tool("unshare"), "--user", "--map-root-user"]
    if command.run("--version", wrapper=wrapper).returncode != 0:
        unavailable("this system forbids user namespaces")
    message = told("--user=nobody", *PROGRAM, wrapper=wrapper)
    assert message.startswith("user: 'nobody': user root cannot change to it: setgroups: ")
    assert "although CAP_SETGID is there" in message


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--nice=-5"], "nice: -5: user nobody cannot go below 0; only root can"),
        (["--user=root"], "user: 'root': the server runs as user nobody, and only root can change the user"),
        (["--group=root"], "group: 'root': the server runs as user nobody, and only root can change the group"),
        (
            ["--rlimit=core=5:101"],
            f"rlimits.core: 5:101: user nobody {ABOVE}",
        ),
    ],
)
def test_what_only_root_can_do_names_who_is_not(words: list[str], said: str) -> None:
    wrapper = [tool("prlimit"), "--core=100", tool("setpriv"), "--reuid=nobody", "--regid=nogroup", "--clear-groups"]
    if command.run("--version", wrapper=wrapper).returncode != 0:
        unavailable("nobody cannot read where tcppar is")
    assert told(*words, *PROGRAM, wrapper=wrapper) == said


def test_a_limit_above_the_servers_names_the_services_user() -> None:
    if resource.getrlimit(resource.RLIMIT_CORE)[1] == 0:
        unavailable("the hard limit for core files is 0 here")
    message = told("--user=nobody", "--rlimit=core=101", *PROGRAM, wrapper=[tool("prlimit"), "--core=100"])
    assert message == f"rlimits.core: 101: user nobody {ABOVE}"
