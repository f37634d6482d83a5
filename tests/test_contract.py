"""What a child gets: arguments, environment, the text of its control file."""

import os
from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from tcppar.child import contract
from tcppar.records import ChildPlan, DescriptorMode, Endpoints, Family, Identity, PeerCredentials

PLAN = ChildPlan(
    service="echo", id_prefix="abcd", program=b"/bin/cat", command=(b"cat",), environment={b"PATH": b"/bin"}
)
TCP = Endpoints(Family.IPV4, "192.0.2.1", 4000, "198.51.100.2", 80)
TCP6 = Endpoints(Family.IPV6, "2001:db8::1", 4000, "2001:db8::2", 80)
UNIX = Endpoints(Family.UNIX, "/run/client", 0, "/run/echo", 0)


def values(**changes: Any) -> dict[str, object]:
    return contract.values(replace(PLAN, **changes), 7, TCP, "/tmp/control")


def environment(
    servers: Mapping[str, str],
    *,
    clear: bool = False,
    keep: tuple[str, ...] = (),
    added: Mapping[str, str] | None = None,
    account: Identity | None = None,
) -> dict[str, str]:
    return contract.base_environment(servers, clear=clear, keep=keep, added=added or {}, account=account)


# Placeholders.


@pytest.mark.parametrize(
    ("template", "filled"),
    [
        ("{remote_ip}:{remote_port}", "192.0.2.1:4000"),
        ("{local_ip}:{local_port}", "198.51.100.2:80"),
        ("--id={connection_id}", "--id=abcd-7"),
        ("{ctl}", "/tmp/control"),
        ("/dev/fd/{fd}", "/dev/fd/0"),
        ("{fd}{fd}", "00"),
    ],
)
def test_placeholders_are_filled_in(template: str, filled: str) -> None:
    assert contract.fill(template, values()) == filled


def test_the_descriptor_is_the_first_passed_one_by_systemds_protocol() -> None:
    assert values(descriptors=DescriptorMode.LISTEN_FDS)["fd"] == 3


def test_there_is_a_value_for_every_placeholder_and_for_nothing_else() -> None:
    assert set(values()) == set(contract.PLACEHOLDERS)


@pytest.mark.parametrize(
    "text", ["awk '{print $1}'", "jq '{id: .id}'", "${HOME}", "{}", "{{", "{FD}", "{ fd }", "{fd", "a{1,3}"]
)
def test_other_braces_are_left_alone(text: str) -> None:
    assert contract.fill(text, values()) == text
    assert not contract.has_placeholders([text])
    assert contract.template_mistakes([text]) == []


@given(st.lists(st.text() | st.sampled_from([f"{{{name}}}" for name in contract.PLACEHOLDERS])))
def test_filling_in_is_done_once_and_touches_nothing_but_placeholders(pieces: list[str]) -> None:
    filled = {name: f"<{{{name}}}>" for name in contract.PLACEHOLDERS}
    text = "".join(pieces)
    expected = text
    for name in contract.PLACEHOLDERS:
        expected = expected.replace(f"{{{name}}}", f"<{{{name}}}>")
    assert contract.fill(text, filled) == expected
    assert contract.has_placeholders(pieces[:1]) is any(f"{{{name}}}" in "".join(pieces[:1]) for name in filled)


@pytest.mark.parametrize("name", contract.PLACEHOLDERS)
def test_a_placeholder_is_no_mistake(name: str) -> None:
    assert contract.template_mistakes([f"x{{{name}}}y"]) == []


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        ("remoteip", "remote_ip"),
        ("remote_prot", "remote_port"),
        ("local_ipp", "local_ip"),
        ("conection_id", "connection_id"),
    ],
)
def test_a_placeholder_mistyped_is_told_with_the_one_that_was_meant(typed: str, meant: str) -> None:
    mistake = f"{{{typed}}}: unknown placeholder; did you mean {{{meant}}}?"
    assert contract.template_mistakes(["fine", f"--x={{{typed}}}"]) == [mistake]


# The environment of all children.


def test_children_have_the_servers_environment() -> None:
    assert environment({"PATH": "/bin", "LANG": "C"}) == {"PATH": "/bin", "LANG": "C"}


def test_a_cleared_environment_keeps_the_path_and_what_is_named() -> None:
    servers = {"PATH": "/bin", "LANG": "C", "SECRET": "x"}
    assert environment(servers, clear=True, keep=("LANG", "ABSENT")) == {"PATH": "/bin", "LANG": "C"}


def test_a_path_is_there_even_if_the_server_has_none() -> None:
    assert environment({}) == {"PATH": "/usr/local/bin:/usr/bin:/bin"}


@pytest.mark.parametrize(
    "name", ["NOTIFY_SOCKET", "LISTEN_FDS", "WATCHDOG_USEC", "TCPREMOTEIP", "TCP6REMOTEPORT", "REMOTE_HOST"]
)
@pytest.mark.parametrize("clear", [False, True])
def test_what_is_said_to_the_server_itself_or_of_another_connection_is_not_for_children(name: str, clear: bool) -> None:
    assert name not in environment({name: "x"}, clear=clear, keep=(name,))


ACCOUNT = Identity("x", 1000, 1000, (), "/home/x", "/bin/zsh")
OF_ACCOUNT = {"USER": "x", "LOGNAME": "x", "HOME": "/home/x", "SHELL": "/bin/zsh"}


def test_added_names_win_over_the_servers_and_over_the_users_own() -> None:
    added = {"LANG": "C.UTF-8", "HOME": "/srv"}
    expected = {"PATH": "/bin"} | OF_ACCOUNT | added
    assert environment({"PATH": "/bin", "LANG": "C"}, added=added, account=ACCOUNT) == expected


@pytest.mark.parametrize("clear", [False, True])
def test_a_child_of_another_user_has_that_users_names(clear: bool) -> None:
    roots = {"PATH": "/bin", "USER": "root", "LOGNAME": "root", "HOME": "/root", "SHELL": "/bin/bash"}
    assert environment(roots, clear=clear, account=ACCOUNT) == {"PATH": "/bin"} | OF_ACCOUNT


def test_an_account_that_names_no_shell_has_the_usual_one() -> None:
    assert environment({}, account=replace(ACCOUNT, shell=""))["SHELL"] == "/bin/sh"


@given(st.dictionaries(st.binary(min_size=1), st.binary()))
def test_an_environment_that_is_no_text_reaches_the_child_byte_by_byte(variables: dict[bytes, bytes]) -> None:
    as_python_has_it = {os.fsdecode(name): os.fsdecode(value) for name, value in variables.items()}
    assert contract.encoded(as_python_has_it) == variables


@pytest.mark.parametrize(
    ("added", "servers", "path"),
    [
        ({"PATH": "/a"}, {"PATH": "/b"}, "/a"),
        ({}, {"PATH": "/b"}, "/b"),
        ({}, {}, "/usr/local/bin:/usr/bin:/bin"),
    ],
)
def test_programs_are_looked_for_where_the_child_will_look(
    added: dict[str, str], servers: dict[str, str], path: str
) -> None:
    assert contract.search_path(added, servers) == path == environment(servers, added=added)["PATH"]


# What one connection adds.


@pytest.mark.parametrize("endpoints", [TCP, TCP6], ids=["ipv4", "ipv6"])
def test_a_tcp_connection_is_told_in_the_names_of_ucspi_and_of_systemd(endpoints: Endpoints) -> None:
    assert contract.connection_environment(PLAN, 7, endpoints, None) == {
        "PROTO": "TCP",
        "TCPREMOTEIP": endpoints.remote_ip,
        "TCPREMOTEPORT": "4000",
        "TCPLOCALIP": endpoints.local_ip,
        "TCPLOCALPORT": "80",
        "REMOTE_ADDR": endpoints.remote_ip,
        "REMOTE_PORT": "4000",
        "REMOTE_HOST": endpoints.remote_ip,
        "TCPPAR_CONNECTION_ID": "abcd-7",
        "TCPPAR_SERVICE": "echo",
    }


def test_a_unix_connection_is_told_with_paths_and_credentials() -> None:
    assert contract.connection_environment(PLAN, 7, UNIX, PeerCredentials(pid=10, uid=1000, gid=100)) == {
        "PROTO": "IPC",
        "IPCLOCALPATH": "/run/echo",
        "IPCREMOTEPATH": "/run/client",
        "IPCREMOTEEUID": "1000",
        "IPCREMOTEEGID": "100",
        "REMOTE_ADDR": "/run/client",
        "TCPPAR_CONNECTION_ID": "abcd-7",
        "TCPPAR_SERVICE": "echo",
    }


def test_without_credentials_none_are_told() -> None:
    assert not {"IPCREMOTEEUID", "IPCREMOTEEGID"} & set(contract.connection_environment(PLAN, 7, UNIX, None))


def test_a_connection_does_not_change_the_environment_of_the_next() -> None:
    contract.connection_environment(PLAN, 7, TCP, None)
    assert PLAN.environment == {b"PATH": b"/bin"}


def test_the_id_in_the_environment_is_the_one_of_the_placeholder_and_of_the_log() -> None:
    told = contract.connection_environment(PLAN, 7, TCP, None)["TCPPAR_CONNECTION_ID"]
    assert told == values()["connection_id"] == contract.connection_id(PLAN, 7)
