"""How an end is evaded: by other groups and sessions, by processes that are left, by signals that are not obeyed."""

import ctypes
import os
import platform
import signal
import socket
import time
from collections.abc import Callable

from tests.hostile.attacker.base import EVERY, ONE, Me, attack, change_mark, sleep_deaf

BY_LIFETIME = "max_lifetime and kill_timeout end it, and all that it has started."
FOUND = "max_lifetime and kill_timeout end it, and what has its connection open."

_CLONE, _CLONE_PARENT = {"x86_64": 56, "aarch64": 220}, 0x8000  # linux/sched.h
_SET_CHILD_SUBREAPER = 36  # linux/prctl.h
_SET_NAME = 15


def prctl(option: int, value: object) -> None:
    """prctl(2)."""
    library = ctypes.CDLL(None, use_errno=True)
    if library.prctl(option, value, 0, 0, 0) < 0:
        raise OSError(ctypes.get_errno(), "prctl")


@attack(EVERY, BY_LIFETIME)
def sigterm_ignored(me: Me) -> None:
    """A child ignores SIGTERM, SIGHUP and SIGINT."""
    me.say("done")
    sleep_deaf()


@attack(EVERY, BY_LIFETIME)
def every_signal_blocked(me: Me) -> None:
    """A child blocks every signal."""
    signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
    me.hold()


@attack(EVERY, BY_LIFETIME)
def stopped_by_itself(me: Me) -> None:
    """A child stops itself by SIGSTOP."""
    me.say("done")
    os.kill(os.getpid(), signal.SIGSTOP)


@attack(EVERY, BY_LIFETIME)
def stopped_with_its_group(me: Me) -> None:
    """A child stops its process group, in which it has a child that is deaf to SIGTERM."""
    me.sleeper()
    me.say("done")
    os.killpg(0, signal.SIGSTOP)


@attack(EVERY, BY_LIFETIME)
def another_group(me: Me) -> None:
    """A child's child makes a process group of its own, and the child joins it."""

    def life() -> None:
        os.setpgid(0, 0)
        sleep_deaf()

    inner = me.fork(life)
    time.sleep(0.1)
    me.try_to(lambda: os.setpgid(0, inner))
    me.say("done")
    sleep_deaf()


@attack(EVERY, BY_LIFETIME)
def group_of_a_sibling(me: Me) -> None:
    """A child joins the process group of another child, or of its spawner."""
    for pid in (*me.siblings()[:5], os.getppid()):
        me.try_to(lambda pid=pid: os.setpgid(0, os.getpgid(pid)))  # type: ignore[misc]
    me.say("done")
    sleep_deaf()


@attack(EVERY, BY_LIFETIME)
def another_session(me: Me) -> None:
    """A child's child makes a session of its own, and keeps the connection."""

    def life() -> None:
        os.setsid()
        sleep_deaf()

    me.fork(life)
    me.say("done")
    sleep_deaf()


@attack(EVERY, FOUND)
def a_daemon_beside_it(me: Me) -> None:
    """A child makes a daemon by two forks and setsid, which keeps the connection, and continues."""
    _daemon(me)
    me.say("done")
    sleep_deaf()


@attack(EVERY, BY_LIFETIME)
def a_sibling(me: Me) -> None:
    """A child makes a process whose parent is its own parent (CLONE_PARENT), and which has a child."""
    _sibling(me, lambda: None)


@attack(EVERY, FOUND)
def a_hidden_sibling(me: Me) -> None:
    """A child makes a process whose parent is its own parent, in a session of its own, with another mark."""

    def hide() -> None:
        os.setsid()
        change_mark()

    _sibling(me, hide)


def _sibling(me: Me, hide: Callable[[], None]) -> None:
    if ctypes.CDLL(None).syscall(_CLONE[platform.machine()], _CLONE_PARENT | signal.SIGCHLD, 0, 0, 0, 0) == 0:
        try:
            hide()
            me.sleeper()
            sleep_deaf()
        finally:
            os._exit(0)
    me.say("done")
    sleep_deaf()


@attack(EVERY, "Its end is recorded. The daemon has the connection, and is the administrator's to end.", leaves=True)
def a_daemon_in_its_place(me: Me) -> None:
    """A child makes a daemon by two forks and setsid, which keeps the connection, and ends."""
    _daemon(me)


def _daemon(me: Me) -> None:
    def life() -> None:
        os.setsid()
        me.fork(sleep_deaf)

    os.waitpid(me.fork(life), 0)


@attack(EVERY, BY_LIFETIME)
def a_chain_of_sessions(me: Me) -> None:
    """A child has a child in a session of its own, which has one in a session of its own, ten deep."""

    def life(depth: int) -> None:
        os.setsid()
        if depth:
            me.fork(lambda: life(depth - 1))
        sleep_deaf()

    me.fork(lambda: life(10))
    me.say("done")
    sleep_deaf()


@attack(EVERY, BY_LIFETIME)
def a_subreaper(me: Me) -> None:
    """A child takes the orphans among its descendants to itself, away from the server, and makes some."""
    me.try_to(lambda: prctl(_SET_CHILD_SUBREAPER, 1))
    for _ in range(5):
        _daemon(me)
    me.say("done")
    sleep_deaf()


@attack(EVERY, "The orphans are waited for; none is taken for anything else.")
def orphans_by_the_hundred(me: Me) -> None:
    """A child leaves two hundred orphans, which end at once."""

    def life() -> None:
        for _ in range(100):
            me.fork(lambda: None)

    for _ in range(2):
        os.waitpid(me.fork(life), 0)


@attack(EVERY, BY_LIFETIME)
def zombies_by_the_hundred(me: Me) -> None:
    """A child has two hundred zombies, for which it does not wait."""
    for _ in range(200):
        me.fork(lambda: None)
    me.hold()


@attack(ONE, BY_LIFETIME)
def sleepers_by_the_hundred(me: Me) -> None:
    """A child has three hundred children that are deaf to SIGTERM, half of them in sessions of their own."""

    def life() -> None:
        os.setsid()
        sleep_deaf()

    for _ in range(150):
        me.sleeper()
        me.fork(life)
    me.say("done")
    sleep_deaf()


@attack(
    EVERY,
    "Its end is recorded. It can outrun the search for it as long as it continues; only a cgroup could end it.",
    leaves=True,
)
def forks_while_it_is_ended(me: Me) -> None:
    """A child that gets SIGTERM forks and ends, and so does its child, ten times a second, to outrun its end."""

    def flee(number: int, frame: object) -> None:
        until = time.monotonic() + 6
        while time.monotonic() < until:
            if os.fork():
                os._exit(0)
            os.setsid()
            time.sleep(0.1)

    signal.signal(signal.SIGTERM, flee)
    me.hold()


@attack(EVERY, BY_LIFETIME)
def a_name_with_parentheses(me: Me) -> None:
    """A child calls itself `) R 1 1 1 (`, so that a careless reader of /proc/PID/stat reads something else."""
    prctl(_SET_NAME, b") R 1 1 1 (")
    me.say("done")
    sleep_deaf()


@attack(EVERY, BY_LIFETIME)
def the_id_of_another(me: Me) -> None:
    """A child's child runs with another connection's id in its environment."""
    environment = dict(os.environ, TCPPAR_CONNECTION_ID="nobody-1")

    def life() -> None:
        os.setsid()
        os.execve("/bin/sleep", ["sleep", "12"], environment)

    me.fork(life)
    me.say("done")
    sleep_deaf()


@attack(EVERY, BY_LIFETIME)
def the_connection_in_transit(me: Me) -> None:
    """A child has its connection in an unread message, and has closed it."""
    ours, its = socket.socketpair()
    socket.send_fds(ours, [b"x"], [me.connection])
    me.say("done")
    os.close(me.connection)
    sleep_deaf()
    its.close()


@attack(EVERY, BY_LIFETIME)
def the_processor_for_itself(me: Me) -> None:
    """A child computes without end, in two processes."""

    def spin() -> None:
        until = time.monotonic() + 10
        while time.monotonic() < until:
            pass

    me.fork(spin)
    me.say("done")
    spin()
