"""Unix sockets in the file system, made and removed where another user may exchange whatever is there at any moment.

The folder of a socket can be the service's user's own (see `folders`). A new socket is made in a folder beside its
place that is ours alone, gets its rights there, and is then put in its place, in which nothing is followed.

The system goes on showing the name that a socket was bound by (/proc/net/unix), and systemd-tmpfiles(8) looks there
before it removes one. So the name has to be the path that is configured, and a rename does not make it that. Where
nobody else can exchange what is there, the path itself is bound. Elsewhere, and in the place of another socket, which
has to stay until the new one is there, it is bound with the folder of ours as the root directory, which only root may
have (chroot(2)). Everybody else has to do with a name of the moment.
"""

import errno
import os
import socket
import stat
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, suppress

from tcppar.net.folders import Explained, as_root, folder_of, inside, is_safe, private_in
from tcppar.net.socket_rights import AS_MADE, Rights

Identity = tuple[int, int]
"""Device and inode. Those of a socket are no other file's as long as it is open, for it keeps them."""

_KINDS = {
    stat.S_IFREG: "a regular file",
    stat.S_IFDIR: "a directory",
    stat.S_IFLNK: "a symbolic link",
    stat.S_IFIFO: "a pipe",
}


class NoSocket(OSError):
    """What is there is something else, and is not removed."""


def is_abstract(path: str) -> bool:
    """Whether it names no file: `@name` is the system's own name space (unix(7), Linux)."""
    return path.startswith("@")


def bind(path: str, backlog: int, rights: Rights) -> socket.socket:
    """A listening socket, which does not wait; a file that a dead server left behind is removed first.

    Raises:
        OSError: as bind(2), chown(2) and listen(2); EADDRINUSE if a server answers there.
        NoSocket: the file is none.
        UnsafePath: see `folder_of`.
    """
    if is_abstract(path):
        return _listening("\0" + path[1:], backlog)
    with folder_of(path) as (folder, name):
        if (found := _look(folder, name)) is not None:
            _remove_if_dead(folder, name, found)
        if is_safe(folder):
            return _bound(path, folder, name, backlog, rights)
        with private_in(folder) as private, _made(private, path, backlog, rights) as (sock, made):
            try:
                # Unlike rename(2) it replaces nothing that has come there meanwhile.
                os.link(made, name, src_dir_fd=private, dst_dir_fd=folder, follow_symlinks=False)
            except FileExistsError:
                raise OSError(errno.EADDRINUSE, os.strerror(errno.EADDRINUSE)) from None
            return sock


def refuse_if_unusable(path: str, rights: Rights) -> None:
    """See whether a socket could be made, by making one beside its place, where nobody looks for it. Who listens there
    now is not asked: it would be a client to him.

    Raises:
        OSError: as bind(2) and chown(2).
        NoSocket: another kind of file is there.
        UnsafePath: see `folder_of`.
    """
    if is_abstract(path):
        _listening(f"\0tcppar-{os.urandom(8).hex()}", 1).close()
        return
    with folder_of(path) as (folder, name):
        if (found := _look(folder, name)) is not None:
            _refuse_other_than_socket(found)
            _refuse_if_it_stays(folder, name, found)
        with nullcontext(folder) if is_safe(folder) else private_in(folder) as place:
            _try(place, path, rights)


def _try(folder: int, path: str, rights: Rights) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sock:
        made = _bind_by_another_name(sock, folder, path, rights)
        try:
            _give(folder, made, rights)
        finally:
            os.unlink(made, dir_fd=folder)


def _refuse_if_it_stays(folder: int, name: str, found: os.stat_result) -> None:
    """Refuse a socket of somebody else's that we may not remove, as in a sticky folder (unlink(2), EPERM). The system
    says so when it is asked to put it in the place of a directory, which no socket can have: to whoever may remove it,
    it says EISDIR then (rename(2)).
    """
    if found.st_uid == os.geteuid() or not os.fstat(folder).st_mode & stat.S_ISVTX:
        return
    with private_in(folder) as private:
        os.mkdir("taken", dir_fd=private)
        try:
            os.rename(name, "taken", src_dir_fd=folder, dst_dir_fd=private)
        except PermissionError as error:
            raise _not_removed(error, found) from None
        except (IsADirectoryError, FileNotFoundError):
            pass
        finally:
            os.rmdir("taken", dir_fd=private)


def _remove_if_dead(folder: int, name: str, found: os.stat_result) -> None:
    _refuse_if_not_dead(folder, name, found)
    try:
        os.unlink(name, dir_fd=folder)
    except PermissionError as error:
        raise _not_removed(error, found) from None


def _not_removed(error: OSError, found: os.stat_result) -> Explained:
    return Explained(error.errno, f"a socket of user {found.st_uid} is there, which this user may not remove")


def _refuse_if_not_dead(folder: int, name: str, found: os.stat_result) -> None:
    _refuse_other_than_socket(found)
    if _answers(folder, name):
        raise OSError(errno.EADDRINUSE, os.strerror(errno.EADDRINUSE))


def _refuse_other_than_socket(found: os.stat_result) -> None:
    if not stat.S_ISSOCK(found.st_mode):
        kind = _KINDS.get(stat.S_IFMT(found.st_mode), "a device")
        raise NoSocket(errno.EEXIST, f"{kind} is there: expected a socket or nothing")


def replace(path: str, backlog: int, rights: Rights, former: Identity | None) -> socket.socket:
    """A listening socket in the place of `former`, with its rights where none are given; clients always find one of the
    two. If there is none any more, it is there again.

    Raises:
        OSError: as bind(2), chown(2), listen(2) and rename(2); EADDRINUSE if another server listens there. What is
            there is as it was.
        NoSocket: another kind of file is there.
        UnsafePath: see `folder_of`.
    """
    with folder_of(path) as (folder, name), private_in(folder) as private:
        found = _look(folder, name)
        if found is not None and _identity(found) == former:
            rights = rights.completed_by(found)
        elif found is not None:
            # Somebody else has put it there, and it is his to remove; but for a socket that nobody listens on.
            _refuse_if_not_dead(folder, name, found)
        with _made(private, path, backlog, rights) as (sock, made):
            os.rename(made, name, src_dir_fd=private, dst_dir_fd=folder)
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


def is_in_order(path: str, own: Identity | None, rights: Rights) -> bool:
    """Whether a socket's file is there, with these rights. What somebody else has put there is not ours to mend."""
    try:
        with folder_of(path) as (folder, name):
            found = _look(folder, name)
    except OSError:
        return False
    return found is not None and (_identity(found) != own or rights.are_of(found))


def identity(path: str) -> Identity | None:
    """What a file is, whatever it is called; None if there is none."""
    try:
        return _identity(os.lstat(path))
    except OSError:
        return None


def is_gone(path: str) -> bool:
    """Whether it is certain that nothing is there."""
    try:
        os.lstat(path)
    except FileNotFoundError:
        return True
    except OSError:
        pass  # it may be there
    return False


def _identity(found: os.stat_result) -> Identity:
    return found.st_dev, found.st_ino


def _listening(name: str, backlog: int) -> socket.socket:
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        sock.setblocking(False)
        sock.bind(name)
        sock.listen(backlog)
    except OSError:
        sock.close()
        raise
    return sock


def _bound(path: str, folder: int, name: str, backlog: int, rights: Rights) -> socket.socket:
    """A socket in its place at once. Nobody can connect to it before it listens, and it has its rights by then."""
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        sock.setblocking(False)
        _bind(sock, path, rights)
        try:
            _give(folder, name, rights)
            sock.listen(backlog)
        except OSError:
            os.unlink(name, dir_fd=folder)
            raise
    except OSError:
        sock.close()
        raise
    return sock


@contextmanager
def _made(folder: int, path: str, backlog: int, rights: Rights) -> Iterator[tuple[socket.socket, str]]:
    """A listening socket in a folder of ours, and its name there. What is left there afterwards is removed."""
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    folders: list[str] = []
    made = ""
    try:
        sock.setblocking(False)
        made = _bind_as(sock, folder, path, rights, folders) or _bind_by_another_name(sock, folder, path, rights)
        _give(folder, made, rights)
        sock.listen(backlog)
        yield sock, made
    except OSError:
        sock.close()
        raise
    finally:
        with suppress(FileNotFoundError):  # it was moved away, or never there
            os.unlink(made, dir_fd=folder)
        for above in reversed(folders):
            os.rmdir(above, dir_fd=folder)


def _bind_as(sock: socket.socket, folder: int, path: str, rights: Rights, folders: list[str]) -> str:
    """Bind a path as if a folder were the root directory.

    Args:
        folders: takes those that are made in it for that.

    Returns:
        The socket's name in it; empty if that may not be done.
    """
    parts = [part for part in path.split("/") if part not in ("", ".")]
    if ".." in parts:
        return ""
    try:
        with as_root(folder):
            for depth in range(1, len(parts)):
                os.mkdir("/".join(parts[:depth]), 0o700)
                folders.append("/".join(parts[:depth]))
            _bind(sock, path, rights)
    except PermissionError:
        return ""
    return "/".join(parts)


def _bind_by_another_name(sock: socket.socket, folder: int, path: str, rights: Rights) -> str:
    made = f"{os.path.basename(path)[:40]}.{os.urandom(8).hex()}"
    with inside(folder):
        _bind(sock, made, rights)
    return made


def _bind(sock: socket.socket, path: str, rights: Rights) -> None:
    """The file has its mode from its first moment on."""
    if rights.mode is None:
        sock.bind(path)
        return
    before = os.umask(0o777 & ~rights.mode)
    try:
        sock.bind(path)
    finally:
        os.umask(before)


def _give(folder: int, name: str, rights: Rights) -> None:
    if (rights.uid, rights.gid) == (AS_MADE.uid, AS_MADE.gid):
        return
    try:
        os.chown(name, rights.uid, rights.gid, dir_fd=folder, follow_symlinks=False)
    except PermissionError as error:
        raise Explained(error.errno, "socket_user and socket_group need CAP_CHOWN here") from None


def _look(folder: int, name: str) -> os.stat_result | None:
    try:
        return os.stat(name, dir_fd=folder, follow_symlinks=False)
    except FileNotFoundError:
        return None


def _answers(folder: int, name: str) -> bool:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.setblocking(False)  # whose queue is full lives
        try:
            with inside(folder):
                probe.connect(name)
        except ConnectionRefusedError:
            return False
        except OSError:
            return True  # it cannot be known (EACCES, ...): leave it alone
    return True
