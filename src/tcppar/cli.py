"""The commands: `tcppar serve` and `tcppar check`."""

import io
import os
import sys
import traceback
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import click

import tcppar
from tcppar import flags, needs
from tcppar.command_words import Command, CommandAfterDashes, Commands, File, Time, WholeNumber
from tcppar.config import Config
from tcppar.errors import ConfigurationError, ExitCode, SystemRefused, TcpparError, as_refusal
from tcppar.events import Level
from tcppar.net import notify, platform
from tcppar.observe.check import choose, explain
from tcppar.observe.log import journal_prefix
from tcppar.starting import Starting
from tcppar.supervisor.succession import trial, upgrade
from tcppar.upgrading import RunningServer


@click.group(
    cls=Commands,
    help="Give every TCP connection a process of its own.",
    context_settings={"help_option_names": ["-h", "--help"]},
)
@click.version_option(tcppar.__version__, prog_name="tcppar")
def cli() -> None:
    """Group of all commands."""


def _service_options(command: Callable[..., None]) -> Callable[..., None]:
    for option in reversed(flags.options()):
        command = option(command)
    return command


@cli.command(
    cls=CommandAfterDashes,
    options_metavar="[OPTIONS]",
    short_help="Serve a program, or all services of a file.",
    epilog="Exit codes: 0 after a stop that was requested, 100 for a mistake in the command line or the configuration, "
    "111 if the system refuses something at the start.",
)
@click.argument("addresses", metavar="[ADDRESS]... -- PROGRAM [ARGUMENT]...", nargs=-1)
@click.option("-c", "--config", "file", type=File(), help=flags.FILE_HELP)
@click.option(
    "--ready-fd",
    type=WholeNumber(),
    metavar="N",
    help="When ready, write the line `ready ADDRESS...` to descriptor N and close it. Blanks in an address are written "
    "as octal escapes.",
)
@click.option(
    "--failure-fd",
    type=WholeNumber(),
    metavar="N",
    help="If the start fails, also write the reason to descriptor N and close it.",
)
@click.option(
    "--lifeline-fd",
    type=WholeNumber(),
    metavar="N",
    help="Stop, as on SIGTERM, at end of file on descriptor N: when the process that holds the other end of the pipe "
    "closes it or dies.",
)
@click.option(
    "--keep/--no-keep",
    default=None,
    help="Run under a keeper: a process that holds everything open and restarts the server's main process if it dies, "
    "so that no client notices. Process 1 always has one. (Linux)",
)
@_service_options
@click.pass_context
def serve(
    ctx: click.Context,
    /,
    addresses: tuple[str, ...],
    file: Path | None,
    ready_fd: int | None,
    failure_fd: int | None,
    lifeline_fd: int | None,
    keep: bool | None,
    **given: Any,
) -> None:
    """Run PROGRAM for every connection to an ADDRESS, each in a process of its own.

    ADDRESS is IP:PORT, [IPv6]:PORT, :PORT for IPv4 and IPv6, unix:/PATH, or inherited[:NAME]. The program has the
    connection as its standard input and output; its standard error goes to the log.
    """
    read = partial(flags.read, file, addresses, ctx.obj, given)
    if (books := os.environ.pop(upgrade.TRIAL, None)) is not None:
        Starting(read, keep=keep, lifeline=None).rehearse(upgrade.descriptor_in(upgrade.TRIAL, books))
        return
    platform.ensure_standard_descriptors()
    starting = Starting(read, keep=keep, lifeline=lifeline_fd)
    if starting.is_first:
        for option, descriptor in (
            ("--ready-fd", ready_fd),
            ("--failure-fd", failure_fd),
            ("--lifeline-fd", lifeline_fd),
        ):
            _keep_to_ourselves(option, descriptor)
        starting.ready, starting.failure = ready_fd, failure_fd
    try:
        starting.run()
    except TcpparError as error:
        # Only a start raises: both descriptors may be the same, and it was not closed by the ready line.
        if starting.failure is not None:
            notify.write_failure(starting.failure, str(error))
        raise


def _keep_to_ourselves(option: str, descriptor: int | None) -> None:
    """Let no other process inherit a descriptor. That it is open is not only courtesy: if it is not, the number will
    be that of something else."""
    try:
        if descriptor is not None:
            os.set_inheritable(descriptor, False)
    except (OSError, OverflowError):
        raise ConfigurationError([f"command line: {option}: descriptor {descriptor} is not open"]) from None


@cli.command(cls=CommandAfterDashes, short_help="Find the mistakes in a configuration; show what a client would get.")
@click.argument("addresses", metavar="[ADDRESS]... -- PROGRAM [ARGUMENT]...", nargs=-1)
@click.option("-c", "--config", "file", type=File(), help=flags.FILE_HELP)
@click.option("--from", "client", metavar="IP", help="Show what would happen to a client from this address.")
@click.option("--service", metavar="NAME", help="The service that the client connects to, if there are several.")
@_service_options
@click.pass_context
def check(
    ctx: click.Context,
    /,
    addresses: tuple[str, ...],
    file: Path | None,
    client: str | None,
    service: str | None,
    **given: Any,
) -> None:
    """Check a configuration without serving it, and list all of its mistakes. A spawner is started for each service: it
    loads the handler, or tests as the service's user whether the program can be run.
    """
    config = flags.read(file, addresses, ctx.obj, given)
    _try_services(config, str(file or "command line"))
    needs.refuse_if_short(config, keep=False)
    if service is not None:
        choose(config, service)
    if client is None:
        _say(f"{file or 'command line'}: no mistakes, services: {', '.join(config.services)}")
    else:
        _say(explain(config, client, service, os.environ))


@cli.command("upgrade", cls=Command, short_help="Replace a running server with the installed version.")
@click.argument("pid", type=WholeNumber(1))
@click.option(
    "--timeout",
    type=Time(0),
    default="35s",
    show_default=True,
    metavar="DURATION",
    help="How long the upgrade may take.",
)
def upgrade_command(pid: int, timeout: float) -> None:
    """Replace the running server whose process id is PID with the installed version of tcppar.

    PID is the process that `tcppar serve` was started as, or its supervisor. No connection is cut, no client is
    refused, and the configuration file is read again. If the installed version cannot take over, nothing changes, and
    the server's log says why. Sending SIGUSR2 to the server does the same. Linux only.
    """
    with RunningServer(pid) as server:
        server.upgrade(timeout)
    _say(f"process {pid}: upgraded; its log says what has changed")


@cli.command(
    cls=Command,
    short_help="Test on this machine whether clients are lost when parts fail.",
    epilog="Exit codes: 0 if nothing is lost, 1 if something is, 111 if the server does not start.",
)
@click.option(
    "--seconds",
    type=Time(1),
    metavar="DURATION",
    default="50s",
    show_default=True,
    help="About how long it takes, at least 1s.",
)
@click.option("--only", metavar="PART", multiple=True, help="Run only this part, such as `resets`. Can be repeated.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object at the end.")
def selftest(seconds: float, only: tuple[str, ...], as_json: bool) -> None:
    """Start a server on this machine, connect clients to it, and make its parts fail: resets, storms of signals,
    shortages, killed processes, upgrades, slow clients. Every byte is verified, and every connection is accounted for.

    It needs no privileges, and uses only its own processes, and ports of 127.0.0.1.
    """
    # Here, because the server's main process imports this module, and has no use for what that one needs.
    from tcppar.testing.selftest import show

    if not show(only, seconds, as_json=as_json):
        sys.exit(1)


def _try_services(config: Config, where: str) -> None:
    """Let each service's spawner begin, as in a server: what it refuses, or the system, is a mistake too."""
    mistakes = [
        f"{where}: service.{service.name}: {reason}"
        for service in config.services.values()
        for reason in trial.refusals(service)
    ]
    if mistakes:
        raise ConfigurationError(mistakes)


def _say(text: str) -> None:
    try:
        click.echo(text)
    except OSError as error:
        raise _unwritten(error) from None


def _unwritten(error: BaseException) -> SystemRefused:
    """What to say of output that cannot be written. Python keeps it, and would fail with it once more at the exit."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    return SystemRefused(f"cannot write the output: {getattr(error, 'strerror', error)}")


def _is_of_click(error: BaseException) -> bool:
    """Whether click was refused something, which asks the system for nothing but to write help and the like."""
    if not isinstance(error, OSError):
        return False
    *_, place = traceback.extract_tb(error.__traceback__)
    return Path(place.filename).parent == Path(click.__file__).parent


def main() -> None:
    """Entry point: errors that are the user's to mend become one message and an exit code, never a traceback."""
    platform.hear_of_children()
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        cli.main(standalone_mode=False)
    except (TcpparError, OSError, MemoryError) as error:
        refusal = _unwritten(error) if _is_of_click(error) else as_refusal(error)
        mistakes = refusal.mistakes if isinstance(refusal, ConfigurationError) else (str(refusal),)
        for mistake in mistakes:
            click.echo(f"{journal_prefix(2, Level.ERROR)}tcppar: {mistake}", err=True)
        sys.exit(refusal.exit_code)
    except click.ClickException as error:
        click.echo(f"tcppar: {error.format_message()}", err=True)
        sys.exit(ExitCode.USAGE)
    except click.Abort:
        sys.exit(ExitCode.SYSTEM)
