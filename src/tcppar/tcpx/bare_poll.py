"""poll(2) itself, which fails with EINTR when a signal comes, as Python's select.poll never does (PEP 475)."""

import ctypes
import os
from collections.abc import Mapping


class _PollFd(ctypes.Structure):
    _fields_ = (("fd", ctypes.c_int), ("events", ctypes.c_short), ("revents", ctypes.c_short))


_LIBC = ctypes.CDLL(None, use_errno=True)


def bare_poll(waits_for: Mapping[int, int], limit: int) -> bool:
    """Whether one of the descriptors is ready within `limit` milliseconds. Signal handlers run after it.

    Raises:
        InterruptedError: a signal came that this thread has handled.
        OSError: as poll(2).
    """
    entries = (_PollFd * len(waits_for))(*(_PollFd(descriptor, events) for descriptor, events in waits_for.items()))
    ready = int(_LIBC.poll(entries, ctypes.c_ulong(len(waits_for)), ctypes.c_int(limit)))
    if ready < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return ready > 0
