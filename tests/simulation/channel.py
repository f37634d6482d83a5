"""Channels and pipes of the simulated system. What goes over a channel are the records themselves."""

import errno
import os
from collections import deque
from dataclasses import dataclass
from typing import Any

from tcppar.net.channel import ChannelClosed
from tests.simulation.faults import Call
from tests.simulation.kernel import Kernel, OpenFile

# The real buffer holds some hundreds; a small one is full sooner.
_ROOM = 24


@dataclass
class Frame:
    """What was sent, and the files whose descriptors go with it."""

    body: Any
    files: tuple[OpenFile, ...] = ()


class ChannelEnd(OpenFile):
    """One end of a pair of connected Unix sockets."""

    def __init__(self, kernel: Kernel) -> None:
        super().__init__()
        self._kernel = kernel
        self.peer = self
        self.incoming: deque[Frame] = deque()
        self.closed = False
        self.was_reset = False
        """Whether the other side was closed with something unread, which is told once."""

    @property
    def readable(self) -> bool:
        return bool(self.incoming) or self.peer.closed

    def released(self) -> None:
        self.closed = True
        self.peer.was_reset = bool(self.incoming)
        while self.incoming:
            self.drop(self.incoming.popleft())

    def drop(self, frame: Frame) -> None:
        """A frame is no more, and what came with it has not found a descriptor."""
        for file in frame.files:
            self._kernel.let_go(file)


class End:
    """A socket object: a descriptor of the process that made it."""

    def __init__(self, kernel: Kernel, descriptor: int) -> None:
        self._kernel = kernel
        self._descriptor = descriptor
        self.blocking = True

    def fileno(self) -> int:
        return self._descriptor

    def setblocking(self, blocking: bool) -> None:
        self.blocking = blocking

    def detach(self) -> int:
        """Its descriptor, which stays open."""
        descriptor, self._descriptor = self._descriptor, -1
        return descriptor

    def close(self) -> None:
        """Close it; once more is no error, as with every socket object."""
        if self._descriptor >= 0:
            descriptor, self._descriptor = self._descriptor, -1
            self._kernel.tick()
            self._kernel.close(descriptor)


def pair(kernel: Kernel) -> tuple[End, End]:
    """Two connected ends, of the running process."""
    kernel.tick()
    kernel.faults.meet(Call.PAIR)
    ours, its = ChannelEnd(kernel), ChannelEnd(kernel)
    ours.peer, its.peer = its, ours
    return End(kernel, kernel.open(ours)), End(kernel, kernel.open(its))


class SimulatedChannel:
    """In the place of `tcppar.net.channel.Channel`."""

    def __init__(self, kernel: Kernel, end: End) -> None:
        self._kernel = kernel
        self._end = end
        self._looked_at = 0
        self.fileno = end.fileno
        self.is_between_frames = True
        self.is_in_part = False

    def _file(self) -> ChannelEnd:
        self._kernel.tick()
        file = self._kernel.file(self._end.fileno())
        assert isinstance(file, ChannelEnd)
        return file

    def send(self, body: object, *descriptors: int) -> None:
        end = self._file()
        if end.peer.closed:
            raise BrokenPipeError(errno.EPIPE, os.strerror(errno.EPIPE))
        if not self._end.blocking:
            self._kernel.faults.meet(Call.SEND)
            if len(end.peer.incoming) >= _ROOM:
                raise BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN))
        files = tuple(self._kernel.file(descriptor) for descriptor in descriptors)
        for file in files:
            file.references += 1
        end.peer.incoming.append(Frame(body, files))
        self._kernel.tick()

    def receive(self) -> list[Any]:
        bodies = self.look()
        self.forget()
        return bodies

    def receive_first(self) -> Any:
        """The first record alone."""
        return self._readable().incoming.popleft().body

    def look(self) -> list[Any]:
        end = self._readable()
        self._looked_at = len(end.incoming)
        return [frame.body for frame in end.incoming]

    def forget(self) -> None:
        if self._looked_at:
            end = self._file()
            for _ in range(self._looked_at):
                end.drop(end.incoming.popleft())
            self._looked_at = 0
            self._kernel.tick()

    def _readable(self) -> ChannelEnd:
        end = self._file()
        if not end.incoming:
            if end.was_reset:
                end.was_reset = False
                raise ConnectionResetError(errno.ECONNRESET, os.strerror(errno.ECONNRESET))
            if end.peer.closed:
                raise ChannelClosed("end of stream")
            raise BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN))
        return end

    def receive_with_descriptors(self) -> tuple[list[Any], list[int]]:
        """One read: it goes no further than to the end of what descriptors came with, and drops those that find no
        room: all of them, or those after the first.
        """
        end = self._readable()
        bodies: list[Any] = []
        descriptors: list[int] = []
        while end.incoming and not descriptors:
            frame = end.incoming.popleft()
            bodies.append(frame.body)
            for file in frame.files:
                try:
                    self._kernel.faults.meet(Call.RECEIVE)
                except OSError:
                    break
                descriptors.append(self._kernel.open(file))
            end.drop(frame)
            if frame.files:
                break
        return bodies, descriptors

    def all_read(self) -> bool:
        """What the other side had not read when it was closed counts as read (SIOCOUTQ)."""
        return not self._file().peer.incoming

    def is_hung_up(self) -> bool:
        return self._file().peer.closed

    def close(self) -> None:
        self._looked_at = 0
        self._end.close()


def pipe(kernel: Kernel) -> tuple[int, int]:
    """In the place of `tcppar.net.calls.LogPair`."""
    kernel.tick()
    kernel.faults.meet(Call.PIPE)
    reader = Pipe()
    ends = kernel.open(reader), kernel.open(reader.writer)
    kernel.tick()
    return ends


class Pipe(OpenFile):
    """The end of a pipe that is read, with what was written."""

    def __init__(self) -> None:
        super().__init__()
        self.written = b""
        self.writer = PipeWriter(self)

    @property
    def readable(self) -> bool:
        return bool(self.written) or self.writer.closed

    def read(self, size: int) -> bytes:
        read, self.written = self.written[:size], self.written[size:]
        return read


class PipeWriter(OpenFile):
    """The end that is written to."""

    def __init__(self, pipe: Pipe) -> None:
        super().__init__()
        self.pipe = pipe
        self.inode = pipe.inode  # both ends have that of the pipe
        self.closed = False

    def released(self) -> None:
        self.closed = True
