"""Folders in which another user may exchange whatever is there at any moment.

No path is looked up twice: the folder is opened, and what happens in it happens by that descriptor.
"""

import errno
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager

_FOLDER = getattr(os, "O_PATH", os.O_RDONLY) | os.O_CLOEXEC
_ONLY_FOLDERS = os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_MOST_LINKS = 40  # path_resolution(7)


class Explained(OSError):
    """What the system refuses, with a text that says more than its own."""


class UnsafePath(Explained):
    """Somebody who is not trusted could lead a path elsewhere."""


@contextmanager
def folder_of(path: str) -> Iterator[tuple[int, str]]:
    """The descriptor of a file's folder, and the file's name in it.

    Raises:
        OSError: as open(2).
        UnsafePath: on the way there is a folder, or a link, of a user who is neither root nor this one, and what comes
            after it is another's: that user could have put it there, to have done elsewhere what is meant to be done
            here. (A folder of such a user's is no harm by itself, nor are those that are in it and are the user's own.)
    """
    folder, _, name = path.rpartition("/")
    descriptor = _open_folder(folder or ("/" if path.startswith("/") else "."))
    try:
        yield descriptor, name
    finally:
        os.close(descriptor)


def _open_folder(path: str) -> int:
    if not hasattr(os, "O_PATH"):
        return os.open(path, _ONLY_FOLDERS & ~os.O_NOFOLLOW)
    trusted = {0, os.geteuid(), os.stat("/").st_uid}  # in a user namespace root may be shown as somebody else
    at = os.open("/" if path.startswith("/") else ".", _FOLDER)
    owner, links, names = os.geteuid(), 0, path.split("/")[::-1]
    try:
        while names:
            if (name := names.pop()) in ("", "."):
                continue
            step = os.open(name, _FOLDER | os.O_NOFOLLOW, dir_fd=at)
            found = os.fstat(step)
            if owner not in trusted and found.st_uid != owner:
                os.close(step)
                raise UnsafePath(
                    errno.EPERM, f"{name!r} on the way there could be put by user {owner} to lead elsewhere"
                )
            owner = found.st_uid
            if not stat.S_ISLNK(found.st_mode):
                os.close(at)
                at = step
                continue
            links += 1
            target = os.readlink("", dir_fd=step)
            os.close(step)
            if links > _MOST_LINKS:
                raise OSError(errno.ELOOP, os.strerror(errno.ELOOP))
            names += target.split("/")[::-1]
            if target.startswith("/"):
                os.close(at)
                at = os.open("/", _FOLDER)
                if owner not in trusted:
                    raise UnsafePath(errno.EPERM, f"{name!r} on the way there is a link of user {owner}'s")
    except OSError:
        os.close(at)
        raise
    return at


@contextmanager
def private_in(folder: int) -> Iterator[int]:
    """The descriptor of a new folder in another, in which nobody else can do anything."""
    name = f".tcppar-{os.urandom(4).hex()}"
    os.mkdir(name, 0o700, dir_fd=folder)
    try:
        descriptor = os.open(name, os.O_RDONLY | _ONLY_FOLDERS, dir_fd=folder)
        try:
            # What was made may have been taken away again, and another folder be there.
            if os.fstat(descriptor).st_uid != os.geteuid():
                raise UnsafePath(errno.EPERM, "somebody else exchanges folders there")
            os.fchmod(descriptor, 0o700)
            yield descriptor
        finally:
            os.close(descriptor)
    finally:
        try:
            os.rmdir(name, dir_fd=folder)
        except OSError:
            pass  # it was taken away; what is there is not ours


def is_safe(folder: int) -> bool:
    """Whether nobody else can take away or exchange what we put into a folder: then the path itself is bound, and the
    system shows it as the socket's name (/proc/net/unix, which systemd-tmpfiles(8) looks at before it removes one).
    """
    found = os.fstat(folder)
    closed = not found.st_mode & (stat.S_IWGRP | stat.S_IWOTH) or bool(found.st_mode & stat.S_ISVTX)
    return closed and found.st_uid in (0, os.geteuid())


@contextmanager
def inside(folder: int) -> Iterator[None]:
    """With a folder as the working directory: a socket is bound, and connected to, by its path alone."""
    before = os.open(".", _FOLDER)
    try:
        os.chdir(folder)
        yield
    finally:
        os.chdir(before)
        os.close(before)


@contextmanager
def as_root(folder: int) -> Iterator[None]:
    """With a folder as the root directory of this process, and as its working directory.

    Raises:
        PermissionError: it may not be changed (chroot(2): only root may, with CAP_SYS_CHROOT); nothing has been.
    """
    root, before = os.open("/", _FOLDER), os.open(".", _FOLDER)
    try:
        os.chdir(root)
        os.chroot(".")  # this changes nothing, and shows that the way back is open
        os.chdir(folder)
        os.chroot(".")
        try:
            yield
        finally:
            os.chdir(root)
            os.chroot(".")
    finally:
        os.chdir(before)
        os.close(before)
        os.close(root)
