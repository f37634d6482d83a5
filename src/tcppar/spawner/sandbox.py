"""Entering a service's user, limits and directory: once in a spawner's life, inherited by all its children."""

from __future__ import annotations

import _signal  # type: ignore[import-not-found]
import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence


class CannotEnter(Exception):
    """A step of the way in was refused; the text names the setting."""


def enter(*, nice: int, umask: int | None, user: tuple[int, int, Sequence[int]] | None, directory: str | None) -> None:
    """Become what the plan says. The user comes last but one, for the steps before may need root.

    Args:
        nice, umask, directory: as `records.ChildPlan` has them.
        user: user and group, by number, and the other groups; None keeps those of the server.

    Raises:
        CannotEnter: with the setting that the system refused.
    """
    setting = "nice"
    try:
        os.nice(nice)
        if umask is not None:
            setting = "umask"
            os.umask(umask)
        setting = "user"
        if user is not None:
            _become(*user)
        if directory is not None:
            setting = "directory"
            os.chdir(directory)
    except OSError as error:
        where = f" {_place(directory)}" if setting == "directory" and directory is not None else ""
        raise CannotEnter(f"{setting}:{where} {error.strerror}") from error


def _place(directory: str) -> str:
    from tcppar.spawner import reach  # where it fails: what is loaded here counts once for each spawner

    return f"{directory!r}: user {reach.own_name()} cannot enter it{reach.blocked(directory)}:"


def _become(uid: int, gid: int, groups: Sequence[int]) -> None:
    if (uid, gid) == (os.geteuid(), os.getegid()):
        return
    os.setgroups(groups)
    os.setresgid(gid, gid, gid)
    os.setresuid(uid, uid, uid)


def try_a_process(*, leads_session: bool) -> None:
    """Make a process as children are made, which ends at once: a spawner that can make none is not ready.

    Args:
        leads_session: whether children lead sessions of their own. Workers do not.

    Raises:
        CannotEnter: the system refuses it: the user has as many as it may have, memory is short, or a filter of system
            calls (seccomp(2)) forbids a session.
    """
    try:
        pid = os.fork()
    except OSError as error:
        raise CannotEnter(f"cannot create a process for it: {error.strerror} (ulimit -u, pids.max)") from error
    if pid == 0:
        os._exit(_begin_session() if leads_session else 0)
    _, status = os.waitpid(pid, 0)
    if status:
        why = os.strerror(os.WEXITSTATUS(status)) if os.WIFEXITED(status) else f"signal {os.WTERMSIG(status)}"
        raise CannotEnter(f"cannot give a process a session of its own: {why} (setsid)")


def _begin_session() -> int:
    try:
        os.setsid()
    except OSError as error:
        return error.errno or 1
    return 0


def default_signals() -> None:
    """Give every signal its default disposition and unblock all: children inherit both.

    Python itself ignores SIGPIPE and SIGXFSZ; whoever started the server may have ignored or blocked others
    (nohup, a shell's background job).
    """
    # What the signal module wraps, and makes enums of.
    for number in set(_signal.valid_signals()) - {_signal.SIGKILL, _signal.SIGSTOP}:
        if _signal.getsignal(number) != _signal.SIG_DFL:
            _signal.signal(number, _signal.SIG_DFL)
    _signal.pthread_sigmask(_signal.SIG_SETMASK, ())
