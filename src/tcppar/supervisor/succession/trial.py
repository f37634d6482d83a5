"""A trial of a service, without serving: whether its addresses can be listened on, its user and directory be entered,
its program be run, or its handler be loaded.
"""

import os
import signal
import socket
from collections.abc import Iterator

import msgspec
from msgspec.structs import replace

from tcppar.config import ServiceConfig, child_plan, listener_options
from tcppar.net import calls, opening, platform
from tcppar.net import channel as channels
from tcppar.net.channel import Channel, ChannelClosed
from tcppar.policy import outcome
from tcppar.records import ChildPlan, Refused, Report
from tcppar.supervisor.dispatch import control_folder, spawner_process
from tcppar.supervisor.dispatch.early_end import early_end

_PATIENCE = 30.0


def refusals(config: ServiceConfig) -> Iterator[str]:
    """What the system refuses of a service, as far as it can be known without serving.

    Raises:
        OSError: no process can be made.
    """
    for address in config.settings.listen:
        if (reason := opening.refusal(address, listener_options(config))) is not None:
            yield f"cannot listen on {address}: {reason}"
    if (reason := _refusal(config)) is not None:
        yield reason


def _refusal(config: ServiceConfig) -> str | None:
    """Why its spawner refuses to begin; None if it is ready.

    Raises:
        OSError: no process can be made, or no folder for control files.
    """
    plan = replace(child_plan(config, "trial", os.environ, options_inherited=True), tries_program=True)
    if plan.control_file is None:
        return _refusal_of(plan)
    folder = control_folder.make(config.name, config.identity)
    try:
        return _refusal_of(replace(plan, control_directory=folder))
    finally:
        control_folder.remove(folder)


def _refusal_of(plan: ChildPlan) -> str | None:
    """What a handler prints while it is loaded is not shown."""
    ours, its = channels.pair()
    with ours, open(os.devnull, "w") as null:
        with its:
            pid = spawner_process.start(its.fileno(), null.fileno(), plan, platform.detect())
        answer, has_ended = None, False
        try:
            answer = _answer(ours, plan)
        except TimeoutError:
            os.kill(pid, signal.SIGKILL)
            answer = f"its spawner was not ready within {_PATIENCE:g} s"
        except (ChannelClosed, OSError):
            has_ended = True
        finally:
            ours.close()  # which ends it
            _, status = os.waitpid(pid, 0)
    return early_end(plan, outcome.in_words(status)).reason if has_ended else answer


def _answer(ours: socket.socket, plan: ChildPlan) -> str | None:
    """What it says; None if it is ready.

    Raises:
        ChannelClosed, OSError: it has ended; TimeoutError: it is silent.
    """
    channel = Channel(ours, msgspec.msgpack.Decoder(list[Report]), calls.PLAIN)  # which know of the time limit
    ours.settimeout(_PATIENCE)
    channel.send(plan)
    while not (batches := channel.receive()):
        pass  # a long one comes in pieces
    return next((report.reason for report in batches[0] if isinstance(report, Refused)), None)
