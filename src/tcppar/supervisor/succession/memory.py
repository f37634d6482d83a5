"""The file in memory that the books are in."""

import os
import tempfile

from tcppar.policy import faults

MAGIC = b"tcppar-1"
SLOTS_AT = 1 << 25
"""Where the slots of connections begin."""
SLOT_SIZE = 1024
_FIRST_SLOTS = 4096


def new_books() -> int:
    """The descriptor of a new ledger, with nothing in it. It crosses no exec unless it is told to.

    Raises:
        OSError: the system is short of something.
    """
    descriptor = _nameless_file()
    try:
        os.truncate(descriptor, SLOTS_AT + _FIRST_SLOTS * SLOT_SIZE)
        os.pwrite(descriptor, MAGIC, 0)
    except OSError:
        os.close(descriptor)
        raise
    return descriptor


def _nameless_file() -> int:
    try:
        if hasattr(os, "memfd_create"):
            return os.memfd_create("tcppar", os.MFD_CLOEXEC)
    except OSError as error:
        if error.errno not in faults.FORBIDDEN:
            raise
    with tempfile.TemporaryFile(prefix="tcppar-") as file:
        return os.dup(file.fileno())
