"""Loading a Python handler, once, in the spawner that all its processes are forked from."""

from __future__ import annotations

import builtins
import importlib
import os
import sys
from _frozen_importlib_external import PathFinder

from tcppar.child.handlers import LATE, Handler
from tcppar.spawner.kinds import NotAHandler, kind_of
from tcppar.spawner.mentions import mentioned

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import ModuleType
    from typing import Any

_OURS = os.path.join(os.path.dirname(os.path.dirname(__file__)), "")


class CannotLoad(Exception):
    """The handler cannot be used; the text says what, where and what was expected."""

    def files(self) -> set[str]:
        """The files in which it went wrong, which may be of modules that now are not there."""
        found, error = set(), self.__cause__
        if isinstance(error, SyntaxError) and error.filename:
            found.add(error.filename)
        trace = error.__traceback__ if error is not None else None
        while trace is not None:
            found.add(trace.tb_frame.f_code.co_filename)
            trace = trace.tb_next
        return found


def load(target: str, import_path: Sequence[str], folder: str, preload: Sequence[str]) -> Handler:
    """Import what is to be preloaded, and the handler.

    One folder comes first on the path: that of the handler's file, as for `python file.py`; or `folder`, if a module
    of the handler's name is nowhere else. What is installed is never replaced by what somebody has put there.

    Args:
        target, import_path, folder, preload: as `records.HandlerPlan` has them.

    Raises:
        CannotLoad: it is not there, fails, is no handler, or has started a thread.
    """
    where, _, name = target.rpartition(":")
    file = _script(where, target) if where.endswith(".py") else None
    if file is not None:
        import_path = os.path.dirname(file), *import_path
    elif not _is_installed(where, import_path):
        import_path = folder, *import_path
    sys.path = list(import_path)
    with _ImportWatch() as watch:
        for module_name in preload:
            _import(module_name, f"preload {module_name}")
            watch.note(module_name)
        module = _import(where, f"handler {target}") if file is None else _from_file(file, target)
    watch.refuse_threads()
    called = _find(module, name, target)
    try:
        kind = kind_of(called)
    except NotAHandler as error:
        raise CannotLoad(f"handler {target}: {error}") from None
    return Handler(target, called, kind, mentioned(_users_modules(module.__name__), frozenset(LATE)))


def _users_modules(module_name: str) -> list[ModuleType]:
    """The modules of those who have written the handler: of its own package, and all that are not installed. A checkout
    of tcppar is not either, and speaks of everything."""
    package, files = module_name.partition(".")[0], set(sources())
    found = []
    for name, module in list(sys.modules.items()):
        its = name.partition(".")[0]
        if its == package or (its != "tcppar" and getattr(module, "__file__", None) in files):
            found.append(module)
    return found


def sources(failure: CannotLoad | None = None) -> tuple[str, ...]:
    """The files of all modules that are not of the interpreter's own or installed: those that somebody may edit.

    Args:
        failure: whose files are among them.
    """
    installed = (os.path.dirname(os.__file__) + os.sep, os.sep + "site-packages" + os.sep)
    files = {file for module in list(sys.modules.values()) if (file := getattr(module, "__file__", None))}
    if failure is not None:
        files |= failure.files()
    return tuple(sorted(file for file in files if os.path.isabs(file) and not any(part in file for part in installed)))


def _import(name: str, what: str) -> ModuleType:
    try:
        return importlib.import_module(name)
    except (Exception, SystemExit) as error:
        raise CannotLoad(f"{what}: {_account_of(error)}") from error


def _is_installed(module_name: str, import_path: Sequence[str]) -> bool:
    """Whether a module, or the package that it is in, is found without anything being run."""
    top = module_name.partition(".")[0]
    return top in sys.builtin_module_names or PathFinder.find_spec(top, list(import_path)) is not None


def _script(path: str, target: str) -> str:
    """The file itself. If it is a link, its folder is that of what it leads to, as Python has it for a script."""
    file = os.path.abspath(path)
    if not os.path.isfile(file):
        raise CannotLoad(f"handler {target}: {path!r}: no such file")
    while os.path.islink(file):
        file = os.path.normpath(os.path.join(os.path.dirname(file), os.readlink(file)))
    return file


def _from_file(file: str, target: str) -> ModuleType:
    """A module from a file, importable by others under the file's name."""
    module = _import(os.path.basename(file).removesuffix(".py"), f"handler {target}")
    if not (module.__file__ and os.path.samefile(module.__file__, file)):
        other = module.__file__ or "the interpreter"
        raise CannotLoad(f"handler {target}: the file has the name of another module, of {other}: give it another one")
    return module


def _account_of(error: BaseException) -> str:
    """An error in one line, with the place in the user's code that is nearest to it."""
    kind = type(error)
    name = kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"
    try:
        text = str(error.msg if isinstance(error, SyntaxError) else error)
    except Exception:  # noqa: BLE001 - it is a user's, and may do anything
        text = "(its text cannot be had)"
    account = f"{name}: {' '.join(text.split())}" if text else name
    if isinstance(error, SyntaxError):
        return f"{account} ({error.filename}, line {error.lineno})"
    place = _nearest_place(error)
    return account if place is None else f"{account} ({place})"


def _nearest_place(error: BaseException) -> str | None:
    """Where in the user's code it was raised last. (The traceback module is not needed for that, nor imported.)"""
    place, trace = None, error.__traceback__
    while trace is not None:
        file = trace.tb_frame.f_code.co_filename
        if "importlib" not in file and not file.startswith(_OURS):
            place = f"{file}, line {trace.tb_lineno}"
        trace = trace.tb_next
    return place


def _find(module: ModuleType, name: str, target: str) -> Any:
    found: Any = module
    for part in name.split("."):
        found = getattr(found, part, None)
    if found is None:
        where = getattr(module, "__file__", None) or module.__name__  # built-in modules have no file
        raise CannotLoad(f"handler {target}: {where} has no {name!r}")
    return found


class _ImportWatch:
    """Notes after which import there were more threads than before: forking copies one thread, and the locks of all."""

    def __init__(self) -> None:
        self._import = builtins.__import__
        self._known = self.threads()
        self._started_by: list[str] = []

    def threads(self) -> int:
        """How many there are besides the main one, those of libraries in C too where the system lists them."""
        try:
            return len(os.listdir("/proc/self/task")) - 1
        except OSError:
            return sys.modules["_thread"]._count()  # type: ignore[no-any-return]

    def __enter__(self) -> _ImportWatch:
        builtins.__import__ = self._watched
        return self

    def __exit__(self, *_: object) -> None:
        builtins.__import__ = self._import

    def _watched(
        self, name: str, globals: Any = None, locals: Any = None, fromlist: Any = (), level: int = 0
    ) -> ModuleType:
        try:
            return self._import(name, globals, locals, fromlist, level)
        finally:
            # An import within an import ends first, and so is the one that is noted. "from . import x" has no name.
            self.note(name or ", ".join(fromlist or ()))

    def note(self, name: str) -> None:
        """That was just imported."""
        if (now := self.threads()) > self._known:
            self._known = now
            self._started_by.append(name)

    def refuse_threads(self) -> None:
        """Raise CannotLoad if threads are there."""
        if not (count := self.threads()):
            return
        names = ", ".join(_thread_names()) or f"{count} of a library's"
        culprits = ", ".join(self._started_by)
        by = f"in the import of {culprits}" if culprits else "by the handler's own module"
        raise CannotLoad(
            f"threads run in the process that is to be forked: {names}, started {by}. A fork copies one thread and the "
            "locks of all: start threads in the handler, or not at all"
        )


def _thread_names() -> list[str]:
    threading = sys.modules.get("threading")
    if threading is None:
        return []
    return [repr(thread.name) for thread in threading.enumerate() if thread is not threading.main_thread()]
