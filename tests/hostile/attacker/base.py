"""What an attacker is: its row in the table, and what it has in hand when it runs as a server's child or worker.

The modules of this folder run on both sides: in the tests, which read the table, and in the processes that attack. Each
attack is local, bounded, and over within LONGEST seconds also where nobody ends it.
"""

import os
import resource
import signal
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum

LONGEST = 12.0
"""How long an attack goes on if nobody ends it, in seconds."""

ORDER = b"attack "
"""What the first line of a client begins with that wants an attack, and no echo."""

_RLIMIT_LOCKS = 10  # linux/resource.h

GOT = "GOT"
"""What an attacker says first when it has got what it must not."""


class Mode(Enum):
    """What an attacker runs as."""

    PROGRAM = "program"
    FORK = "fork"
    POOL = "pool"


EVERY = (Mode.PROGRAM, Mode.FORK, Mode.POOL)
HANDLERS = (Mode.FORK, Mode.POOL)
PAIR = (Mode.PROGRAM, Mode.POOL)
ONE = (Mode.PROGRAM,)
WORKER = (Mode.POOL,)


class Reach(Enum):
    """Who may notice an attack besides its own client."""

    NOBODY = "nobody"
    OWN_USER = "clients of services of the same user, for the system lets a user end and stop all processes of its own"


@dataclass(frozen=True)
class Attack:
    """A row of the table.

    Attributes:
        deed: what is done. Its first line of documentation is the sentence that says so.
        modes: what it is tried as.
        holds: what must hold, besides what must hold for all (arena.py).
        reach: who may notice it.
        leaves: whether processes of the attacker's may be left when its connection has ended.
        stays: whether a worker may stay, which has said that it is idle: until it is needed, or one too many.
        alone: whether it is tried alone, for what it does to others of its service would hide what they do.
        ends_spawner: whether the service is of no use until somebody ends its spawner: the test does.
        reads: whether the attacker's client reads what it is sent.
        another_user: whether it can only be withstood where the server is another user's.
    """

    deed: Callable[["Me"], None]
    modes: tuple[Mode, ...]
    holds: str
    reach: Reach
    leaves: bool
    stays: bool
    alone: bool
    ends_spawner: bool
    reads: bool
    another_user: bool

    @property
    def name(self) -> str:
        """What it is ordered by."""
        return self.deed.__name__.replace("_", "-")

    @property
    def sentence(self) -> str:
        """What is done."""
        return (self.deed.__doc__ or "").strip().splitlines()[0]


TABLE: dict[str, Attack] = {}


def attack(
    modes: tuple[Mode, ...],
    holds: str,
    *,
    reach: Reach = Reach.NOBODY,
    leaves: bool = False,
    stays: bool = False,
    alone: bool = False,
    ends_spawner: bool = False,
    reads: bool = True,
    another_user: bool = False,
) -> Callable[[Callable[["Me"], None]], Callable[["Me"], None]]:
    """Enter a function into the table."""

    def enter(deed: Callable[["Me"], None]) -> Callable[["Me"], None]:
        apart = alone or leaves or ends_spawner or reach is not Reach.NOBODY
        row = Attack(deed, modes, holds, reach, leaves, stays, apart, ends_spawner, reads, another_user)
        TABLE[row.name] = row
        return deed

    return enter


class Me:
    """The process that attacks.

    Args:
        mode: what it runs as.
        connection: the descriptor of its connection.
        facts: numbers that it was told: `supervisor`, `victim`, `other` (process ids), and `port`.
    """

    def __init__(self, mode: Mode, connection: int, facts: dict[str, int]) -> None:
        self.mode = mode
        self.connection = connection
        self.facts = facts

    def say(self, text: str) -> None:
        """Tell the client, if it listens."""
        try:
            with socket.socket(fileno=os.dup(self.connection)) as connection:
                connection.send(text.encode() + b"\n", socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL)
        except OSError:
            pass

    def must_not_get(self, what: str, attempt: Callable[[], object]) -> None:
        """Try what the system has to refuse."""
        try:
            attempt()
        except OSError as error:
            self.say(f"{what}: {error.strerror}")
        else:
            self.say(f"{GOT} {what}")

    def try_to(self, attempt: Callable[[], object]) -> None:
        """Try what may be refused."""
        try:
            attempt()
        except OSError as error:
            self.say(f"refused: {error.strerror}")

    def hold(self) -> None:
        """Go on until somebody ends it."""
        self.say("done")
        time.sleep(LONGEST)

    def siblings(self) -> list[int]:
        """The other children of its spawner."""
        spawner = os.getppid()
        with open(f"/proc/{spawner}/task/{spawner}/children") as file:
            return [int(word) for word in file.read().split() if int(word) != os.getpid()]

    def fork(self, life: Callable[[], object]) -> int:
        """A child that lives, and then ends without a word."""
        if pid := os.fork():
            return pid
        try:
            life()
        finally:
            os._exit(0)

    def sleeper(self) -> int:
        """A child that does nothing, and cannot be asked to end."""
        return self.fork(sleep_deaf)


def sleep_deaf() -> None:
    """Sleep, whatever SIGTERM and SIGHUP say."""
    for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
        signal.signal(number, signal.SIG_IGN)
    time.sleep(LONGEST)


def change_mark() -> None:
    """Take another mark than that of its connection (src/tcppar/mark.py)."""
    _, hard = resource.getrlimit(_RLIMIT_LOCKS)
    resource.setrlimit(_RLIMIT_LOCKS, (7, hard))


def obey(mode: Mode, connection: int, line: bytes) -> None:
    """Do what an order says: `attack NAME FACT=NUMBER...`."""
    _, name, *words = line.decode().split()
    facts = {key: int(value) for key, value in (word.split("=") for word in words)}
    me = Me(mode, connection, facts)
    try:
        TABLE[name].deed(me)
        me.say("over")
    except OSError as error:
        me.say(f"refused: {error}")
    # Whatever was done to a worker is not to be met by the next client that it would serve.
    os._exit(0)
