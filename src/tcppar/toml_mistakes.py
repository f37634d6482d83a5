"""What is wrong with a text that is not TOML, in the words of whoever has written a configuration."""

import re
import tomllib

# Where a text without quotes stands, tomllib finds one of these: it has read the word's first digits as a number, or
# none of it.
_OF_A_VALUE = ("Invalid value", "Expected newline or end of document after a statement", "Unclosed ")
_LINE = re.compile(r"at line ([0-9]+)")
_NAME_IN_PYTHON = re.compile(r"\(('[^)]*?),?\)")
_IN_QUOTES = re.compile(r""""(?:\\.|[^"\\])*"|'[^']*'""")
_KEY = re.compile(r"""[^\s,{=]+\s*=""")
_WORD = re.compile(r"""[^\s,\[\]{}="']+""")
_TRUTH = {"true": "true", "yes": "true", "on": "true", "false": "false", "no": "false", "off": "false"}
_LONGEST_LINE = 1000


def in_words(error: str, text: str) -> str:
    """What tomllib says of a text, and the remedy if it can be guessed."""
    said = _NAME_IN_PYTHON.sub(lambda name: f"[{name[1].replace(chr(39), '').replace(', ', '.')}]", error)
    said = said.replace("Cannot overwrite a value", "A key stands twice")
    word = _unquoted(_line(error, text)) if error.startswith(_OF_A_VALUE) else None
    if word is None:
        return said
    if truth := _TRUTH.get(word.lower()):
        return f"{said}: {word}: expected {truth}"
    return f'{said}: {word}: put the string in quotes: "{word}"'


def _line(error: str, text: str) -> str:
    found = _LINE.search(error)
    lines = text.rstrip().split("\n")
    return lines[min(int(found[1]), len(lines)) - 1] if found else lines[-1]


def _unquoted(line: str) -> str | None:
    """The first word of a line that stands for no value, because it is a text and should stand in quotes."""
    values = _KEY.sub(" ", _IN_QUOTES.sub(" ", line[:_LONGEST_LINE]).partition("#")[0])
    return next((word for word in _WORD.findall(values) if not _is_value(word)), None)


def _is_value(word: str) -> bool:
    try:
        tomllib.loads(f"x = {word}")
    except (ValueError, RecursionError):
        return False
    return True
