"""Command lines as people write them: a program after `--`, a program without `--`, flags that do not exist."""

import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from shutil import which
from typing import Any

import click

from tcppar import wording
from tcppar.errors import ConfigurationError, ExitCode, shown
from tcppar.net.address import Address
from tcppar.quantities import Duration

_WORDS_OF_ALL = "ADDRESS... -- PROGRAM [ARGUMENT]..."
# Settings that are no flags, but words of the command; what other servers have for them; and flags of another command.
_WORDS = {
    "listen": "addresses are given without a flag: ADDRESS... -- PROGRAM",
    "bind": "addresses are given without a flag: ADDRESS... -- PROGRAM",
    "keep": "it is a flag of tcppar serve",
    "no-keep": "it is a flag of tcppar serve",
    "command": f"the program and its arguments go at the end: {_WORDS_OF_ALL}",
}


class Command(click.Command):
    """A command that guesses what was meant by a flag that does not exist only where that is likely."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        try:
            return super().parse_args(ctx, args)
        except click.NoSuchOption as error:
            raise click.UsageError(_no_such_option(error.option_name, self.params), ctx) from None


class Commands(click.Group):
    """All commands. Without a word there is the help, and the exit code of wrong usage, as nothing was done."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        if not args:
            click.echo(ctx.get_help(), err=True)
            sys.exit(ExitCode.USAGE)
        try:
            return super().parse_args(ctx, args)
        except click.NoSuchOption as error:
            raise click.UsageError(_no_such_option(error.option_name, self.params), ctx) from None

    def resolve_command(self, ctx: click.Context, args: list[str]) -> Any:
        if args[0] in self.commands:
            return super().resolve_command(ctx, args)
        if near := wording.nearest(args[0], [*self.commands]):
            raise click.UsageError(f"no such command {args[0]!r}; did you mean {near}?", ctx)
        raise click.UsageError(
            f"no such command {args[0]!r}: expected one of {', '.join(sorted(self.commands))}; see tcppar --help", ctx
        )


class WholeNumber(click.ParamType):  # type: ignore[type-arg]  # generic since click 8.5
    """A number such as a descriptor's or a process's.

    Args:
        least: the smallest that there can be; None for any.
    """

    name = "number"

    def __init__(self, least: int | None = None) -> None:
        self._least = least

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        try:
            number = int(value)
        except ValueError:
            number = None
        if number is None or (self._least is not None and number < self._least):
            least = "" if self._least is None else f", {self._least} or more"
            self.fail(f"{shown(value)}: expected a whole number{least}", param, ctx)
        return number


class Time(click.ParamType):  # type: ignore[type-arg]
    """A duration, as settings have it.

    Args:
        least: the fewest seconds that make sense.
    """

    name = "duration"

    def __init__(self, least: float) -> None:
        self._least = least

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Duration:
        try:
            duration = Duration(value)
        except ValueError as error:
            self.fail(str(error), param, ctx)
        if duration < self._least:
            self.fail(f"{shown(value)}: expected {Duration(self._least)} or more", param, ctx)
        return duration


class File(click.Path):
    """The file, or the folder, of a configuration. An empty text, mostly a variable that was not set, is none: Python
    would take it for the working directory.
    """

    def __init__(self) -> None:
        super().__init__(path_type=Path)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if value == "":
            self.fail("expected the name of a file or a folder, not an empty string", param, ctx)
        return super().convert(value, param, ctx)


class CommandAfterDashes(Command):
    """A command whose words after `--` are a program and its arguments, never options of ours."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        if not args:
            name = ctx.info_name
            raise click.UsageError(f"{name}: expected {_WORDS_OF_ALL}, or -c FILE; see tcppar {name} --help", ctx)
        own, program = args, list[str]()
        if "--" in args:
            at = args.index("--")
            own, program = args[:at], args[at + 1 :]
        elif (begin := _program_at(args, self.params)) is not None:
            corrected = shlex.join([*args[:begin], "--", *args[begin:]])
            raise ConfigurationError(
                [f"command line: {args[begin]}: put -- before the program: tcppar {ctx.info_name} {corrected}"]
            )
        ctx.obj = program
        return super().parse_args(ctx, own)


def _program_at(args: Sequence[str], params: Sequence[click.Parameter]) -> int | None:
    """Where a program begins that no `--` stands before; None if there is none.

    With a handler, or a file, there is no program: a word that is no address is a mistake in an address.
    """
    with_value = {
        flag for option in params if isinstance(option, click.Option) and not option.is_flag for flag in option.opts
    }
    known = {flag for option in params for flag in (*option.opts, *option.secondary_opts)} | {"--help"}
    if any(word.partition("=")[0] == "--handler" for word in args):
        return None
    is_value = has_address = False
    for place, word in enumerate(args):
        if is_value or word.startswith("-"):
            flag = word.partition("=")[0]
            # Behind a program, -c would be an option of the program's. Of a flag that does not exist, nobody knows
            # whether it has a value; it is what is to be told.
            if not is_value and (flag in ("-c", "--config") or (flag.startswith("--") and flag not in known)):
                return None
            is_value = not is_value and word in with_value
        elif _is_address(word):
            has_address = True
        elif which(word) or "/" in word.partition(":")[0] or (has_address and _is_no_host(word)):
            return place
    return None


def _is_no_host(word: str) -> bool:
    return ":" not in word and not word.replace(".", "").isdigit()


def _is_address(word: str) -> bool:
    try:
        Address(word)
    except ValueError:
        return False
    return True


def _no_such_option(given: str, params: Sequence[click.Parameter]) -> str:
    name = given.lstrip("-").replace("_", "-")
    if remedy := _WORDS.get(name):
        return f"No such option {given!r}: {remedy}"
    known = [flag[2:] for param in params for flag in (*param.opts, *param.secondary_opts) if flag.startswith("--")]
    known.append("help")
    near = wording.nearest(name, known) if given.startswith("--") else None
    return f"No such option {given!r}" + (f"; did you mean --{near}?" if near else "")
