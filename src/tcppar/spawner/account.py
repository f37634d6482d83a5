"""An error of a user's module in one line: what, why and where."""

from __future__ import annotations

import os

from tcppar.child.process import text_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    pass

_LONGEST = 8000
"""In characters: as much as a report may have (`records.Sentence`), and some room."""
_OURS = os.path.join(os.path.dirname(os.path.dirname(__file__)), "")


def account_of(error: BaseException) -> str:
    """The error with all lines of its text, and the place in the user's code that is nearest to it; what it came of."""
    told, known = [], set[int]()
    cause: BaseException | None = error
    while cause is not None and id(cause) not in known:
        known.add(id(cause))
        told.append(_one(cause))
        cause = cause.__cause__ or (None if cause.__suppress_context__ else cause.__context__)
    return ", because of ".join(told)[:_LONGEST]


def _one(error: BaseException) -> str:
    account = f"{_kind(error)}: {text}" if (text := _text(error)) else _kind(error)
    if isinstance(error, SyntaxError):
        return f"{account} ({error.filename}, line {error.lineno})"
    if isinstance(error, BaseExceptionGroup):
        account = f"{account}: {'; '.join(_one(inner) for inner in error.exceptions)}"
    place = _nearest_place(error)
    return account if place is None else f"{account} ({place})"


def _kind(error: BaseException) -> str:
    kind = type(error)
    return kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"


def _text(error: BaseException) -> str:
    text = error.msg if isinstance(error, SyntaxError) else text_of(error)
    if isinstance(error, SystemExit) and error.code is None:
        text = ""
    notes = getattr(error, "__notes__", ())
    return " ".join(" ".join(text_of(part).split()) for part in (text, *notes))


def _nearest_place(error: BaseException) -> str | None:
    """Where in the user's code it was raised last. (The traceback module is not needed for that, nor imported.)"""
    place, trace = None, error.__traceback__
    while trace is not None:
        file = trace.tb_frame.f_code.co_filename
        if not file.startswith((_OURS, "<frozen")) and "importlib" not in file:
            place = f"{file}, line {trace.tb_lineno}"
        trace = trace.tb_next
    return place
