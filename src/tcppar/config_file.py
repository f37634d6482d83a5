"""Reading the configuration's file, whatever stands in its place: while the server serves, that must neither hold it up
nor end it.
"""

import errno
import os
import stat
import sys
import tomllib
from pathlib import Path

from tcppar.config import Config, from_tree
from tcppar.errors import ConfigurationError

LARGEST_FILE = 1 << 20
"""In bytes. The parser takes a second for it, in which nobody is accepted."""
MOST_DOTS = 10_000
"""In one line: the parser's time for a key grows with the square of its parts."""


def load(path: Path, *, again: bool = False) -> Config:
    """Read a configuration file.

    Args:
        again: whether a server that serves reads it. It must be a regular file then, for anything else can keep its
            reader waiting. Otherwise it may be a pipe (`-c /dev/stdin`).

    Raises:
        ConfigurationError: with every mistake of the file.
    """
    try:
        data = _read_regular(path) if again else _read_any(path)
    except OSError as error:
        raise ConfigurationError([f"{path}: cannot be read: {error.strerror}"]) from None
    if len(data) > LARGEST_FILE:
        raise ConfigurationError([f"{path}: is too large: expected at most {LARGEST_FILE} bytes"])
    try:
        text = data.decode().replace("\r\n", "\n")
    except UnicodeDecodeError as error:
        raise ConfigurationError([f"{path}: is not UTF-8: {error.reason} at byte {error.start}"]) from None
    for number, line in enumerate(text.split("\n"), 1):
        if line.count(".") > MOST_DOTS:
            raise ConfigurationError([f"{path}: line {number}: expected {MOST_DOTS} dots at the most"])
    try:
        tree = tomllib.loads(text)
    except RecursionError:
        raise ConfigurationError([f"{path}: is nested too deeply: expected tables of plain values and lists"]) from None
    except tomllib.TOMLDecodeError as error:
        raise ConfigurationError([f"{path}: is not TOML: {error}"]) from None
    except ValueError:
        # Python's own limit for the digits of a number; what it says of that is for programmers.
        digits = sys.get_int_max_str_digits()
        raise ConfigurationError([f"{path}: has a number of more than {digits} digits"]) from None
    return from_tree(tree, str(path))


def _read_any(path: Path) -> bytes:
    with open(path, "rb") as file:
        return file.read(LARGEST_FILE + 1)


def _read_regular(path: Path) -> bytes:
    # Not every file may be opened to see what it is: there are devices that do something then.
    if not stat.S_ISREG(os.stat(path).st_mode):
        raise OSError(errno.EINVAL, "it is not a regular file, and a running server reads nothing else")
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
    with open(descriptor, "rb") as file:
        before = os.fstat(descriptor)
        data = file.read(LARGEST_FILE + 1) if stat.S_ISREG(before.st_mode) else b""
        after = os.fstat(descriptor)
    if (before.st_mtime_ns, before.st_size) != (after.st_mtime_ns, after.st_size) or len(data) < min(
        after.st_size, LARGEST_FILE
    ):
        raise OSError(errno.EBUSY, "it changed while it was read")
    return data
