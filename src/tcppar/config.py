"""Reading the configuration: a file's or flags' plain data become typed settings, and every mistake is told at once."""

import difflib
import grp
import os
import pwd
import re
from collections.abc import Callable, Mapping
from enum import Enum
from typing import Annotated, Any, TypeVar, get_args, get_origin

import msgspec
from msgspec import Struct

from tcppar import feasibility, import_path
from tcppar.child import contract
from tcppar.errors import LONGEST_SHOWN, ConfigurationError, shown
from tcppar.net.address import Address
from tcppar.quantities import UNLIMITED, Bounds, Duration, FileMode, Limit, ResourceLimit, Text
from tcppar.records import ChildPlan, HandlerPlan, Identity, StderrMode
from tcppar.settings import ServerSettings, ServiceSettings

Settings = TypeVar("Settings", bound=Struct)

_WRITTEN_AS_TEXT = (Address, Bounds, Duration, FileMode, Limit, ResourceLimit, Text)
# A service's name stands in file names, in lines of the log, and in the books, where it has a place of fixed size.
LONGEST_NAME = 64
_PLAIN_WORD = re.compile(rf"[A-Za-z0-9_.-]{{1,{LONGEST_NAME}}}")
LARGEST_CONFIG = 2 << 20
"""In bytes, as it is handed on to a next supervisor, which needs it several times."""
_MOST_SHOWN = 100


class ServiceConfig(Struct, frozen=True):
    """A service that can be started: its settings and what they resolve to on this system."""

    name: str
    settings: ServiceSettings
    identity: Identity | None


class Config(Struct, frozen=True):
    """All of it: the server's settings and its services by name."""

    server: ServerSettings
    services: dict[str, ServiceConfig]


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
            expected = f"expected a plain word as the name (letters, digits, _ . -), of {LONGEST_NAME} at the most"
            mistakes.append(f"{where}: service: {shown(name)}: {expected}")
            continue
        if not isinstance(table, dict):
            mistakes.append(f"{prefix}: expected a table, not {shown(table)}")
            continue
        before = len(mistakes)
        settings = _read(ServiceSettings, table, f"{prefix}.", mistakes)
        identity = _identity(settings, f"{prefix}.", mistakes)
        mistakes.extend(feasibility.impossible(settings, prefix, table))
        if len(mistakes) == before:
            services[name] = ServiceConfig(name, settings, identity)
    listens = {name: service.settings.listen for name, service in services.items()}
    mistakes.extend(feasibility.listened_twice(listens, where))
    config = Config(server, services)
    if not mistakes and (size := len(encoded(config))) > LARGEST_CONFIG:
        mistakes.append(f"{where}: is too large to be kept: {size} bytes, and {LARGEST_CONFIG} are the most")
    if mistakes:
        raise ConfigurationError(_bounded(mistakes))
    return config


def encoded(plain: object) -> bytes:
    """Records with settings in them as the books keep them; `from_text` reads what is written as text."""
    return msgspec.msgpack.encode(plain, enc_hook=_as_text)


def _as_text(value: object) -> str | bytes:
    return value.plain if isinstance(value, Text) else str(value)


def _bounded(mistakes: list[str]) -> list[str]:
    """As many as somebody may read, each of such a length: a hostile file could make megabytes of them."""
    shown = [text if len(text) <= LONGEST_SHOWN else f"{text[:LONGEST_SHOWN]}..." for text in mistakes[:_MOST_SHOWN]]
    return shown if len(shown) == len(mistakes) else [*shown, f"and {len(mistakes) - len(shown)} more mistakes"]


def _read(
    kind: type[Settings], table: Mapping[str, Any], prefix: str, mistakes: list[str], also: list[str] | None = None
) -> Settings:
    fields = {field.name: field for field in msgspec.structs.fields(kind)}
    values: dict[str, Any] = {}
    for key, value in table.items():
        if key not in fields:
            near = difflib.get_close_matches(key[:LONGEST_NAME], [*fields, *(also or [])], n=1)
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
    except (ValueError, RecursionError) as error:
        text, found = str(error).replace("`", ""), shown(value)
        if isinstance(plain, type) and issubclass(plain, Enum):
            text = f"expected one of {', '.join(plain)}"
        told = text if text.startswith(found) else f"{found}: {text[:1].lower()}{text[1:]}"
        mistakes.append(f"{place}: {told}")
        return None


def _converted(value: object, kind: Any) -> Any:
    if isinstance(value, str) and not _takes_any_bytes(kind) and not feasibility.reaches_the_system(value):
        raise ValueError("expected a text in UTF-8 without NUL")
    return msgspec.convert(value, kind, dec_hook=from_text)


def _takes_any_bytes(kind: Any) -> bool:
    plain = get_args(kind)[0] if get_origin(kind) is Annotated else kind
    return plain is Text or Text in get_args(plain)


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
    groups = [gid] if settings.user is None else os.getgrouplist(account.pw_name, gid)
    return Identity(account.pw_name, account.pw_uid, gid, tuple(groups), account.pw_dir, account.pw_shell)


def _own_account() -> pwd.struct_passwd:
    """The server's own; in containers it often has a number and no entry."""
    uid = os.getuid()
    nameless = pwd.struct_passwd((str(uid), "", uid, os.getgid(), "", os.environ.get("HOME", "/"), ""))
    return _entry(str(uid), pwd.getpwnam, pwd.getpwuid) or nameless


_Entry = TypeVar("_Entry")


def _entry(text: str, by_name: Callable[[str], _Entry], by_number: Callable[[int], _Entry]) -> _Entry | None:
    try:
        return by_number(int(text)) if text.isascii() and text.isdigit() else by_name(text)
    except (KeyError, ValueError, OverflowError):
        return None


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
        account=None if settings.user is None else config.identity,
    )
    if settings.handler is not None:
        environment["TCPPAR_SERVICE"] = config.name  # a program is told of it with its connection
    return ChildPlan(
        service=config.name,
        id_prefix=id_prefix,
        program=b"" if settings.handler else os.fsencode(_program(settings)),
        command=tuple(map(os.fsencode, settings.words)),
        environment=contract.encoded(environment),
        descriptors=settings.descriptors,
        identity=config.identity,
        umask=None if settings.umask is None else int(settings.umask),
        directory=settings.directory,
        nice=settings.nice,
        rlimits=tuple((name, limit.soft, limit.hard) for name, limit in settings.rlimits.items()),
        control_file=settings.control_file,
        handler=_handler_plan(settings),
        oom_score_adj=settings.oom_score_adj,
        passes_log=settings.stderr is StderrMode.LOG,
        nodelay=settings.nodelay and not options_inherited,
        keepalive=settings.keepalive and not options_inherited,
    )


def _program(settings: ServiceSettings) -> str:
    return feasibility.resolve_program(settings) or settings.command[0]


def _handler_plan(settings: ServiceSettings) -> HandlerPlan | None:
    if settings.handler is None:
        return None
    memory = settings.worker_memory
    return HandlerPlan(
        target=settings.handler,
        mode=settings.mode,
        import_path=import_path.of_handlers(),
        folder=os.path.abspath(settings.directory or "."),
        preload=settings.preload,
        connections_per_worker=settings.connections_per_worker,
        worker_memory_kb=None if memory is None or memory == UNLIMITED else memory // 1024,
    )
