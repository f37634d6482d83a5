"""MessagePack as the C unpacks it, against msgspec."""

from datetime import datetime
from typing import Any

import msgspec

from tcppar.spawner import _zygote

_DEEPEST = 32
_REFUSED = object()
# The first bytes of extension types. One can be there and not be seen: a name that stands twice in a map has one value.
_EXTENSIONS = frozenset((0xC7, 0xC8, 0xC9, *range(0xD4, 0xD9)))


def execute(data: bytes) -> None:
    """What the one takes, the other does, but for what the C says that it does not."""
    ours, theirs = _ours(data), _theirs(data)
    if ours is _REFUSED:
        unseen = not _EXTENSIONS.isdisjoint(data)
        assert theirs is _REFUSED or unseen or not _is_for_us(theirs, 0), f"{theirs!r} is refused"
    else:
        assert repr(ours) == repr(_as_tuples(theirs)), f"{ours!r} is not {theirs!r}"


def _ours(data: bytes) -> Any:
    try:
        return _zygote.unpack(data)
    except ValueError:
        return _REFUSED


def _theirs(data: bytes) -> Any:
    try:
        return msgspec.msgpack.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError, TypeError):
        return _REFUSED


def _parts(value: Any) -> list[Any]:
    if isinstance(value, dict):
        return [*value, *value.values()]
    return list(value) if isinstance(value, list | tuple) else []


def _is_for_us(value: Any, depth: int) -> bool:
    """Whether there is no extension type in it, and it is no deeper than anything of ours."""
    if isinstance(value, msgspec.msgpack.Ext | datetime):
        return False
    if isinstance(value, dict | list | tuple):
        return depth < _DEEPEST and all(_is_for_us(part, depth + 1) for part in _parts(value))
    return True


def _as_tuples(value: Any) -> Any:
    if isinstance(value, dict):
        return {_as_tuples(name): _as_tuples(part) for name, part in value.items()}
    return tuple(map(_as_tuples, value)) if isinstance(value, list | tuple) else value
