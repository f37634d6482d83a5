"""Flags of the command line, made from the declarations in settings.py, and read back into the file's shape."""

import difflib
import os
import re
import shlex
from collections.abc import Callable, Mapping, Sequence
from enum import EnumType
from pathlib import Path
from typing import Any, get_args, get_origin, get_type_hints

import click
import msgspec
from msgspec import Struct

from tcppar import config as configuration
from tcppar import config_file, wording
from tcppar.config import Config
from tcppar.conversion import convert
from tcppar.errors import ConfigurationError
from tcppar.quantities import Bounds, FileMode, Limit, Text
from tcppar.settings import ServerSettings, ServiceSettings

# `listen` and `command` are the words of the command itself.
_WORDS = ("listen", "command")
_PLACEHOLDERS = {int: "NUMBER", Bounds: "MIN-MAX", Limit: "SIZE", FileMode: "MODE"}
# Settings that are tables or lists, of which a flag gives one entry and can be repeated.
_SINGULAR = {"rlimits": "rlimit", "keep_environment": "keep-environment", "environment": "environment"}

FILE_HELP = "Read services from a TOML file, or from all files `*.toml` of a folder, in the order of their names."

# Stands for the one service that is described in Python, until the command names it; in no message.
_NAME_IN_PYTHON = "python"

Decorator = Callable[[Callable[..., None]], Callable[..., None]]


def description(kind: type[Struct], name: str) -> str:
    """The help text of a setting."""
    hint = get_type_hints(kind, include_extras=True)[name]
    metas = [meta for meta in get_args(hint)[1:] if isinstance(meta, msgspec.Meta)]
    return next((meta.description for meta in metas if meta.description), "")


def plain_type(kind: type[Struct], name: str) -> Any:
    """The type of a setting without its annotations and without None."""
    return wording.plain_type(get_type_hints(kind)[name])


def flag_name(name: str) -> str:
    """The flag of a setting, without the dashes."""
    return _SINGULAR.get(name, name.replace("_", "-"))


def options() -> list[Decorator]:
    """One click option for each setting."""
    return [
        _option(kind, field.name)
        for kind in (ServiceSettings, ServerSettings)
        for field in msgspec.structs.fields(kind)
        if field.name not in _WORDS
    ]


def _option(kind: type[Struct], name: str) -> Decorator:
    flag, plain, text = f"--{flag_name(name)}", plain_type(kind, name), description(kind, name)
    if plain is bool:
        return click.option(f"{flag}/--no-{flag_name(name)}", name, default=None, help=text)
    if isinstance(plain, EnumType):
        return click.option(flag, name, metavar="|".join(plain), help=text)
    if get_origin(plain) is dict:
        return click.option(flag, name, multiple=True, metavar="NAME=VALUE", help=text)
    if get_origin(plain) is tuple:
        return click.option(flag, name, multiple=True, metavar="NAME", help=text)
    return click.option(flag, name, metavar=_placeholder(name, plain), help=text)


def _placeholder(name: str, plain: Any) -> str:
    """What stands for a value in the help."""
    if plain is str:
        return "TEXT" if name == "control_file" else name.rpartition("_")[2].upper()
    return _PLACEHOLDERS.get(plain) or str(plain.__name__).upper()


def read(
    file: Path | None,
    addresses: Sequence[str],
    command: Sequence[str],
    given: Mapping[str, Any],
    *,
    again: bool = False,
) -> Config:
    """The configuration that a command line asks for: a file's, or the one service that it describes itself.

    Args:
        again: whether a server that serves reads it (`config_file.load`).

    Raises:
        ConfigurationError: with every mistake.
    """
    flags = {name: value for name, value in given.items() if value not in (None, ())}
    if file is not None:
        return _read_file(file, addresses, command, flags, again=again)
    service: dict[str, Any] = {"listen": list(addresses), "command": list(command)}
    server: dict[str, Any] = {}
    mistakes: list[str] = []
    for name, value in flags.items():
        kind = ServerSettings if name in ServerSettings.__struct_fields__ else ServiceSettings
        target = server if kind is ServerSettings else service
        try:
            target[name] = _plain(kind, name, value)
        except ConfigurationError as error:
            mistakes.extend(error.mistakes)
    name = _service_name(command, given.get("handler"))
    try:
        config = configuration.from_tree({**server, "service": {name: service}}, "command line")
    except ConfigurationError as error:
        mistakes.extend(mistake.replace(f"service.{name}.", "") for mistake in error.mistakes)
    if mistakes:
        raise ConfigurationError(mistakes)
    return config


def _service_name(command: Sequence[str], handler: str | None) -> str:
    """The program's or the handler's name, as a word that a service may be called."""
    program = Path(command[0]).name if command else Path((handler or "").rpartition(":")[0]).name.removesuffix(".py")
    return re.sub(r"[^A-Za-z0-9_.-]", "_", program)[: configuration.LONGEST_NAME] or "service"


def _read_file(
    file: Path, addresses: Sequence[str], command: Sequence[str], flags: Mapping[str, Any], *, again: bool
) -> Config:
    """With a file, only the server's own flags make sense: each service has its settings there."""
    for_services = [f"--{flag_name(name)}" for name in flags if name not in ServerSettings.__struct_fields__]
    words = [*addresses, *command, *for_services]
    if words:
        # A word may be empty, or have blanks.
        raise ConfigurationError([f"command line: {shlex.join(words)}: with -c, this belongs in the file ({file})"])
    config = config_file.load(file, again=again)
    mistakes: list[str] = []
    server = {
        name: convert(value, plain_type(ServerSettings, name), f"command line: {name}", mistakes)
        for name, value in flags.items()
    }
    if mistakes:
        raise ConfigurationError(mistakes)
    return Config(msgspec.structs.replace(config.server, **server), config.services)


def _plain(kind: type[Struct], name: str, value: Any) -> Any:
    """A flag's text as the plain data that a file would hold."""
    plain = plain_type(kind, name)
    if get_origin(plain) is dict:
        pairs = [entry.partition("=") for entry in value]
        if wrong := [entry for entry, pair in zip(value, pairs, strict=True) if not pair[1] or not pair[0]]:
            raise ConfigurationError([f"command line: --{flag_name(name)} {wrong[0]!r}: expected NAME=VALUE"])
        return {key: _number_if_one(text) if name == "rlimits" else text for key, _, text in pairs}
    if get_origin(plain) is tuple:
        return list(value)
    return value if plain in (str, Text, FileMode) else _number_if_one(value)


def _number_if_one(text: Any) -> Any:
    try:
        return int(text) if isinstance(text, str) else text
    except ValueError:
        return text


def arguments_for(settings: Mapping[str, Any]) -> list[str]:
    """The words behind `tcppar serve` for settings that are given as Python values.

    They stand where every user of the system can read them (ps(1)), those of `environment` too.

    Args:
        settings: by their names, of one service and of the server; values as in a file, and paths for texts. A file
            mode may be a number, as it is everywhere in Python (`0o027`).

    Raises:
        ConfigurationError: with every mistake, each with the setting's name.
    """
    plain = {name: _as_in_a_file(name, value) for name, value in settings.items()}
    of_server = {name: value for name, value in plain.items() if _is_the_servers(name)}
    of_service = {name: value for name, value in plain.items() if name not in of_server}
    try:
        config = configuration.from_tree({**of_server, "service": {_NAME_IN_PYTHON: of_service}}, "settings")
    except ConfigurationError as error:
        raise ConfigurationError(
            [mistake.replace(f"service.{_NAME_IN_PYTHON}.", "") for mistake in error.mistakes]
        ) from None
    service = config.services[_NAME_IN_PYTHON].settings
    words = [word for name in of_server for word in _flags_for(name, getattr(config.server, name))]
    words += [word for name in of_service if name not in _WORDS for word in _flags_for(name, getattr(service, name))]
    command = ["--", *service.command] if service.command else []
    return [*words, *service.listen, *command]


def _as_in_a_file(name: str, value: Any) -> Any:
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    is_mode = name in ServiceSettings.__struct_fields__ and plain_type(ServiceSettings, name) is FileMode
    return f"{value:04o}" if is_mode and type(value) is int and value >= 0 else value


def _is_the_servers(name: str) -> bool:
    """Whether a name is, or was probably meant to be, that of a setting of the server."""
    known = (*ServerSettings.__struct_fields__, *ServiceSettings.__struct_fields__)
    return not {*difflib.get_close_matches(name, known, n=1)}.isdisjoint(ServerSettings.__struct_fields__)


def _flags_for(name: str, value: Any) -> list[str]:
    """A setting as flags, each in one word, so that no value can be taken for another flag."""
    flag = flag_name(name)
    if value is None:
        return []
    if isinstance(value, bool):
        return [f"--{flag}" if value else f"--no-{flag}"]
    if isinstance(value, dict):
        return [f"--{flag}={key}={entry}" for key, entry in value.items()]
    if isinstance(value, tuple):
        return [f"--{flag}={entry}" for entry in value]
    return [f"--{flag}={value}"]
