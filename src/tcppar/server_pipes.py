"""What goes between a program and the server that it starts."""

import fcntl
import os
from contextlib import ExitStack
from typing import IO

FIRST_PASSED = 3  # SD_LISTEN_FDS_START, sd_listen_fds(3)


def pipe(childs: ExitStack, *, childs_end: int = 1) -> tuple[IO[bytes], IO[bytes]]:
    """A pipe, of which the end that is the server's is closed here with the stack."""
    reader, writer = (beyond_standard(number) for number in os.pipe())
    ends = os.fdopen(reader, "rb"), os.fdopen(writer, "wb", buffering=0)
    childs.enter_context(ends[childs_end])
    return ends


def beyond_standard(number: int) -> int:
    """A descriptor in its place above 2: where this program has closed those below, a pipe gets their numbers, and the
    server would get something else there."""
    if number >= FIRST_PASSED:
        return number
    moved: int = fcntl.fcntl(number, fcntl.F_DUPFD_CLOEXEC, FIRST_PASSED)
    os.close(number)
    return moved
