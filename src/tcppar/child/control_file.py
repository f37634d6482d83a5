"""The control file of a connection: where it is, how it is written, and how it goes.

The spawner writes and removes it. What is left by one that died is the supervisor's
(supervisor/dispatch/control_folder.py).
"""

import os


def path_of(directory: str | None, connection_id: str) -> str:
    """Where the control file of a connection is; empty if its service has no directory for them."""
    return os.path.join(directory, connection_id) if directory else ""


def write(path: str, text: str) -> None:
    """Write a file that only this user can read (mode 0600), and that was not there before.

    Raises:
        OSError: it is there, or the disk refuses it; nothing is left behind.
    """
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        with open(descriptor, "w", encoding="utf-8") as file:
            file.write(text if text.endswith("\n") else text + "\n")
    except OSError:
        remove(path)
        raise


def write_anyway(path: str, text: str) -> None:
    """As `write`, whatever other processes of this user have done to the folder: what is in the file's place is moved
    away, and a folder that is not there, or lets nobody in, is made again.

    Raises:
        OSError: the disk refuses it; or somebody does it once more just now.
    """
    try:
        write(path, text)
    except FileExistsError:
        os.rename(path, f"{path}.{os.urandom(4).hex()}")
        write(path, text)
    except (FileNotFoundError, NotADirectoryError, PermissionError):
        _make_again(os.path.dirname(path))
        write(path, text)


def _make_again(folder: str) -> None:
    if os.path.isdir(folder) and not os.path.islink(folder):
        os.chmod(folder, 0o700)
        return
    outer = os.path.dirname(folder)
    os.makedirs(outer, 0o711, exist_ok=True)
    if os.path.lexists(folder):
        os.rename(folder, f"{folder}.{os.urandom(4).hex()}")
    os.mkdir(folder, 0o700)


def remove(path: str) -> None:
    """Remove it, if that can be done.

    The directory is the child's user's own: the file can be gone, or be replaced by a directory. Neither may trouble
    the server; what is left goes with the directory when the server ends.
    """
    try:
        os.unlink(path)
    except OSError:
        pass
