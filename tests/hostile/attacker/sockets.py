"""Options and states of the connection, which the supervisor may still have open, and of the service's addresses."""

import os
import signal
import socket
import struct

from tests.hostile.attacker.base import EVERY, ONE, Me, attack

NO_CALL_BLOCKS = "No call of the server's on the connection blocks, not even its close."
_LINGER = struct.pack("ii", 1, 30)
_REPAIR, _ULP, _USER_TIMEOUT, _WINDOW_CLAMP = 19, 31, 18, 10  # linux/tcp.h
_NETLINK_SOCK_DIAG, _DESTROY = 4, 21  # linux/netlink.h, linux/sock_diag.h
_FILTER = 26  # SO_ATTACH_FILTER (asm-generic/socket.h)


def _connection(me: Me) -> socket.socket:
    return socket.socket(fileno=os.dup(me.connection))


def _fill(connection: socket.socket) -> None:
    connection.setblocking(False)
    try:
        while True:
            connection.send(bytes(1 << 16))
    except BlockingIOError:
        pass
    connection.setblocking(True)


@attack(EVERY, NO_CALL_BLOCKS, reads=False)
def lingering_with_a_full_buffer(me: Me) -> None:
    """A child sets SO_LINGER to 30 s, fills the buffer, and ends: the last close of the connection waits."""
    connection = _connection(me)
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER)
    _fill(connection)


@attack(EVERY, NO_CALL_BLOCKS, reads=False)
def lingering_and_held(me: Me) -> None:
    """A child sets SO_LINGER to 30 s, fills the buffer, and goes on until max_lifetime ends it."""
    connection = _connection(me)
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER)
    _fill(connection)
    os.kill(os.getpid(), signal.SIGSTOP)


@attack(EVERY, NO_CALL_BLOCKS, reads=False)
def blocking_with_a_full_buffer(me: Me) -> None:
    """A child takes O_NONBLOCK away from the connection, fills it, and shuts it down."""
    connection = _connection(me)
    _fill(connection)
    os.set_blocking(me.connection, True)
    connection.shutdown(socket.SHUT_RDWR)


@attack(EVERY, "Its own conversation is the slower for it.")
def tiny_buffers(me: Me) -> None:
    """A child makes its connection's buffers and window as small as they can be."""
    connection = _connection(me)
    for option in (socket.SO_RCVBUF, socket.SO_SNDBUF):
        connection.setsockopt(socket.SOL_SOCKET, option, 1)
    me.try_to(lambda: connection.setsockopt(socket.IPPROTO_TCP, _WINDOW_CLAMP, 1))
    me.say("x" * 5000)


@attack(EVERY, "The system's limits bound them.", reads=False)
def huge_buffers(me: Me) -> None:
    """A child makes its connection's buffers as large as they can be, and fills them."""
    connection = _connection(me)
    for option in (socket.SO_RCVBUF, socket.SO_SNDBUF):
        connection.setsockopt(socket.SOL_SOCKET, option, 1 << 30)
    _fill(connection)
    me.hold()


@attack(EVERY, "The system refuses it.")
def connection_under_repair(me: Me) -> None:
    """A child asks for TCP_REPAIR, in which a close would send nothing."""
    me.must_not_get("TCP_REPAIR", lambda: _connection(me).setsockopt(socket.IPPROTO_TCP, _REPAIR, 1))


@attack(EVERY, NO_CALL_BLOCKS)
def a_filter_that_drops_all(me: Me) -> None:
    """A child attaches a filter to its connection that drops every packet, and ends."""
    import ctypes

    drop = ctypes.create_string_buffer(struct.pack("HBBI", 6, 0, 0, 0))
    program = struct.pack("HP", 1, ctypes.addressof(drop))
    _connection(me).setsockopt(socket.SOL_SOCKET, _FILTER, program)
    me.say("done")


@attack(EVERY, "Its own client is cut off.")
def connection_taken_apart(me: Me) -> None:
    """A child shuts its connection down, and connects the socket to nowhere (AF_UNSPEC), and somewhere else."""
    import ctypes

    connection = _connection(me)
    connection.shutdown(socket.SHUT_RDWR)
    library = ctypes.CDLL(None, use_errno=True)
    library.connect(connection.fileno(), bytes(16), 16)
    me.try_to(lambda: connection.connect(("127.0.0.1", me.facts["port"])))
    me.try_to(lambda: connection.listen(5))


@attack(EVERY, "The system refuses it: the port is taken.")
def the_same_port(me: Me) -> None:
    """A child binds the service's port with SO_REUSEADDR and SO_REUSEPORT, and listens."""
    with socket.socket() as mine:
        mine.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        mine.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)

        def bind() -> None:
            mine.bind(("127.0.0.1", me.facts["port"]))
            mine.listen(5)

        me.must_not_get("the port", bind)


@attack(EVERY, "It has none: listeners are the supervisor's alone.")
def the_listener(me: Me) -> None:
    """A child looks for a listener among its descriptors, to accept from it or to shut it down."""
    for name in os.listdir("/proc/self/fd"):
        try:
            found = socket.socket(fileno=os.dup(int(name)))
            listens = found.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)
        except OSError:
            continue
        if listens:
            me.say("GOT a listener")


@attack(EVERY, "The system refuses it.")
def connections_of_others_destroyed(me: Me) -> None:
    """A child asks the kernel to end all connections of the service's port (SOCK_DESTROY)."""
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, _NETLINK_SOCK_DIAG) as kernel:
        body = struct.pack("=BBBBI", socket.AF_INET, socket.IPPROTO_TCP, 0, 0, 0xFFFFFFFF)
        body += struct.pack("!HH", me.facts["port"], 0) + bytes(32) + bytes(4) + b"\xff" * 8
        kernel.send(struct.pack("=IHHII", 16 + len(body), _DESTROY, 5, 1, 0) + body)
        kernel.settimeout(1)
        error = struct.unpack("=i", kernel.recv(4096)[16:20])[0]
        me.say(f"the kernel says {error}" if error else "GOT the connections of others")


@attack(EVERY, "Its own client is reset.", reads=False)
def reset_by_the_child(me: Me) -> None:
    """A child sets SO_LINGER to 0, so that the last close resets the connection, and ends."""
    _connection(me).setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


@attack(ONE, "It is served like anybody, and ends with its child.")
def a_client_of_itself(me: Me) -> None:
    """A child connects to its own service fifty times, and holds all."""
    held = [socket.create_connection(("127.0.0.1", me.facts["port"])) for _ in range(20)]
    me.hold()
    del held
