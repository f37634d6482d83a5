"""Where modules are looked for: tcppar's own, and those of handlers. They are two different paths.

Python puts the folder of a command first on its path, or the working directory (`python -m`), and then the folders of
PYTHONPATH, all of them before its own library. Whoever can write a file there could have the server, which may be
root's, run it: by the name of a module that is imported an hour later. So the server looks only where things are
installed; what else there is on the path is for handlers.

This imports nothing that Python has not loaded at its start.
"""

import os
import sys
from _frozen_importlib_external import PathFinder

OF_A_PROGRAM = "TCPPAR_IMPORT_PATH"
"""The variable by which a Python program tells the server that it starts where its handlers look first."""

OF_A_SERVER = "TCPPAR_SERVER_STATE"
"""The variable by which it tells what the processes of requests have as `self.server` (`server_state.py`)."""

_DEPENDENCIES = ("tcppar", "click", "msgspec", "psutil")

_of_handlers: tuple[str, ...] = ()


def keep_to_installed() -> None:
    """Let this process import only what is installed, from now on. What a handler's path is was noted before."""
    global _of_handlers
    _of_handlers = of_handlers()
    before, installed = sys.path, _installed()
    for name in _DEPENDENCIES:
        # `pip install --target`, and a checkout: it stands in a folder that somebody has put on the path. It comes
        # last there, so that it has no word in where Python's own modules come from.
        if PathFinder.find_spec(name, installed) is None and (folder := _folder_of(name, before)) is not None:
            installed.append(folder)
    sys.path = installed


def of_handlers() -> tuple[str, ...]:
    """The path of handlers, as `python -P` has it: no folder of a command and no working directory. Absolute.

    What stands in PYTHONPATH counts from the directory in which the server was started. An empty entry there, which
    Python takes for the working directory, mostly comes from a variable that was not set (`/opt/lib:$PYTHONPATH`), and
    is left out.
    """
    if _of_handlers:
        return _of_handlers
    given = os.environ.get(OF_A_PROGRAM)
    first = _words() if given is None else given.split(os.pathsep)
    return (*first, *(entry for entry in _installed() if entry not in first))


def site_of_server() -> tuple[bool, str]:
    """Whether this Python has executed what is installed to be executed at its start (site), and the folder of that
    which the user has installed for himself; empty if it is not looked at."""
    site = sys.modules.get("site")
    if site is None or sys.flags.no_site:
        return False, ""
    return True, (site.USER_SITE or "") if site.ENABLE_USER_SITE else ""


def _words() -> list[str]:
    """What stands on the path before Python's own library: the entries of PYTHONPATH."""
    text = os.environ.get("PYTHONPATH")
    named = text.split(os.pathsep) if text else []
    meant = set(_absolute_ones(named))
    unmeant = {absolute(".")} - meant if "" in named else set()
    return [entry for entry in _absolute_ones(_safe_path()[: _library_at()]) if entry not in unmeant]


def _installed() -> list[str]:
    return _absolute_ones(_safe_path()[_library_at() :])


def _absolute_ones(entries: list[str]) -> list[str]:
    return [found for entry in entries if entry and (found := absolute(entry))]


def absolute(path: str) -> str:
    """A path from the root; empty if it counts from a working directory that has been removed: then nothing is there.

    A server whose directory goes away is to go on, and to be reloaded, upgraded and recovered.
    """
    try:
        return os.path.abspath(path)
    except FileNotFoundError:
        return ""


def _safe_path() -> list[str]:
    return sys.path[0 if sys.flags.safe_path else 1 :]


def _library_at() -> int:
    """Where Python's own library begins in the path: with the archive of it, or its folder."""
    folder = os.path.dirname(os.__file__)
    own = folder, os.path.join(os.path.dirname(folder), f"python{sys.version_info[0]}{sys.version_info[1]}.zip")
    path = _safe_path()
    return next((place for place, entry in enumerate(path) if entry in own), len(path))


def _folder_of(package: str, path: list[str]) -> str | None:
    found = PathFinder.find_spec(package, path)
    places = list(found.submodule_search_locations or ()) if found is not None else []
    return os.path.dirname(os.path.abspath(places[0])) if places else None
