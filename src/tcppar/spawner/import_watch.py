"""Threads that are there after a handler's modules were imported: a fork copies one thread, and the locks of all.

Threads of a library in C that wait for work are another matter, where the library sees to forks (pthread_atfork(3)).
OpenBLAS ends its threads before each fork and starts them anew when they are needed; LLVM's OpenMP forgets them in the
child. GNU's OpenMP does nothing of the kind: who has used it before the fork, and uses it in the child, waits for ever.
"""

from __future__ import annotations

import builtins
import os
import sys
import time

from tcppar.spawner.native_threads import library_of, sees_to_forks

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import ModuleType
    from typing import Any

# Threads that are ending, because they were joined or because of a fork, are still listed for a moment.
_LONGEST_END = 0.5
_PAUSE = 0.01


class ThreadsRun(Exception):
    """The text says which, who has started them, and what to do."""


class ImportWatch:
    """Notes in which import there were more threads than before. For a block."""

    def __init__(self) -> None:
        self._import = builtins.__import__
        self._known = len(_threads())
        self._importing: list[str] = []
        self._started_by: list[str] = []

    def __enter__(self) -> ImportWatch:
        builtins.__import__ = self._watched
        return self

    def __exit__(self, *_: object) -> None:
        builtins.__import__ = self._import

    def _watched(
        self, name: str, globals: Any = None, locals: Any = None, fromlist: Any = (), level: int = 0
    ) -> ModuleType:
        # What is new already was started by whoever imports this: a library when it was loaded, say, of which the
        # first steps are imports.
        self._note()
        self._importing.append(_full_name(name, globals, fromlist, level))
        try:
            return self._import(name, globals, locals, fromlist, level)
        finally:
            self._note()
            self._importing.pop()

    def note(self, name: str = "") -> None:
        """This module was just imported, by no statement; empty for the handler's own."""
        self._importing = [name] if name else []
        self._note()
        self._importing = []

    def _note(self) -> None:
        now = len(_threads())
        if now > self._known:
            by = _in_words(self._importing)
            if by not in self._started_by:
                self._started_by.append(by)
        self._known = now

    def refuse_threads(self) -> None:
        """See whether threads are left that a fork would harm.

        Raises:
            ThreadsRun: there are.
        """
        left = _left_at_fork()
        if left:
            by = f"started {' and '.join(self._started_by)}" if self._started_by else "started before"
            raise ThreadsRun(f"threads are running in the process to be forked: {', '.join(left)}, {by}. {_REMEDY}")


_REMEDY = (
    "A fork copies only one thread, but the locks of all. Start threads in the handler or in a tcppar.on_start "
    "function (and import what starts them there), or have the library start none (for example, OMP_NUM_THREADS=1 in "
    '`environment`). If they hold nothing that the handler needs, set threads_at_fork = "allow"'
)


def _full_name(name: str, globals: Any, fromlist: Any, level: int) -> str:
    """What an import statement imports, by its whole name."""
    if level == 0:
        return name
    package = str((globals or {}).get("__package__") or "")
    for _ in range(level - 1):
        package = package.rpartition(".")[0]
    inner = name or ", ".join(fromlist or ())
    return f"{package}.{inner}" if package else inner


def _in_words(importing: list[str]) -> str:
    """By which import: that which somebody has written, and the module of the same package that was under way."""
    if not importing:
        return "by the handler's own module"
    inner = importing[-1]
    package = inner.partition(".")[0]
    outer = next(name for name in importing if name.partition(".")[0] == package)
    return f"in the import of {inner}" if outer == inner else f"in the import of {outer} ({inner})"


def _threads() -> list[int]:
    """Those besides the main one, by their number in the system where that lists them."""
    try:
        return [int(task) for task in os.listdir("/proc/self/task") if int(task) != os.getpid()]
    except OSError:
        return [0] * sys.modules["_thread"]._count()


def _left_at_fork() -> list[str]:
    """What is left in words, and would be harmed: threads of Python's, or of libraries that do not see to forks."""
    until = time.monotonic() + _LONGEST_END
    has_forked = False
    while threads := _threads():
        if names := _python_threads():
            return names
        if not has_forked:
            has_forked = True
            _fork_once()
        elif time.monotonic() >= until:
            return _harmed(threads)
        else:
            time.sleep(_PAUSE)
    return []


def _python_threads() -> list[str]:
    threading = sys.modules.get("threading")
    named = [] if threading is None else [thread for thread in threading.enumerate() if thread.is_alive()]
    names = [repr(thread.name) for thread in named if thread is not threading.main_thread()]  # type: ignore[union-attr]
    unnamed = sys.modules["_thread"]._count() - len(names)
    return names + ([f"{unnamed} of Python's without a name"] if unnamed > 0 else [])


def _fork_once() -> None:
    """Let libraries do what they do before a fork: some end their threads."""
    pid = os.fork()
    if pid == 0:
        os._exit(0)
    os.waitpid(pid, 0)


def _harmed(threads: list[int]) -> list[str]:
    libraries = [library_of(thread) for thread in threads]
    harmed = [library for library in libraries if library is None or not sees_to_forks(library)]
    return [
        f"{harmed.count(library)} of {'a library' if library is None else library}" for library in dict.fromkeys(harmed)
    ]
