"""Unix sockets in the file system, made and removed where another user may exchange whatever is there at any moment.

The folder of a socket can be the service's user's own. So no path is looked up twice: the folder is opened, and what
happens in it happens by that descriptor. A new socket is made in a folder beside its place that is ours alone, gets its
rights there, and is then put in its place, in which nothing is followed.
"""

import errno
import os
import socket
import stat
from collections.abc import Iterator
from contextlib import contextmanager

_FOLDER = getattr(os, "O_PATH", os.O_RDONLY) | os.O_CLOEXEC
_ONLY_FOLDERS = os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_MOST_LINKS = 40  # path_resolution(7)

Identity = tuple[int, int]
"""Device and inode. Those of a socket are no other file's as long as it is open, for it keeps them."""


class UnsafePath(OSError):
    """Somebody who is not trusted could lead a path elsewhere."""


def bind(path: str, backlog: int) -> socket.socket:
    """A listening socket, which does not wait; a file that a dead server left behind is removed first.

    Raises:
        OSError: as bind(2) and listen(2); EADDRINUSE if a server answers there, or the file is no socket.
        UnsafePath: see `folder_of`.
    """
    with folder_of(path) as (folder, name):
        if (found := _look(folder, name)) is not None:
            if not stat.S_ISSOCK(found.st_mode) or _answers(folder, name):
                raise OSError(errno.EADDRINUSE, os.strerror(errno.EADDRINUSE))
            os.unlink(name, dir_fd=folder)
        if _is_safe(folder):
            return _bound(path, backlog)
        with _private(folder) as private:
            sock, made = _listening(private, name, backlog)
            try:
                # Unlike rename(2) it replaces nothing that has come there meanwhile.
                os.link(made, name, src_dir_fd=private, dst_dir_fd=folder, follow_symlinks=False)
            except FileExistsError:
                sock.close()
                raise OSError(errno.EADDRINUSE, os.strerror(errno.EADDRINUSE)) from None
            except OSError:
                sock.close()
                raise
            finally:
                os.unlink(made, dir_fd=private)
        return sock


def refuse_if_unusable(path: str) -> None:
    """See whether a socket could be made.

    Raises:
        OSError: as open(2) of its folder; EACCES if nothing may be made there; EEXIST if another kind of file is there.
        UnsafePath: see `folder_of`.
    """
    with folder_of(path) as (folder, name):
        if (found := _look(folder, name)) is not None and not stat.S_ISSOCK(found.st_mode):
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST))
        if not os.access(".", os.W_OK | os.X_OK, dir_fd=folder):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))


def replace(path: str, backlog: int, former: Identity | None) -> socket.socket:
    """A listening socket in the place of `former`, with its rights; clients always find one of the two.

    Raises:
        OSError: as bind(2), listen(2) and rename(2); what is there is as it was.
        UnsafePath: see `folder_of`.
    """
    with folder_of(path) as (folder, name), _private(folder) as private:
        sock, made = _listening(private, name, backlog)
        try:
            found = _look(folder, name)
            # Of what somebody else has put there nothing is believed.
            if found is not None and _identity(found) == former:
                os.chown(made, found.st_uid, found.st_gid, dir_fd=private, follow_symlinks=False)
                os.chmod(made, stat.S_IMODE(found.st_mode), dir_fd=private)
            os.rename(made, name, src_dir_fd=private, dst_dir_fd=folder)
        except OSError:
            sock.close()
            os.unlink(made, dir_fd=private)
            raise
        return sock


def remove(path: str, own: Identity | None) -> None:
    """Remove a socket, if it still is this one.

    Raises:
        OSError: as unlink(2).
        UnsafePath: see `folder_of`.
    """
    with folder_of(path) as (folder, name):
        found = _look(folder, name)
        if found is not None and _identity(found) == own:
            os.unlink(name, dir_fd=folder)


def identity(path: str) -> Identity | None:
    """What a file is, whatever it is called; None if there is none."""
    try:
        return _identity(os.lstat(path))
    except OSError:
        return None


def _identity(found: os.stat_result) -> Identity:
    return found.st_dev, found.st_ino


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
def _private(folder: int) -> Iterator[int]:
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


def _is_safe(folder: int) -> bool:
    """Whether nobody else can take away or exchange what we put into a folder: then the path itself is bound, and the
    system shows it as the socket's name (/proc/net/unix, which systemd-tmpfiles(8) looks at before it removes one).
    """
    found = os.fstat(folder)
    closed = not found.st_mode & (stat.S_IWGRP | stat.S_IWOTH) or bool(found.st_mode & stat.S_ISVTX)
    return closed and found.st_uid in (0, os.geteuid())


def _bound(path: str, backlog: int) -> socket.socket:
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        sock.setblocking(False)
        sock.bind(path)
        sock.listen(backlog)
    except OSError:
        sock.close()
        raise
    return sock


def _listening(folder: int, name: str, backlog: int) -> tuple[socket.socket, str]:
    """A listening socket in a folder, and its name there: one of its own, for the system goes on telling that name."""
    made = f"{name[:40]}.{os.urandom(8).hex()}"
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        sock.setblocking(False)
        with _inside(folder):
            sock.bind(made)
        sock.listen(backlog)
    except OSError:
        sock.close()
        raise
    return sock, made


@contextmanager
def _inside(folder: int) -> Iterator[None]:
    """With a folder as the working directory: a socket is bound, and connected to, by its path alone."""
    before = os.open(".", _FOLDER)
    try:
        os.chdir(folder)
        yield
    finally:
        os.chdir(before)
        os.close(before)


def _look(folder: int, name: str) -> os.stat_result | None:
    try:
        return os.stat(name, dir_fd=folder, follow_symlinks=False)
    except FileNotFoundError:
        return None


def _answers(folder: int, name: str) -> bool:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.setblocking(False)  # whose queue is full lives
        try:
            with _inside(folder):
                probe.connect(name)
        except ConnectionRefusedError:
            return False
        except OSError:
            return True  # it cannot be known (EACCES, ...): leave it alone
    return True
