"""What a child gets: its arguments, its environment, its control file's text.

One child, every dialect: the names of UCSPI-TCP (https://cr.yp.to/ucspi-tcp/environment.html), s6's for Unix
sockets, and systemd's (systemd.exec(5), Accept=yes) stand side by side, so that a program written for any of them
runs unchanged. REMOTE_HOST is xinetd's: the address, where others would have to ask for a name.
"""

import os
import re
from collections.abc import Iterable, Mapping

from tcppar.import_path import OF_A_PROGRAM, OF_A_SERVER
from tcppar.records import ChildPlan, DescriptorMode, Endpoints, Family, Identity, PeerCredentials

PLACEHOLDERS = ("fd", "ctl", "remote_ip", "remote_port", "local_ip", "local_port", "connection_id")
FIRST_PASSED_DESCRIPTOR = 3

_PLACEHOLDER = re.compile(r"\{(" + "|".join(PLACEHOLDERS) + r")\}")
_WORD_IN_BRACES = re.compile(r"\{([a-z_]+)\}")

_SHELL = "/bin/sh"  # where the account names none (passwd(5))
_DEFAULT_PATH = "/usr/local/bin:/usr/bin:/bin"

OF_A_CONNECTION = frozenset(
    {
        *(b"TCPPAR_CONNECTION_ID", b"TCPPAR_SERVICE", b"PROTO"),
        *(b"REMOTE_ADDR", b"REMOTE_PORT", b"REMOTE_HOST"),
        *(b"TCPREMOTEIP", b"TCPREMOTEPORT", b"TCPLOCALIP", b"TCPLOCALPORT"),
        *(b"IPCLOCALPATH", b"IPCREMOTEPATH", b"IPCREMOTEEUID", b"IPCREMOTEEGID"),
    }
)
"""All names that connection_environment may set."""

# What a manager said to the server itself, and what another server said of another connection, is not for children.
_NOT_INHERITED = frozenset(
    {
        *(
            "NOTIFY_SOCKET",
            "LISTEN_FDS",
            "LISTEN_PID",
            "LISTEN_FDNAMES",
            "LISTEN_PIDFDID",
            "WATCHDOG_USEC",
            "WATCHDOG_PID",
        ),
        *(
            "REMOTE_ADDR",
            "REMOTE_PORT",
            "REMOTE_HOST",
            "PROTO",
            "TCPCONNNUM",
            "TCPPAR_PORTABLE",
            "TCPPAR_TRACEABLE",
            OF_A_PROGRAM,
            OF_A_SERVER,
        ),
        *(
            f"{kind}{end}{what}"
            for kind in ("TCP", "TCP6")
            for end in ("LOCAL", "REMOTE")
            for what in ("HOST", "IP", "PORT")
        ),
        *(
            "TCPREMOTEINFO",
            "TCP6REMOTEINFO",
            "TCP6INTERFACE",
            "IPCREMOTEEUID",
            "IPCREMOTEEGID",
            "IPCREMOTEPATH",
            "IPCLOCALPATH",
        ),
    }
)


def search_path(environment: Mapping[str, str], servers: Mapping[str, str]) -> str:
    """Where a program without a slash in its name is looked for."""
    return environment.get("PATH") or servers.get("PATH") or _DEFAULT_PATH


def base_environment(
    servers: Mapping[str, str],
    *,
    clear: bool,
    keep: Iterable[str],
    added: Mapping[str, str],
    account: Identity | None,
) -> dict[str, str]:
    """The environment of every child of a service, before a connection's own names.

    Args:
        servers: the server's own environment.
        clear: leave all of it out but PATH and what `keep` names.
        keep: names kept in spite of `clear`.
        added: names and values that are added last.
        account: of the user that the child becomes; None if it stays the server's.
    """
    kept = {"PATH", *keep}
    result = {
        name: value for name, value in servers.items() if name not in _NOT_INHERITED and (not clear or name in kept)
    }
    result.setdefault("PATH", _DEFAULT_PATH)
    if account is not None:
        result |= _account_environment(account)
    return result | dict(added)


def _account_environment(account: Identity) -> dict[str, str]:
    """What a login, and systemd's User=, tell of the account (login(1), systemd.exec(5))."""
    return {"USER": account.name, "LOGNAME": account.name, "HOME": account.home, "SHELL": account.shell or _SHELL}


def connection_id(plan: ChildPlan, number: int) -> str:
    """The id that logs and the child know a connection by: unique over restarts of the server."""
    return f"{plan.id_prefix}-{number}"


def connection_environment(
    plan: ChildPlan, number: int, endpoints: Endpoints, credentials: PeerCredentials | None
) -> dict[str, str]:
    """The names that one connection adds to the environment of its service."""
    common = {"TCPPAR_CONNECTION_ID": f"{plan.id_prefix}-{number}", "TCPPAR_SERVICE": plan.service}
    if endpoints.family is Family.UNIX:
        return common | _unix_environment(endpoints, credentials)
    remote_port = str(endpoints.remote_port)
    return {
        **common,
        "PROTO": "TCP",
        "TCPREMOTEIP": endpoints.remote_ip,
        "TCPREMOTEPORT": remote_port,
        "TCPLOCALIP": endpoints.local_ip,
        "TCPLOCALPORT": str(endpoints.local_port),
        "REMOTE_ADDR": endpoints.remote_ip,
        "REMOTE_PORT": remote_port,
        "REMOTE_HOST": endpoints.remote_ip,
    }


def listen_environment(pid: object) -> dict[str, str]:
    """The names of sd_listen_fds(3), where the connection is descriptor 3 of the process with this pid."""
    return {"LISTEN_FDS": "1", "LISTEN_PID": f"{pid}", "LISTEN_FDNAMES": "connection"}


def encoded(environment: Mapping[str, str]) -> dict[bytes, bytes]:
    """An environment as the system has it."""
    return {os.fsencode(name): os.fsencode(value) for name, value in environment.items()}


def _unix_environment(endpoints: Endpoints, credentials: PeerCredentials | None) -> dict[str, str]:
    environment = {
        "PROTO": "IPC",
        "IPCLOCALPATH": endpoints.local_ip,
        "IPCREMOTEPATH": endpoints.remote_ip,
        "REMOTE_ADDR": endpoints.remote_ip,
    }
    if credentials is not None:
        environment["IPCREMOTEEUID"] = str(credentials.uid)
        environment["IPCREMOTEEGID"] = str(credentials.gid)
    return environment


def values(plan: ChildPlan, number: int, endpoints: Endpoints, control_path: str) -> dict[str, object]:
    """What the placeholders stand for in one connection."""
    return {
        "fd": FIRST_PASSED_DESCRIPTOR if plan.descriptors is DescriptorMode.LISTEN_FDS else 0,
        "ctl": control_path,
        "remote_ip": endpoints.remote_ip,
        "remote_port": endpoints.remote_port,
        "local_ip": endpoints.local_ip,
        "local_port": endpoints.local_port,
        "connection_id": connection_id(plan, number),
    }


def has_placeholders(texts: Iterable[str]) -> bool:
    """Whether any of the texts has something to fill in."""
    return any(_PLACEHOLDER.search(text) for text in texts)


def fill(template: str, filled: Mapping[str, object]) -> str:
    """Fill in the placeholders of a text; all other braces are left as they are, for awk, jq and the like."""
    return _PLACEHOLDER.sub(lambda match: str(filled[match[1]]), template)


def template_mistakes(texts: Iterable[str]) -> list[str]:
    """Words in braces that look like a placeholder mistyped; empty if there are none."""
    import difflib  # for this alone: spawners use this module too, and their memory counts many times

    return [
        f"{{{word}}}: unknown placeholder; did you mean {{{near[0]}}}?"
        for text in texts
        for word in _WORD_IN_BRACES.findall(text)
        if word not in PLACEHOLDERS and (near := difflib.get_close_matches(word, PLACEHOLDERS, n=1, cutoff=0.75))
    ]
