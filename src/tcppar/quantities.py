"""Quantities as people write them: durations, sizes, modes, limits; and texts as the system has them."""

import os
import re
from decimal import Decimal
from typing import Self

_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_BYTES = {"": 1, "k": 1024, "m": 1024**2, "g": 1024**3}
_BOUNDS = re.compile(r"([0-9]{1,9})(?:-([0-9]{1,9}))?")
LARGEST_BOUND = 10_000
UNLIMITED = -1
LONGEST_DURATION = 36500 * _SECONDS["d"]
_ONE_UNIT = re.compile(r"([0-9]+(?:\.[0-9]+)?) ?(ms|s|m|h|d)?")
# Each unit once, the largest first; only the last number may have a fraction, and it needs a unit too: of "1h30" some
# mean minutes, and others seconds.
_UNITS = re.compile(
    r"(?:([0-9]+)d ?)?(?:([0-9]+)h ?)?(?:([0-9]+)m ?)?(?:([0-9]+(?:\.[0-9]+)?)s ?)?(?:([0-9]+)ms)?(?<! )"
)
_FORMS = 'a number of seconds, or numbers with the units d, h, m, s and ms, such as "30s", "1h30m", "1.5d" or "250ms"'
# What setrlimit(2) takes through Python.
LARGEST_LIMIT = 2**63 - 1


class Duration(float):
    """A time in seconds, written as `30`, `"30s"`, `"250ms"`, `"5m"`, `"1.5h"`, `"7d"`, or of several: `"1h30m"`.

    Raises:
        ValueError: it is none of these, negative, or longer than a hundred years.
    """

    def __new__(cls, value: object) -> Self:
        seconds = value if isinstance(value, (int, float)) and not isinstance(value, bool) else _parse_duration(value)
        if not 0 <= seconds <= LONGEST_DURATION:
            raise ValueError(f"{value!r} is not a duration: expected 0 or more, and no more than 100 years (36500d)")
        return super().__new__(cls, abs(seconds))

    def __str__(self) -> str:
        for unit, factor in reversed(_SECONDS.items()):
            if self >= factor and self % factor == 0:
                return f"{int(self // factor)}{unit}"
        return f"{Decimal(repr(float(self))).normalize():f}s"


def _parse_duration(value: object) -> float:
    if isinstance(value, str):
        if (one := _ONE_UNIT.fullmatch(value)) is not None:
            return float(one[1]) * _SECONDS[one[2] or "s"]
        if value and (several := _UNITS.fullmatch(value)) is not None:
            numbers = zip(several.groups(), reversed(_SECONDS.values()), strict=True)
            return sum(float(number) * seconds for number, seconds in numbers if number is not None)
    raise ValueError(f"{value!r} is not a duration: expected {_FORMS}")


class FileMode(int):
    """A file mode or mask, written as a text in octal: `"0027"`, or `"27"`.

    A number is none: of `27` nobody can tell whether it was meant to be octal, as for chmod(1), or decimal, as in TOML.

    Raises:
        ValueError: it is no text of octal digits, or above 0777.
    """

    def __new__(cls, value: object) -> Self:
        if not isinstance(value, str) or not re.fullmatch(r"(0o)?[0-7]{1,9}", value):
            quoted = "" if isinstance(value, str) else " in quotes"
            raise ValueError(f'{value!r} is not a file mode: expected octal digits{quoted}, like "0027"')
        if (mode := int(value, 8)) > 0o777:
            raise ValueError(f"{value!r}: expected 0777 at most: setuid, setgid and sticky bits have no effect here")
        return super().__new__(cls, mode)

    def __str__(self) -> str:
        return f"{int(self):04o}"


class Bounds(str):
    """The least and the most of something, written as `"2-16"`, or as a number where both are the same.

    Attributes:
        least: 1 or more.
        most: not below `least`, and not above LARGEST_BOUND: whoever asks for more means something else.

    Raises:
        ValueError: it is neither, or the bounds are the wrong way round.
    """

    __slots__ = ("least", "most")

    least: int
    most: int

    def __new__(cls, value: object) -> Self:
        found = _BOUNDS.fullmatch(str(value)) if isinstance(value, (str, int)) and not isinstance(value, bool) else None
        least = int(found[1]) if found else 0
        most = int(found[2] or least) if found else 0
        if not 1 <= least <= most <= LARGEST_BOUND:
            expected = f'a number, or two such as "2-16", from 1 to {LARGEST_BOUND}, the smaller one first'
            raise ValueError(f"{value!r} is not a range: expected {expected}")
        self = super().__new__(cls, str(least) if least == most else f"{least}-{most}")
        self.least, self.most = least, most
        return self


class Limit(int):
    """A resource limit: a number, a size like `"64M"`, or `"unlimited"` (-1).

    Raises:
        ValueError: it is none of these, or too large for the system.
    """

    def __new__(cls, value: object) -> Self:
        number = _parse_limit(value) if isinstance(value, str) else value
        if not isinstance(number, int) or isinstance(number, bool) or not UNLIMITED <= number <= LARGEST_LIMIT:
            expected = 'a number, a size in K, M or G such as "64M", or "unlimited", below 2**63'
            raise ValueError(f"{value!r} is not a limit: expected {expected}")
        return super().__new__(cls, number)

    def __str__(self) -> str:
        return "unlimited" if self == UNLIMITED else format(int(self))


class ResourceLimit(str):
    """A resource limit as setrlimit(2) takes it: a `Limit` for both its values, or two as `"1024:524288"`.

    Attributes:
        soft: what is in force.
        hard: up to what the process may raise it.

    Raises:
        ValueError: it is neither, or the soft limit is above the hard one.
    """

    __slots__ = ("hard", "soft")

    soft: int
    hard: int

    def __new__(cls, value: object) -> Self:
        soft, colon, hard = value.partition(":") if isinstance(value, str) else (value, "", "")
        first = Limit(soft)
        last = Limit(hard) if colon else first
        if last != UNLIMITED and not 0 <= first <= last:
            raise ValueError(f"{value!r} is not a limit: expected the soft limit first, and not above the hard one")
        self = super().__new__(cls, f"{first}:{last}" if colon else f"{first}")
        self.soft, self.hard = int(first), int(last)
        return self


class Text(str):
    """A text as the system has it: any bytes without NUL. What is not UTF-8 in them is kept as Python keeps it, when it
    comes from the command line (os.fsdecode).

    Attributes:
        plain: the text, or the bytes if they are not UTF-8.

    Raises:
        ValueError: it is no text, or has a NUL.
    """

    __slots__ = ()

    def __new__(cls, value: object) -> Self:
        if not isinstance(value, (str, bytes)):
            raise ValueError("expected a string")
        try:
            raw = os.fsencode(value)
        except UnicodeEncodeError:
            raw = b"\0"
        if b"\0" in raw:
            raise ValueError(f"{value!r}: expected a string without NUL")
        return super().__new__(cls, os.fsdecode(raw))

    @property
    def plain(self) -> str | bytes:
        try:
            self.encode()
        except UnicodeEncodeError:
            return os.fsencode(self)
        return str(self)


def _parse_limit(text: str) -> int | None:
    if text == "unlimited":
        return UNLIMITED
    match = re.fullmatch(r"([0-9]{1,19})([kmg]?)", text.lower())
    return int(match[1]) * _BYTES[match[2]] if match else None
