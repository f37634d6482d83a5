"""Entering a service's user, limits and directory: once in a spawner's life, inherited by all its children."""

from __future__ import annotations

import _signal  # type: ignore[import-not-found]
import os

from tcppar.child.own_path import own
from tcppar.child.process import limits

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from typing import Any, NoReturn


class CannotEnter(Exception):
    """A step of the way in was refused; the text names the setting.

    Args:
        mistake: whether the setting can be right nowhere, or not for this server's user.
    """

    def __init__(self, text: str, *, mistake: bool = False) -> None:
        super().__init__(text)
        self.mistake = mistake


def enter(*, nice: int, umask: int | None, user: tuple[int, int, Sequence[int]] | None, directory: str | None) -> None:
    """Become what the plan says. The user comes last but one, for the steps before may need root.

    Args:
        nice, umask, directory: as `records.ChildPlan` has them.
        user: user and group, by number, and the other groups; None keeps those of the server.

    Raises:
        CannotEnter: with the setting that the system refused.
    """
    try:
        os.nice(nice)
    except OSError as error:
        raise CannotEnter(_missing().of_nice(nice, error)) from error
    if umask is not None:
        os.umask(umask)
    if user is not None:
        _become(*user)
    if directory is not None:
        try:
            os.chdir(directory)
        except OSError as error:
            raise CannotEnter(f"directory: {_place(directory)} {error.strerror}") from error


def _missing() -> Any:
    return own("tcppar.spawner.missing_rights")  # where it fails: what is loaded here counts once for each spawner


def _place(directory: str) -> str:
    reach = own("tcppar.spawner.reach")  # as above
    return f"{directory!r}: user {own('tcppar.own_user').name()} cannot enter it{reach.blocked(directory)}:"


def _become(uid: int, gid: int, groups: Sequence[int]) -> None:
    if (uid, gid) == (os.geteuid(), os.getegid()):
        return
    call = "setgroups"
    try:
        os.setgroups(groups)
        call = "setresgid"
        os.setresgid(gid, gid, gid)
        call = "setresuid"
        os.setresuid(uid, uid, uid)
    except OSError as error:
        raise CannotEnter(_missing().of_user(uid, gid, call, error)) from error


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


def try_limits(rlimits: Iterable[tuple[str, int, int]]) -> None:
    """Set limits in a process that ends at once: no child could begin whose limits the system refuses.

    Args:
        rlimits: names, soft and hard limits.

    Raises:
        CannotEnter: it refuses one.
    """
    wanted = list(zip(rlimits, limits(rlimits), strict=True))
    if not wanted:
        return
    try:
        pid = os.fork()
    except OSError:
        return  # a shortage, which has begun just now
    if pid == 0:
        _end_by_refused([limit for _, limit in wanted])
    _, status = os.waitpid(pid, 0)
    if os.WIFEXITED(status) and (number := os.WEXITSTATUS(status)):
        raise CannotEnter(_missing().of_limit(*wanted[number - 1][0]), mistake=True)


def _end_by_refused(wanted: Sequence[tuple[int, tuple[int, int]]]) -> NoReturn:
    """End with the number of the first limit that is refused, 0 if none is. Others may end this process at once."""
    refused = 0
    try:
        resource = own("resource")
        for number, (kind, both) in enumerate(wanted, 1):
            try:
                resource.setrlimit(kind, both)
            except (OSError, ValueError):
                refused = number
                break
    finally:
        os._exit(refused)


def try_control_files(folder: str) -> None:
    """Write a control file and remove it again. Later children may do to the folder what they like.

    Raises:
        CannotEnter: this user cannot write one there.
    """
    from tcppar.child import control_file  # programs' spawners alone have it

    path = control_file.path_of(folder, "trial")
    try:
        control_file.write(path, "")
    except OSError as error:
        reach = own("tcppar.spawner.reach")
        where = f"user {own('tcppar.own_user').name()} cannot write to {folder!r}{reach.blocked(path)}"
        raise CannotEnter(f"control_file: {where}: {error.strerror} (TMPDIR chooses another folder)") from error
    control_file.remove(path)


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
