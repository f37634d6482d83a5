"""What the keeper reads and writes of the books (ledger.py), which are the supervisor's: some bytes of the header."""

import os
import struct
import time

from tcppar.net import platform

CURRENT_AT = 8
"""Which place of the structure holds: 0 for none."""
BEGAN_AT = 9
"""Whether the supervisor of the moment has come to serve."""
PATIENCE = struct.Struct("<2d")
PATIENCE_AT = 88
"""How many seconds children have in a stop to end by themselves, and after SIGTERM."""

_MOST_TRIES = 5
_PAUSE = 0.05


class Cover:
    """What the keeper reads and writes of a ledger: a few bytes.

    It does not map the file. A mapping has a duplicate of the descriptor, which a forked process closes when it lets go
    of the object: in a table that all share, that was a descriptor of somebody else's by then.
    """

    def __init__(self, descriptor: int) -> None:
        self.descriptor = descriptor

    @property
    def has_structure(self) -> bool:
        """Whether any supervisor has come to serve."""
        return self._read(1, CURRENT_AT) != b"\0"

    @property
    def has_begun(self) -> bool:
        """Whether the supervisor of the moment has."""
        return self._read(1, BEGAN_AT) != b"\0"

    @property
    def patience(self) -> tuple[float, float]:
        """How many seconds children have in a stop to end by themselves, and after SIGTERM."""
        drain, kill = PATIENCE.unpack(self._read(PATIENCE.size, PATIENCE_AT))
        return drain, kill

    def _read(self, size: int, at: int) -> bytes:
        """Read, and again if that fails: memory that was swapped out may not be had at once (EIO), and a keeper that
        knows nothing any more would end everybody."""
        for _ in range(_MOST_TRIES):
            try:
                return os.pread(self.descriptor, size, at)
            except OSError:
                time.sleep(_PAUSE)
        return os.pread(self.descriptor, size, at)

    def let_reserve_go(self) -> None:
        """Close all other descriptors of the books: the reserve that the last supervisor has held for the next one
        (`Ledger.hold_reserve`), and what it has mapped them by.
        """
        for number in platform.open_descriptors() - {self.descriptor}:
            if os.path.sameopenfile(number, self.descriptor):
                os.close(number)

    def note_start(self) -> None:
        """Another supervisor begins."""
        os.pwrite(self.descriptor, b"\0", BEGAN_AT)
