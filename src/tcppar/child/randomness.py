"""Generators of random numbers that were made before a fork, and so would give the same numbers in every process.

The standard library's own sees to a fork itself, and so does OpenSSL; numpy does not. A generator that was seeded with
a number is left alone: its numbers are meant to be the same.
"""

from __future__ import annotations

import gc
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_NUMPY = "numpy.random"
# What numpy draws from the system is a number of 128 bits. What somebody has chosen is hardly ever that large.
_LARGEST_CHOSEN = 1 << 64

_found: list[Any] = []


def find() -> bool:
    """Find those of numpy's that were seeded by the system, before the first fork; whether numpy is there at all."""
    numpy = sys.modules.get(_NUMPY)
    if numpy is None:
        return False
    kind = numpy.BitGenerator
    _found[:] = (found for found in gc.get_objects() if issubclass(type(found), kind) and _is_fresh(found))
    return True


def renew() -> None:
    """Seed them anew, and numpy's own; in a process that was forked."""
    sys.modules[_NUMPY].seed()
    for generator in _found:
        generator.state = type(generator)().state


def _is_fresh(generator: Any) -> bool:
    seed = getattr(generator, "seed_seq", None) or getattr(generator, "_seed_seq", None)
    entropy = getattr(seed, "entropy", None)
    return isinstance(entropy, int) and entropy >= _LARGEST_CHOSEN
