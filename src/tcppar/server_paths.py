"""Where a server finds the modules of the program that has started it."""

import os
import site
import sys
import sysconfig
from collections.abc import Sequence

from tcppar import import_path


def paths() -> dict[str, str]:
    """Variables that say where handlers look for modules first, and where the server finds tcppar if it would not by
    itself."""
    path = _import_path()
    found = {import_path.OF_A_PROGRAM: os.pathsep.join(path)}
    if (ours := os.path.dirname(os.path.dirname(import_path.__file__))) in path:
        found["PYTHONPATH"] = os.pathsep.join(filter(None, [os.environ.get("PYTHONPATH"), ours]))
    return found


def _import_path() -> Sequence[str]:
    """Where this program finds modules, but for the folders of Python's own, which the server finds by itself."""
    own = {*sysconfig.get_paths().values(), *site.getsitepackages(), site.getusersitepackages()}
    library = sysconfig.get_path("stdlib") + os.sep
    entries = [import_path.absolute(entry) for entry in sys.path if isinstance(entry, str) and os.pathsep not in entry]
    return [entry for entry in entries if entry not in own and not entry.startswith(library) and os.path.exists(entry)]
