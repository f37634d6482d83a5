"""What a handler imports after the fork, which every one of its processes then pays for: found out, and told.

The import system asks a finder only for modules that are not loaded. So nothing is looked at where nothing is imported.
"""

from __future__ import annotations

import sys
import time

from tcppar.child.process import say

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any


class LateImports:
    """A finder that finds nothing, and takes the time of what the others find (`sys.meta_path`).

    Args:
        target: what the configuration calls the handler.
        is_first: whether none of the handler's processes has told of a module; from then on one has.
    """

    def __init__(self, target: str, is_first: Callable[[str], bool]) -> None:
        self._target = target
        self._is_first = is_first
        self._importing = False
        self.found: list[tuple[str, float]] = []

    def watch(self) -> None:
        """From now on."""
        sys.meta_path.insert(0, self)

    def find_spec(self, name: str, path: object = None, target: object = None) -> Any:
        """As importlib's finders. What a module itself imports belongs to it."""
        if self._importing:
            return None
        began = time.perf_counter()
        self._importing = True
        spec = None
        try:
            spec = _find(self, name, path, target)
            if spec is not None:
                self._take_time(name, spec.loader, began)
        finally:
            if spec is None:
                self._importing = False
        return spec

    def _take_time(self, name: str, loader: Any, began: float) -> None:
        execute = getattr(loader, "exec_module", None)
        if execute is None or isinstance(loader, type):
            # Built in, or a folder without code: nothing is executed that would take time.
            self._importing = False
            return

        def execute_timed(module: object) -> None:
            del loader.exec_module
            try:
                execute(module)
            finally:
                self._importing = False
            self.found.append((name, time.perf_counter() - began))

        loader.exec_module = execute_timed

    def tell(self) -> None:
        """Write what was found to the log, each module once."""
        found, self.found = self.found, []
        for name, seconds in _in_one(found):
            if self._is_first(name):
                say(
                    f"handler {self._target}: imports {name} in the process of a connection, in "
                    f"{seconds * 1000:.1f} ms: to import it only once, before the fork, set "
                    f'preload = ["{name}"]'
                )


def _find(us: LateImports, name: str, path: object, target: object) -> Any:
    for finder in sys.meta_path:
        find: Any = getattr(finder, "find_spec", None)
        if finder is not us and find is not None and (spec := find(name, path, target)) is not None:
            return spec
    return None


def _in_one(found: list[tuple[str, float]]) -> list[tuple[str, float]]:
    """`import a.b` imports a and then a.b: as the latter, with the time of both."""
    told: list[tuple[str, float]] = []
    for name, seconds in found:
        if told and name.startswith(f"{told[-1][0]}."):
            seconds += told.pop()[1]
        told.append((name, seconds))
    return told
