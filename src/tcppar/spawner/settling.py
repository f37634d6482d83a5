"""The last steps of a spawner before its first fork: what is left undone, each of its processes would do again."""

from __future__ import annotations

import _io
import gc

from tcppar.child import hooks, randomness
from tcppar.child.process import call_in_each

_BUFFERED = (_io.TextIOWrapper, _io.BufferedWriter, _io.BufferedRandom)


def settle() -> None:
    """Nothing is made or changed in this process after it."""
    _write_what_is_buffered()
    if randomness.find():
        call_in_each(randomness.renew)
    if hooks.are_there():
        call_in_each(hooks.start, hooks.stop)
    # What is there now is no garbage, and a collection in a child would only copy pages by looking at it.
    gc.collect()
    gc.freeze()


def _write_what_is_buffered() -> None:
    """What the handler's modules have printed, or written to files, and is not yet written. Each process has a copy of
    the buffer, and would write it with the first thing that it writes itself."""
    for found in gc.get_objects():
        if issubclass(type(found), _BUFFERED):
            try:
                found.flush()
            except (OSError, ValueError):
                pass  # closed, or for reading only, or a disk that is full
