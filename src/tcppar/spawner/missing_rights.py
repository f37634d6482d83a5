"""What was missing where the system refused a service's nice value, user or limits. Imported where that happens."""

import errno
import grp
import os
import pwd
import resource
from enum import IntEnum

from tcppar import own_user
from tcppar.quantities import UNLIMITED

_LARGEST_NOFILE = "/proc/sys/fs/nr_open"


class _Capability(IntEnum):
    """Those of capabilities(7) that the steps need, with their bits."""

    CAP_SETGID = 6
    CAP_SETUID = 7
    CAP_SYS_NICE = 23
    CAP_SYS_RESOURCE = 24


def of_nice(nice: int, error: OSError) -> str:
    """What to say of a nice value: it, who wanted it, and why not."""
    why = _why(error, _Capability.CAP_SYS_NICE) if nice < 0 else error.strerror
    return f"nice: {nice}: user {own_user.name()} cannot set it: {why}"


def of_user(uid: int, gid: int, call: str, error: OSError) -> str:
    """What to say of a user, or of a group alone.

    Args:
        call: the call that was refused.
    """
    needed = _Capability.CAP_SETUID if call == "setresuid" else _Capability.CAP_SETGID
    try:
        if uid == os.geteuid():
            wanted = f"group: {grp.getgrgid(gid).gr_name!r}"
        else:
            wanted = f"user: {pwd.getpwuid(uid).pw_name!r}"
    except KeyError:
        wanted = f"user: {str(uid)!r}"
    return f"{wanted}: user {own_user.name()} cannot change to it: {call}: {_why(error, needed)}"


def of_limit(name: str, soft: int, hard: int) -> str:
    """What to say of a limit that was refused with these values."""
    both = _shown(soft) if soft == hard else f"{_shown(soft)}:{_shown(hard)}"
    if name == "nofile" and (most := _most_files()) is not None and not 0 <= hard <= most:
        return f"rlimits.{name}: {both}: the system allows nobody more than {most} (fs.nr_open)"
    ours = resource.getrlimit(getattr(resource, f"RLIMIT_{name.upper()}"))[1]
    why = f"user {own_user.name()} cannot go above the server's own hard limit, {_shown(ours)}"
    return f"rlimits.{name}: {both}: {why}{_lack(_Capability.CAP_SYS_RESOURCE)}"


def _why(error: OSError, needed: _Capability) -> str:
    remedy = ""
    if error.errno in (errno.EPERM, errno.EACCES):
        remedy = _lack(needed)
    elif error.errno == errno.EINVAL:
        remedy = " (this user namespace has no such number)"
    return f"{error.strerror}{remedy}"


def _lack(needed: _Capability) -> str:
    if _effective() & 1 << needed:
        return f" (a user namespace, a security module or a filter forbids it, although {needed.name} is there)"
    return f" ({needed.name} is missing)"


def _effective() -> int:
    """This process's capabilities (proc(5), CapEff); none where the system does not say."""
    try:
        with open("/proc/self/status") as file:
            return next((int(line.split()[1], 16) for line in file if line.startswith("CapEff:")), 0)
    except OSError:
        return 0


def _shown(limit: int) -> str:
    return "unlimited" if limit == UNLIMITED else str(limit)


def _most_files() -> int | None:
    try:
        with open(_LARGEST_NOFILE) as file:
            return int(file.read())
    except (OSError, ValueError):
        return None
