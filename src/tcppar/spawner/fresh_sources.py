"""Importing what was saved just now as it is.

Python keeps the bytecode of a module with the source's time of change in whole seconds, and its size. Who saves twice
within a second, the same number of bytes, gets the former code for ever. So what is younger than two seconds is read
from its source, and no bytecode of it is kept.
"""

from __future__ import annotations

import time
from _frozen_importlib_external import SourceFileLoader

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

_YOUNG = 2.0

_path_stats = SourceFileLoader.path_stats


def insist() -> None:
    """From now on, in this process."""
    SourceFileLoader.path_stats = _stats_of_old  # type: ignore[method-assign]


def _stats_of_old(self: SourceFileLoader, path: str) -> Mapping[str, Any]:
    """As it was.

    Raises:
        OSError: the file is young. That means to the import system that nothing of its bytecode can be known.
    """
    stats = _path_stats(self, path)
    if stats["mtime"] > time.time() - _YOUNG:
        raise OSError("it was changed just now")
    return stats
