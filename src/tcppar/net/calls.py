"""The system calls that each connection costs: by Python's socket module, or by a few
lines of C where these could be compiled (`_calls.c`, `hatch_build.py`).

The socket module makes an object for each part of a message, room for 64 kilobytes for each that comes, and a socket,
with a system call of its own, for each look at a descriptor. With the lines of C a pool of workers serves a tenth more
connections a second.
"""

import os
import signal
import socket
import struct
import sys
from array import array
from collections.abc import Iterable
from typing import NamedTuple, Protocol

from tcppar.net.platform import Features, socket_of

try:
    from tcppar.net import _calls
except ImportError:  # installed where there was no compiler, or on a system that is not Linux
    AVAILABLE = False
else:
    AVAILABLE = True

LENGTH = 4
"""What stands before a frame's body: its size, in so many bytes, big endian."""

READ_SIZE = 65536
"""The most that is read at once."""

# Of Linux 6.16 (asm-generic/socket.h): whether descriptors can be sent to a Unix socket.
_SO_PASSRIGHTS = 83

# How long a close that would wait does so at the most, in seconds.
_TICK = 0.001
_DESCRIPTOR_SIZE = 4
_CLOSE_ON_EXEC = getattr(socket, "MSG_CMSG_CLOEXEC", 0)
# Room for some descriptors, though two at the most are expected: what does not fit would be lost silently.
_ANCILLARY_SIZE = socket.CMSG_SPACE(_DESCRIPTOR_SIZE * 8)
# As many as a message can bring (unix(7), SCM_MAX_FD).
_LARGEST_ANCILLARY_SIZE = socket.CMSG_SPACE(_DESCRIPTOR_SIZE * 253)
_NO_LINGER = struct.pack("ii", 0, 0)

# tcpi_last_data_sent of struct tcp_info (linux/tcp.h), in milliseconds. A connection on which nothing was sent yet
# counts it from the end of its handshake, which is when it entered the listener's queue.
_LAST_DATA_SENT = slice(44, 48)


class Send(Protocol):
    """Sends a frame, and duplicates of descriptors with it, eight at the most, in their order.

    Returns:
        Whether all of it went; not so if there was room for a part alone. A blocking end waits for room.

    Raises:
        BlockingIOError: no room; nothing was sent.
        OSError: the descriptor cannot be sent now (ETOOMANYREFS, ENOBUFS, ...), or the other side is gone.
    """

    def __call__(self, end: socket.socket, body: bytes, descriptors: tuple[int, ...], /) -> bool: ...


class Read(Protocol):
    """Reads what is there, so many bytes at the most, with the flags of recv(2).

    Descriptors that came along are closed. recv(2) would do that as well; but if one is the last of a connection that
    its sender has made to linger (SO_LINGER), it would wait for as long as the sender likes.

    Raises:
        BlockingIOError: nothing is there. Never on a blocking end, which waits for something.
        OSError: as recv(2).
    """

    def __call__(self, end: socket.socket, flags: int, most: int = ..., /) -> bytes: ...


class Receive(Protocol):
    """Reads what is there, so many bytes and READ_SIZE at the most, and takes the descriptors that came along, closed
    on exec. Those for which this process has no number free the system drops (MSG_CTRUNC).

    Raises:
        OSError: as for Read.
    """

    def __call__(self, end: socket.socket, most: int, /) -> tuple[bytes, list[int]]: ...


class LogPair(Protocol):
    """Makes what a child's log goes through: the end to read, which does not wait, and the end to write, which does;
    both closed on exec.

    It is a pair of sockets, and no pipe. Whoever has one end of a pipe can hold its lock for as long as he likes, by a
    splice(2) to it from something from which nothing comes; and every read(2), FIONREAD and close(2) of the other end
    then waits for him, whatever its flags, and cannot even be killed. Sockets of a pair have no lock in common while
    one of them waits.

    Raises:
        OSError: as socketpair(2).
    """

    def __call__(self) -> tuple[int, int]: ...


class ReadLog(Protocol):
    """Reads what is there of a log, so many bytes at the most. Descriptors that came along are closed, as by Read.

    Raises:
        BlockingIOError: nothing is there.
        OSError: as recv(2); ENOTSOCK for a pipe, which former versions have made.
    """

    def __call__(self, reader: int, most: int, /) -> bytes: ...


class Accept(Protocol):
    """Accepts a TCP connection, and looks at it as Look does.

    Returns:
        Its descriptor, blocking or not as accept(2) leaves it, closed on exec; the peer's numeric address and port; and
        what the look told.

    Raises:
        OSError: as accept(2).
    """

    def __call__(
        self, listener: socket.socket, local: bool, queued: bool, /
    ) -> tuple[int, str, int, str | None, float | None]: ...


class Look(Protocol):
    """Looks at a TCP connection, for what it is asked for: the numeric address that its client has connected to, and
    for how many seconds it was queued. None for the rest, and for what cannot be told.
    """

    def __call__(self, descriptor: int, local: bool, queued: bool, /) -> tuple[str | None, float | None]: ...


class CloseShared(Protocol):
    """Closes a descriptor of something that another process shares, or may share, without ever waiting. It is the only
    way in which the supervisor closes such a thing.

    The last close(2) of a connection waits for the client to take what was sent if SO_LINGER is on (socket(7)), and
    everybody who shares the connection can switch that on: for hours, and between any look of ours and the close. To
    switch it off first would not help against that, and would take from programs what they have asked for. But a
    wait like that ends with any signal that is caught (sk_stream_wait_close in the kernel): so an alarm goes off while
    descriptors are closed. CatchAlarm must have been called before.

    Raises:
        OSError: the descriptor is not open.
    """

    def __call__(self, descriptor: int, /) -> None: ...


class CatchAlarm(Protocol):
    """Let SIGALRM do nothing but interrupt: one that is ignored would not even do that. Main thread only."""

    def __call__(self) -> None: ...


class Calls(NamedTuple):
    """One way to make them."""

    send: Send
    read: Read
    receive: Receive
    log_pair: LogPair
    read_log: ReadLog
    accept: Accept
    look: Look
    close_shared: CloseShared
    catch_alarm: CatchAlarm


def of(features: Features) -> Calls:
    """The way to make them here."""
    return COMPILED if features.fast_calls and AVAILABLE else PLAIN


def _send(end: socket.socket, body: bytes, descriptors: tuple[int, ...]) -> bool:
    frame = len(body).to_bytes(LENGTH, "big") + body
    rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array("i", descriptors))] if descriptors else []
    sent = end.sendmsg((frame,), rights)
    try:
        if sent < len(frame):
            end.sendall(frame[sent:])
    except BlockingIOError:
        return False
    return True


def _read(end: socket.socket, flags: int, most: int = READ_SIZE) -> bytes:
    data, ancillary, _, _ = end.recvmsg(min(most, READ_SIZE), _LARGEST_ANCILLARY_SIZE, flags | _CLOSE_ON_EXEC)
    if ancillary:
        for descriptor in _passed(ancillary):
            _close_at_once(descriptor)
    return data


def _close_at_once(descriptor: int) -> None:
    try:
        with socket_of(descriptor) as view:
            view.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _NO_LINGER)
    except OSError:
        pass  # it is no socket, and cannot linger
    os.close(descriptor)


def _passed(ancillary: Iterable[tuple[int, int, bytes]]) -> list[int]:
    descriptors: list[int] = []
    for level, kind, payload in ancillary:
        if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
            whole = len(payload) - len(payload) % _DESCRIPTOR_SIZE
            descriptors.extend(memoryview(payload)[:whole].cast("i"))
    return descriptors


def _receive(end: socket.socket, most: int) -> tuple[bytes, list[int]]:
    data, ancillary, _, _ = end.recvmsg(min(most, READ_SIZE), _ANCILLARY_SIZE, _CLOSE_ON_EXEC)
    descriptors = _passed(ancillary)
    if not _CLOSE_ON_EXEC:
        for descriptor in descriptors:
            os.set_inheritable(descriptor, False)
    return data, descriptors


def _log_pair() -> tuple[int, int]:
    ours, its = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
    ours.setblocking(False)
    ours.shutdown(socket.SHUT_WR)
    refuse_descriptors(ours)
    return ours.detach(), its.detach()


def refuse_descriptors(end: socket.socket) -> None:
    """Have none sent to a Unix socket, where the system can forbid it."""
    if sys.platform == "linux":
        try:
            end.setsockopt(socket.SOL_SOCKET, _SO_PASSRIGHTS, 0)
        except OSError:
            pass  # an older kernel: those that come are closed when they are read (`Read`)


def _read_log(reader: int, most: int) -> bytes:
    with socket_of(reader) as view:
        return _read(view, socket.MSG_DONTWAIT, most)


def _accept(listener: socket.socket, local: bool, queued: bool) -> tuple[int, str, int, str | None, float | None]:
    # The bare accept4(2): making a socket object costs as much again.
    descriptor, peer = listener._accept()  # type: ignore[attr-defined]
    return descriptor, peer[0], peer[1], *_look(descriptor, local, queued)


def _look(descriptor: int, local: bool, queued: bool) -> tuple[str | None, float | None]:
    host = seconds = None
    if not local and not queued:
        return host, seconds
    try:
        with socket_of(descriptor) as view:
            if local:
                host = view.getsockname()[0]
            if queued:
                info = view.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _LAST_DATA_SENT.stop)
                seconds = int.from_bytes(info[_LAST_DATA_SENT], sys.byteorder) / 1000
    except OSError:
        pass  # the client has gone again; that is for its child to find out
    return host, seconds


def _close_shared(descriptor: int) -> None:
    caught = signal.getsignal(signal.SIGALRM) is _interrupt
    if caught:
        signal.setitimer(signal.ITIMER_REAL, _TICK, _TICK)
    try:
        os.close(descriptor)
    finally:
        if caught:
            signal.setitimer(signal.ITIMER_REAL, 0)


def _catch_alarm() -> None:
    signal.signal(signal.SIGALRM, _interrupt)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGALRM])


def _interrupt(number: int, frame: object) -> None:
    """It only has to be there."""


PLAIN = Calls(_send, _read, _receive, _log_pair, _read_log, _accept, _look, _close_shared, _catch_alarm)


def _compiled_read_log(reader: int, most: int) -> bytes:
    return _calls.read(reader, socket.MSG_DONTWAIT, most)


COMPILED = (
    Calls(
        _calls.send,
        _calls.read,
        _calls.receive,
        _calls.log_pair,
        _compiled_read_log,
        _calls.accept,
        _calls.look,
        _calls.close_shared,
        _calls.catch_alarm,
    )
    if AVAILABLE
    else PLAIN
)

# One for the whole process, whatever its features: there is one alarm.
close_shared = COMPILED.close_shared
catch_alarm = COMPILED.catch_alarm
