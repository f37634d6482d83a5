"""Inputs: how they are read as choices, and how they are made."""

import os
from collections.abc import Sequence
from random import Random
from typing import TypeVar

Choice = TypeVar("Choice")

_LARGEST = 4096
# First bytes of MessagePack's items, and sizes at their limits.
_TELLING = bytes.fromhex("00017f808f909fa0bfc0c1c2c3c4c6c7cacbcccfd0d3d4d9dbdcdddedfe0ff")


class Tape:
    """An input read as choices, one after the other. At its end every choice is the first."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    @property
    def is_over(self) -> bool:
        """Whether nothing is left of it."""
        return self._at >= len(self._data)

    def take(self, size: int) -> bytes:
        """So many bytes, fewer at the end."""
        taken = self._data[self._at : self._at + size]
        self._at += size
        return taken

    def below(self, limit: int) -> int:
        """A number from 0 up."""
        size = 1 if limit <= 256 else 4
        return int.from_bytes(self.take(size), "big") % limit

    def one_of(self, choices: Sequence[Choice]) -> Choice:
        """One of them."""
        return choices[self.below(len(choices))]

    def piece(self) -> bytes:
        """Some bytes."""
        return self.take(1 + self.below(40) * self.one_of((1, 1, 1, 8)))


def mutated(data: bytes, others: Sequence[bytes], random: Random) -> bytes:
    """An input like another one."""
    changed = bytearray(data)
    for _ in range(random.randint(1, 6)):
        at = random.randint(0, len(changed))
        match random.randrange(5):
            case 0:
                changed[at:at] = _some(random)
            case 1:
                del changed[at : at + random.randint(0, 8)]
            case 2:
                other = random.choice(others)
                start = random.randint(0, len(other))
                changed[at:at] = other[start : random.randint(start, len(other))]
            case 3:
                some = _some(random)
                changed[at : at + len(some)] = some
            case _ if at < len(changed):
                changed[at] ^= 1 << random.randrange(8)
    return bytes(changed[:_LARGEST])


def fresh(random: Random) -> bytes:
    """An input like no other."""
    return random.randbytes(random.choice((8, 40, 200, 800)))


def _some(random: Random) -> bytes:
    return bytes(random.choice(_TELLING) if random.random() < 0.5 else random.randrange(256) for _ in range(4))


def lowest_free() -> int:
    """The number that the next descriptor gets: a higher one than before if one is left open."""
    descriptor = os.dup(0)
    os.close(descriptor)
    return descriptor
