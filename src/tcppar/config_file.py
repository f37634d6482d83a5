"""Reading the configuration's file, or a folder of files, whatever stands in its place: while the server serves, that
must neither hold it up nor end it.
"""

import errno
import os
import select
import stat
import sys
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tcppar import toml_mistakes
from tcppar.config import Config, from_trees
from tcppar.errors import ConfigurationError

LARGEST_FILE = 1 << 20
"""In bytes. The parser takes a second for it, in which nobody is accepted."""
MOST_DOTS = 10_000
"""In one line: the parser's time for a key grows with the square of its parts."""
MOST_FILES = 1000
"""In a folder."""
SUFFIX = ".toml"
_PATIENCE = 10


def load(path: Path, *, again: bool = False) -> Config:
    """Read a configuration file, or all files `*.toml` of a folder together, in the order of their names.

    Args:
        again: whether a server that serves reads it. It must be regular files then, for anything else can keep its
            reader waiting. Otherwise it may be a pipe (`-c /dev/stdin`). In a folder there is nothing else in any case.

    Raises:
        ConfigurationError: with every mistake; those of the folder's files name the file.
    """
    files = _files(path)
    only_regular = again or files != [path]
    trees: dict[str, Mapping[str, Any]] = {}
    mistakes: list[str] = []
    room = LARGEST_FILE
    for file in files:
        try:
            data = _read(file, room, only_regular=only_regular)
            trees[_shown(file)] = _parsed(data, _shown(file))
            room -= len(data)
        except ConfigurationError as error:
            mistakes.extend(error.mistakes)
    if mistakes:
        raise ConfigurationError(mistakes)
    return from_trees(trees, _shown(path))


def _files(path: Path) -> list[Path]:
    """The files of a folder that packages and people mean to be read: neither hidden ones nor an editor's copies."""
    if not os.path.isdir(path):
        return [path]
    try:
        names = sorted(name for name in os.listdir(path) if name.endswith(SUFFIX) and not name.startswith("."))
    except OSError as error:
        raise ConfigurationError([f"{_shown(path)}: cannot be read: {error.strerror}"]) from None
    if not 1 <= len(names) <= MOST_FILES:
        found = f"this folder has {len(names)} files *{SUFFIX}: expected 1 to {MOST_FILES}"
        raise ConfigurationError([f"{_shown(path)}: {found}"])
    return [path / name for name in names]


def _shown(path: Path) -> str:
    """A path in messages, which are UTF-8, whatever bytes it has."""
    return os.fsencode(path).decode(errors="backslashreplace")


def _read(path: Path, room: int, *, only_regular: bool) -> bytes:
    where = _shown(path)
    try:
        data = _read_regular(path) if only_regular else _read_any(path)
    except OSError as error:
        raise ConfigurationError([f"{where}: cannot be read: {error.strerror}"]) from None
    if len(data) > room:
        together = "" if room == LARGEST_FILE else ", together with the files before it"
        raise ConfigurationError([f"{where}: is too large: expected at most {LARGEST_FILE} bytes{together}"])
    return data


def _parsed(data: bytes, where: str) -> dict[str, Any]:
    try:
        text = data.decode("utf-8-sig").replace("\r\n", "\n")
    except UnicodeDecodeError as error:
        raise ConfigurationError([f"{where}: is not UTF-8: {error.reason} at byte {error.start}"]) from None
    for number, line in enumerate(text.split("\n"), 1):
        if line.count(".") > MOST_DOTS:
            raise ConfigurationError([f"{where}: line {number}: expected at most {MOST_DOTS} dots"])
    try:
        return tomllib.loads(text)
    except RecursionError:
        reason = "is nested too deeply: expected tables of plain values and lists"
    except tomllib.TOMLDecodeError as error:
        reason = f"is not TOML: {toml_mistakes.in_words(str(error), text)}"
    except ValueError:
        # Python's own limit for the digits of a number; what it says of that is for programmers.
        reason = f"has a number of more than {sys.get_int_max_str_digits()} digits"
    raise ConfigurationError([f"{where}: {reason}"])


def _read_any(path: Path) -> bytes:
    # Of a FIFO that nobody writes to, the opening alone would wait for ever.
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
    with open(descriptor, "rb") as file:
        if stat.S_ISFIFO(os.fstat(descriptor).st_mode):
            return _read_pipe(descriptor)
        os.set_blocking(descriptor, True)
        return file.read(LARGEST_FILE + 1)


def _read_pipe(descriptor: int) -> bytes:
    data = bytearray()
    ready = select.poll()
    ready.register(descriptor, select.POLLIN)
    while len(data) <= LARGEST_FILE:
        if not ready.poll(_PATIENCE * 1000):
            raise OSError(errno.ETIMEDOUT, f"it is a pipe, and nothing was written to it for {_PATIENCE} s")
        if not (part := os.read(descriptor, LARGEST_FILE)):
            break
        data += part
    return bytes(data)


def _read_regular(path: Path) -> bytes:
    # Not every file may be opened to see what it is: there are devices that do something then.
    if not stat.S_ISREG(os.stat(path).st_mode):
        raise OSError(
            errno.EINVAL, "it is not a regular file, and nothing else is read from a folder or by a running server"
        )
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
    with open(descriptor, "rb") as file:
        before = os.fstat(descriptor)
        data = file.read(LARGEST_FILE + 1) if stat.S_ISREG(before.st_mode) else b""
        after = os.fstat(descriptor)
    if (before.st_mtime_ns, before.st_size) != (after.st_mtime_ns, after.st_size) or len(data) < min(
        after.st_size, LARGEST_FILE
    ):
        raise OSError(errno.EBUSY, "it changed while it was being read")
    return data
