"""The reference, written from the code: `python -m tcppar.docs`, in the checkout's folder.

What users look up stands once, in the declarations that the program itself reads. `--check` writes nothing and fails
if a file is not what would be written, so that no change of a setting or an event leaves the reference behind.
"""

import inspect
import json
import sys
from collections.abc import Callable, Iterator
from enum import EnumType
from pathlib import Path
from types import NoneType
from typing import Any, get_args, get_origin, get_type_hints

import click
from msgspec import Struct

from tcppar import flags, wording
from tcppar.cli import cli
from tcppar.events import Event
from tcppar.quantities import Duration
from tcppar.settings import ServerSettings, ServiceSettings

FOLDER = Path("docs")
_HELP_WIDTH = 100

_WORDS_OF_THE_COMMAND = {
    "listen": "none; given as `ADDRESS...` on the command line",
    "command": "none; given as `PROGRAM ARGUMENT...` after `--`",
}

_SETTINGS_HEAD = """
# Settings

A setting is a key in the file that `-c FILE` names, or a flag of `tcppar serve` and `tcppar check`. The file is
[TOML](https://toml.io): the settings of the server go at the top, and those of a service in a table `[service.NAME]`.
With flags alone there is one service, named after the program.

    log_format = "json"

    [service.echo]
    listen = [":7000"]
    command = ["cat"]
    max_lifetime = "5m"

Only `listen` is required, and either `command` or `handler`. `tcppar check` lists all mistakes in a file or a command
line.

`-c` can also name a folder, such as `/etc/tcppar.d`, for packages to put files into. All files `*.toml` in it are read,
in the order of their names, and their services are served together. Hidden files (`.web.toml`) and other names
(`web.toml.dpkg-new`) are left out. It is a mistake to define a service, or a setting of the server, in two files. A
reload reads the folder again.
"""

_EVENTS_HEAD = """
# Events

The server logs these events on its descriptor 2. With `--log-format json`, each event is one line with a JSON object:
the keys `time` (UTC, RFC 3339, with milliseconds), `level` (`info`, `warning` or `error`) and `event` (one of the names
below), followed by the event's own keys. Seconds have at most six decimal places. With `--log-format text`, each event
is one line with the time and a sentence for people. Programs should read the JSON, because the sentences may change.
"""

_COMMANDS_HEAD = """
# Commands
"""


# Settings.


def settings_page() -> str:
    """docs/settings.md."""
    return "\n".join(
        [
            _first_line("src/tcppar/settings.py"),
            _SETTINGS_HEAD,
            *_settings_of(ServiceSettings, "Settings of a service"),
            *_settings_of(ServerSettings, "Settings of the server"),
        ]
    )


def _settings_of(kind: type[Struct], title: str) -> Iterator[str]:
    yield f"## {title}\n"
    for name in kind.__struct_fields__:
        yield f"### `{name}`\n"
        yield f"{flags.description(kind, name)}\n"
        yield f"- Type: {wording.in_words(get_type_hints(kind, include_extras=True)[name])}"
        yield f"- Default: {_default(getattr(kind(), name))}"
        yield f"- Flag: {_WORDS_OF_THE_COMMAND.get(name) or _flag(name)}\n"


def _default(value: Any) -> str:
    """A default as one would write it in TOML."""
    if value is None or value in ((), {}):
        return "none"
    return f"`{json.dumps(str(value) if isinstance(value, Duration) else value)}`"


def _flag(name: str) -> str:
    option = next(parameter for parameter in cli.commands["serve"].params if parameter.name == name)
    assert isinstance(option, click.Option)
    value = f" {option.metavar}" if option.metavar else ""
    forms = " or ".join(f"`{flag}{value}`" for flag in (*option.opts, *option.secondary_opts))
    return f"{forms}, can be repeated" if option.multiple else forms


def _one_of(kind: EnumType) -> str:
    return "one of " + ", ".join(f'`"{member}"`' for member in list[str](kind))


# Events.


def events_page() -> str:
    """docs/events.md."""
    kinds: list[type[Event]] = Event.__subclasses__()
    return "\n".join([_first_line("src/tcppar/events"), _EVENTS_HEAD, *(_event(kind) for kind in kinds)])


def _event(kind: type[Event]) -> str:
    hints = get_type_hints(kind)
    rows = [f"| `{field}` | {_field_type(hints[field])} |" for field in kind.__struct_fields__]
    return "\n".join(
        [
            f"## `{kind.__struct_config__.tag}`\n",
            f"{inspect.getdoc(kind)}\n",
            f"Level: {_level(kind)}\n",
            *("| Key | Type |", "| --- | --- |"),
            *rows,
            "",
        ]
    )


def _field_type(hint: Any) -> str:
    """The type of an event's field in words, as a JSON reader finds it."""
    if NoneType in (parts := get_args(hint)):
        return " or ".join(_field_type(part) for part in parts)
    if isinstance(hint, EnumType):
        return _one_of(hint)
    return {
        bool: "true or false",
        int: "whole number",
        float: "number",
        str: "string",
        NoneType: "null",
        tuple[str, ...]: "list of strings",
    }[hint]


def _level(kind: type[Event]) -> str:
    """The level of an event; where it depends on a field that may be null, or is true or false, both."""
    hints = get_type_hints(kind)
    full = {field: _sample(hints[field]) for field in kind.__struct_fields__}
    usual = kind(**full).level
    for field in kind.__struct_fields__:
        if NoneType in get_args(hints[field]) and (other := kind(**full | {field: None}).level) is not usual:
            return f"`{usual}`, or `{other}` where `{field}` is null"
        if hints[field] is bool and (other := kind(**full | {field: True}).level) is not usual:
            return f"`{usual}`, or `{other}` where `{field}` is true"
    return f"`{usual}`"


def _sample(hint: Any) -> Any:
    """Some value of a field, not null."""
    plain = get_args(hint)[0] if NoneType in get_args(hint) else hint
    if isinstance(plain, EnumType):
        return next(iter(plain))
    return (get_origin(plain) or plain)()


# Commands.


def commands_page() -> str:
    """docs/commands.md."""
    helps = [_help(command, f"tcppar {name}") for name, command in cli.commands.items()]
    return "\n".join([_first_line("src/tcppar/cli.py"), _COMMANDS_HEAD, _help(cli, "tcppar"), *helps])


def _help(command: click.Command, name: str) -> str:
    context = click.Context(command, info_name=name, terminal_width=_HELP_WIDTH, **cli.context_settings)
    return f"## `{name} --help`\n\n```text\n{command.get_help(context)}\n```\n"


# Files.

PAGES: dict[str, Callable[[], str]] = {
    "settings.md": settings_page,
    "events.md": events_page,
    "commands.md": commands_page,
}


def _first_line(source: str) -> str:
    return f"<!-- Generated by `python -m tcppar.docs` from {source}. Do not edit. -->"


def _written(path: Path) -> str | None:
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return None


@click.command()
@click.option("--check", is_flag=True, help="Write nothing; name every file that is not up to date, and exit with 1.")
def main(check: bool) -> None:
    """Write the reference into the folder docs/."""
    pages = {FOLDER / name: page() for name, page in PAGES.items()}
    stale = [path for path, text in pages.items() if _written(path) != text]
    if check:
        for path in stale:
            click.echo(f"{path} is not up to date: run python -m tcppar.docs", err=True)
        sys.exit(1 if stale else 0)
    FOLDER.mkdir(exist_ok=True)
    for path in stale:
        path.write_text(pages[path], encoding="utf-8")


if __name__ == "__main__":
    main()
