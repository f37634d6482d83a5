"""A trial start of a service's spawner: whether its user can be entered and its handler be loaded, without serving."""

import os
import socket

import msgspec

from tcppar.config import ServiceConfig, child_plan
from tcppar.net import calls, platform
from tcppar.net import channel as channels
from tcppar.net.channel import Channel, ChannelClosed
from tcppar.records import ChildPlan, Refused, Report
from tcppar.supervisor import spawner_process

_PATIENCE = 30.0


def refusal(config: ServiceConfig) -> str | None:
    """Why a service's spawner refuses to begin; None if it is ready.

    What a handler prints while it is loaded is not shown.

    Raises:
        OSError: no process can be made.
    """
    plan = child_plan(config, "trial", os.environ, options_inherited=True)
    ours, its = channels.pair()
    with ours, open(os.devnull, "w") as null:
        with its:
            pid = spawner_process.start(its.fileno(), null.fileno(), plan, platform.detect())
        try:
            return _answer(ours, plan)
        finally:
            ours.close()  # which ends it
            os.waitpid(pid, 0)


def _answer(ours: socket.socket, plan: ChildPlan) -> str | None:
    channel = Channel(ours, msgspec.msgpack.Decoder(list[Report]), calls.PLAIN)  # which know of the time limit
    channel.send(plan)
    ours.settimeout(_PATIENCE)
    try:
        while not (batches := channel.receive()):
            pass  # a long one comes in pieces
    except TimeoutError:
        return f"its spawner was not ready within {_PATIENCE:g} s"
    except (ChannelClosed, OSError):
        return "its spawner ended without saying why"
    return next((report.reason for report in batches[0] if isinstance(report, Refused)), None)
