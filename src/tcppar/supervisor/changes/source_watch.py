"""Noticing that the files of handlers have changed: for developing (`reload`).

The files are looked at twice a second. Linux could tell of changes by itself (inotify(7)), but not through Python's
standard library, and whoever develops notices no half second.
"""

import os
from collections.abc import Callable, Iterable

from tcppar.supervisor.core import Core

_PERIOD = 0.5

# What tells that a file is another: its time of change in nanoseconds, its size, its inode; None if it is gone.
_State = tuple[int, int, int] | None


class SourceWatch:
    """Watches files.

    Args:
        on_change: called once for each change that is noticed, however many files changed.
    """

    def __init__(self, core: Core, on_change: Callable[[], None]) -> None:
        self._core = core
        self._on_change = on_change
        self._known: dict[str, _State] = {}
        self._looking = False

    def watch(self, files: Iterable[str]) -> None:
        """Watch these files from now on, and no others. None at all ends the looking."""
        self._known = {file: self._known.get(file) or _state(file) for file in files}
        if self._known and not self._looking:
            self._looking = True
            self._look_later()

    def watch_too(self, files: Iterable[str]) -> None:
        """Watch these as well, if any are watched: one of them may have to be repaired."""
        if self._known:
            self.watch({*self._known, *files})

    def _look_later(self) -> None:
        self._core.timers.at(self._core.later(_PERIOD), self._look)

    def _look(self) -> None:
        if not self._known:
            self._looking = False
            return
        found = {file: _state(file) for file in self._known}
        changed, self._known = found != self._known, found
        if changed:
            self._on_change()
        self._look_later()


def _state(file: str) -> _State:
    try:
        found = os.stat(file)
    except (OSError, ValueError):
        return None  # gone; or what a handler's processes say is no name of a file: it has a NUL, say
    return found.st_mtime_ns, found.st_size, found.st_ino
