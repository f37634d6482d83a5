"""The name by which another process finds a Python handler: `module:name` or `path/file.py:name`."""

import os
import sys
from collections.abc import Callable
from importlib.machinery import PathFinder
from typing import Any

from tcppar.errors import ConfigurationError

_MAIN = "__main__"


def name_of(handler: Callable[..., object] | str, folder: str) -> str:
    """The value of the setting `handler` for a function or a class.

    The server is a process of its own, and its own processes import the handler: what cannot be found again by its
    name cannot be served.

    Args:
        handler: at the top level of a module, or of the program itself; or the setting's text already.
        folder: where the server's processes look for a module that is nowhere on the path.

    Raises:
        ConfigurationError: it is a lambda, is defined in a function, belongs to an object, or its module cannot be
            imported by another process, or another one would be.
    """
    if isinstance(handler, str):
        return handler
    name, module_name = getattr(handler, "__qualname__", None), getattr(handler, "__module__", None)
    if not isinstance(name, str) or not isinstance(module_name, str):
        raise _refusal(repr(handler), "is an object without a name")
    if "<lambda>" in name:
        raise _refusal(f"a lambda of {module_name}", "has no name")
    if "<locals>" in name:
        raise _refusal(f"{module_name}.{name}", "is defined inside a function and exists only while it runs")
    if _find(module_name, name) != handler:
        raise _refusal(f"{handler!r}", f"is not the object that is called {name} in {module_name}")
    if module_name == _MAIN:
        return f"{_importable_main(name)}:{name}"
    _refuse_if_hidden(module_name.partition(".")[0], folder)
    return f"{module_name}:{name}"


def module_of(value: Any) -> str:
    """The name of its module for other processes, of a class or a function of which `name_of` has a name."""
    module_name: str = value.__module__
    return main_module(value.__qualname__) if module_name == _MAIN else module_name


def main_module(name: str) -> str:
    """What other processes import to have what is called so in the program itself.

    Raises:
        ConfigurationError: they cannot.
    """
    main = _importable_main(name)
    return os.path.basename(main).removesuffix(".py") if os.path.isabs(main) else main


def _refusal(what: str, why: str) -> ConfigurationError:
    return ConfigurationError(
        [
            f"handler: {what} {why}; the server is a process of its own that imports its handler by name: expected a "
            'function or a class at the top level of a module, or a string "module:name" or "path/file.py:name"'
        ]
    )


def _find(module_name: str, name: str) -> Any:
    found: Any = sys.modules.get(module_name)
    for part in name.split("."):
        found = getattr(found, part, None)
    return found


def _importable_main(name: str) -> str:
    """The module, or the file, that another process imports to get what is the program itself here."""
    main = sys.modules[_MAIN]
    spec = main.__spec__
    if spec is not None and spec.name != _MAIN:
        return str(spec.name)  # python -m MODULE
    file: str | None = getattr(main, "__file__", None)
    if file is None or not os.path.isfile(file):
        raise _refusal(f"{name} of the program itself", "cannot be imported, because the program is not in a file")
    word, extension = os.path.splitext(os.path.basename(file))
    if extension != ".py" or "." in word or word == _MAIN or word in sys.stdlib_module_names:
        raise _refusal(
            f"{name} of the program itself", f"cannot be imported: {file} does not have a module name of its own"
        )
    return os.path.abspath(file)


def _refuse_if_hidden(package: str, folder: str) -> None:
    """Refuse a module that the path no longer leads to, if the folder has another one of that name: this program would
    see its server run other code than its own."""
    if PathFinder.find_spec(package) is not None:
        return
    found, loaded = PathFinder.find_spec(package, [folder]), getattr(sys.modules.get(package), "__spec__", None)
    # A folder without an __init__.py has no origin, and hides nothing.
    if found is None or loaded is None or found.origin is None or loaded.origin is None:
        return
    if os.path.realpath(found.origin) != os.path.realpath(loaded.origin):
        raise _refusal(loaded.origin, f"would not be imported; {found.origin} would")
