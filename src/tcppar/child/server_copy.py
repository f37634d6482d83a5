"""A copy of a program's server of socketserver's, for request handlers: what they find as `self.server`.

The server is an object of another process, in which it listens and accepts. Here is one of the same class, with those
of its attributes that can be pickled (`server_state.py`), as they were when it began to serve.
"""

from __future__ import annotations

import base64
import io
import pickle
import sys
from importlib import import_module

from tcppar.child.request_handlers import named_by_address

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

State = tuple[str, dict[str, bytes], dict[str, str]]
"""The name of a server's class, `module:name`, empty for none of a user's; its attributes, each pickled; and why others
are not among them."""
ITSELF = "the server"
"""Stands for the server where one of its attributes refers to it, a bound method, say."""
MISSING = "_tcppar_missing"
"""The attribute of a copy that has the reasons."""


class CannotRestore(Exception):
    """An attribute cannot be had here; the text names it. Its cause says why."""


def restore(text: str, handler_class: Any) -> Any:
    """The copy.

    Args:
        text: what is known of the server, a State, pickled and in base 85.
        handler_class: if no other is in it.

    Raises:
        CannotRestore: something of it fails in this process.
    """
    state: State = pickle.loads(base64.b85decode(text))
    name, attributes, missing = state
    kind = found(*name.rsplit(":", 1)) if name else _Server
    copy = kind.__new__(kind)
    vars(copy).update({MISSING: missing, "RequestHandlerClass": handler_class})
    for attribute, pickled in attributes.items():
        try:
            vars(copy)[attribute] = _Unpickler(pickled, copy).load()
        except (Exception, SystemExit) as error:
            raise CannotRestore(f"the server's attribute {attribute}") from error
    return copy


class _Unpickler(pickle.Unpickler):
    def __init__(self, pickled: bytes, server: Any) -> None:
        super().__init__(io.BytesIO(pickled))
        self._server = server

    def persistent_load(self, what: Any) -> Any:
        return self._server


def found(module_name: str, name: str) -> Any:
    """What is called so in a module, which is imported if it is not yet."""
    inner: Any = sys.modules.get(module_name) or import_module(module_name)
    for part in name.split("."):
        if not hasattr(inner, part):
            raise AttributeError(
                f"{module_name} has no {name!r} when the processes of requests import it: expected it at the top "
                'level, and not below `if __name__ == "__main__":`'
            )
        inner = getattr(inner, part)
    return inner


def is_copy(server: Any) -> bool:
    """Whether this is one."""
    return MISSING in vars(server)


def explain(server: Any, name: str) -> str | None:
    """Why a copy has no such attribute; None if nothing is known of it."""
    reason: str | None = vars(server).get(MISSING, {}).get(name)
    return reason and f"self.server.{name} cannot be passed to the request's process: {reason}"


class _Server:
    """Where a program's server is of no class of the user's."""

    RequestHandlerClass: Callable[..., object]

    def verify_request(self, request: object, client_address: object) -> bool:
        return True

    def process_request(self, request: object, client_address: object) -> None:
        self.RequestHandlerClass(request, client_address, self)

    def shutdown_request(self, request: object) -> None:
        """Nothing: the connection is ended anyway."""

    def handle_error(self, request: object, client_address: object) -> None:
        raise  # noqa: PLE0704 - what is being handled

    def __getattr__(self, name: str) -> object:
        if (reason := explain(self, name)) is not None:
            raise AttributeError(reason)
        return named_by_address(self, name)
