"""What somebody may have meant by a key that is no setting there."""

import resource
from collections.abc import Callable, Mapping, Set

from msgspec import Struct

from tcppar import wording
from tcppar.errors import shown
from tcppar.settings import ServerSettings, ServiceSettings

_OF_SERVICE = ServiceSettings.__struct_fields__
_OF_SERVER = ServerSettings.__struct_fields__
# The settings that are tables; whether an entry could be one.
_TABLES: dict[str, Callable[[str, object], bool]] = {
    "environment": lambda name, entry: isinstance(entry, str),
    "rlimits": lambda name, entry: hasattr(resource, f"RLIMIT_{name.upper()}"),
}
_IN_A_TABLE = "in a table [service.NAME]"
_AT_THE_TOP = "at the top of the file, before any table"


def reason(key: str, value: object, kind: type[Struct]) -> str:
    """What is wrong with a key, and what to write in its place if that can be guessed.

    Args:
        value: what stands there: of a table, the key is to be another.
        kind: the settings that may stand there, those of the server or of a service.
    """
    of_server = kind is ServerSettings
    if key in (_OF_SERVICE if of_server else _OF_SERVER):
        kind_of_it, place = ("service", _IN_A_TABLE) if of_server else ("server", _AT_THE_TOP)
        return f"this is a {kind_of_it} setting: put it {place}"
    if of_server and isinstance(value, dict):
        return _table(key, value)
    if key == "keep":
        return "this is not a setting, but a flag: tcppar serve --keep"
    known = (*_OF_SERVER, "service") if of_server else _OF_SERVICE
    if near := wording.nearest(key, known):
        return f"unknown setting; did you mean {near}?"
    if near := wording.nearest(key, _OF_SERVICE if of_server else _OF_SERVER):
        return f"unknown setting; did you mean {near}, {_IN_A_TABLE if of_server else _AT_THE_TOP}?"
    return "unknown setting"


def no_table(name: str, value: object) -> str:
    """What is wrong with what stands in the place of a service's table: often the service has no name."""
    if name in _OF_SERVICE:
        return f"this is a service setting: put it {_IN_A_TABLE}"
    return f"expected a table [service.{name}], not {shown(value)}"


def strays(key: str, value: object) -> dict[str, str]:
    """Settings of a service that stand below the line of one of its tables, `[service.NAME.environment]`, and so in it:
    what is wrong with each. What could be meant for the table is left alone.
    """
    if key not in _TABLES or not isinstance(value, dict):
        return {}
    told = f"this is a service setting: put it above the line [service.NAME.{key}]"
    return {name: told for name, entry in value.items() if name in _OF_SERVICE and not _TABLES[key](name, entry)}


def meant(table: Mapping[str, object], values: Mapping[str, object]) -> set[str]:
    """The settings of a service that somebody has meant to give, but mistakenly.

    Args:
        table: what stands in the file.
        values: what of it could be read.
    """
    found = set()
    for key, value in table.items():
        read = values.get(key)
        if key in _OF_SERVICE and (read is None or (isinstance(read, dict) and read.keys() != _entries(value))):
            found.add(key)  # of a table, some of its entries
        found |= strays(key, value).keys()
        if key not in _OF_SERVICE and (near := wording.nearest(key, _OF_SERVICE)):
            found.add(near)
    return found


def _entries(value: object) -> Set[object]:
    return value.keys() if isinstance(value, dict) else frozenset()


def _table(key: str, value: dict[str, object]) -> str:
    """Of a table at the top, where `service` is the only one."""
    if value and all(isinstance(entry, dict) for entry in value.values()):
        return f"unknown table: expected [service.{next(iter(value))}]"
    return f"unknown table: expected [service.{key}]"
