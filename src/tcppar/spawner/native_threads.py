"""Which library a thread belongs to that Python knows nothing of, and whether that sees to forks by itself."""

from __future__ import annotations

import os
import sys

from tcppar.child.own_path import own

TYPE_CHECKING = False
if TYPE_CHECKING:
    Region = tuple[int, int, bool, str]
    """From, to, whether it is code, and the file."""

_POINTER = 8
# A thread that waits has a stack of some kilobytes; the C library keeps its own notes of the thread above it.
_LARGEST_STACK = 1 << 20
_C_LIBRARY = ("libc.", "libc-", "libpthread", "ld-", "ld.", "ld-musl")
# pthread_atfork(3) is a part of whoever calls it, in glibc and in musl, and this is what it calls in turn.
_AT_FORK = (b"__register_atfork", b"pthread_atfork")


def library_of(thread: int) -> str | None:
    """The file with the code that a thread was started to run; None if that cannot be seen.

    On the thread's stack the eldest address of code that is not the C library's is that of the function that it was
    started with.
    """
    try:
        with open(f"/proc/self/task/{thread}/syscall") as file:  # proc_pid_syscall(5)
            top = int(file.read().split()[-2], 16)
        regions = _regions()
        end = next(end for begin, end, _, _ in regions if begin <= top < end)
        with open("/proc/self/mem", "rb", buffering=0) as memory:
            stack = os.pread(memory.fileno(), min(end - top, _LARGEST_STACK), top)
    except (OSError, ValueError, IndexError, StopIteration):
        return None  # no such files, or they are not ours to read; or it does not wait in the system
    code = [region for region in regions if region[2] and not os.path.basename(region[3]).startswith(_C_LIBRARY)]
    for at in range(len(stack) - len(stack) % _POINTER - _POINTER, -1, -_POINTER):
        word = int.from_bytes(stack[at : at + _POINTER], sys.byteorder)
        if (found := next((region[3] for region in code if region[0] <= word < region[1]), None)) is not None:
            return found
    return None


def sees_to_forks(library: str) -> bool:
    """Whether a library has the C library call it at forks."""
    mmap = own("mmap")
    try:
        with open(library, "rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
            return any(content.find(name) >= 0 for name in _AT_FORK)
    except (OSError, ValueError):
        return False


def _regions() -> list[Region]:
    """What is mapped into this process (proc_pid_maps(5))."""
    found: list[Region] = []
    with open("/proc/self/maps") as maps:
        for line in maps:
            words = line.split(maxsplit=5)
            begin, end = (int(number, 16) for number in words[0].split("-"))
            file_name = words[5].strip() if len(words) > 5 else ""
            found.append((begin, end, "x" in words[1] and file_name.startswith("/"), file_name))
    return found
