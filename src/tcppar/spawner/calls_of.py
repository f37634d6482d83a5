"""Whether a call with a connection can succeed, as far as that is known without it: by the arguments that are taken."""

from __future__ import annotations

import sys
from types import (
    BuiltinFunctionType,
    ClassMethodDescriptorType,
    FunctionType,
    MethodDescriptorType,
    WrapperDescriptorType,
)

from tcppar.child.calling import Call

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

# Flag of a class (object.h, Py_TPFLAGS_IS_ABSTRACT).
_IS_ABSTRACT = 1 << 20
_IN_C = (BuiltinFunctionType, MethodDescriptorType, WrapperDescriptorType, ClassMethodDescriptorType)


def refusal(call: Call, found: Any) -> str | None:
    """Why it must fail, as what is to be said of what is called; None if it need not.

    Args:
        call: of `found`, which can be called and is no class.
    """
    if call.function is not None:
        return call.misfit()
    if isinstance(call.what, _IN_C) and (name := _pythons_own(call.what)):
        return f"is {name}, a function of Python itself, which knows nothing of connections"
    return None if _binds(found, call.arguments) else f"cannot be called with one argument ({found!r})"


def _pythons_own(function: Any) -> str | None:
    """The name of a function in C that belongs to Python's own library, or to one of its classes; None of any other.
    One of somebody's own module can be a handler."""
    owner = getattr(function, "__objclass__", function)
    module = getattr(owner, "__module__", None) or ""
    return f"{module}.{function.__qualname__}" if module.partition(".")[0] in sys.stdlib_module_names else None


def _binds(found: Any, arguments: int) -> bool:
    import inspect  # it is large, and only for what is neither Python's function nor a partial one of it

    try:
        signature = inspect.signature(found)
    except (TypeError, ValueError):
        return True  # it does not tell
    try:
        signature.bind(*(None,) * arguments)
    except TypeError:
        return False
    return True


def refusal_of_class(made: Call) -> str | None:
    """Why no object of a request handler class can be made as socketserver does it; None if one can, or may.

    Args:
        made: a call of the class, perhaps by functools.partial.
    """
    found = made.what
    if found.__flags__ & _IS_ABSTRACT:
        lacks = ", ".join(sorted(found.__abstractmethods__))
        return f"the class is abstract: it lacks {lacks}: expected one that has all of its methods"
    begin = found.__init__
    if type(found).__call__ is not type.__call__ or found.__new__ is not object.__new__:
        return None
    if not isinstance(begin, FunctionType):
        return None
    made.arguments += 1  # the object
    misfit = made.misfit_of(begin)
    return misfit and f"__init__ {misfit}: expected one that can be called with a request, an address and a server"
