"""Which file a command's first word stands for, as execvp(3) finds it in a child: from the children's directory.

Whether the service's user may run it is not asked here, where root may be looking, or somebody else: what one of them
sees, the other need not (folders of mode 0700, ACLs, NFS, FUSE). That a spawner asks, as that user
(`spawner/runnable.py`).
"""

import os
import stat

from tcppar.child import contract
from tcppar.settings import ServiceSettings

_ANYBODY_EXECUTES = stat.S_IXUSR | stat.S_IXGRP | stat.S_IXOTH


def found(settings: ServiceSettings) -> tuple[str, ...]:
    """The files, absolute, that the program may be, in the order in which they are tried: several, or none, where it is
    looked for in PATH.
    """
    program, here = settings.command[0], folder(settings)
    if "/" in program:
        paths = [os.path.join(here, program.removeprefix("./"))]
    else:
        # An empty entry is the directory too.
        entries = contract.search_path(settings.environment, os.environ).split(os.pathsep)
        paths = [os.path.join(here, entry, program) for entry in entries]
    by_another = settings.user is not None
    return tuple(dict.fromkeys(path for path in paths if _may_be_run(path, by_another=by_another)))


def folder(settings: ServiceSettings) -> str:
    """The children's directory, absolute; its names stay as they are, so that links in it can be changed later."""
    try:
        ours = os.getcwd()
    except FileNotFoundError:
        ours = ""  # it was removed
    return os.path.join(ours, settings.directory or "")


def _may_be_run(path: str, *, by_another: bool) -> bool:
    """False where nobody can: it is not there, no file, or has no right of execution at all (in an ACL neither, whose
    mask the group's rights show, acl(5)).
    """
    try:
        mode = os.stat(path).st_mode
    except PermissionError:
        return by_another  # we may not look; somebody else may
    except (OSError, ValueError):
        return False
    return stat.S_ISREG(mode) and bool(mode & _ANYBODY_EXECUTES)


def is_missing(path: str) -> bool:
    """Whether a directory is certainly not there."""
    try:
        return not stat.S_ISDIR(os.stat(path).st_mode)
    except PermissionError:
        return False
    except (OSError, ValueError):
        return True
