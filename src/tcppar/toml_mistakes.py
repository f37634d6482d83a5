"""What is wrong with a text that is not TOML, in the words of whoever has written a configuration."""

import re
import tomllib

from msgspec.structs import fields

from tcppar import wording
from tcppar.settings import ServerSettings, ServiceSettings

# Where a text without quotes stands, tomllib finds one of these: it has read the word's first digits as a number, or
# none of it.
_OF_A_VALUE = ("Invalid value", "Expected newline or end of document after a statement", "Unclosed ")
_TWICE = "Cannot overwrite a value"
# Other ways to define something twice, of which tomllib tells the name.
_IN_OTHER_WORDS = {
    re.compile(r"Duplicate inline table key '(.*)'"): r"The key \1 appears twice",
    re.compile(r"Cannot redefine namespace"): r"A second time",
    re.compile(r"Cannot mutate immutable namespace"): r"Defined as a whole already:",
}
_LINE = re.compile(r"at line ([0-9]+)")
_NAME_IN_PYTHON = re.compile(r"\(('[^)]*?),?\)")
_IN_QUOTES = re.compile(r""""(?:\\.|[^"\\])*"|'[^']*'""")
_KEY = re.compile(r"""[^\s,{=]+\s*=""")
_FIRST_KEY = re.compile(r"""\s*((?:"(?:\\.|[^"\\])*"|'[^']*'|[^"'=\[{#])+?)\s*=""")
_WORD = re.compile(r"""[^\s,\[\]{}="']+""")
_TRUTH = {"true": "true", "yes": "true", "on": "true", "false": "false", "no": "false", "off": "false"}
_OF_TRUTH = {
    field.name
    for kind in (ServerSettings, ServiceSettings)
    for field in fields(kind)
    if wording.plain_type(field.type) is bool
}
_LONGEST_LINE = 1000
# How far the beginning of a value is looked for from its end, in lines.
_LONGEST_VALUE = 50


def in_words(error: str, text: str) -> str:
    """What tomllib says of a text, and the remedy if it can be guessed."""
    if error.startswith(_TWICE):
        return _twice(error, text)
    said = _NAME_IN_PYTHON.sub(lambda name: f"[{name[1].replace(chr(39), '').replace(', ', '.')}]", error)
    for pattern, words in _IN_OTHER_WORDS.items():
        said = pattern.sub(words, said)
    line = _line(error, text)
    word = _unquoted(line) if error.startswith(_OF_A_VALUE) else None
    if word is None:
        return said
    if (truth := _TRUTH.get(word.lower())) and _first_key(line) in _OF_TRUTH:
        return f"{said}: {word}: expected {truth}"
    return f'{said}: {word}: put the string in quotes: "{word}"'


def _twice(error: str, text: str) -> str:
    """Which key appears twice. tomllib tells where its second value ends, which may be lines below the key."""
    lines = [line[:_LONGEST_LINE] for line in text.rstrip().split("\n")]
    found = _LINE.search(error)
    last = min(int(found[1]), len(lines)) if found else len(lines)
    for first in range(last, max(last - _LONGEST_VALUE, 0), -1):
        key = _first_key(lines[first - 1]) or _header(lines[first - 1])
        if key and _is_toml("\n".join(lines[first - 1 : last])):
            return f"{key} appears twice (at line {first})"
    return error.replace(_TWICE, "A key appears twice")


def _line(error: str, text: str) -> str:
    found = _LINE.search(error)
    lines = text.rstrip().split("\n")
    return lines[min(int(found[1]), len(lines)) - 1] if found else lines[-1]


def _unquoted(line: str) -> str | None:
    """The first word of a line that stands for no value, because it is a text and should stand in quotes."""
    values = _KEY.sub(" ", _IN_QUOTES.sub(" ", line[:_LONGEST_LINE]).partition("#")[0])
    return next((word for word in _WORD.findall(values) if not _is_value(word)), None)


def _first_key(line: str) -> str:
    """The key that a line begins with; empty if it begins otherwise."""
    found = _FIRST_KEY.match(line[:_LONGEST_LINE])
    return found[1] if found else ""


def _header(line: str) -> str:
    return line.strip() if line.lstrip().startswith("[") else ""


def _is_value(word: str) -> bool:
    return _is_toml(f"x = {word}")


def _is_toml(text: str) -> bool:
    try:
        tomllib.loads(text)
    except (ValueError, RecursionError):
        return False
    return True
