"""What a handler's code speaks of, found without running it."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from types import CodeType, ModuleType


def mentioned(modules: Iterable[ModuleType], names: frozenset[str]) -> frozenset[str]:
    """Those of the names that stand in the modules' code, as an attribute or as a text (`getattr`)."""
    found: set[str] = set()
    for module in modules:
        if (code := _code_of(module)) is not None:
            _look(code, names, found)
    return frozenset(found)


def names_in(code: CodeType) -> set[str]:
    """All names of globals and attributes in some code."""
    inner = (constant for constant in code.co_consts if hasattr(constant, "co_names"))
    return set(code.co_names).union(*(names_in(part) for part in inner))


def _code_of(module: ModuleType) -> CodeType | None:
    """The code of all of the module, from where it was loaded."""
    get_code = getattr(getattr(module, "__loader__", None), "get_code", None)
    try:
        return None if get_code is None else get_code(module.__name__)
    except (ImportError, OSError, SyntaxError, ValueError, EOFError, TypeError):
        return None  # its file has changed, or is not there any more


def _look(code: CodeType, names: frozenset[str], found: set[str]) -> None:
    found |= names.intersection(code.co_names)
    for constant in code.co_consts:
        if isinstance(constant, str):
            if constant in names:
                found.add(constant)
        elif hasattr(constant, "co_names"):
            _look(constant, names, found)
