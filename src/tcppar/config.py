"""Reading the configuration: a TOML file or flags become typed settings, and every mistake is told at once."""

import difflib
import grp
import os
import pwd
import re
import resource
import shutil
import sys
import tomllib
from collections.abc import Callable, Mapping
from enum import Enum
from pathlib import Path
from typing import Annotated, Any, TypeVar, get_args, get_origin

import msgspec
from msgspec import Struct

from tcppar.child import contract
from tcppar.errors import ConfigurationError
from tcppar.net.address import Address
from tcppar.quantities import UNLIMITED, Bounds, Duration, FileMode, Limit
from tcppar.records import ChildPlan, HandlerMode, HandlerPlan, Identity, StderrMode
from tcppar.settings import ServerSettings, ServiceSettings

Settings = TypeVar("Settings", bound=Struct)

_WRITTEN_AS_TEXT = (Address, Bounds, Duration, FileMode, Limit)
_HANDLER = re.compile(r"(?:[^\W\d]\w*(?:\.[^\W\d]\w*)*|.+\.py):[^\W\d]\w*(?:\.[^\W\d]\w*)*")
_OF_A_HANDLER = ("mode", "preload")
_OF_A_POOL = ("workers", "connections_per_worker", "worker_memory")
# A service's name stands in file names and in lines of the log.
_PLAIN_WORD = re.compile(r"[A-Za-z0-9_.-]+")


class ServiceConfig(Struct, frozen=True):
    """A service that can be started: its settings and what they resolve to on this system."""

    name: str
    settings: ServiceSettings
    identity: Identity | None


class Config(Struct, frozen=True):
    """All of it: the server's settings and its services by name."""

    server: ServerSettings
    services: dict[str, ServiceConfig]


def load(path: Path) -> Config:
    """Read a configuration file.

    Raises:
        ConfigurationError: with every mistake of the file.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise ConfigurationError([f"{path}: cannot be read: {error.strerror}"]) from None
    except UnicodeDecodeError as error:
        raise ConfigurationError([f"{path}: is not UTF-8: {error.reason} at byte {error.start}"]) from None
    try:
        tree = tomllib.loads(text)
    except ValueError as error:
        raise ConfigurationError([f"{path}: is not TOML: {error}"]) from None
    return from_tree(tree, str(path))


def from_tree(tree: Mapping[str, Any], where: str) -> Config:
    """Make a configuration of plain data in the file's shape.

    Args:
        tree: server settings, and `service`, a table of tables.
        where: what mistakes are told of: the file's name, or `command line`.

    Raises:
        ConfigurationError: with every mistake.
    """
    mistakes: list[str] = []
    own = {key: value for key, value in tree.items() if key != "service"}
    server = _read(ServerSettings, own, f"{where}: ", mistakes, also=["service"])
    tables = tree.get("service", {})
    services: dict[str, ServiceConfig] = {}
    if not isinstance(tables, dict) or not tables:
        mistakes.append(f"{where}: no service: expected at least one table [service.NAME]")
        tables = {}
    for name, table in tables.items():
        prefix = f"{where}: service.{name}"
        if not _PLAIN_WORD.fullmatch(name):
            mistakes.append(f"{where}: service: {name!r}: expected a plain word as the name (letters, digits, _ . -)")
            continue
        if not isinstance(table, dict):
            mistakes.append(f"{prefix}: expected a table, not {table!r}")
            continue
        before = len(mistakes)
        settings = _read(ServiceSettings, table, f"{prefix}.", mistakes)
        identity = _identity(settings, f"{prefix}.", mistakes)
        mistakes.extend(_impossible(settings, prefix, table))
        if len(mistakes) == before:
            services[name] = ServiceConfig(name, settings, identity)
    mistakes.extend(_listened_twice(services, where))
    if mistakes:
        raise ConfigurationError(mistakes)
    return Config(server, services)


def _read(
    kind: type[Settings], table: Mapping[str, Any], prefix: str, mistakes: list[str], also: list[str] | None = None
) -> Settings:
    fields = {field.name: field for field in msgspec.structs.fields(kind)}
    values: dict[str, Any] = {}
    for key, value in table.items():
        if key not in fields:
            near = difflib.get_close_matches(key, [*fields, *(also or [])], n=1)
            mistakes.append(f"{prefix}{key}: unknown setting" + (f"; did you mean {near[0]}?" if near else ""))
            continue
        converted = convert(value, fields[key].type, f"{prefix}{key}", mistakes)
        if converted is not None:
            values[key] = converted
    return kind(**values)


def convert(value: object, kind: Any, place: str, mistakes: list[str]) -> Any:
    """Convert plain data to the type of a setting, each entry by itself, so that one mistake does not hide the next.

    Returns:
        None if it is a mistake. A table loses only its mistaken entries; of a list, the rest would mean something else.
    """
    plain = get_args(kind)[0] if get_origin(kind) is Annotated else kind
    if get_origin(plain) is dict and isinstance(value, dict):
        entry_kind = get_args(plain)[1]
        table = {name: convert(entry, entry_kind, f"{place}.{name}", mistakes) for name, entry in value.items()}
        return {name: entry for name, entry in table.items() if entry is not None}
    if get_origin(plain) is tuple and isinstance(value, list):
        entry_kind = get_args(plain)[0]
        entries = [convert(entry, entry_kind, f"{place}: entry {at}", mistakes) for at, entry in enumerate(value, 1)]
        return None if None in entries else tuple(entries)
    try:
        return _converted(value, kind)
    except ValueError as error:
        text = str(error).replace("`", "")
        if isinstance(plain, type) and issubclass(plain, Enum):
            text = f"expected one of {', '.join(plain)}"
        known = text.startswith(repr(value))
        mistakes.append(f"{place}: {text}" if known else f"{place}: {value!r}: {text[:1].lower()}{text[1:]}")
        return None


def _converted(value: object, kind: Any) -> Any:
    if isinstance(value, str) and not _reaches_the_system(value):
        raise ValueError("expected a text in UTF-8 without NUL")
    return msgspec.convert(value, kind, dec_hook=from_text)


def _reaches_the_system(text: str) -> bool:
    """Whether a text can be a word, a path or a variable: C ends them with NUL, and spawners are told them in UTF-8."""
    try:
        return b"\0" not in text.encode()
    except UnicodeEncodeError:
        return False


def from_text(kind: type, value: object) -> object:
    """A value of a kind that is written as text: for msgspec, which does not know it (dec_hook)."""
    if kind not in _WRITTEN_AS_TEXT:
        raise NotImplementedError(kind)
    return kind(value)


def _identity(settings: ServiceSettings, prefix: str, mistakes: list[str]) -> Identity | None:
    if settings.user is None and settings.group is None:
        return None
    account = _own_account() if settings.user is None else _entry(settings.user, pwd.getpwnam, pwd.getpwuid)
    group = None if settings.group is None else _entry(settings.group, grp.getgrnam, grp.getgrgid)
    if account is None:
        mistakes.append(f"{prefix}user: {settings.user!r}: no such user on this system")
    if settings.group is not None and group is None:
        mistakes.append(f"{prefix}group: {settings.group!r}: no such group on this system")
    if account is None or (settings.group is not None and group is None):
        return None
    gid = group.gr_gid if group else account.pw_gid
    if os.geteuid() != 0 and (account.pw_uid, gid) != (os.geteuid(), os.getegid()):
        mistakes.append(f"{prefix}{'user' if settings.user else 'group'}: only root can change it")
        return None
    groups = os.getgrouplist(account.pw_name, gid) if settings.group is None else [gid]
    return Identity(account.pw_name, account.pw_uid, gid, tuple(groups), account.pw_dir)


def _own_account() -> pwd.struct_passwd:
    """The server's own; in containers it often has a number and no entry."""
    uid = os.getuid()
    nameless = pwd.struct_passwd((str(uid), "", uid, os.getgid(), "", os.environ.get("HOME", "/"), ""))
    return _entry(str(uid), pwd.getpwnam, pwd.getpwuid) or nameless


_Entry = TypeVar("_Entry")


def _entry(text: str, by_name: Callable[[str], _Entry], by_number: Callable[[int], _Entry]) -> _Entry | None:
    try:
        return by_number(int(text)) if text.isascii() and text.isdigit() else by_name(text)
    except (KeyError, ValueError):
        return None


def _impossible(settings: ServiceSettings, prefix: str, given: Mapping[str, Any]) -> list[str]:
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
    if settings.control_file is not None:
        found.extend(f"{prefix}.control_file: {m}" for m in contract.template_mistakes([settings.control_file]))
    found.extend(
        f"{prefix}.environment.{name}: not a name for a variable"
        for name in settings.environment
        if not name or "=" in name or "\0" in name
    )
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
        for name in ("command", "control_file", "descriptors")
        if given.get(name)
    )
    if settings.mode is not HandlerMode.POOL:
        found.extend(f'{name}: is for mode = "pool"' for name in _OF_A_POOL if name in given)
    return found


def _unusable_command(settings: ServiceSettings) -> list[str]:
    found = contract.template_mistakes(settings.command)
    if "{ctl}" in "".join(settings.command) and settings.control_file is None:
        found.append("{ctl} is used but control_file is not set")
    if resolve_program(settings) is None:
        found.append(f"{settings.command[0]!r}: no such program, or it may not be executed")
    return found


def resolve_program(settings: ServiceSettings) -> str | None:
    """The file that the command's first word stands for: as execvp(3) finds it, from the children's directory."""
    program = settings.command[0]
    if "/" in program:
        path = os.path.join(settings.directory or "", program)
        return path if os.path.isfile(path) and os.access(path, os.X_OK) else None
    return shutil.which(program, path=contract.search_path(settings.environment, os.environ))


def _listened_twice(services: Mapping[str, ServiceConfig], where: str) -> list[str]:
    seen: dict[str, str] = {}
    found = []
    for name, service in services.items():
        for address in service.settings.listen:
            place = f"{name} {address}" if address.chosen_by_system else address
            if place in seen:
                found.append(f"{where}: service.{name}.listen: {address} is already listened on by {seen[place]}")
            seen.setdefault(place, f"service.{name}")
    return found


def child_plan(
    config: ServiceConfig, id_prefix: str, environ: Mapping[str, str], *, options_inherited: bool
) -> ChildPlan:
    """What the service's spawners and children are told.

    Args:
        id_prefix: what the connection ids of this server's run begin with.
        environ: the server's own environment.
        options_inherited: whether a connection has its listener's TCP options from the start, so that nobody else has
            to set them.
    """
    settings = config.settings
    environment = contract.base_environment(
        environ,
        clear=settings.clear_environment,
        keep=settings.keep_environment,
        added=settings.environment,
        home=config.identity.home if config.identity else None,
    )
    if settings.handler is not None:
        environment["TCPPAR_SERVICE"] = config.name  # a program is told of it with its connection
    return ChildPlan(
        service=config.name,
        id_prefix=id_prefix,
        program="" if settings.handler else resolve_program(settings) or settings.command[0],
        command=settings.command,
        environment=contract.encoded(environment),
        descriptors=settings.descriptors,
        identity=config.identity,
        umask=None if settings.umask is None else int(settings.umask),
        directory=settings.directory,
        nice=settings.nice,
        rlimits=tuple((name, int(limit), int(limit)) for name, limit in settings.rlimits.items()),
        control_file=settings.control_file,
        handler=_handler_plan(settings),
        passes_log=settings.stderr is StderrMode.LOG,
        nodelay=settings.nodelay and not options_inherited,
        keepalive=settings.keepalive and not options_inherited,
    )


def _handler_plan(settings: ServiceSettings) -> HandlerPlan | None:
    if settings.handler is None:
        return None
    memory = settings.worker_memory
    return HandlerPlan(
        target=settings.handler,
        mode=settings.mode,
        import_path=(os.path.abspath(settings.directory or "."), *_servers_import_path()),
        preload=settings.preload,
        connections_per_worker=settings.connections_per_worker,
        worker_memory_kb=None if memory is None or memory == UNLIMITED else memory // 1024,
    )


def _servers_import_path() -> list[str]:
    """Where the server itself finds modules, without the folder of the command that was started, which Python puts
    first unless it is told not to (-P)."""
    return [entry for entry in sys.path[0 if sys.flags.safe_path else 1 :] if entry]
