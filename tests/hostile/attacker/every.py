"""All attacks: whoever imports this has the whole table."""

from tests.hostile.attacker import channel, ending, files, hiding, limits, log, memory, reports, signals, sockets
from tests.hostile.attacker.base import TABLE, obey

SUBJECTS = (reports, channel, ending, hiding, signals, log, sockets, memory, limits, files)
"""The modules with attacks, by subject."""

__all__ = ["SUBJECTS", "TABLE", "obey"]
