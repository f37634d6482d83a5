"""The folder of a service's control files: the service's user can do anything in it, but not take it away.

    /tmp/tcppar-NAME-XXXXXXXX   the server's, mode 0711
      files                     the service's user's, mode 0700

Where both are the same user, children can remove all of it, and their spawner makes it again (child/control_file.py).
"""

import os
import tempfile

from tcppar.records import Identity

_FILES = "files"
_ONLY_FOLDERS = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
# What children leave there beside their control files is theirs to remove. A few files are removed for them.
_MOST_REMOVED = 1000
# In bytes, of one and of all of them: no more than a few milliseconds' work.
_LARGEST_REMOVED = 1 << 20
_MOST_FREED = 16 << 20
_BLOCK = 512  # stat(2)


def make(service: str, identity: Identity | None) -> str:
    """A new folder.

    Raises:
        OSError: there is no room, or no right.
    """
    outer = tempfile.mkdtemp(prefix=f"tcppar-{service}-")
    os.chmod(outer, 0o711)
    folder = os.path.join(outer, _FILES)
    os.mkdir(folder, 0o700)
    os.chmod(folder, 0o700)  # whatever the umask is
    if identity is not None:
        os.chown(folder, identity.uid, identity.gid, follow_symlinks=False)
    return folder


def remove(folder: str) -> None:
    """Remove it, if nothing else of a child's making is in it; never anything elsewhere, and never for long."""
    try:
        outer = os.open(os.path.dirname(folder), _ONLY_FOLDERS)
    except OSError:
        return
    try:
        _empty(outer)
        os.rmdir(_FILES, dir_fd=outer)
        os.rmdir(os.path.dirname(folder))
    except OSError:
        pass  # a child has left folders there, very many files, or large ones
    finally:
        os.close(outer)


def remove_file(path: str) -> None:
    """Remove the control file of an orphan, whose spawner would have done it."""
    folder, name = os.path.split(path)
    try:
        outer = os.open(os.path.dirname(folder), _ONLY_FOLDERS)
    except OSError:
        return
    try:
        inner = os.open(_FILES, _ONLY_FOLDERS, dir_fd=outer)
        try:
            _remove_small(name, inner, outer)
        finally:
            os.close(inner)
    except OSError:
        pass  # a child has removed it, or put something else there: that goes with the folder, or stays
    finally:
        os.close(outer)


def _empty(outer: int) -> None:
    inner = os.open(_FILES, _ONLY_FOLDERS, dir_fd=outer)
    left = _MOST_FREED
    try:
        with os.scandir(inner) as entries:
            for entry, _ in zip(entries, range(_MOST_REMOVED), strict=False):
                if entry.is_dir(follow_symlinks=False):
                    os.rmdir(entry.name, dir_fd=inner)
                elif left > 0:
                    left -= _remove_small(entry.name, inner, outer)
    finally:
        os.close(inner)


def _remove_small(name: str, inner: int, outer: int) -> int:
    """Remove a file, and say how much was freed; one that is large stays, in the outer folder.

    Whoever removes the last name of a file frees all that it holds: of some gigabytes, that takes the supervisor
    seconds. In its user's folder a file can be replaced between a look at it and its removal; in the outer one it
    cannot. Whoever still has it open can make it larger, but then it is he who frees it.
    """
    moved = os.urandom(8).hex()
    os.rename(name, moved, src_dir_fd=inner, dst_dir_fd=outer)
    found = os.stat(moved, dir_fd=outer, follow_symlinks=False)
    # A file can be larger than what it says (fallocate(2)), and hold less: but even holes may be in memory.
    size = max(found.st_size, found.st_blocks * _BLOCK)
    if size > _LARGEST_REMOVED:
        return 0
    os.unlink(moved, dir_fd=outer)
    return size
