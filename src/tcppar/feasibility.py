"""What cannot work though each setting by itself may be as it is, and what the system would refuse."""

import os
import re
import resource
import shutil
from collections.abc import Mapping, Sequence
from typing import Any

from tcppar.child import contract
from tcppar.errors import shown
from tcppar.net.address import Address
from tcppar.records import HandlerMode
from tcppar.settings import ServiceSettings

_HANDLER = re.compile(r"(?:[^\W\d]\w*(?:\.[^\W\d]\w*)*|.+\.py):[^\W\d]\w*(?:\.[^\W\d]\w*)*")
_OF_A_HANDLER = ("mode", "preload")
_OF_A_POOL = ("workers", "connections_per_worker", "worker_memory")
_OF_SPAWNERS = ("spawners", "connections_per_spawner")
# execve(2): one word, and what the pointer to each takes.
_LONGEST_WORD = 131071
_POINTER = 8


def reaches_the_system(text: str) -> bool:
    """Whether a text can be a word, a path or a variable: C ends them with NUL, and spawners are told them in UTF-8."""
    try:
        return b"\0" not in text.encode()
    except UnicodeEncodeError:
        return False


def impossible(settings: ServiceSettings, prefix: str, given: Mapping[str, Any]) -> list[str]:
    """What each setting allows by itself but cannot work."""
    found = []
    if not settings.listen and not given.get("listen"):
        found.append(f"{prefix}.listen: missing: expected at least one address")
    if not (settings.command or given.get("command") or given.get("handler")):
        found.append(f"{prefix}.command: missing: expected a program and its arguments, or a handler")
    if settings.handler is not None:
        found.extend(f"{prefix}.{mistake}" for mistake in _unusable_handler(settings, given))
    else:
        found.extend(
            f"{prefix}.{name}: is for a handler, and there is none"
            for name in (*_OF_A_HANDLER, *_OF_A_POOL)
            if name in given
        )
    if settings.command:
        found.extend(f"{prefix}.command: {mistake}" for mistake in _unusable_command(settings))
    found.extend(f"{prefix}.{mistake}" for mistake in _unwatchable(settings))
    if settings.directory is not None and not os.path.isdir(settings.directory):
        found.append(f"{prefix}.directory: {settings.directory!r}: no such directory")
    if settings.nice < 0 and os.geteuid() != 0:
        found.append(f"{prefix}.nice: {settings.nice}: only root can go below 0")
    known = sorted(name.removeprefix("RLIMIT_").lower() for name in dir(resource) if name.startswith("RLIMIT_"))
    found.extend(
        f"{prefix}.rlimits.{name}: unknown limit: expected one of {', '.join(known)}"
        for name in settings.rlimits
        if name not in known
    )
    found.extend(f"{prefix}.{mistake}" for mistake in _limits_above_ours(settings))
    if settings.keep_environment and not settings.clear_environment:
        found.append(f"{prefix}.keep_environment: is for clear_environment = true; without it, all variables are kept")
    if settings.control_file is not None:
        found.extend(f"{prefix}.control_file: {m}" for m in contract.template_mistakes([settings.control_file]))
    found.extend(
        f"{prefix}.environment.{name}: not a name for a variable: expected one without = and NUL"
        for name in settings.environment
        if not name or "=" in name or not reaches_the_system(name)
    )
    return found


def _limits_above_ours(settings: ServiceSettings) -> list[str]:
    """Limits that no process of the service could set: only root can raise a hard one (setrlimit(2))."""
    if os.geteuid() == 0 and settings.user in (None, "root", "0"):
        return []
    found = []
    for name, limit in settings.rlimits.items():
        number, wanted = getattr(resource, f"RLIMIT_{name.upper()}", None), limit.hard
        if number is None:
            continue  # which is told already
        ours = resource.getrlimit(number)[1]
        if ours != resource.RLIM_INFINITY and not 0 <= wanted <= ours:
            shown_wanted = "unlimited" if wanted < 0 else int(wanted)
            found.append(f"rlimits.{name}: {shown_wanted}: only root can go above the server's own hard limit, {ours}")
    return found


def _unwatchable(settings: ServiceSettings) -> list[str]:
    """Times without a word that cannot be known: of a Unix socket no system tells when it was used."""
    times = {"idle_timeout": settings.idle_timeout, "end_when_client_gone": settings.end_when_client_gone}
    return [
        f"{name}: is for TCP, and {address} is none: expected a service of its own for it"
        for name, time in times.items()
        for address in settings.listen
        if time is not None and address.path
    ]


def _unusable_handler(settings: ServiceSettings, given: Mapping[str, Any]) -> list[str]:
    found = []
    if not _HANDLER.fullmatch(settings.handler or ""):
        found.append(f'handler: {settings.handler!r}: expected "module:name" or "path/file.py:name"')
    found.extend(
        f"{name}: is for a program; a handler gets a Connection"
        for name in ("command", "argv0", "control_file", "descriptors")
        if given.get(name)
    )
    if settings.mode is HandlerMode.POOL:
        found.extend(
            f'{name}: is for mode = "fork": a pool has one spawner'
            for name in _OF_SPAWNERS
            if name in given and given[name] != 1
        )
    else:
        found.extend(f'{name}: is for mode = "pool"' for name in _OF_A_POOL if name in given)
    return found


def _unusable_command(settings: ServiceSettings) -> list[str]:
    found = contract.template_mistakes(settings.words)
    if "{ctl}" in "".join(settings.words) and settings.control_file is None:
        found.append("{ctl} is used but control_file is not set")
    if resolve_program(settings) is None:
        found.append(f"{shown(settings.command[0])}: no such program, or it may not be executed")
    return found + _unrunnable(settings)


def _unrunnable(settings: ServiceSettings) -> list[str]:
    """What execve(2) would refuse with E2BIG: for each client, and not at the start."""
    environment = contract.base_environment(
        os.environ,
        clear=settings.clear_environment,
        keep=settings.keep_environment,
        added=settings.environment,
        account=None,
    )
    words = [*settings.words, *(f"{name}={value}" for name, value in environment.items())]
    sizes = [len(os.fsencode(word)) + 1 for word in words]
    found = []
    if max(sizes) > _LONGEST_WORD:
        found.append(f"expected words, and variables, of fewer than {_LONGEST_WORD} bytes, not of {max(sizes)}")
    if (size := sum(sizes) + _POINTER * len(sizes)) > (most := os.sysconf("SC_ARG_MAX")):
        found.append(f"{size} bytes with the environment: expected {most} at the most, which is what the system takes")
    return found


def resolve_program(settings: ServiceSettings) -> str | None:
    """The file that the command's first word stands for: as execvp(3) finds it, from the children's directory."""
    program = settings.command[0]
    if "/" in program:
        path = os.path.join(settings.directory or "", program)
        return path if os.path.isfile(path) and os.access(path, os.X_OK) else None
    return shutil.which(program, path=contract.search_path(settings.environment, os.environ))


def listened_twice(listens: Mapping[str, Sequence[Address]], where: str) -> list[str]:
    seen: dict[str, str] = {}
    found = []
    for name, listen in listens.items():
        for address in listen:
            place = f"{name} {address}" if address.chosen_by_system else address
            if place in seen:
                found.append(f"{where}: service.{name}.listen: {address} is already listened on by {seen[place]}")
            seen.setdefault(place, f"service.{name}")
    return found
