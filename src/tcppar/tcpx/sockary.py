"""SOCKARY: a set of sockets that are checked, or closed, together."""

from __future__ import annotations

import errno
import struct
from typing import TYPE_CHECKING

from tcppar.tcpx import status
from tcppar.tcpx.looking import look
from tcppar.tcpx.result import NO_SOCKET, Request, Result
from tcppar.tcpx.symbols import Flag, Opcode
from tcppar.tcpx.waiting import Wait, WouldBlock

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    Run = Callable[[Request], Result]

MOST_SOCKETS = 1024
ALL = 0
"""The index that stands for all sockets, or none."""
_HOLE = 0xFF_FFFF
_READY = 0xFF
_ENTRY = struct.Struct("<I")  # ST_SOCKARY: socket in three bytes, ready in one


class SockArray:
    """Up to 1024 sockets, each with an index from 1 on, that stays the same while it is open.

    Args:
        size: how many it has room for.

    Raises:
        ValueError: the size is not between 1 and 1024.
    """

    def __init__(self, size: int = MOST_SOCKETS) -> None:
        if not 1 <= size <= MOST_SOCKETS:
            raise ValueError(f"a sockary has room for 1 to {MOST_SOCKETS} sockets, not for {size}")
        self._sockets: list[int | None] = [None] * size
        self._ready: set[int] = set()
        self._last = ALL

    def __len__(self) -> int:
        """For how many sockets it has room."""
        return len(self._sockets)

    def __iter__(self) -> Iterator[int]:
        """The indexes of the sockets."""
        return (index for index in range(1, len(self) + 1) if self.socket(index) != NO_SOCKET)

    def __bytes__(self) -> bytes:
        """The array as A-Shell has it: four bytes each, a socket in three and its `ready`; at the end a zero."""
        entries = ((sock or 0) | self.ready(index) << 24 for index, sock in enumerate(self._sockets, 1))
        return b"".join(map(_ENTRY.pack, (*entries, 0)))

    def socket(self, index: int) -> int:
        """The number of a socket; -1 if there is none.

        Raises:
            IndexError: there is no such place.
        """
        if not 1 <= index <= len(self):
            raise IndexError(f"no index from 1 to {len(self)}: {index}")
        found = self._sockets[index - 1]
        return NO_SOCKET if found is None or found == _HOLE else found

    def ready(self, index: int) -> int:
        """255 if the last CHECK found it ready, else 0."""
        return _READY if index in self._ready else 0

    @property
    def is_full(self) -> bool:
        """Whether there is no room for another socket."""
        return None not in self._sockets and _HOLE not in self._sockets

    def add(self, sockport: int) -> int:
        """Put a socket into the first free place; its index.

        Raises:
            OSError: EMFILE: there is none.
        """
        for index in range(1, len(self) + 1):
            if self.socket(index) == NO_SOCKET:
                self._sockets[index - 1] = sockport
                return index
        raise status.error(errno.EMFILE)

    def remove(self, index: int) -> None:
        """Take a socket out, without closing it. A hole stays, for a zero would read as the end of the array."""
        self._sockets[index - 1] = _HOLE
        self._ready.discard(index)

    def note_ready(self, index: int, is_ready: bool) -> None:
        """Note what a CHECK of one socket has found."""
        (self._ready.add if is_ready else self._ready.discard)(index)

    def choose(self, ready: list[int]) -> int:
        """Note which are ready, and choose one of them in turn, so that no index is favoured; 0 if there is none."""
        self._ready = set(ready)
        if ready:
            self._last = min(ready, key=lambda index: (index <= self._last, index))
        return self._last if ready else ALL


def run_in_array(array: SockArray, index: int, request: Request, run: Run) -> Result:
    """Run a call whose socket stands in an array; the result's sockport is its index.

    A listener (ACCEPT without ASYNC) and a connection (CONNECT) are opened for the port in the request's sockport, and
    take the first free place. All other calls are for the socket with the index; CHECK and CLOSE for all, if it is 0.
    """
    if not 0 <= index <= len(array):
        return Result(status.of(status.error(errno.EINVAL), request.interrupted), sockport=index)
    if _is_for_a_port(request):
        return _run_and_add(array, request, run)
    if index == ALL and request.opcode == Opcode.TCPOP_CHECK:
        return _check_all(array, request)
    if index == ALL and request.opcode == Opcode.TCPOP_CLOSE:
        return _close_all(array, request, run)
    at_index = request._replace(sockport=array.socket(index) if index else NO_SOCKET)
    if request.opcode == Opcode.TCPOP_ACCEPT:
        return _accept_at(array, index, at_index, run)
    return _run_at(array, index, at_index, run)


def _is_for_a_port(request: Request) -> bool:
    if request.opcode == Opcode.TCPOP_ACCEPT:
        return bool(request.flags & Flag.TCPXFLG_LISTEN) or not request.flags & Flag.TCPXFLG_ASYNC
    return request.opcode in (Opcode.TCPOP_CONNECT, Opcode.TCPOP_CONNECT_GREETING)


def _run_and_add(array: SockArray, request: Request, run: Run) -> Result:
    """Run a call that opens a socket, if there is room for it."""
    if array.is_full:
        return Result(status.of(status.error(errno.EMFILE), request.interrupted), sockport=request.sockport)
    result = run(request)
    if result.sockport == NO_SOCKET or (result.status < 0 and request.opcode == Opcode.TCPOP_ACCEPT):
        return result  # a plain ACCEPT that failed has left the port there
    return result._replace(sockport=array.add(result.sockport))


def _accept_at(array: SockArray, index: int, request: Request, run: Run) -> Result:
    """Accept from the listener with the index, which goes from its place if it is closed then."""
    if array.is_full and request.flags & Flag.TCPXFLG_KEEPLISTEN:
        return Result(status.of(status.error(errno.EMFILE), request.interrupted), sockport=index)
    result = run(request)
    if result.status < 0:
        return result._replace(sockport=index)
    if not request.flags & Flag.TCPXFLG_KEEPLISTEN:
        array.remove(index)
    return result._replace(sockport=array.add(result.sockport))


def _run_at(array: SockArray, index: int, request: Request, run: Run) -> Result:
    result = run(request)
    if request.sockport != NO_SOCKET and result.sockport == NO_SOCKET:
        array.remove(index)
    elif request.opcode == Opcode.TCPOP_CHECK:
        array.note_ready(index, result.status > 0)
    return result._replace(sockport=index)


def _check_all(array: SockArray, request: Request) -> Result:
    """Wait for any of them. The status is how many are ready, the result's sockport one of these."""

    def find_ready() -> list[int]:
        ready: list[int] = []
        waits_for: dict[int, int] = {}
        for index in array:
            try:
                look(array.socket(index), request.eof)
            except WouldBlock as blocked:
                waits_for.update(blocked.waits_for)
                continue
            except OSError:
                pass  # whoever uses it will be told at once
            ready.append(index)
        if not ready:
            raise WouldBlock(waits_for)
        return ready

    try:
        ready = Wait(request.timer, request.interrupted).until_done(find_ready)
    except WouldBlock:
        ready = []
    except InterruptedError as error:
        return Result(status.of(error, request.interrupted), sockport=ALL)
    return Result(len(ready), sockport=array.choose(ready))


def _close_all(array: SockArray, request: Request, run: Run) -> Result:
    """Close all; the status is that of the first that failed, or 0."""
    statuses = [_run_at(array, index, request._replace(sockport=array.socket(index)), run).status for index in array]
    return Result(next((failed for failed in statuses if failed), 0), sockport=ALL)
