"""What children write to descriptor 2, made into records.

Each connection's child has a pair of sockets of its own, so has each worker, and each spawner for its own words. So a
line is known by where it comes from; what one does with its end, another does not notice; and who writes more than the
log takes waits alone. Why no pipe: see `calls.LogPair`.
"""

import errno
import os
import socket
from enum import Enum
from typing import Protocol

from tcppar.events import ChildOutput
from tcppar.net import calls
from tcppar.net.platform import socket_of, unread
from tcppar.supervisor.connection import Connection
from tcppar.supervisor.snapshot import PipeRecord, inode_of

# What is read and told in one turn: little, for in a slow log each writer has its turn before one has the next.
_PIECE = 4096
_MOST_LINES = 32
_LONGEST_LINE = 8192
# So many conversations of one worker can be over and not told to the end; beyond that their lines have no id.
_MOST_MARKS = 64


class Turn(Enum):
    """What a turn has shown."""

    MORE = "there is more to tell, or may be"
    DRAINED = "nothing is there now"
    OVER = "nothing can come any more, and it is closed"


class Writer(Protocol):
    """Whoever has the other end."""

    @property
    def pid(self) -> int: ...


class Turns(Protocol):
    """Who decides when it is read, and passes on what it tells (`child_logs.py`)."""

    def read(self, descriptor: int, size: int, /) -> bytes: ...
    def tell(self, output: ChildOutput) -> None: ...
    def changed(self, log: "ChildLog") -> None: ...
    def watch_soon(self, log: "ChildLog") -> None: ...
    def offer_turn(self, log: "ChildLog") -> None: ...
    def is_behind(self, log: "ChildLog") -> bool: ...
    def end(self, log: "ChildLog") -> None: ...
    def forget(self, log: "ChildLog") -> None: ...


class ChildLog:
    """The reader of one.

    Args:
        logs: what it is one of.
        service: the service's name.
        reader: the end that is read; it does not wait.
        whose: the process that writes; its children may have the other end too.
        id: of the connection that the lines belong to; None for none.
        comes_first: whether it is read before other sources: what a worker wrote for a connection, before it is read
            that this has ended.

    Attributes:
        connection: the one that it is of, as long as that is open; None for a worker's and a spawner's.
        writer: our copy of the other end, as long as nobody is known to have it; None after that.
        ended: whether the conversation is over, or the process: what is there is read, and what may come from processes
            that were left behind.
    """

    # There is one for each connection: without a dict it takes a quarter of the memory, and a third less time.
    __slots__ = (
        "_logs",
        "_marks",
        "_may_be_more",
        "_reader",
        "_text",
        "_told",
        "_whose",
        "comes_first",
        "connection",
        "ended",
        "id",
        "service",
        "writer",
    )

    def __init__(
        self,
        logs: Turns,
        service: str,
        reader: int,
        whose: Writer | None,
        id: str | None = None,
        *,
        comes_first: bool = False,
    ) -> None:
        self.comes_first = comes_first
        self.connection: Connection | None = None
        self._logs = logs
        self.service = service
        self._reader = reader
        self._whose = whose
        self.id = id
        self.writer: int | None = None
        self.ended = False
        self._text = b""
        self._told = 0
        self._may_be_more = False
        self._marks: tuple[tuple[int, str | None], ...] = ()

    def fileno(self) -> int:
        """The end that is read."""
        return self._reader

    @property
    def is_open(self) -> bool:
        """Whether something can come."""
        return self._reader >= 0

    @property
    def unfinished(self) -> bytes:
        """What was read, and not told."""
        return self._text

    def go_on(self, text: bytes) -> None:
        """Take up what a supervisor before this one had read."""
        self._text = text

    def describe(self) -> PipeRecord:
        """What a next supervisor must know of one that has ended."""
        pid = self._whose.pid if self._whose is not None else 0
        return PipeRecord(self._reader, inode_of(self._reader), self.service, self.id, pid)

    def close_writer(self) -> None:
        """Close our copy of the other end, if there is one."""
        if self.writer is not None:
            writer, self.writer = self.writer, None
            self._logs.changed(self)
            os.close(writer)

    def handed_over(self) -> None:
        """A child has the other end."""
        self.close_writer()
        self._logs.watch_soon(self)

    def on_ready(self) -> None:
        """Something is there, or all who had the other end have closed it."""
        if self.is_open:  # another source of this pass may have led to its end
            self._logs.offer_turn(self)

    def end(self) -> None:
        """Read what is there; whoever else has the other end may go on."""
        if self.is_open:
            self.close_writer()
            self.ended = True
            self._logs.end(self)
        self.connection = None

    def belongs_to(self, connection_id: str) -> None:
        """A worker has another connection from now on."""
        self.id = connection_id

    def conversation_over(self) -> None:
        """A worker has none any more: what it wrote until now is the last connection's.

        It has flushed its streams before it said so, and this is read first; unless the log takes lines too slowly.
        """
        if self._logs.is_behind(self):
            if len(self._marks) == _MOST_MARKS:
                self._marks = self._marks[:-1]
                self.id = None
            self._marks += ((self._told + len(self._text) + unread(self._reader), self.id),)
        else:
            self._tell_rest(len(self._text))
        self.id = None

    # Turns.

    def turn(self) -> Turn:
        """Read a piece, if no line is there to tell, and tell some lines."""
        if not self._can_tell:
            size = self._read()
            if not size:
                return Turn.DRAINED if self.is_open else Turn.OVER
            # One that has ended is read until nothing comes any more.
            self._may_be_more = size == _PIECE or self.ended
        self._tell_lines()
        return Turn.MORE if self._may_be_more or self._can_tell else Turn.DRAINED

    @property
    def _can_tell(self) -> bool:
        return b"\n" in self._text or (bool(self._marks) and self._marks[0][0] - self._told <= len(self._text))

    def _read(self) -> int:
        """Read a piece; its size."""
        try:
            data = self._read_piece()
        except BlockingIOError:
            return 0
        except OSError:
            data = b""
        self._text += data
        if not data:
            self._tell_rest(len(self._text))
            self.close(read_to_end=True)
        return len(data)

    def _read_piece(self) -> bytes:
        try:
            return self._logs.read(self._reader, _PIECE)
        except OSError as error:
            if error.errno != errno.ENOTSOCK:
                raise
            return os.read(self._reader, _PIECE)  # a pipe of a former version's, until whoever has it ends

    def _tell_lines(self) -> None:
        for _ in range(_MOST_LINES):
            end = self._text.find(b"\n")
            due = self._marks[0][0] - self._told if self._marks else len(self._text) + 1
            if due <= len(self._text) and (end < 0 or due <= end):
                self._tell_rest(due)
                self._marks = self._marks[1:]
            elif end >= 0:
                self._tell(self._text[:end])
                self._let_go(end + 1)
            elif len(self._text) > _LONGEST_LINE:
                self._tell_rest(_LONGEST_LINE)
            else:
                return

    def _tell_rest(self, size: int) -> None:
        """Tell a line that has no end."""
        if size:
            self._tell(self._text[:size])
            self._let_go(size)

    def _let_go(self, size: int) -> None:
        self._text = self._text[size:]
        self._told += size

    def _tell(self, line: bytes) -> None:
        connection_id = self._marks[0][1] if self._marks else self.id
        pid = self._whose.pid if self._whose is not None else 0
        for start in range(0, len(line) or 1, _LONGEST_LINE):
            text = line[start : start + _LONGEST_LINE].decode(errors="backslashreplace").rstrip("\r")
            self._logs.tell(ChildOutput(service=self.service, id=connection_id, pid=pid or None, line=text))

    def finish(self) -> None:
        """Read what is there, and no more."""
        due = self._told + len(self._text) + unread(self._reader)
        while self.is_open and (self._can_tell or self._told + len(self._text) < due):
            if self.turn() is Turn.DRAINED:
                break  # what is there is not to be read: a byte out of band (MSG_OOB)
        if self.is_open:
            self._tell_rest(len(self._text))
            self.close()

    def close(self, *, read_to_end: bool = False) -> None:
        """Read no more, whoever has the other end."""
        self.close_writer()
        reader = self._reader
        self._logs.forget(self)
        self._reader = -1
        if not read_to_end:
            self._throw_away(reader)
        os.close(reader)

    def _throw_away(self, reader: int) -> None:
        """Descriptors in it would be closed with it, which can take long: they are read, and no more can come."""
        try:
            with socket_of(reader) as view:
                view.shutdown(socket.SHUT_RD)
            while self._logs.read(reader, calls.READ_SIZE):
                pass
        except OSError:
            pass  # nothing there, or a pipe
