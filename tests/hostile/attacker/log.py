"""Descriptor 2, which leads to the server's log."""

import fcntl
import os
import signal
import socket
import struct
import termios
import time

from tests.hostile.attacker.base import EVERY, ONE, Me, attack, sleep_deaf

OWN = "Only its own lines are lost or late: each connection has a descriptor 2 of its own."
_SET_PIPE_SIZE = 1031  # F_SETPIPE_SZ (fcntl(2))


def _as_socket(descriptor: int) -> socket.socket:
    return socket.socket(fileno=os.dup(descriptor))


@attack(EVERY, OWN)
def log_shut_down(me: Me) -> None:
    """A child shuts descriptor 2 down in both directions, as far as it is a socket, and closes it."""
    me.try_to(lambda: _as_socket(2).shutdown(socket.SHUT_RDWR))
    os.close(2)
    me.say("done")


@attack(EVERY, OWN, alone=True)
def log_flooded(me: Me) -> None:
    """A child writes lines to descriptor 2 as fast as it can, for some tenths of a second."""
    many = b"much ado about nothing\n" * 1000
    me.say("done")
    until = time.monotonic() + 0.3
    while time.monotonic() < until:
        os.write(2, many)


@attack(EVERY, "It is cut into lines of bounded length.")
def a_line_without_end(me: Me) -> None:
    """A child writes two megabytes to descriptor 2 without an end of line."""
    for _ in range(32):
        os.write(2, b"x" * (1 << 16))


@attack(EVERY, "It appears in the log as text, and every record is still one line.")
def binary_garbage(me: Me) -> None:
    """A child writes every byte there is, control sequences and zero bytes to descriptor 2."""
    os.write(2, bytes(range(256)) * 200 + b"\x1b]0;title\x07\x00\xff\xfe\r\n" * 100 + b"\xe2\x80\xa8\n")


@attack(EVERY, "It is the text of a line, and no record.")
def a_forged_record(me: Me) -> None:
    """A child writes to descriptor 2 what looks like a record of the server's."""
    os.write(2, b'{"time":"2026-01-01T00:00:00.000Z","level":"error","event":"forged"}\n"}\n{"event":"forged"}\n')


@attack(EVERY, "Others write to, and the server reads from, open files with flags of their own.")
def shared_flags(me: Me) -> None:
    """A child sets O_NONBLOCK and O_APPEND on descriptors 0, 1 and 2, and fills 2."""
    for descriptor in (0, 1, 2):
        flags = fcntl.fcntl(descriptor, fcntl.F_GETFL)
        me.try_to(lambda d=descriptor, f=flags: fcntl.fcntl(d, fcntl.F_SETFL, f | os.O_NONBLOCK))  # type: ignore[misc]
    for _ in range(1000):
        me_write(b"x" * 4095 + b"\n")
    me.hold()


def me_write(data: bytes) -> None:
    """Write to descriptor 2 as far as there is room."""
    try:
        os.write(2, data)
    except BlockingIOError:
        pass


@attack(EVERY, "The server reads on when there is something; nobody waits for it.")
def buffers_of_the_log(me: Me) -> None:
    """A child makes the buffer of descriptor 2 as small, and then as large as it can, and fills it."""
    for size in (1, 1 << 20):
        me.try_to(lambda size=size: fcntl.fcntl(2, _SET_PIPE_SIZE, size))  # type: ignore[misc]
        me.try_to(lambda size=size: _as_socket(2).setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, size))  # type: ignore[misc]
        os.write(2, b"a line\n" * 5000)
    me.hold()


@attack(EVERY, OWN)
def log_read(me: Me) -> None:
    """A child opens descriptor 2 for reading, and takes what it finds for two seconds."""
    try:
        found = os.open("/proc/self/fd/2", os.O_RDONLY | os.O_NONBLOCK)
    except OSError as error:
        me.say(f"refused: {error.strerror}")
        return
    me.say("done")
    until = time.monotonic() + 1
    while time.monotonic() < until:
        try:
            os.read(found, 65536)
        except BlockingIOError:
            pass
        time.sleep(0.005)


@attack(EVERY, "No call of the server on the other end of descriptor 2 waits for it.", leaves=True)
def log_locked(me: Me) -> None:
    """A child's daemon moves data that never comes to descriptor 2 (splice): in a pipe, that locks out all others."""
    silent, other = socket.socketpair()

    def life() -> None:
        os.setsid()
        me.fork(lock)

    def lock() -> None:
        os.close(me.connection)
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        signal.alarm(3)
        os.splice(silent.fileno(), 2, 4096)

    os.waitpid(me.fork(life), 0)
    time.sleep(0.1)
    other.close()


@attack(EVERY, "The byte is lost; nobody waits for it.")
def a_byte_out_of_band(me: Me) -> None:
    """A child sends bytes out of band on descriptor 2, as far as it is a socket, and holds it."""
    for data in (b"a", b"bc", b"d\n", b"e"):
        me.try_to(lambda data=data: _as_socket(2).send(data, socket.MSG_OOB | socket.MSG_DONTWAIT))  # type: ignore[misc]
    me.hold()


@attack(EVERY, "They are refused, or closed unseen, and no close of them waits.")
def descriptors_on_the_log(me: Me) -> None:
    """A child sends its connection, made to linger, on descriptor 2, as far as it is a socket, and ends."""
    connection = socket.socket(fileno=os.dup(me.connection))
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 30))
    me.try_to(lambda: socket.send_fds(_as_socket(2), [b"x\n"], [me.connection] * 8, socket.MSG_DONTWAIT))
    me.say("done")


@attack(EVERY, "Its end is recorded; the daemon's lines are read as long as it has the descriptor.", leaves=True)
def log_kept_open(me: Me) -> None:
    """A child's daemon keeps descriptor 2 open, and writes a line to it now and then."""

    def life() -> None:
        os.setsid()
        me.fork(chatter)

    def chatter() -> None:
        os.close(me.connection)
        for _ in range(50):
            os.write(2, b"still here\n")
            time.sleep(0.1)

    os.waitpid(me.fork(life), 0)


@attack(ONE, OWN)
def a_hundred_writers(me: Me) -> None:
    """A child has a hundred children that write to descriptor 2 all at once."""

    def life() -> None:
        for _ in range(20):
            os.write(2, b"one of a hundred\n" * 50)

    for _ in range(100):
        me.fork(life)
    for _ in range(100):
        os.wait()


@attack(EVERY, "There is none: each child has a session of its own.")
def the_terminal(me: Me) -> None:
    """A child opens /dev/tty, and types into whatever terminal it finds there and on its descriptors (TIOCSTI)."""
    me.must_not_get("the terminal", lambda: os.dup2(os.open("/dev/tty", os.O_RDWR | os.O_NONBLOCK), 100))
    for descriptor in (0, 1, 2, 100):
        me.must_not_get("TIOCSTI", lambda d=descriptor: fcntl.ioctl(d, termios.TIOCSTI, b"x"))  # type: ignore[misc]


@attack(EVERY, "max_lifetime ends it.")
def log_full(me: Me) -> None:
    """A child's children write to descriptor 2 until it takes no more, and hold it."""
    me.fork(lambda: os.write(2, b"x" * (1 << 22)))
    me.say("done")
    sleep_deaf()
