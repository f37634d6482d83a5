"""Plain data, as a file or the books have them, to the types of the settings."""

from typing import Any, get_args, get_origin

import msgspec

from tcppar import wording
from tcppar.quantities import Text


def convert(value: object, kind: Any, place: str, mistakes: list[str]) -> Any:
    """Convert plain data to the type of a setting, each entry by itself, so that one mistake does not hide the next.

    Returns:
        None if it is a mistake. A table loses only its mistaken entries; of a list, the rest would mean something else.
    """
    plain = wording.plain_type(kind)
    if get_origin(plain) is dict and isinstance(value, dict):
        entry_kind = get_args(plain)[1]
        table = {name: convert(entry, entry_kind, f"{place}.{name}", mistakes) for name, entry in value.items()}
        return {name: entry for name, entry in table.items() if entry is not None}
    if get_origin(plain) is tuple and isinstance(value, list):
        entry_kind = get_args(plain)[0]
        entries = [convert(entry, entry_kind, f"{place}: entry {at}", mistakes) for at, entry in enumerate(value, 1)]
        return None if None in entries else tuple(entries)
    try:
        return _converted(value, kind)
    except (ValueError, RecursionError) as error:
        mistakes.append(f"{place}: {wording.mistake(value, kind, str(error))}")
        return None


def _converted(value: object, kind: Any) -> Any:
    if isinstance(value, str) and wording.plain_type(kind) is not Text and not reaches_the_system(value):
        raise ValueError("expected a string in UTF-8 without NUL")
    return msgspec.convert(value, kind, dec_hook=from_text)


def from_text(kind: type, value: object) -> object:
    """A value of a kind that is written as text: for msgspec, which does not know it (dec_hook)."""
    if kind not in wording.WRITTEN_AS_TEXT:
        raise NotImplementedError(kind)
    return kind(value)


def reaches_the_system(text: str) -> bool:
    """Whether a text can be a word, a path or a variable: C ends them with NUL, and spawners are told them in UTF-8."""
    try:
        return b"\0" not in text.encode()
    except UnicodeEncodeError:
        return False
