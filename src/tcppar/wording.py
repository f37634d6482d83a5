"""What a setting may be, in words: for the reference, and for whoever has written something else."""

import difflib
import json
import shlex
from collections.abc import Iterator, Sequence
from enum import EnumType
from types import NoneType, UnionType
from typing import Annotated, Any, Union, get_args, get_origin

from msgspec import Meta

from tcppar.errors import shown
from tcppar.net.address import Address
from tcppar.quantities import Bounds, Duration, FileMode, Limit, ResourceLimit, Text

WRITTEN_AS_TEXT = (Address, Bounds, Duration, FileMode, Limit, ResourceLimit, Text)
"""Kinds that say themselves what is wrong with a text."""
_WRITTEN_AS_NUMBER = (Bounds, Duration, FileMode, Limit, ResourceLimit)

_LIMIT = 'a number, a size in K, M or G such as `"64M"`, or `"unlimited"`, or two of these such as `"1024:524288"`'
_WORDS: dict[Any, str] = {
    bool: "`true` or `false`",
    str: "string",
    Text: "string",
    Address: "address",
    Duration: "duration: a number of seconds, or numbers with the units `d`, `h`, `m`, `s` and `ms`, such as "
    '`"30s"`, `"1h30m"`, `"1.5d"` or `"250ms"`',
    Bounds: 'one number, or two such as `"2-16"`',
    Limit: 'a number, a size in K, M or G such as `"64M"`, or `"unlimited"`',
    FileMode: 'file mode: an octal string such as `"0027"`',
    tuple[str, ...]: "list of strings",
    tuple[Text, ...]: "list of strings",
    tuple[Address, ...]: "list of addresses",
    dict[str, Text]: "table of names and strings",
    ResourceLimit: _LIMIT,
    dict[str, ResourceLimit]: f"table of names and limits; a limit is {_LIMIT}",
}
_TRUTH = ("true", "false")
# Below this, what is nearest is mostly something else: `tls_cert` is like `user` in half of its letters.
_LEAST_LIKENESS = 0.75
_FEWEST_LETTERS = 3
_LONGEST_COMPARED = 64


def in_words(hint: Any) -> str:
    """The type of a setting as one writes it in a file, in Markdown."""
    plain = plain_type(hint)
    if isinstance(plain, EnumType):
        return "one of " + ", ".join(f'`"{member}"`' for member in list[str](plain))
    return f"whole number{_bounds(hint)}" if plain is int else _WORDS[plain]


def plain_type(hint: Any) -> Any:
    """The type of a setting without its annotations and without None."""
    while get_origin(hint) in (Annotated, Union, UnionType):
        hint = next(part for part in get_args(hint) if part is not NoneType)
    return hint


def _bounds(hint: Any) -> str:
    """What the annotations of a number say of its range."""
    lowest = next((meta.ge for meta in _annotations(hint) if meta.ge is not None), None)
    highest = next((meta.le for meta in _annotations(hint) if meta.le is not None), None)
    if highest is not None:
        return f" from {lowest} to {highest}"
    return "" if lowest is None else f", {lowest} or more"


def _annotations(hint: Any) -> Iterator[Meta]:
    for part in get_args(hint):
        if isinstance(part, Meta):
            yield part
        else:
            yield from _annotations(part)


def mistake(value: object, hint: Any, reason: str) -> str:
    """What is wrong with a value of a setting, and what was expected.

    Args:
        hint: the setting's type, with its annotations.
        reason: what was said of the value where it was refused. It counts where the value is of a type that the setting
            may have, for then it is about this value; otherwise it is about types of Python's.
    """
    found, plain = shown(value), plain_type(hint)
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    says_itself = (str, *WRITTEN_AS_TEXT) if isinstance(value, str) else _WRITTEN_AS_NUMBER if is_number else ()
    if plain in says_itself:
        return reason if reason.startswith(found) else f"{found}: {reason}"
    if isinstance(plain, EnumType):
        return f"{found}: expected one of {', '.join(list[str](plain))}"
    words = in_words(hint).replace("`", "")
    article = "" if words.startswith(("one ", "true ", "a ")) else "an " if words.startswith("a") else "a "
    return f"{found}: expected {article}{words}{_correction(value, plain)}"


def _correction(value: object, plain: Any) -> str:
    """How the value is written if it was meant as it seems."""
    if plain in (str, Text, Address) and isinstance(value, (int, float)) and not isinstance(value, bool):
        return f', in quotes: "{shown(value)}"'
    if isinstance(value, str) and ((plain is int and value.isdecimal()) or (plain is bool and value in _TRUTH)):
        return ", without quotes"
    if get_origin(plain) is tuple and isinstance(value, str) and len(value) <= _LONGEST_COMPARED:
        return f": [{', '.join(json.dumps(word, ensure_ascii=False) for word in _split(value))}]"
    return ""


def _split(text: str) -> list[str]:
    try:
        return shlex.split(text) or [text]
    except ValueError:
        return [text]  # a quotation mark stands alone


def nearest(word: str, known: Sequence[str]) -> str | None:
    """Which of the known words was meant, if one is near enough: some letters wrong, or its beginning alone."""
    word = word[:_LONGEST_COMPARED]
    if near := difflib.get_close_matches(word, known, n=1, cutoff=_LEAST_LIKENESS):
        return near[0]
    begun = [one for one in known if one.startswith(word)] if len(word) >= _FEWEST_LETTERS else []
    return begun[0] if len(begun) == 1 else None
