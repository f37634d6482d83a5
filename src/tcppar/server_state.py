"""What the processes of requests are told of a program's server: its class, and attributes that can be pickled."""

import base64
import io
import os
import pickle
import socketserver
import sys
from collections.abc import Collection
from types import FunctionType
from typing import Any

from tcppar.child.server_copy import ITSELF, State, found
from tcppar.errors import ConfigurationError
from tcppar.handler_name import main_module, module_of, name_of

CALLED = ("verify_request", "process_request", "finish_request", "handle_error", "shutdown_request", "close_request")
_LARGEST = 100_000
"""In characters: as a variable of the environment it can have 128 KiB (execve(2), MAX_ARG_STRLEN)."""


def state_of(server: socketserver.BaseServer, own: Collection[type], apart: Collection[str]) -> str:
    """What is passed to the server's process; empty where the request handler's class says it all.

    Args:
        own: classes of ours, which are not a user's.
        apart: attributes that are for the program's process alone.

    Raises:
        ConfigurationError: a method that is to be called for each request cannot be found by other processes, or it is
            all too large.
    """
    kind = _kind_of(type(server), own)
    attributes: dict[str, bytes] = {}
    missing: dict[str, str] = {}
    for name, value in vars(server).items():
        if name in apart:
            continue
        pickled = as_passed(server, name, value)
        if isinstance(pickled, bytes):
            attributes[name] = pickled
        else:
            missing[name] = pickled
    is_plain = not kind and isinstance(server.RequestHandlerClass, type)
    if is_plain and attributes.keys() | missing.keys() <= {"server_address", "RequestHandlerClass"}:
        return ""
    state: State = (kind, attributes, missing)
    text = base64.b85encode(pickle.dumps(state)).decode()
    if len(text) > _LARGEST:
        raise ConfigurationError(
            [
                f"{type(server).__qualname__}: its attributes are too large for the processes of its requests "
                f"({len(text)} bytes; the limit is {_LARGEST}): create what they need in their module"
            ]
        )
    return text


def as_passed(server: socketserver.BaseServer, name: str, value: object) -> bytes | str:
    """An attribute as the processes of requests get it, or why they cannot.

    Raises:
        ConfigurationError: they would call it, or a part of it, and cannot find it.
    """
    where = f"{type(server).__qualname__}.{name}"
    try:
        return _pickled(value, server)
    except _Unknown as error:
        raise ConfigurationError([f"{where}: {error}"]) from None
    except Exception as error:  # noqa: BLE001 - what is pickled is a user's, and may do anything
        if name in CALLED:
            raise ConfigurationError([f"{where}: cannot be passed to the processes of requests: {error}"]) from None
        return f"{type(error).__name__}: {error}"


def _kind_of(kind: type, own: Collection[type]) -> str:
    """The name of the nearest class of the user's that other processes can find; empty if there is none.

    What cannot be found and changes nothing in how requests are served, some settings, say, is passed over.
    """
    refusal: ConfigurationError | None = None
    for ancestor in kind.__mro__:
        if ancestor in own or ancestor.__module__ in (socketserver.__name__, "builtins"):
            continue
        try:
            name = _name(ancestor)
        except ConfigurationError as error:
            refusal = refusal or error
            if any(name in vars(ancestor) for name in CALLED):
                raise
            continue
        if refusal is not None and not issubclass(ancestor, tuple(own)):
            raise refusal  # it alone has this one and ours as bases
        return name
    return ""


def _name(kind: type) -> str:
    name_of(kind, os.getcwd())  # which refuses what cannot be found
    return f"{module_of(kind)}:{kind.__qualname__}"


class _Unknown(Exception):
    """A function or a class that no other process can find; the text says which, and what was expected."""


def _pickled(value: Any, server: socketserver.BaseServer) -> bytes:
    """As the copy has it.

    Raises:
        _Unknown: it has a function or a class that no other process can find.
        Exception: whatever pickling it raises.
    """
    try:
        return _written(value, server)
    except Exception:
        # An application, say, that its module has made and every process makes anew.
        if (place := _place_of(value)) is None:
            raise
        return _written(_Named(*place), server)


def _written(value: Any, server: socketserver.BaseServer) -> bytes:
    written = io.BytesIO()
    _Pickler(written, server).dump(value)
    return written.getvalue()


class _Named:
    """Stands for what is called so in a module."""

    def __init__(self, module_name: str, name: str) -> None:
        self._place = module_name, name

    def __reduce__(self) -> Any:
        return found, self._place


def _place_of(value: Any) -> tuple[str, str] | None:
    """The name of the module in which it stands at the top level, and its name there; None if it does in none."""
    for module_name in ("__main__", *sys.modules):
        for name, known in [*getattr(sys.modules.get(module_name), "__dict__", {}).items()]:
            if known is value:
                return (main_module(name) if module_name == "__main__" else module_name), name
    return None


class _Pickler(pickle.Pickler):
    """Knows the server itself, and names what is of the program by the module that other processes know it as."""

    def __init__(self, file: io.BytesIO, server: socketserver.BaseServer) -> None:
        super().__init__(file, pickle.HIGHEST_PROTOCOL)
        self._server = server

    def persistent_id(self, value: Any) -> Any:
        return ITSELF if value is self._server else None

    def reducer_override(self, value: Any) -> Any:
        if not isinstance(value, (FunctionType, type)):
            return NotImplemented  # as ever
        try:
            is_known = found(value.__module__, value.__qualname__) is value
        except (AttributeError, ImportError, TypeError):
            is_known = False
        if not is_known:
            raise _Unknown(
                f"{value.__module__}.{value.__qualname__} cannot be found by the processes of requests: expected "
                "functions and classes at the top level of a module"
            )
        return (found, (module_of(value), value.__qualname__)) if value.__module__ == "__main__" else NotImplemented
