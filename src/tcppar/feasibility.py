"""What cannot work though each setting by itself may be as it is, and what the system would refuse."""

import os
import re
import resource
from collections.abc import Mapping, Set
from typing import Any

from tcppar import own_user, programs
from tcppar.child import contract
from tcppar.conversion import reaches_the_system
from tcppar.errors import shown
from tcppar.net.address import Address, split_zone
from tcppar.net.unix_sockets import is_abstract
from tcppar.records import HandlerMode
from tcppar.settings import ServiceSettings

_DOTTED = r"[^\W\d]\w*(?:\.[^\W\d]\w*)*"
_MODULE = re.compile(_DOTTED)
_HANDLER = re.compile(rf"(?:{_DOTTED}|.+\.py):{_DOTTED}")
_EXPECTED_OF_HANDLER = 'expected "module:name" or "path/file.py:name"'
# IFNAMSIZ of netdevice(7), and what the kernel allows (dev_valid_name).
_DEVICE = re.compile(r"(?!\.{1,2}\Z)[^/:\s]{1,15}")
_EXPECTED_OF_DEVICE = "expected at most 15 characters, without blanks, slashes and colons"
_OF_A_HANDLER = ("mode", "preload", "threads_at_fork")
_OF_A_POOL = ("workers", "connections_per_worker", "worker_memory")
# 0 to 2, and its connection.
_LEAST_OF_A_WORKER = 4
_OF_SPAWNERS = ("spawners", "connections_per_spawner")


def impossible(
    settings: ServiceSettings, prefix: str, given: Mapping[str, Any], doubtful: Set[str] = frozenset()
) -> list[str]:
    """What each setting allows by itself but cannot work.

    Args:
        doubtful: settings that were given, but mistakenly: what would follow from their absence is no mistake.
    """
    found = []
    if settings.directory is not None and programs.is_missing(settings.directory):
        found.append(f"{prefix}.directory: {settings.directory!r}: no such directory")
        doubtful = {*doubtful, "directory"}
    if not settings.listen and "listen" not in doubtful:
        found.append(f"{prefix}.listen: missing: expected at least one address")
    if not settings.command and settings.handler is None and doubtful.isdisjoint(("command", "handler")):
        found.append(f"{prefix}.command: missing: expected a program and its arguments, or a handler")
    if settings.handler is not None:
        found.extend(f"{prefix}.{mistake}" for mistake in _unusable_handler(settings, given, doubtful))
    elif "handler" not in doubtful:
        found.extend(
            f"{prefix}.{name}: can only be used with a handler"
            for name in (*_OF_A_HANDLER, *_OF_A_POOL)
            if name in given
        )
    if settings.command:
        found.extend(f"{prefix}.command: {mistake}" for mistake in _unusable_command(settings, doubtful))
    found.extend(f"{prefix}.{mistake}" for mistake in _unwatchable(settings))
    found.extend(f"{prefix}.{mistake}" for mistake in _without_listener(settings, doubtful))
    found.extend(
        f"{prefix}.listen: {address}: this machine has no interface {interface}"
        for address in settings.listen
        if isinstance(interface := split_zone(address.host)[1], str)
    )
    if settings.nice < 0 and os.geteuid() != 0:
        found.append(f"{prefix}.nice: {settings.nice}: user {own_user.name()} cannot go below 0; only root can")
    known = sorted(name.removeprefix("RLIMIT_").lower() for name in dir(resource) if name.startswith("RLIMIT_"))
    found.extend(
        f"{prefix}.rlimits.{name}: unknown limit: expected one of {', '.join(known)}"
        for name in settings.rlimits
        if name not in known
    )
    if "cpu" in settings.rlimits and settings.rlimits["cpu"].soft == 0:
        found.append(f"{prefix}.rlimits.cpu: 0: the system would end each child at once: expected at least 1 (second)")
    if settings.keep_environment and not settings.clear_environment and "clear_environment" not in doubtful:
        found.append(f"{prefix}.keep_environment: needs clear_environment = true; without it, all variables are kept")
    if settings.control_file is not None:
        found.extend(f"{prefix}.control_file: {m}" for m in contract.template_mistakes([settings.control_file]))
    found.extend(f"{prefix}.{mistake}" for mistake in _misnamed(settings))
    return found


def _misnamed(settings: ServiceSettings) -> list[str]:
    """Variables of the environment whose names no system takes."""
    named = {f"environment.{name}": name for name in settings.environment}
    named |= {f"keep_environment: {name!r}": name for name in settings.keep_environment}
    return [
        f"{place}: not a name for a variable: expected one without = and NUL"
        for place, name in named.items()
        if not name or "=" in name or not reaches_the_system(name)
    ]


def _unwatchable(settings: ServiceSettings) -> list[str]:
    """Times without a word that cannot be known: of a Unix socket no system tells when it was used."""
    times = {"idle_timeout": settings.idle_timeout, "end_when_client_gone": settings.end_when_client_gone}
    return [
        f"{name}: cannot be used with {address}, which is not TCP: give that address a service of its own"
        for name, time in times.items()
        for address in settings.listen
        if time is not None and address.path
    ]


def _without_listener(settings: ServiceSettings, doubtful: Set[str]) -> list[str]:
    """Settings of listeners of a kind that the service has not."""
    device = settings.bind_to_device
    if device is not None and not _DEVICE.fullmatch(device):
        return [f"bind_to_device: {shown(device)} is not the name of a network interface: {_EXPECTED_OF_DEVICE}"]
    if "listen" in doubtful:
        return []
    rights = {
        "socket_mode": settings.socket_mode,
        "socket_user": settings.socket_user,
        "socket_group": settings.socket_group,
    }
    in_files = any(address.path and not is_abstract(address.path) for address in settings.listen)
    found = [f"{name}: can only be used with unix:/PATH" for name, value in rights.items() if value is not None]
    of_tcp = {
        "ipv6_only": not settings.ipv6_only and not any(address.host == "::" for address in settings.listen),
        "free_bind": settings.free_bind and not any(_is_tcp(address) for address in settings.listen),
        "bind_to_device": settings.bind_to_device and not any(_is_tcp(address) for address in settings.listen),
    }
    kinds = {"ipv6_only": "[::]:PORT"}
    return ([] if in_files else found) + [
        f"{name}: can only be used with {kinds.get(name, 'TCP')}" for name, vain in of_tcp.items() if vain
    ]


def _is_tcp(address: Address) -> bool:
    return not address.path and not address.inherited


def _unusable_handler(settings: ServiceSettings, given: Mapping[str, Any], doubtful: Set[str]) -> list[str]:
    if not settings.handler:
        return [f"handler: '': {_EXPECTED_OF_HANDLER}"]  # mostly a variable that was not set: there may be a program
    found = []
    if not _HANDLER.fullmatch(settings.handler):
        found.append(f"handler: {settings.handler!r}: {_EXPECTED_OF_HANDLER}")
    found.extend(
        f"preload: {module!r}: expected the name of a module, such as json or package.module"
        for module in settings.preload
        if not _MODULE.fullmatch(module)
    )
    found.extend(
        f"{name}: can only be used with a program; a handler gets a Connection"
        for name in ("command", "argv0", "control_file", "descriptors")
        if given.get(name)
    )
    if settings.mode is HandlerMode.POOL:
        found.extend(
            f'{name}: can only be used with mode = "fork"; a pool has one spawner'
            for name in _OF_SPAWNERS
            if name in given and given[name] != 1
        )
        if 0 <= (most := _descriptors(settings)) < _LEAST_OF_A_WORKER:
            found.append(
                f"rlimits.nofile: {most}: a worker could take no connection: expected at least {_LEAST_OF_A_WORKER}"
            )
    elif "mode" not in doubtful:
        found.extend(f'{name}: can only be used with mode = "pool"' for name in _OF_A_POOL if name in given)
    return found


def _descriptors(settings: ServiceSettings) -> int:
    """How many a process of the service may have; -1 if that is not limited."""
    limit = settings.rlimits.get("nofile")
    return -1 if limit is None else int(limit.soft)


def _unusable_command(settings: ServiceSettings, doubtful: Set[str]) -> list[str]:
    found = contract.template_mistakes(settings.words)
    if "{ctl}" in "".join(settings.words) and settings.control_file is None and "control_file" not in doubtful:
        found.append("{ctl} is used but control_file is not set")
    # Where it is looked for depends on these.
    is_known = not settings.command[0] or doubtful.isdisjoint(("directory", "environment"))
    if is_known and not programs.found(settings):
        found.append(f"{shown(settings.command[0])}: no such program, or it is not executable{_meant(settings)}")
    return found


def _meant(settings: ServiceSettings) -> str:
    """Of a program that is nowhere in PATH, the file of that name in the directory, which is no place to look in."""
    program = settings.command[0]
    if "/" in program or not os.path.isfile(os.path.join(programs.folder(settings), program)):
        return ""
    return f": to run the file in the directory, write ./{program}"
