"""The channel between the supervisor and a spawner: framed records over a Unix socket pair, with descriptors.

A frame is four bytes of length (big endian) and a MessagePack array of that many bytes: one record from the
supervisor, a list of records from a spawner. A stream is used rather than a sequence of packets: it exists on every
system, and one read takes all the reports that are there, which under load is what keeps the supervisor's cost low.
Descriptors arrive with the first byte of their frame, and a read goes no further than to the end of what they were
sent with (unix(7)): they are those of the last frame that it has brought, in whole or in part. A frame that came in
part is read to its end alone, so that there never are those of two frames.
"""

import fcntl
import os
import select
import socket
import termios
from array import array
from typing import Generic, TypeVar

from msgspec import DecodeError
from msgspec.msgpack import Decoder, Encoder

from tcppar.net.calls import LENGTH, READ_SIZE, Calls, refuse_descriptors

# A plan with the largest environment that a system takes (2 MB on Linux) is far below.
LARGEST_FRAME = 1 << 24

Received = TypeVar("Received")


class ChannelClosed(Exception):
    """The other side is gone."""


class NotAFrame(ChannelClosed):
    """What the other side sends is not of our making: there is no more use in the channel."""


def pair() -> tuple[socket.socket, socket.socket]:
    """A new channel's two ends, both closed on exec: the supervisor's, to which no descriptor can be sent where the
    system can forbid it, and the other.
    """
    ours, its = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
    refuse_descriptors(ours)
    return ours, its


def taken_up(descriptor: int) -> socket.socket:
    """The supervisor's end of a channel that another process, or program, has made."""
    end = socket.socket(fileno=descriptor)
    end.setblocking(False)
    refuse_descriptors(end)
    return end


class Channel(Generic[Received]):
    """One end of a channel.

    Args:
        end: one socket of pair(); non-blocking if `receive` or `send` must not wait.
        decoder: decodes the body of a frame that comes in.
        calls: how to send and to receive.
        largest: a frame with a longer body is not read.
    """

    def __init__(
        self, end: socket.socket, decoder: Decoder[Received], calls: Calls, *, largest: int = LARGEST_FRAME
    ) -> None:
        self._socket = end
        self._largest = largest
        self._send, self._read, self._receive = calls.send, calls.read, calls.receive
        self._decode = decoder.decode
        self._encode = Encoder().encode
        self._buffer = b""
        self._peeked = 0
        self.is_in_part = False
        """Whether a part of a frame has come, and not yet the rest."""
        self._held: list[int] = []
        self.fileno = end.fileno

    def send(self, body: object, *descriptors: int) -> None:
        """Send one frame, and duplicates of descriptors with it.

        Raises:
            BlockingIOError: no room now; nothing was sent. Never on a blocking end, which waits for room.
            ChannelClosed: only a part could be sent; the channel is of no more use.
            OSError: descriptors cannot be sent now (ETOOMANYREFS, ENOBUFS, ...), or the other side is gone.
        """
        if not self._send(self._socket, self._encode(body), descriptors):
            # The few frames in flight are a hundredth of what the buffer holds; a socket that takes a part of
            # one is not one to go on with.
            raise ChannelClosed("only a part of a frame was sent")

    def receive(self) -> list[Received]:
        """All whole frames that can be read at once.

        Raises:
            ChannelClosed: the other side has closed its end, or what it sends is not of our making.
            BlockingIOError: nothing there.
        """
        return self._frames(self._read(self._socket, 0))

    def receive_one(self) -> Received:
        """One frame, and nothing of what comes after it, on a blocking end: for the first one, of a kind of its own.

        Raises:
            ChannelClosed: as for receive().
        """
        while not (frames := self._frames(self._read(self._socket, 0, self._missing()))):
            pass
        return frames[0]

    @property
    def is_between_frames(self) -> bool:
        """Whether no part of a frame has been read."""
        return not self._buffer

    @property
    def part_size(self) -> int:
        """How much of a frame that is not whole has been read, in bytes."""
        return len(self._buffer)

    def look(self) -> list[Received]:
        """As receive(), but what is read stays there, and is there again, until `forget` is called.

        If this process dies in between, whoever comes after it reads it once more. A frame larger than one look is the
        exception: it is read piece by piece, and lost with this process. Only what a spawner says at its start is so
        large, and without it nothing is built upon that spawner.
        """
        if self._buffer:
            return self.receive()
        data = self._read(self._socket, socket.MSG_PEEK)
        frames = self._frames(data)
        if not frames and len(data) >= READ_SIZE:
            self._buffer = b""
            return self.receive()
        self._peeked = len(data) - len(self._buffer)
        self._buffer = b""  # a part of a frame is read again when there is more of it
        return frames

    def forget(self) -> None:
        """Let go of what was looked at last."""
        while self._peeked:
            self._peeked -= len(self._read(self._socket, 0, self._peeked))

    def receive_with_descriptors(self) -> tuple[list[Received], list[int]]:
        """As receive(), with the descriptors that came along, closed on exec. They belong to the last of the frames.

        Those for which this process has no number free are missing; whoever sent them still has its own.
        """
        data, descriptors = self._receive(self._socket, self._missing() if self._buffer else READ_SIZE)
        self._held += descriptors
        try:
            frames = self._frames(data)
        except ChannelClosed:
            self._close_held()
            raise
        if self._buffer:
            return frames, []
        came, self._held = self._held, []
        return frames, came

    def _missing(self) -> int:
        """How much is to be read of a frame of which a part has been read."""
        size = len(self._buffer)
        return LENGTH + int.from_bytes(self._buffer[:LENGTH], "big") - size if size >= LENGTH else LENGTH - size

    def _close_held(self) -> None:
        while self._held:
            os.close(self._held.pop())

    def _frames(self, data: bytes) -> list[Received]:
        if not data:
            raise ChannelClosed("end of stream")
        if self._buffer:
            data = self._buffer + data
        elif int.from_bytes(data[:LENGTH], "big") == len(data) - LENGTH:
            # Nearly always: one frame, and all of it.
            self.is_in_part = False
            return [self._decoded(data[LENGTH:])]
        frames: list[Received] = []
        start, end = 0, len(data)
        while end - start >= LENGTH:
            body = start + LENGTH
            size = int.from_bytes(data[start:body], "big")
            if size > self._largest:
                raise NotAFrame(f"a frame of {size} bytes, where {self._largest} is the most")
            if body + size > end:
                break
            frames.append(self._decoded(data[body : body + size]))
            start = body + size
        self._buffer = data[start:]
        self.is_in_part = start < end
        return frames

    def _decoded(self, body: bytes) -> Received:
        try:
            return self._decode(body)
        except (DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise NotAFrame(f"a frame that cannot be read: {error}") from error

    def all_read(self) -> bool:
        """Whether the other side has read all that was sent (Linux alone: SIOCOUTQ of a Unix socket)."""
        unread = array("i", [0])
        fcntl.ioctl(self._socket, termios.TIOCOUTQ, unread)
        return unread[0] == 0

    def is_hung_up(self) -> bool:
        """Whether the other side has closed its end. What it had not read then counts as read."""
        poll = select.poll()
        poll.register(self._socket, 0)
        return bool(poll.poll(0))

    def close(self) -> None:
        """Close this end, with what was not read."""
        self._peeked = 0
        self._close_held()
        try:
            # Descriptors in it would be closed with it, which can take long: they are read, and no more can come.
            self._socket.shutdown(socket.SHUT_RD)
            while self._read(self._socket, 0):
                pass
        except OSError:
            pass  # the other side is gone, and all that there was with it
        self._socket.close()
