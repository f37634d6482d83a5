"""One spawner as the supervisor sees it: a taker whose process it has started."""

import os
import signal
import socket
import sys
from typing import Protocol

import msgspec

import tcppar
from tcppar.descriptors import CHANNEL_DESCRIPTOR
from tcppar.net import channel as channels
from tcppar.net import descriptor_limit
from tcppar.net.platform import Features
from tcppar.records import ChildPlan, Deliver, HandlerMode, Report
from tcppar.supervisor.connection import Connection
from tcppar.supervisor.dispatch import interpreter
from tcppar.supervisor.dispatch.parts import Parts
from tcppar.supervisor.dispatch.taker import Taker

# Offers that a spawner may have in hand: enough that it never waits for the supervisor, few enough that another,
# idle spawner does not wait for this one.
MOST_OFFERS = 6


class SpawnerOwner(Protocol):
    """Whoever answers for a spawner."""

    def on_report(self, spawner: "SpawnerProcess", report: Report) -> None: ...
    def on_channel_closed(self, spawner: "SpawnerProcess") -> None: ...
    def give_up(self, spawner: "SpawnerProcess", reason: str) -> None: ...


class SpawnerProcess(Taker):
    """A running spawner."""

    def __init__(self, owner: SpawnerOwner, parts: Parts, end: socket.socket, pid: int) -> None:
        super().__init__(parts, end)
        self._owner = owner
        self.pid = pid
        self.is_reaped = False
        parts.core.waiter.register(self)

    @classmethod
    def started(cls, owner: SpawnerOwner, parts: Parts, plan: ChildPlan, stderr: int) -> "SpawnerProcess":
        """Start one.

        Args:
            stderr: the descriptor that becomes its descriptor 2, and its children's if they get no log of their own.

        Raises:
            OSError: no process or no descriptor is left.
        """
        ours, its = channels.pair()
        try:
            pid = start(its.fileno(), stderr, plan, parts.core.features)
        except OSError:
            ours.close()
            raise
        finally:
            its.close()
        spawner = cls(owner, parts, ours, pid)
        spawner.passes_log = plan.passes_log
        # The plan may be larger than the channel's buffer: this once we wait until the spawner reads it.
        spawner._channel.send(plan)
        ours.setblocking(False)
        return spawner

    @classmethod
    def started_with_log(cls, owner: SpawnerOwner, parts: Parts, plan: ChildPlan) -> "SpawnerProcess":
        """Start one whose own words are for the log too.

        Raises:
            OSError: no process or no descriptor is left.
        """
        reader, stderr = parts.logs.pair()
        try:
            spawner = cls.started(owner, parts, plan, stderr)
        except OSError:
            os.close(reader)
            raise
        finally:
            os.close(stderr)
        spawner.log = parts.logs.follow(plan.service, spawner, reader)
        return spawner

    def prepare_for(self, connection: Connection) -> None:
        """Let the connection have a log for its child.

        Raises:
            OSError: no descriptor is left for it.
        """
        if self.passes_log and (connection.log is None or connection.log.writer is None):
            if connection.log is not None:
                connection.log.end()  # whoever had the other end was to have the connection, and is dead
            self._parts.logs.give(connection)

    def _act_upon(self, report: Report) -> None:
        self._owner.on_report(self, report)

    def give_up(self, reason: str) -> None:
        """End it, for it does not answer, or says what cannot be so."""
        self._owner.give_up(self, reason)

    def _channel_closed(self) -> None:
        self._owner.on_channel_closed(self)

    def deliver(self, connection: Connection, number: signal.Signals) -> None:
        """Let it send a signal to the process group of one of its children."""
        self.post(Deliver(connection.number, number))

    @property
    def maker_pid(self) -> int:
        """Itself, until it is reaped."""
        return 0 if self.is_reaped else self.pid

    @property
    def lawful_parents(self) -> set[int]:
        """We, or a keeper that has inherited it."""
        return self._core.adoptive_parents

    def send_signal(self, number: signal.Signals) -> None:
        """Send a signal to it. Its process id is of our own making, and nobody else's before it is reaped."""
        if self.is_reaped:
            return
        if self._core.features.pidfds:
            super().send_signal(number)
        else:
            os.kill(self.pid, number)


# Isolated (-I), without the site packages' start-up costs (-S): only the two folders that a spawner needs, behind
# Python's own library, of which nothing that is installed takes a module's place. msgspec
# imports typing_extensions where it is installed, and with it a megabyte (inspect, ast, tokenize); it does as well
# without.
_BOOTSTRAP = (
    "import sys; sys.path += sys.argv[1:]; sys.modules['typing_extensions'] = None; import msgspec; "
    "del sys.modules['typing_extensions']; from tcppar.spawner.loop import main; main()"
)
_LEAN_BOOTSTRAP = "import sys; sys.path += sys.argv[1:]; from tcppar.spawner.zygote import main; main()"
# Functions of C libraries are found at the start, and not when they are called first, which would be in each child.
_LEAN_ENVIRONMENT = {"LD_BIND_NOW": "1"}
_FOLDERS = [os.path.dirname(package) for package in (*tcppar.__path__, *msgspec.__path__)]


def _can_be_lean(plan: ChildPlan, features: Features) -> bool:
    """Whether the spawner with the loop in C will do: for handlers, unless workers have to tell of what they take."""
    if plan.handler is None or not features.fast_spawn:
        return False
    return plan.handler.mode is HandlerMode.FORK or features.tells_unread


def start(channel: int, stderr: int, plan: ChildPlan, features: Features) -> int:
    """Start an interpreter with its end of the channel and its log; its process id.

    Args:
        plan: what the spawner will be told. On it depends which one is started.
    """
    lean = _can_be_lean(plan, features)
    pid = os.posix_spawn(
        sys.executable,
        [sys.executable, "-I", "-S", *interpreter.options(), "-c", _LEAN_BOOTSTRAP if lean else _BOOTSTRAP, *_FOLDERS],
        os.environ | _LEAN_ENVIRONMENT if lean else os.environ,
        file_actions=(
            (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
            (os.POSIX_SPAWN_OPEN, 1, os.devnull, os.O_WRONLY, 0),
            (os.POSIX_SPAWN_DUP2, stderr, 2),
            (os.POSIX_SPAWN_DUP2, channel, CHANNEL_DESCRIPTOR),
        ),
        # What is typed at the terminal is for the supervisor alone, and so is the terminal, which it gives up itself
        # (`spawner/beginning.py`). A session of its own would do that too; but where the kernel schedules by sessions
        # (CONFIG_SCHED_AUTOGROUP), a pool in one made a fifth fewer connections a second, and programs some 3 %.
        setpgroup=0,
        setsigdef=signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP},
        setsigmask=(),
    )
    descriptor_limit.give(pid)
    return pid
