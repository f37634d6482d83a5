"""Entering a service's user, limits and directory: once in a spawner's life, inherited by all its children."""

import os
import signal

from tcppar.records import ChildPlan


class CannotEnter(Exception):
    """A step of the way in was refused; the text names the setting."""


def enter(plan: ChildPlan) -> None:
    """Become what the plan says. The user comes last but one, for the steps before may need root.

    Raises:
        CannotEnter: with the setting that the system refused.
    """
    setting = "nice"
    try:
        os.nice(plan.nice)
        if plan.umask is not None:
            setting = "umask"
            os.umask(plan.umask)
        setting = "user"
        _become_user(plan)
        if plan.directory is not None:
            setting = "directory"
            os.chdir(plan.directory)
    except OSError as error:
        raise CannotEnter(f"{setting}: {error.strerror}") from error


def _become_user(plan: ChildPlan) -> None:
    identity = plan.identity
    if identity is None or (identity.uid, identity.gid) == (os.geteuid(), os.getegid()):
        return
    os.setgroups(identity.groups)
    os.setresgid(identity.gid, identity.gid, identity.gid)
    os.setresuid(identity.uid, identity.uid, identity.uid)


def default_signals() -> None:
    """Give every signal its default disposition and unblock all: children inherit both.

    Python itself ignores SIGPIPE and SIGXFSZ; whoever started the server may have ignored or blocked others
    (nohup, a shell's background job).
    """
    for number in signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP}:
        if signal.getsignal(number) is not signal.SIG_DFL:
            signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
