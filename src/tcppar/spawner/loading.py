"""Loading a Python handler, once, in the spawner that all its processes are forked from."""

from __future__ import annotations

import importlib
import os
import sys

from tcppar.child.handlers import LATE, SERVER, Handler
from tcppar.child.own_path import own
from tcppar.spawner import files, fresh_sources, site_packages
from tcppar.spawner.account import account_of
from tcppar.spawner.files import CannotLoad
from tcppar.spawner.import_watch import ImportWatch, ThreadsRun
from tcppar.spawner.kinds import NotAHandler, kind_of
from tcppar.spawner.mentions import mentioned

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from types import ModuleType
    from typing import Any


class Wanted:
    """What is to be loaded, as `records.HandlerPlan` has it.

    Args:
        plan: its fields by name.
    """

    def __init__(self, plan: Mapping[str, Any]) -> None:
        self.target: str = plan["target"]
        self.import_path: Sequence[str] = plan["import_path"]
        self.folder: str = plan["folder"]
        self.preload: Sequence[str] = plan["preload"]
        self.threads_allowed: bool = plan["threads_allowed"]
        self.runs_site: bool = plan["runs_site"]
        self.user_site: str = plan["user_site"]
        self.server_state: str = plan["server_state"]


def load(wanted: Wanted) -> Handler:
    """Import what is to be preloaded, and the handler.

    One folder comes first on the path: that of the handler's file, as for `python file.py`; or `folder`, if a module
    of the handler's name is nowhere else. What is installed is never replaced by what somebody has put there.

    Raises:
        CannotLoad: it is not there, fails, is no handler, or has started a thread.
    """
    target = wanted.target
    where, _, name = target.rpartition(":")
    fresh_sources.insist()
    sys.path = list(wanted.import_path)
    sys.argv = [where]
    with ImportWatch() as watch:
        if wanted.runs_site:
            site_packages.execute(wanted.user_site)
            watch.note("site")
        file = files.script(where, target) if where.endswith(".py") else None
        if file is not None:
            sys.path = [os.path.dirname(file), *sys.path]
        elif wanted.folder and not _is_installed(where):
            sys.path = [wanted.folder, *sys.path]
        for module_name in wanted.preload:
            _import(module_name, f"preload {module_name}")
            watch.note(module_name)
        module = _from_file(file, target) if file else _import(where, f"handler {target}", wanted.folder)
        watch.note()
    called = _find(module, name, target)
    try:
        kind = kind_of(called, by_server=bool(wanted.server_state))
        if wanted.server_state:
            kind, called = SERVER, _server_of(wanted.server_state, called, target)
        if not wanted.threads_allowed:
            watch.refuse_threads()
    except (NotAHandler, ThreadsRun) as error:
        raise CannotLoad(f"handler {target}: {error}") from None
    return Handler(target, called, kind, mentioned(_users_modules(module.__name__), frozenset(LATE)))


def _server_of(state: str, handler_class: Any, target: str) -> Any:
    """The copy of a program's server that calls its request handlers."""
    server_copy = own("tcppar.child.server_copy")  # and what it needs
    try:
        return server_copy.restore(state, handler_class)
    except server_copy.CannotRestore as error:
        raise CannotLoad(f"handler {target}: {error}: {account_of(error.__cause__ or error)}") from error
    except (Exception, SystemExit) as error:
        raise CannotLoad(f"handler {target}: its server: {account_of(error)}") from error


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


def _import(name: str, what: str, folder: str | None = None) -> ModuleType:
    """Import a module.

    Args:
        folder: of the handler's own module, where it is looked for if it is nowhere else; empty for nowhere.
    """
    try:
        return importlib.import_module(name)
    except BaseException as error:  # it is a user's module, and may do anything
        ends = "ends its process when it is imported: " if isinstance(error, SystemExit) else ""
        where = "" if folder is None else files.looked_in(error, name, folder)
        raise CannotLoad(f"{what}: {ends}{account_of(error)}{files.hidden_by(error)}{where}") from error


def _is_installed(module_name: str) -> bool:
    """Whether a module, or the package that it is in, is found without anything being run."""
    top = module_name.partition(".")[0]
    return any(finder.find_spec(top, None) is not None for finder in sys.meta_path)


def _from_file(file: str, target: str) -> ModuleType:
    """A module from a file, importable by others under the file's name."""
    module = _import(os.path.basename(file).removesuffix(".py"), f"handler {target}")
    found = getattr(module, "__file__", None)  # what is compiled into the interpreter has none
    if not (found and os.path.samefile(found, file)):
        other = found or "the interpreter"
        raise CannotLoad(f"handler {target}: the file has the same name as another module ({other}): rename it")
    return module


def _find(module: ModuleType, name: str, target: str) -> Any:
    found: Any = module
    for part in name.split("."):
        found = getattr(found, part, None)
    if found is None:
        where = getattr(module, "__file__", None) or module.__name__  # built-in modules have no file
        raise CannotLoad(f"handler {target}: {where} has no {name!r}")
    return found
