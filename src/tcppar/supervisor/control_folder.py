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
        pass  # a child has left folders there, or very many files
    finally:
        os.close(outer)


def _empty(outer: int) -> None:
    inner = os.open(_FILES, _ONLY_FOLDERS, dir_fd=outer)
    try:
        with os.scandir(inner) as entries:
            for entry, _ in zip(entries, range(_MOST_REMOVED), strict=False):
                if entry.is_dir(follow_symlinks=False):
                    os.rmdir(entry.name, dir_fd=inner)
                else:
                    os.unlink(entry.name, dir_fd=inner)
    finally:
        os.close(inner)
