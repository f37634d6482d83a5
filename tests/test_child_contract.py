"""What a child is given, and what is told of it: names, descriptors, signals, limits, files, records.

Most of it is asked of one server with many services, for a start costs more than all that is asked: see SERVICES.
"""

import json
import os
import pwd
import re
import signal
import socket
import stat
import sys
import time
from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import HERE, tool
from tests.support import command, config
from tests.support.command import Serve
from tests.support.handlers import children_of
from tests.support.server import PATIENCE, Record, Server, read_all, read_line, stat_fields, stop_process, wait_until

Facts = dict[str, Any]

CHILDREN = HERE / "children"
PYTHON = [sys.executable, "-I", "-S"]
FACTS = [*PYTHON, str(CHILDREN / "facts.py"), "{fd}"]
# Runs the line of shell that its client sends: for what is too small to be a program of its own.
SHELL = ["sh", "-c", 'read -r line; eval "$line"']
PLACEHOLDERS = ["{remote_ip}|{remote_port}|{local_ip}|{local_port}|{connection_id}", "{fd}{fd}"]
NO_PLACEHOLDERS = ["{}", "{0}", "{print $1}", "{{ fd }}", "{FD}", "${HOME}", "{fd", "fd}", "{a,b}"]
FOR_A_SHELL = [
    "$(id)",
    "`id`",
    ";",
    "|",
    "&",
    ">",
    "*",
    "~",
    "a b",
    "",
    "'",
    '"',
    "\\",
    "\n",
    "-n",
    "--",
    "$PATH",
    "é☃",
]

# What a service manager and other servers may have left in the environment of ours.
LEFT_BY_OTHERS = {
    **{f"{kind}{end}HOST": "evil.example" for kind in ("TCP", "TCP6") for end in ("LOCAL", "REMOTE")},
    "TCPREMOTEINFO": "evil",
    "TCP6REMOTEINFO": "evil",
    "TCPCONNNUM": "9",
    "TCP6REMOTEIP": "::9",
    "IPCREMOTEPATH": "/evil",
    "IPCREMOTEEUID": "0",
    "IPCREMOTEEGID": "0",
    "IPCLOCALPATH": "/evil",
}
LEFT_BY_THE_MANAGER = {
    "NOTIFY_SOCKET": "/nonexistent",
    "WATCHDOG_USEC": "1",
    "WATCHDOG_PID": "1",
    "LISTEN_FDS": "1",
    "LISTEN_PID": "1",
    "LISTEN_FDNAMES": "web",
    "LISTEN_PIDFDID": "1",
}
SERVERS_OWN = {"COLOUR": "blue", "SHAPE": "round", "SIZE": "small"}

# Each listens on a Unix socket of its name, unless it says where.
SERVICES: dict[str, dict[str, object]] = {
    "tcp": {"listen": ["127.0.0.1:0", "[::1]:0"], "command": [*FACTS, *PLACEHOLDERS]},
    "tcp_options": {"listen": ["127.0.0.2:0"], "command": FACTS, "keepalive": False, "nodelay": True},
    "unix": {"command": FACTS},
    "listen_fds": {"listen": ["127.0.0.3:0"], "command": FACTS, "descriptors": "listen-fds"},
    "stderr_inherit": {"command": FACTS, "stderr": "inherit"},
    "stderr_null": {"command": FACTS, "stderr": "null"},
    "cleared": {
        "command": FACTS,
        "clear_environment": True,
        "keep_environment": ["COLOUR", "NEVER_SET"],
        "environment": {"ADDED": "a=b c"},
    },
    "added": {"command": FACTS, "environment": {"COLOUR": "red", "ADDED": "a=b c"}},
    # A service with limits makes its children in another way.
    "limits": {"command": FACTS, "rlimits": {"nofile": 77, "fsize": "64M", "cpu": "unlimited"}},
    "limits_apart": {"command": FACTS, "rlimits": {"nofile": "70:90", "cpu": "1000:unlimited"}},
    "argv0": {"command": ["cat", "/proc/self/cmdline"], "argv0": "in.{fd}"},
    "argv0_limits": {"command": ["cat", "/proc/self/cmdline"], "argv0": "in.{fd}", "rlimits": {"core": 0}},
    "umask": {"command": FACTS, "umask": "0027"},
    "directory": {"command": FACTS, "directory": "/usr"},
    "nice": {"command": FACTS, "nice": 3},
    "words": {"command": [*FACTS, *NO_PLACEHOLDERS, *FOR_A_SHELL]},
    "status": {"command": ["cat", "/proc/self/status"]},
    "status_limits": {"command": ["cat", "/proc/self/status"], "rlimits": {"core": 0}},
    "shell": {"command": SHELL},
    "shell_inherit": {"command": SHELL, "stderr": "inherit"},
    "busy": {"command": [*PYTHON, str(CHILDREN / "busy.py")]},
    "large": {"command": [*PYTHON, str(CHILDREN / "large.py")]},
    "control": {
        "control_file": "peer {remote_ip} port {remote_port} fd {fd} id {connection_id} awk {print}",
        "listen": ["127.0.0.5:0"],
        "command": ["sh", "-c", 'echo "$1"; exec cat "$1" -', "sh", "{ctl}"],
    },
}
MADE_BY = pytest.mark.parametrize("service", ["unix", "limits"], ids=["spawn", "fork"])
LISTENERS = len(SERVICES) + 1  # one has two


def unix_exchange(path: Path, data: bytes) -> bytes:
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(PATIENCE)
        client.connect(str(path))
        if data:  # to send nothing is EPIPE if the child has ended already
            client.sendall(data)
        client.shutdown(socket.SHUT_WR)
        return read_all(client)


class House:
    """A server with all of SERVICES."""

    def __init__(self, server: Server) -> None:
        self.server = server
        listening = server.wait_for_event("listening", LISTENERS)
        self._addresses = {(record["service"], record["address"][:1]): record["address"] for record in listening}

    def connect(self, service: str, kind: str | None = None) -> socket.socket:
        """A client of a service; `kind` is the first character of the address, where a service has several."""
        address = next(
            text for (name, first), text in self._addresses.items() if name == service and kind in (None, first)
        )
        if address.startswith("unix:"):
            client = socket.socket(socket.AF_UNIX)
            client.settimeout(PATIENCE)
            client.connect(address.removeprefix("unix:"))
            return client
        host, _, port = address.rpartition(":")
        return socket.create_connection((host.strip("[]"), int(port)), timeout=PATIENCE)

    def facts(self, service: str, kind: str | None = None) -> Facts:
        """What a child of the service tells of itself, and `client`, the client's own address."""
        with self.connect(service, kind) as client:
            facts: Facts = json.loads(read_all(client))
            return facts | {"client": client.getsockname()}

    def shell(self, line: str, service: str = "shell") -> str:
        """What a line of shell answers, run as a child of the service."""
        with self.connect(service) as client:
            client.sendall(line.encode() + b"\n")
            client.shutdown(socket.SHUT_WR)
            return read_all(client).decode().rstrip("\n")

    def end_of(self, connection_id: str) -> Record:
        """The end record of a connection."""
        return self.server.wait_for(lambda record: record["event"] == "end" and record["id"] == connection_id)[0]

    def end_after(self, line: str) -> Record:
        """The end record of a child that runs a line of shell."""
        return self.end_of(self.shell(f"echo $TCPPAR_CONNECTION_ID; {line}"))


@pytest.fixture(scope="module", params=["full", "portable"])
def house(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    folder = tmp_path_factory.mktemp("house")
    file = folder / "services.toml"
    config.write(file, SERVICES)
    environment = LEFT_BY_OTHERS | LEFT_BY_THE_MANAGER | SERVERS_OWN | {"TCPPAR_PORTABLE": "0"}
    portable = request.param == "portable"
    with Server("-c", file, environment=environment, portable=portable, umask=0o022) as server:
        yield House(server)


# Names.


@pytest.mark.parametrize(("kind", "ip"), [("1", "127.0.0.1"), ("[", "::1")], ids=["ipv4", "ipv6"])
def test_the_names_of_ucspi_tell_both_ends(house: House, kind: str, ip: str) -> None:
    facts = house.facts("tcp", kind)
    names = facts["environment"]
    assert (names["PROTO"], names["TCPREMOTEIP"], names["TCPLOCALIP"]) == ("TCP", ip, ip)
    assert names["TCPREMOTEPORT"] == str(facts["client"][1])
    with house.connect("tcp", kind) as client:
        assert names["TCPLOCALPORT"] == str(client.getpeername()[1])


@pytest.mark.parametrize(("kind", "ip"), [("1", "127.0.0.1"), ("[", "::1")], ids=["ipv4", "ipv6"])
def test_the_names_of_systemd_tell_the_peer(house: House, kind: str, ip: str) -> None:
    facts = house.facts("tcp", kind)
    assert facts["environment"]["REMOTE_ADDR"] == ip
    assert facts["environment"]["REMOTE_PORT"] == str(facts["client"][1])


def test_the_service_is_named(house: House) -> None:
    assert house.facts("tcp")["environment"]["TCPPAR_SERVICE"] == "tcp"


def test_nothing_that_others_said_of_another_connection_is_passed_on(house: House) -> None:
    assert LEFT_BY_OTHERS.keys() & house.facts("tcp")["environment"].keys() == set()


def test_nothing_that_the_manager_said_to_the_server_is_passed_on(house: House) -> None:
    assert LEFT_BY_THE_MANAGER.keys() & house.facts("tcp")["environment"].keys() == set()


def test_the_choice_of_the_profile_is_not_passed_on(house: House) -> None:
    assert "TCPPAR_PORTABLE" not in house.facts("tcp")["environment"]


def test_a_unix_socket_has_the_names_of_s6(house: House) -> None:
    names = house.facts("unix")["environment"]
    assert names["PROTO"] == "IPC"
    assert names["IPCLOCALPATH"].endswith("/unix")
    assert (names["IPCREMOTEEUID"], names["IPCREMOTEEGID"]) == (str(os.geteuid()), str(os.getegid()))
    assert names["IPCREMOTEPATH"] == names["REMOTE_ADDR"] == ""


def test_a_unix_socket_has_no_names_of_tcp(house: House) -> None:
    names = house.facts("unix")["environment"]
    assert [name for name in names if name.startswith("TCP") and not name.startswith("TCPPAR_")] == []
    assert "REMOTE_PORT" not in names


def test_the_path_of_a_unix_client_is_told(house: House, tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as client:
        client.bind(str(tmp_path / "client"))
        with house.connect("unix") as other:
            client.connect(other.getpeername())
        names = json.loads(read_all(client))["environment"]
    assert names["IPCREMOTEPATH"] == names["REMOTE_ADDR"] == str(tmp_path / "client")


def test_the_servers_environment_is_inherited(house: House) -> None:
    names = house.facts("tcp")["environment"]
    assert SERVERS_OWN.items() <= names.items()


def test_a_cleared_environment_holds_the_path_the_kept_the_added_and_the_connections_names(house: House) -> None:
    names = house.facts("cleared")["environment"]
    assert {name for name in names if not name.startswith(("TCPPAR_", "IPC"))} == {
        *("PATH", "COLOUR", "ADDED", "PROTO", "REMOTE_ADDR"),
        # The interpreter that tells us adds this one to its own.
        *({"LC_CTYPE"} & names.keys()),
    }
    assert names["COLOUR"] == "blue"


@pytest.mark.parametrize("service", ["cleared", "added"])
def test_an_added_variable_is_passed_on_unchanged(house: House, service: str) -> None:
    assert house.facts(service)["environment"]["ADDED"] == "a=b c"


def test_an_added_variable_goes_before_the_servers_own(house: House) -> None:
    assert house.facts("added")["environment"]["COLOUR"] == "red"


def test_a_server_without_a_path_finds_programs_and_gives_children_a_path(serve: Serve) -> None:
    server = serve("127.0.0.1:0", "--", "printenv", "PATH", wrapper=[tool("env"), "-u", "PATH"])
    assert "/bin" in server.exchange(b"").decode().strip().split(":")


# Descriptors.


@MADE_BY
def test_only_descriptors_0_1_and_2_are_open(house: House, service: str) -> None:
    assert sorted(house.facts(service)["descriptors"], key=int) == ["0", "1", "2"]


@MADE_BY
def test_descriptors_0_and_1_are_the_connection(house: House, service: str) -> None:
    descriptors = house.facts(service)["descriptors"]
    assert descriptors["0"] == descriptors["1"]
    assert descriptors["0"].startswith("socket:")


@pytest.mark.parametrize("service", ["tcp", "limits", "listen_fds", "stderr_inherit", "stderr_null"])
def test_descriptor_2_is_never_the_client(house: House, service: str) -> None:
    facts = house.facts(service)
    connection = facts["arguments"][0]
    assert facts["descriptors"]["2"] != facts["descriptors"][connection]


@pytest.mark.parametrize("service", ["unix", "limits", "listen_fds"])
def test_the_connection_is_blocking(house: House, service: str) -> None:
    assert house.facts(service)["blocking"] is True


def test_by_systemds_protocol_the_connection_is_descriptor_3_and_0_is_null(house: House) -> None:
    descriptors = house.facts("listen_fds")["descriptors"]
    assert sorted(descriptors, key=int) == ["0", "1", "2", "3"]
    assert descriptors["3"].startswith("socket:")
    assert descriptors["0"] == "/dev/null"
    assert descriptors["1"] == descriptors["2"] != descriptors["3"]


def test_by_systemds_protocol_the_child_is_named_as_the_receiver(house: House) -> None:
    facts = house.facts("listen_fds")
    names = facts["environment"]
    assert (names["LISTEN_FDS"], names["LISTEN_FDNAMES"]) == ("1", "connection")
    assert names["LISTEN_PID"] == str(facts["pid"])


@pytest.mark.parametrize("limits", [[], ["--rlimit", "core=0"]], ids=["spawn", "fork"])
def test_what_the_server_was_started_with_is_not_open_in_a_child(serve: Serve, limits: list[str]) -> None:
    reader, writer = os.pipe()
    try:
        server = serve("127.0.0.1:0", *limits, "--", *FACTS, pass_fds=[writer])
        facts = json.loads(server.exchange(b""))
        assert sorted(facts["descriptors"], key=int) == ["0", "1", "2"]
    finally:
        os.close(reader)
        os.close(writer)


# Signals and the process group.


NO_SIGNALS: dict[str, set[int]] = {"Ign": set(), "Blk": set(), "Cgt": set()}


def signal_sets(status: str) -> dict[str, set[int]]:
    """The sets of signals in the text of /proc/PID/status.

    Left out are those that the C library keeps to itself, 32 and 33: its posix_spawn(3) leaves them ignored, and
    nobody can change that.
    """
    sets = re.findall(r"^Sig(Ign|Blk|Cgt):\s*(\w+)$", status, re.MULTILINE)
    return {name: {number for number in VALID if int(value, 16) >> (number - 1) & 1} for name, value in sets}


VALID = {int(number) for number in signal.valid_signals()}


@pytest.mark.parametrize("service", ["status", "status_limits"], ids=["spawn", "fork"])
def test_no_signal_is_ignored_or_blocked(house: House, service: str) -> None:
    with house.connect(service) as client:
        assert signal_sets(read_all(client).decode()) == NO_SIGNALS


@pytest.mark.parametrize("limits", [[], ["--rlimit", "core=0"]], ids=["spawn", "fork"])
def test_no_signal_is_ignored_or_blocked_though_the_server_was_started_so(serve: Serve, limits: list[str]) -> None:
    odd = ["--ignore-signal=HUP", "--ignore-signal=PIPE", "--ignore-signal=QUIT", "--block-signal=USR1"]
    server = serve("127.0.0.1:0", *limits, "--", "cat", "/proc/self/status", wrapper=[tool("env"), *odd])
    servers = signal_sets(Path(f"/proc/{server.pid}/status").read_text())
    assert signal.SIGQUIT in servers["Ign"], "the wrapper did not do its part"
    assert signal_sets(server.exchange(b"").decode()) == NO_SIGNALS


@MADE_BY
def test_a_child_leads_a_process_group_of_its_own(house: House, service: str) -> None:
    facts = house.facts(service)
    assert facts["group"] == facts["pid"]


# Arguments.


def test_placeholders_are_filled_in(house: House) -> None:
    facts = house.facts("tcp", "1")
    names = facts["environment"]
    assert facts["arguments"][1].split("|") == [
        *("127.0.0.1", str(facts["client"][1]), "127.0.0.1", names["TCPLOCALPORT"], names["TCPPAR_CONNECTION_ID"])
    ]
    assert facts["arguments"][2] == "00"


def test_ipv6_addresses_are_filled_in_without_brackets(house: House) -> None:
    remote_ip, _, local_ip, *_ = house.facts("tcp", "[")["arguments"][1].split("|")
    assert (remote_ip, local_ip) == ("::1", "::1")


def test_by_systemds_protocol_the_placeholder_of_the_descriptor_is_3(house: House) -> None:
    assert house.facts("listen_fds")["arguments"][0] == "3"


def test_other_braces_are_left_alone(house: House) -> None:
    assert house.facts("words")["arguments"][1:][: len(NO_PLACEHOLDERS)] == NO_PLACEHOLDERS


def test_words_for_a_shell_are_plain_data(house: House) -> None:
    assert house.facts("words")["arguments"][1:][len(NO_PLACEHOLDERS) :] == FOR_A_SHELL


def test_what_a_client_calls_itself_is_plain_data(serve: Serve, tmp_path: Path) -> None:
    """A Unix client chooses the path that stands for {remote_ip}."""
    serve(f"unix:{tmp_path}/socket", "--", *FACTS, "{remote_ip}", cwd=tmp_path)
    name = f"{tmp_path}/$(touch here);{{fd}}\n"
    with socket.socket(socket.AF_UNIX) as client:
        client.bind(name)
        client.connect(f"{tmp_path}/socket")
        facts = json.loads(read_all(client))
    assert facts["arguments"][1] == facts["environment"]["IPCREMOTEPATH"] == name
    assert not (tmp_path / "here").exists()


ODD_NAMES = {"path": b"\xff\xfe", "abstract": b"\0tcppar-test\xff", "with a null": b"\0tcppar-test\0inside"}


def test_clients_with_odd_names_harm_nobody(serve: Serve, tmp_path: Path) -> None:
    server = serve(f"unix:{tmp_path}/socket", "--", "cat")
    for kind, name in ODD_NAMES.items():
        with socket.socket(socket.AF_UNIX) as odd:
            odd.bind(name if name.startswith(b"\0") else os.fsencode(tmp_path) + b"/" + name)
            odd.connect(f"{tmp_path}/socket")
            assert unix_exchange(tmp_path / "socket", b"still here?") == b"still here?", kind
    assert server.stop() == 0
    assert server.noise == []
    assert server.events("spawner-died") == []


# The control file.


def begin_with_control_file(house: House) -> tuple[socket.socket, Path, str]:
    """A client, the path of its control file, and what its child read there."""
    client = house.connect("control")
    lines = read_lines(client, 2)
    return client, Path(lines[0]), lines[1]


def read_lines(client: socket.socket, count: int) -> list[str]:
    """So many lines of what a child says."""
    said = b""
    while said.count(b"\n") < count:
        piece = client.recv(65536)
        assert piece, f"the end after {said!r}"
        said += piece
    return said.decode().splitlines()


def test_the_control_file_holds_the_template_filled_in(house: House) -> None:
    client, path, text = begin_with_control_file(house)
    with client:
        ip, port = client.getsockname()
        assert text == f"peer {ip} port {port} fd 0 id {path.name} awk {{print}}"


def test_the_control_file_is_private(house: House) -> None:
    client, path, _ = begin_with_control_file(house)
    with client:
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
        assert path.stat().st_uid == path.parent.stat().st_uid == os.geteuid()


def test_the_control_file_is_removed_when_the_child_ends(house: House) -> None:
    client, path, _ = begin_with_control_file(house)
    with client:
        assert path.exists()
    house.end_of(path.name)
    assert not path.exists()


def test_the_control_file_is_removed_when_the_child_is_killed(house: House) -> None:
    client, path, _ = begin_with_control_file(house)
    with client:
        pids = [pid for spawner in children_of(house.server.pid) for pid in children_of(spawner)]
        [pid] = [pid for pid in pids if str(path) in command_line(pid)]
        os.kill(pid, signal.SIGKILL)
        assert house.end_of(path.name)["signal"] == "SIGKILL"
    assert not path.exists()


def command_line(pid: int) -> str:
    return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode()


def test_the_control_files_go_with_the_server(serve: Serve) -> None:
    server = serve("127.0.0.1:0", "--control-file", "x", "--", "sh", "-c", 'echo "$1"; cat', "sh", "{ctl}")
    folder = Path(server.exchange(b"").decode().strip()).parent
    assert folder.is_dir()
    assert server.stop() == 0
    assert not folder.exists()


# Limits and the like.


def test_resource_limits_are_set_for_the_child(house: House) -> None:
    limits = house.facts("limits")["limits"]
    assert limits["nofile"] == [77, 77]
    assert limits["fsize"] == [64 * 1024**2] * 2
    assert limits["cpu"] == [-1, -1]


def test_the_soft_limit_and_the_hard_one_can_be_two(house: House) -> None:
    limits = house.facts("limits_apart")["limits"]
    assert limits["nofile"] == [70, 90]
    assert limits["cpu"] == [1000, -1]


@pytest.mark.parametrize("service", ["argv0", "argv0_limits"], ids=["spawn", "fork"])
def test_a_program_can_be_told_that_it_is_called_otherwise(house: House, service: str) -> None:
    with house.connect(service) as client:
        assert read_all(client) == b"in.0\0/proc/self/cmdline\0"


def test_the_umask_is_set(house: House) -> None:
    assert house.facts("umask")["umask"] == 0o027


def test_the_umask_is_the_servers_unless_set(house: House) -> None:
    assert house.facts("tcp")["umask"] == 0o022


def test_the_directory_is_set(house: House) -> None:
    assert house.facts("directory")["directory"] == "/usr"


def test_the_directory_is_the_servers_unless_set(house: House) -> None:
    assert house.facts("tcp")["directory"] == os.getcwd()


def test_the_nice_value_is_added(house: House) -> None:
    assert house.facts("nice")["nice"] == min(os.nice(0) + 3, 19)


def test_a_program_is_looked_for_from_the_childs_directory(serve: Serve, tmp_path: Path) -> None:
    (tmp_path / "hello").write_text("#!/bin/sh\necho hello\n")
    (tmp_path / "hello").chmod(0o755)
    assert serve("127.0.0.1:0", "--directory", tmp_path, "--", "./hello").exchange(b"") == b"hello\n"


# Users.

NOBODY = 65534
# Tells uid, gid, all groups, the account's names, its control file's text, and the owners of that and of its folder.
WHO = [
    "sh",
    "-c",
    'id -u; id -g; id -G; echo "$USER $LOGNAME $HOME $SHELL"; cat "$1"; stat -c %u "$1" "${1%/*}"',
    "sh",
    "{ctl}",
]
ANYBODY: dict[str, object] = {"command": WHO, "control_file": "secret", "directory": "/"}
STATUS: dict[str, object] = {"command": ["cat", "/proc/self/status"], "user": "nobody"}
USERS: dict[str, dict[str, object]] = {
    "user": ANYBODY | {"user": "nobody"},
    "number": ANYBODY | {"user": str(NOBODY)},
    "user_and_group": ANYBODY | {"user": "nobody", "group": "tcppar-one"},
    "group": ANYBODY | {"group": "tcppar-two"},
    "status": STATUS,
    "status_limits": STATUS | {"rlimits": {"core": 0}},
}


@pytest.fixture(scope="module", params=["full", "portable"])
def users(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[str], str]]:
    """What a child of one of USERS says, where nobody is in two groups more, and the server in two others."""
    if os.geteuid() != 0:
        pytest.skip("only root can become another user")
    folder = tmp_path_factory.mktemp("users")
    groups, file = folder / "etc-group", folder / "services.toml"
    groups.write_text(Path("/etc/group").read_text() + "tcppar-one:x:4101:nobody\ntcppar-two:x:4102:nobody\n")
    config.write(file, USERS)
    script = f'mount --bind {groups} /etc/group && exec {tool("setpriv")} --groups 4201,4202 -- "$@"'
    wrapper = [tool("unshare"), "--mount", "sh", "-c", script, "sh"]
    with Server("-c", file, wrapper=wrapper, portable=request.param == "portable") as server:
        server.wait_for_event("listening", len(USERS))
        yield lambda service: unix_exchange(folder / service, b"").decode()


def test_a_child_runs_as_the_user_with_the_users_groups_only(users: Callable[[str], str]) -> None:
    uid, gid, groups, *_ = users("user").splitlines()
    assert (uid, gid) == (str(NOBODY), str(NOBODY))
    assert set(groups.split()) == {str(NOBODY), "4101", "4102"}


def test_a_user_can_be_given_by_number(users: Callable[[str], str]) -> None:
    assert users("number").splitlines()[:2] == [str(NOBODY), str(NOBODY)]


def test_a_group_replaces_the_users_own_and_leaves_the_others(users: Callable[[str], str]) -> None:
    uid, gid, groups, *_ = users("user_and_group").splitlines()
    assert (uid, gid) == (str(NOBODY), "4101")
    assert set(groups.split()) == {"4101", "4102"}


def test_a_group_alone_keeps_the_user(users: Callable[[str], str]) -> None:
    assert users("group").splitlines()[:3] == ["0", "4102", "4102"]


def test_the_users_account_is_in_the_environment(users: Callable[[str], str]) -> None:
    nobody = pwd.getpwuid(NOBODY)
    assert users("user").splitlines()[3] == f"nobody nobody {nobody.pw_dir} {nobody.pw_shell}"


def test_a_group_alone_leaves_the_environment_as_it_is(users: Callable[[str], str]) -> None:
    own = " ".join(os.environ.get(name, "") for name in ("USER", "LOGNAME", "HOME", "SHELL"))
    assert users("group").splitlines()[3] == own


def test_the_control_file_is_the_users_own(users: Callable[[str], str]) -> None:
    assert users("user").splitlines()[4:] == ["secret", str(NOBODY), str(NOBODY)]


@pytest.mark.parametrize("service", ["status", "status_limits"], ids=["spawn", "fork"])
def test_a_user_cannot_become_root_again(users: Callable[[str], str], service: str) -> None:
    ids = re.findall(r"^[UG]id:\s*(.*)$", users(service), re.MULTILINE)
    # Real, effective, saved and of the file system.
    assert [line.split() for line in ids] == [[str(NOBODY)] * 4] * 2


# Descriptor 2.


def said(house: House, wanted: Callable[[str], bool]) -> Record:
    """The record of a line that a child wrote to descriptor 2."""
    return house.server.wait_for(lambda record: record["event"] == "stderr" and wanted(record["line"]))[0]


def test_a_line_on_descriptor_2_becomes_a_record_with_the_connections_id(house: House) -> None:
    connection, pid = house.shell("echo $TCPPAR_CONNECTION_ID $$; echo out loud >&2; read wait").split()
    record = said(house, lambda line: line == "out loud")
    assert (record["service"], record["id"], record["pid"]) == ("shell", connection, int(pid))


def test_a_line_of_a_grandchild_has_the_connections_id_too(house: House) -> None:
    with house.connect("shell") as client:
        client.sendall(b"echo $TCPPAR_CONNECTION_ID; sh -c 'echo from below >&2; read wait'; true\n")
        (connection,) = read_lines(client, 1)
        record = said(house, lambda line: line == "from below")
    assert record["id"] == connection


def test_the_last_line_of_a_child_that_has_ended_has_the_connections_id(house: House) -> None:
    connection = house.shell("echo $TCPPAR_CONNECTION_ID; echo last words >&2")
    assert said(house, lambda line: line == "last words")["id"] == connection


def test_a_last_line_without_an_end_is_recorded_when_the_child_ends(house: House) -> None:
    house.end_after("printf unfinished >&2")
    house.server.wait_for(lambda r: r["event"] == "stderr" and r["line"] == "unfinished", patience=5)


def test_lines_on_descriptor_2_need_not_be_text(house: House) -> None:
    house.shell(r"printf 'bytes \377 and \t tab\n' >&2")
    said(house, lambda line: line.endswith("bytes \\xff and \t tab"))


def test_all_that_a_child_says_last_is_recorded_before_the_server_stops(serve: Serve) -> None:
    server = serve("127.0.0.1:0", "--", "sh", "-c", "cat; exec seq -f %0999.f 400 >&2")
    with server.connect() as client:
        client.sendall(b"x")
        client.recv(1)
        server.signal(signal.SIGTERM)
        server.wait_for_event("stopping")
    assert server.wait() == 0
    assert [record["line"] for record in server.events("stderr")] == [f"{number:0999}" for number in range(1, 401)]


def server_has_cut_a_client(address: tuple[str, int]) -> bool:
    """Whether it ended a connection, when its time was over."""
    with socket.create_connection(address, timeout=PATIENCE) as client:
        return client.recv(1) == b""


@pytest.mark.parametrize("serve", ["full"], indirect=True)  # a pipe takes too little for that
def test_a_line_stays_whole_while_the_log_is_read_slowly(serve: Serve, tmp_path: Path) -> None:
    script = "echo $$; read go; seq -f %0999.f 62 >&2; printf half >&2; echo; read go; echo ' and half' >&2"
    talker = {"listen": ["127.0.0.1:0"], "command": ["sh", "-c", script]}
    clock = {"listen": ["127.0.0.2:0"], "command": ["cat"], "max_lifetime": "300ms"}
    config.write(tmp_path / "tcppar.toml", {"talker": talker, "clock": clock})
    server = serve("-c", tmp_path / "tcppar.toml")
    with server.connect() as client, server.log_unread:
        pid = int(read_line(client))
        stop_process(server.pid)
        client.sendall(b"go\n")
        assert read_line(client) == ""
        # It reads all of this in one pass, and then no more until its own log is read.
        server.signal(signal.SIGCONT)
        assert server_has_cut_a_client(server.addresses[1])
        client.sendall(b"go\n")
        wait_until(lambda: not stat_fields(pid))
        assert server_has_cut_a_client(server.addresses[1])
    said = server.wait_for(lambda record: record["event"] == "stderr" and record["line"].endswith("half"))
    assert [record["line"] for record in said] == ["half and half"]


def test_an_inherited_descriptor_2_is_the_servers_own(house: House) -> None:
    house.shell("echo straight through >&2", "shell_inherit")
    wait_until(lambda: "straight through" in house.server.noise)


def test_a_descriptor_2_that_leads_nowhere_is_null(house: House) -> None:
    assert house.facts("stderr_null")["descriptors"]["2"] == "/dev/null"


# The end record.


@pytest.mark.parametrize("code", [0, 7, 255])
def test_the_end_record_tells_the_exit_code(house: House, code: int) -> None:
    end = house.end_after(f"exit {code}")
    assert (end["exit"], end["signal"], end["ended_by"]) == (code, None, None)


@pytest.mark.parametrize("name", ["KILL", "TERM", "SEGV"])
def test_the_end_record_tells_the_signal(house: House, name: str) -> None:
    end = house.end_after(f"ulimit -c 0; kill -{name} $$")
    assert (end["exit"], end["signal"], end["ended_by"]) == (None, f"SIG{name}", None)


def test_the_end_record_tells_service_peer_and_process(house: House) -> None:
    facts = house.facts("tcp")
    end = house.end_of(facts["environment"]["TCPPAR_CONNECTION_ID"])
    peer = "{}:{}".format(*facts["client"])
    assert (end["service"], end["peer"], end["pid"]) == ("tcp", peer, facts["pid"])


def test_connection_ids_are_all_different(house: House) -> None:
    ids = [house.shell("echo $TCPPAR_CONNECTION_ID", service) for service in ("shell", "shell_inherit") * 3]
    assert len(set(ids)) == len(ids)


def test_the_end_record_tells_processor_time(house: House) -> None:
    with house.connect("busy") as client:
        assert read_all(client) == b"done\n"
    (end,) = house.server.wait_for(lambda record: record["event"] == "end" and record["service"] == "busy")
    assert 0.2 <= end["cpu"] <= 1


def test_the_end_record_tells_the_peak_of_memory(house: House) -> None:
    with house.connect("large") as client:
        assert read_all(client) == b"done\n"
    (end,) = house.server.wait_for(lambda record: record["event"] == "end" and record["service"] == "large")
    assert 100_000_000 / 1024 <= end["peak_memory_kb"] <= 200_000_000 / 1024


def test_the_end_record_tells_the_duration(house: House) -> None:
    before = time.monotonic()
    with house.connect("shell") as client:
        client.sendall(b"echo $TCPPAR_CONNECTION_ID; read wait\n")
        (connection,) = read_lines(client, 1)
        begun = time.monotonic()
        house.facts("unix")  # takes its time
        held = time.monotonic() - begun
    end = house.end_of(connection)
    assert held < end["duration"] < time.monotonic() - before


def test_the_end_record_tells_how_long_it_took_to_make_the_process(house: House) -> None:
    end = house.end_after("true")
    assert 0 < end["spawn"] <= end["duration"]


def test_the_end_record_tells_how_long_the_client_was_queued(serve: Serve) -> None:
    server = serve("127.0.0.1:0", "--max-connections", "1", "--", *PYTHON, CHILDREN / "busy.py")
    with server.connect() as first, server.connect() as second:
        begun = time.time()
        first.recv(100)
        second.recv(100)
    former, end = server.wait_for_event("end", 2)
    if server.portable:
        assert end["queued"] is None
    else:
        # The system counts in ticks of its clock, of at most 10 ms.
        waited = datetime.fromisoformat(former["time"]).timestamp() - begun
        assert waited - 0.02 < end["queued"] < time.time() - begun


# Options of TCP.


def test_keepalive_is_on_and_nodelay_off_by_default(house: House) -> None:
    facts = house.facts("tcp")
    assert (facts["keepalive"], facts["nodelay"]) == (True, False)


def test_keepalive_can_be_switched_off_and_nodelay_on(house: House) -> None:
    facts = house.facts("tcp_options")
    assert (facts["keepalive"], facts["nodelay"]) == (False, True)


# Unix sockets.


def test_a_unix_socket_is_served_and_its_file_removed_at_the_end(serve: Serve, tmp_path: Path) -> None:
    path = tmp_path / "socket"
    server = serve(f"unix:{path}", "--", "cat")
    assert server.events("listening")[0]["address"] == f"unix:{path}"
    assert unix_exchange(path, b"hello") == b"hello"
    assert server.wait_for_event("end")[0]["peer"] == "unix:"
    assert server.stop() == 0
    assert not path.exists()


def test_a_socket_file_that_a_dead_server_left_is_replaced(serve: Serve, tmp_path: Path) -> None:
    path = tmp_path / "socket"
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))
        dead.listen()
    serve(f"unix:{path}", "--", "cat")
    assert unix_exchange(path, b"hello") == b"hello"


def test_a_socket_file_where_another_server_answers_is_left_to_it(serve: Serve, tmp_path: Path) -> None:
    path = tmp_path / "socket"
    serve(f"unix:{path}", "--", "cat")
    second = command.run("serve", f"unix:{path}", "--", "cat")
    assert second.returncode == 111
    assert re.fullmatch(rf"tcppar: cannot listen on unix:{path}: EADDRINUSE .*\n", second.stderr)
    assert unix_exchange(path, b"hello") == b"hello"


def test_a_file_that_is_no_socket_is_not_replaced(tmp_path: Path) -> None:
    path = tmp_path / "precious"
    path.write_text("data")
    assert command.run("serve", f"unix:{path}", "--", "cat").returncode == 111
    assert path.read_text() == "data"


def test_a_socket_file_that_another_server_put_in_our_place_is_not_removed(serve: Serve, tmp_path: Path) -> None:
    path = tmp_path / "socket"
    server = serve(f"unix:{path}", "--", "cat")
    path.unlink()
    with socket.socket(socket.AF_UNIX) as other:
        other.bind(str(path))
        assert server.stop() == 0
        assert path.exists()
