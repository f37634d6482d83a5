"""Reading the configuration: a file's or flags' plain data become typed settings, and every mistake is told at once."""

import grp
import os
import pwd
import re
from collections.abc import Callable, Mapping, Set
from typing import Any, TypeVar

import msgspec
from msgspec import Struct

from tcppar import feasibility, import_path, own_user, programs, unknown_settings
from tcppar.child import contract
from tcppar.conversion import convert
from tcppar.errors import LONGEST_SHOWN, ConfigurationError, shown
from tcppar.net import places
from tcppar.net.opening import ListenerOptions
from tcppar.net.socket_rights import AS_MADE, Rights
from tcppar.quantities import UNLIMITED, Text
from tcppar.records import ChildPlan, HandlerPlan, Identity, StderrMode, ThreadsAtFork
from tcppar.settings import ServerSettings, ServiceSettings

# A service's name stands in file names, in lines of the log, and in the books, where it has a place of fixed size.
LONGEST_NAME = 64
_PLAIN_WORD = re.compile(rf"[A-Za-z0-9_.-]{{1,{LONGEST_NAME}}}")
LARGEST_CONFIG = 2 << 20
"""In bytes, as it is handed on to a next supervisor, which needs it several times."""
_MOST_SHOWN = 100
_NOT_ROOT = "the server runs as user "


class ServiceConfig(Struct, frozen=True):
    """A service that can be started: its settings and what they resolve to on this system."""

    name: str
    settings: ServiceSettings
    identity: Identity | None
    socket_rights: Rights = AS_MADE


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
    return from_trees({where: tree}, where)


def from_trees(trees: Mapping[str, Mapping[str, Any]], together: str) -> Config:
    """Make one configuration of several files.

    Args:
        trees: of each what `from_tree` takes, by what its mistakes are told of.
        together: what mistakes of none of them are told of: the folder.

    Raises:
        ConfigurationError: with every mistake.
    """
    joined = _Joined()
    for where, tree in trees.items():
        joined.add(tree, where)
    mistakes = joined.mistakes
    if not joined.has_service:
        mistakes.append(f"{together}: no service: expected at least one table [service.NAME]")
    mistakes.extend(
        f"{joined.place_of[f'service.{name}']}: service.{name}.listen: {mistake}"
        for name, mistake in places.mistakes(
            {name: (one.settings.listen, listener_options(one)) for name, one in joined.services.items()}
        )
    )
    config = Config(ServerSettings(**joined.server), joined.services)
    if not mistakes and (size := len(encoded(config))) > LARGEST_CONFIG:
        mistakes.append(f"{together}: is too large: {size} bytes, but at most {LARGEST_CONFIG} can be kept")
    if mistakes:
        raise ConfigurationError(_bounded(mistakes))
    return config


class _Joined:
    """What the files have said so far.

    Attributes:
        has_service: whether any had a table that is, or was meant to be, of a service.
        place_of: where each service, and each of the server's settings, was found.
    """

    def __init__(self) -> None:
        self.mistakes: list[str] = []
        self.server: dict[str, Any] = {}
        self.services: dict[str, ServiceConfig] = {}
        self.place_of: dict[str, str] = {}
        self.has_service = False

    def add(self, tree: Mapping[str, Any], where: str) -> None:
        own = {key: value for key, value in tree.items() if key != "service"}
        # A table under another name was meant for a service; a setting of one is in the wrong place.
        self.has_service |= any(isinstance(value, dict) for value in own.values())
        misplaced = own.keys() & {*ServiceSettings.__struct_fields__}
        for key, value in _values(ServerSettings, own, f"{where}: ", self.mistakes).items():
            if self._is_new(key, where):
                self.server[key] = value
        tables = tree.get("service", {})
        if not isinstance(tables, dict):
            self.mistakes.append(f"{where}: service: {shown(tables)}: expected tables [service.NAME]")
            self.has_service = True
            return
        for name, table in tables.items():
            self.has_service = True
            if self._is_new(f"service.{name}", where):
                self._add_service(name, table, where, misplaced)

    def _is_new(self, what: str, where: str) -> bool:
        place = self.place_of.setdefault(what, where)
        if place != where:
            self.mistakes.append(f"{where}: {what}: is already defined in {place}")
        return place == where

    def _add_service(self, name: str, table: object, where: str, misplaced: Set[str]) -> None:
        before = len(self.mistakes)
        written = name
        if not _PLAIN_WORD.fullmatch(name):
            expected = f"expected a name of at most {LONGEST_NAME} letters, digits, _, . and -"
            written = shown(name)
            self.mistakes.append(f"{where}: service: {written}: {expected}")
        prefix = f"{where}: service.{written}"
        if not isinstance(table, dict):
            self.mistakes.append(f"{prefix}: {unknown_settings.no_table(written, table)}")
        else:
            values = _values(ServiceSettings, table, f"{prefix}.", self.mistakes)
            settings = ServiceSettings(**values)
            identity = _identity(settings, f"{prefix}.", self.mistakes)
            doubtful = {*misplaced, *unknown_settings.meant(table, values)}
            if settings.user is not None and identity is None:
                doubtful.add("user")
            rights = _socket_rights(settings, f"{prefix}.", self.mistakes)
            self.mistakes.extend(feasibility.impossible(settings, prefix, table, doubtful))
            if len(self.mistakes) == before:
                self.services[name] = ServiceConfig(name, settings, identity, rights)


def encoded(plain: object) -> bytes:
    """Records with settings in them as the books keep them; `conversion.from_text` reads what is written as text."""
    return msgspec.msgpack.encode(plain, enc_hook=_as_text)


def _as_text(value: object) -> str | bytes:
    return value.plain if isinstance(value, Text) else str(value)


def _bounded(mistakes: list[str]) -> list[str]:
    """As many as somebody may read, each of such a length: a hostile file could make megabytes of them."""
    shown = [text if len(text) <= LONGEST_SHOWN else f"{text[:LONGEST_SHOWN]}..." for text in mistakes[:_MOST_SHOWN]]
    return shown if len(shown) == len(mistakes) else [*shown, f"and {len(mistakes) - len(shown)} more mistakes"]


def _values(kind: type[Struct], table: Mapping[str, Any], prefix: str, mistakes: list[str]) -> dict[str, Any]:
    fields = {field.name: field for field in msgspec.structs.fields(kind)}
    values: dict[str, Any] = {}
    for key, value in table.items():
        if key not in fields:
            mistakes.append(f"{prefix}{key}: {unknown_settings.reason(key, value, kind)}")
            continue
        if strays := unknown_settings.strays(key, value):
            mistakes.extend(f"{prefix}{key}.{name}: {told}" for name, told in strays.items())
            value = {name: entry for name, entry in value.items() if name not in strays}
        converted = convert(value, fields[key].type, f"{prefix}{key}", mistakes)
        if converted is not None:
            values[key] = converted
    return values


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
        name, value = ("group", settings.group) if settings.user is None else ("user", settings.user)
        mistakes.append(f"{prefix}{name}: {value!r}: {_NOT_ROOT}{own_user.name()}, and only root can change the {name}")
        return None
    groups = [gid] if settings.user is None else os.getgrouplist(account.pw_name, gid)
    return Identity(account.pw_name, account.pw_uid, gid, tuple(groups), account.pw_dir, account.pw_shell)


def _socket_rights(settings: ServiceSettings, prefix: str, mistakes: list[str]) -> Rights:
    uid = gid = None
    if settings.socket_user is not None:
        account = _entry(settings.socket_user, pwd.getpwnam, pwd.getpwuid)
        uid = None if account is None else account.pw_uid
        if uid is None:
            mistakes.append(f"{prefix}socket_user: {settings.socket_user!r}: no such user on this system")
        elif os.geteuid() not in (0, uid):
            why = f"{_NOT_ROOT}{own_user.name()}, and only root can give the socket to another user"
            mistakes.append(f"{prefix}socket_user: {settings.socket_user!r}: {why}")
    if settings.socket_group is not None:
        group = _entry(settings.socket_group, grp.getgrnam, grp.getgrgid)
        gid = None if group is None else group.gr_gid
        if gid is None:
            mistakes.append(f"{prefix}socket_group: {settings.socket_group!r}: no such group on this system")
        elif os.geteuid() != 0 and gid not in (os.getegid(), *os.getgroups()):
            why = f"{_NOT_ROOT}{own_user.name()}, and only root can choose a group that the server is not in"
            mistakes.append(f"{prefix}socket_group: {settings.socket_group!r}: {why}")
    mode = None if settings.socket_mode is None else int(settings.socket_mode)
    return Rights(mode, -1 if uid is None else uid, -1 if gid is None else gid)


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


def listener_options(config: ServiceConfig) -> ListenerOptions:
    """What the listeners of a service are opened with."""
    settings = config.settings
    return ListenerOptions(
        settings.backlog,
        keepalive=settings.keepalive,
        nodelay=settings.nodelay,
        ipv6_only=settings.ipv6_only,
        free_bind=settings.free_bind,
        device=settings.bind_to_device or "",
        rights=config.socket_rights,
    )


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
        program=b"",
        programs=() if settings.handler else tuple(map(os.fsencode, programs.found(settings) or settings.command[:1])),
        command=tuple(map(os.fsencode, settings.words)),
        environment=contract.encoded(environment),
        descriptors=settings.descriptors,
        identity=config.identity,
        umask=None if settings.umask is None else int(settings.umask),
        directory=None if settings.directory is None else _absolute(settings.directory),
        nice=settings.nice,
        rlimits=tuple((name, limit.soft, limit.hard) for name, limit in settings.rlimits.items()),
        control_file=settings.control_file,
        handler=_handler_plan(settings),
        oom_score_adj=settings.oom_score_adj,
        passes_log=settings.stderr is StderrMode.LOG,
        nodelay=settings.nodelay and not options_inherited,
        keepalive=settings.keepalive and not options_inherited,
    )


def _absolute(path: str) -> str:
    """A path that leads to the same place from any directory; links in it are followed by whoever uses it."""
    try:
        return os.path.join(os.getcwd(), path)
    except FileNotFoundError:
        return path  # where the server was started is gone: only an absolute path leads anywhere


def _handler_plan(settings: ServiceSettings) -> HandlerPlan | None:
    if settings.handler is None:
        return None
    memory = settings.worker_memory
    runs_site, user_site = import_path.site_of_server()
    return HandlerPlan(
        target=settings.handler,
        mode=settings.mode,
        import_path=import_path.of_handlers(),
        folder=import_path.absolute(settings.directory or "."),
        preload=settings.preload,
        connections_per_worker=settings.connections_per_worker,
        worker_memory_kb=None if memory is None or memory == UNLIMITED else memory // 1024,
        threads_allowed=settings.threads_at_fork is ThreadsAtFork.ALLOW,
        runs_site=runs_site,
        user_site=user_site,
        server_state=os.environ.get(import_path.OF_A_SERVER, ""),
    )
