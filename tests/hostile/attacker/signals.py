"""Signals to spawners, siblings and the server."""

import fcntl
import os
import signal
import time
from functools import partial

from tests.hostile.attacker.base import EVERY, HANDLERS, PAIR, WORKER, Me, Reach, attack, sleep_deaf

ANOTHER = "Another spawner takes its place."


def _try(pid: int, number: int) -> None:
    """Send a signal to a process that may be gone, or another user's."""
    try:
        os.kill(pid, number)
    except (ProcessLookupError, PermissionError):
        pass


@attack(EVERY, "What was offered to it is offered to another one within a second; max_lifetime holds.", alone=True)
def spawner_stopped(me: Me) -> None:
    """A child stops its spawner."""
    os.kill(os.getppid(), signal.SIGSTOP)
    me.say("done")
    sleep_deaf()


@attack(
    PAIR,
    "What was offered to them is offered to another one; max_lifetime holds.",
    reach=Reach.OWN_USER,
    another_user=True,
)
def spawners_stopped_in_a_loop(me: Me) -> None:
    """A child's daemon stops whatever spawner of its service it finds, again and again for two seconds."""
    _loop(me, signal.SIGSTOP)


@attack(EVERY, ANOTHER, alone=True)
def spawner_killed(me: Me) -> None:
    """A child kills its spawner."""
    os.kill(os.getppid(), signal.SIGKILL)
    me.hold()


@attack(PAIR, ANOTHER + " Once the attack is over, the service is as before.", reach=Reach.OWN_USER, another_user=True)
def spawners_killed_in_a_loop(me: Me) -> None:
    """A child kills whatever spawner of its service it finds, again and again for two seconds."""
    _loop(me, signal.SIGKILL)


def _loop(me: Me, number: signal.Signals) -> None:
    """Find them as the server's children of the same user: that is what a spawner is."""
    server = os.getppid()
    with open(f"/proc/{server}/stat") as file:
        server = int(file.read().rpartition(")")[2].split()[1])
    me.say("done")
    until = time.monotonic() + 2
    while time.monotonic() < until:
        with open(f"/proc/{server}/task/{server}/children") as file:
            children = [int(word) for word in file.read().split()]
        for pid in children:
            if pid != os.getpid():
                _try(pid, number)
        time.sleep(0.02)


@attack(EVERY, ANOTHER, alone=True)
def spawner_asked_to_end(me: Me) -> None:
    """A child sends its spawner every signal that it may, from 1 to 64, without SIGKILL and SIGSTOP."""
    for number in sorted(signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP}):
        _try(os.getppid(), number)
    me.hold()


@attack(PAIR, "Their clients are cut off; the service goes on.", reach=Reach.OWN_USER)
def siblings_killed(me: Me) -> None:
    """A child kills all other children of its spawner."""
    for pid in me.siblings():
        _try(pid, signal.SIGKILL)
    me.hold()


@attack(
    HANDLERS, "A client who is offered to a stopped one gets another; max_lifetime ends them.", reach=Reach.OWN_USER
)
def siblings_stopped(me: Me) -> None:
    """A child stops all other children of its spawner, those that are idle too."""
    for pid in me.siblings():
        _try(pid, signal.SIGSTOP)
    me.hold()


@attack(EVERY, "The system refuses it, for they are another user's.", another_user=True)
def server_signalled(me: Me) -> None:
    """A child sends SIGTERM, SIGSTOP and SIGKILL to the supervisor, to its parent, and to another service's process."""
    for name in ("supervisor", "first", "other"):
        for number in (signal.SIGTERM, signal.SIGSTOP, signal.SIGKILL):
            me.must_not_get(f"{number.name} to {name}", partial(os.kill, me.facts[name], number))


@attack(EVERY, "The system refuses it when the signal is due; the supervisor gets none.", another_user=True)
def server_named_as_owner(me: Me) -> None:
    """A child has SIGKILL sent to the supervisor when something comes in on what they share (F_SETOWN, O_ASYNC)."""
    for descriptor in {0, 1, 2, me.connection}:
        me.try_to(lambda descriptor=descriptor: _own(descriptor, me.facts["supervisor"]))  # type: ignore[misc]
    os.write(2, b"a line\n")
    me.hold()


def _own(descriptor: int, pid: int) -> None:
    fcntl.fcntl(descriptor, fcntl.F_SETSIG, signal.SIGKILL)
    fcntl.fcntl(descriptor, fcntl.F_SETOWN, pid)
    fcntl.fcntl(descriptor, fcntl.F_SETFL, fcntl.fcntl(descriptor, fcntl.F_GETFL) | os.O_ASYNC)


@attack(
    WORKER,
    "Its end is recorded, and its client is offered to nobody else. Its child is the administrator's to end.",
    leaves=True,
)
def parent_changed(me: Me) -> None:
    """A worker forks, ends, and its child continues to serve instead."""
    if os.fork():
        os._exit(0)
    me.hold()
