"""Importing for tcppar in a process that has its users' folders on the path.

Those folders stand before Python's own library, so that `import traceback` finds whatever somebody has put there
under this name. What a handler imports is its own affair. What is imported for us comes from where it was when this
process began: from Python's library, and from what is installed with tcppar.
"""

from __future__ import annotations

import sys
import warnings  # which the import system has loaded already

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_OWN = tuple(sys.path)


class OwnPath:
    """For a block, modules are looked for where they were when this process began."""

    __slots__ = ("_theirs",)

    def __enter__(self) -> None:
        self._theirs = sys.path
        # Another list, and not the same with other entries: somebody may be walking through it.
        sys.path = list(_OWN)

    def __exit__(self, *_: object) -> None:
        sys.path = self._theirs


def own(name: str) -> Any:
    """A module of tcppar's or of Python's own library, imported if it is not yet."""
    found = sys.modules.get(name)
    if found is None:
        with OwnPath():
            __import__(name)
        found = sys.modules[name]
    return found


def format_warnings_by_own_path() -> None:
    """Let what Python needs to show a warning (linecache, tracemalloc) be no affair of the handler's either."""
    format_it = warnings.formatwarning

    def formatted(*warning: Any) -> str:
        with OwnPath():
            return format_it(*warning)

    warnings.formatwarning = formatted  # type: ignore[assignment]
