"""What children write to descriptor 2, made into records.

One socket serves all children of a pool: the kernel tells with each piece which process wrote it (SO_PASSCRED), so
that a line gets its connection's id at no cost for the many children that never write one. Where that does not exist
it is a pipe, and lines have no id.
"""

import fcntl
import os
import socket
import struct
import termios
from array import array
from functools import partial
from typing import TYPE_CHECKING

from tcppar.events import ChildOutput
from tcppar.supervisor.heritage import ChildLogRecord, OpenSocket, inode_of

if TYPE_CHECKING:
    from tcppar.supervisor.core import Core
    from tcppar.supervisor.table import Table

_CREDENTIALS = struct.Struct("3i")
_READ_SIZE = 65536
_MOST_PIECES = 16
_LONGEST_LINE = 8192
# A child may write before its spawner reports it, and its end may be reported before its last words are read: such
# text waits for the other news this long.
_PATIENCE = 0.1
# While the log is written more slowly than children write, they wait as for any reader.
_PAUSE = 0.02


def _new_ends(*, with_credentials: bool) -> tuple[int, int]:
    if not with_credentials:
        return os.pipe()
    reader, writer = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
    reader.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
    return reader.detach(), writer.detach()


class ChildLog:
    """Reads lines; `writer` is the descriptor that children get."""

    comes_first = True

    def __init__(self, service: str, core: "Core", table: "Table", former: ChildLogRecord | None = None) -> None:
        self._service = service
        self._core = core
        self._table = table
        self._unfinished: dict[int | None, bytes] = {}
        self._strangers: set[int | None] = set()
        self._bytes_read = 0
        self._behind = False
        if former is not None:
            self._reader = former.descriptor
            self.writer = former.writer.descriptor if former.writer is not None and former.writer.is_there else -1
            self._unfinished.update(former.unfinished)
        else:
            self._reader, self.writer = _new_ends(with_credentials=core.features.credentials)
        os.set_blocking(self._reader, False)
        self._socket = socket.socket(fileno=self._reader) if core.features.credentials else None
        core.waiter.register(self)
        core.child_logs.add(self)

    def fileno(self) -> int:
        """The end that is read."""
        return self._reader

    @property
    def descriptors(self) -> list[int]:
        """Both ends, as far as they are open."""
        return [self._reader, *([self.writer] if self.writer >= 0 else [])]

    def describe(self) -> ChildLogRecord | None:
        """What a next supervisor must know of it; None if nothing more can come."""
        if self not in self._core.child_logs:
            return None
        writer = OpenSocket(self.writer, inode_of(self.writer)) if self.writer >= 0 else None
        return ChildLogRecord(self._reader, inode_of(self._reader), writer, list(self._unfinished.items()))

    def close_writer(self) -> None:
        """No further spawner will get it; the reading ends when the last child has."""
        if self.writer >= 0:
            os.close(self.writer)
            self.writer = -1
            self._core.structure_changed()

    def on_ready(self) -> None:
        """Read what is there, some pieces at the most."""
        self._behind = True
        if self._core.log.congested:
            self._core.waiter.unregister(self)
            self._core.timers.at(self._core.later(_PAUSE), self._look_again)
            return
        for _ in range(_MOST_PIECES):
            if not self._read_piece():
                self._behind = False
                return

    def _read_piece(self) -> bool:
        """Read what one process wrote; whether there may be more."""
        try:
            data, pid = self._read()
        except BlockingIOError:
            return False
        except OSError:
            data, pid = b"", None
        if not data:
            self._finish()
            return False
        self._bytes_read += len(data)
        self._unfinished[pid] = self._unfinished.get(pid, b"") + data
        if pid in self._strangers:
            return True
        if pid and not self._table.knows(pid):
            self._strangers.add(pid)
            self._core.timers.at(self._core.later(_PATIENCE), partial(self._settle, pid))
            return True
        self._tell_lines(pid)
        return True

    def _look_again(self) -> None:
        if self in self._core.child_logs:
            self._core.waiter.register(self)

    def _read(self) -> tuple[bytes, int | None]:
        if self._socket is None:
            return os.read(self._reader, _READ_SIZE), None
        data, ancillary, _, _ = self._socket.recvmsg(_READ_SIZE, socket.CMSG_SPACE(_CREDENTIALS.size))
        for _, kind, payload in ancillary:
            if kind == socket.SCM_CREDENTIALS:
                return data, _CREDENTIALS.unpack(payload)[0]
        return data, None

    def on_conversation_end(self, pid: int) -> None:
        """A worker has served a connection, and will write for another: what it wrote for this one is all there.

        It has flushed its streams before it said so, and this is read before what it said (`Source.comes_first`).
        """
        whose = pid if self._socket is not None else None
        if whose in self._unfinished:
            self._strangers.discard(whose)
            self._tell_lines(whose)
            self._tell_rest(whose)

    def on_end(self, pid: int) -> None:
        """A child has ended: a last line without an end is one all the same."""
        # In a pipe nobody knows whose it is: it may be that of the child that has ended.
        if self._unfinished or self._behind:
            whose = pid if self._socket is not None else None
            self._settle_later(whose, self._bytes_read + self._unread())

    def _settle_later(self, pid: int | None, due: int) -> None:
        self._core.timers.at(self._core.later(_PATIENCE), partial(self._settle, pid, due))

    def _settle(self, pid: int | None, due: int = 0) -> None:
        """Tell what a process wrote, and if it has ended, its rest, when all is read that it can have written.

        Args:
            due: how much must have been read by then: while the log takes lines slowly, a line may still be in parts.
        """
        self._strangers.discard(pid)
        if self._bytes_read < due and self in self._core.child_logs:
            self._settle_later(pid, due)
        elif pid in self._unfinished:
            self._tell_lines(pid)
            if pid is None or not self._table.is_open(pid):
                self._tell_rest(pid)

    def _unread(self) -> int:
        unread = array("i", [0])
        fcntl.ioctl(self._reader, termios.FIONREAD, unread)
        return unread[0]

    def _tell_lines(self, pid: int | None) -> None:
        *lines, rest = self._unfinished.pop(pid).split(b"\n")
        for line in lines:
            self._tell(pid, line)
        if rest:
            self._unfinished[pid] = rest
        if len(rest) > _LONGEST_LINE:
            self._tell_rest(pid)

    def _tell_rest(self, pid: int | None) -> None:
        if rest := self._unfinished.pop(pid, b""):
            self._tell(pid, rest)

    def _tell(self, pid: int | None, line: bytes) -> None:
        for start in range(0, len(line) or 1, _LONGEST_LINE):
            text = line[start : start + _LONGEST_LINE].decode(errors="backslashreplace").rstrip("\r")
            self._core.log.emit(
                ChildOutput(service=self._service, id=self._table.id_of_writer(pid), pid=pid, line=text)
            )

    def give_up(self) -> None:
        """Read what is there, and wait for nothing more."""
        due = self._bytes_read + self._unread()
        while self._bytes_read < due and self._read_piece():
            pass
        if self in self._core.child_logs:
            self._finish()

    def _finish(self) -> None:
        self._behind = False
        for pid in list(self._unfinished):
            self._tell_lines(pid)
            self._tell_rest(pid)
        self._core.waiter.unregister(self)
        self._core.child_logs.discard(self)
        self._core.structure_changed()
        if self._socket is not None:
            self._socket.close()
        else:
            os.close(self._reader)
