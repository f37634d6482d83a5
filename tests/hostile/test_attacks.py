"""The attacks of the table, by what tries them: a few at once, and alone those that meddle with others of their user's.

TCPPAR_HOSTILE_EACH=1 tries each alone, to find which one of a few it was.
"""

import os
from collections.abc import Iterator

import pytest

from tests.conftest import unavailable
from tests.hostile import page, promises
from tests.hostile.arena import Arena
from tests.hostile.attacker import channel, every, reports
from tests.hostile.attacker.base import TABLE, Attack, Mode
from tests.hostile.services import users

_AT_ONCE = 1 if os.environ.get("TCPPAR_HOSTILE_EACH") == "1" else 12


def _groups(attacks: list[Attack]) -> Iterator[list[Attack]]:
    """Few enough that clients do not wait for the processor."""
    together = [attack for attack in attacks if not attack.alone]
    yield from (together[at : at + _AT_ONCE] for at in range(0, len(together), _AT_ONCE))
    yield from ([attack] for attack in attacks if attack.alone)


def _cases() -> list[object]:
    found: list[object] = []
    for subject in every.SUBJECTS:
        name = subject.__name__.rpartition(".")[2]
        of_subject = [attack for attack in TABLE.values() if attack.deed.__module__ == subject.__name__]
        for mode in Mode:
            for count, group in enumerate(_groups([attack for attack in of_subject if mode in attack.modes]), 1):
                which = group[0].name if len(group) == 1 else str(count)
                # Without a keeper, reports are read in another way.
                for keep in (True, False) if subject in (reports, channel) else (True,):
                    title = f"{name}-{which}-{mode.value}-{'kept' if keep else 'alone'}"
                    found.append(pytest.param(keep, group, mode, id=title))
    return found


@pytest.mark.parametrize(("arena", "attacks", "mode"), _cases(), indirect=["arena"])
def test_nobody_else_is_harmed(arena: Arena, attacks: list[Attack], mode: Mode) -> None:
    """The promises that hold for all."""
    if users() is None and not (attacks := [attack for attack in attacks if not attack.another_user]):
        unavailable("only where root serves as another user can the server be kept from its children")
    promises.hold_after(arena, attacks, mode)


def test_every_attack_is_told() -> None:
    """Each has a sentence and says what holds, and the page of them is up to date."""
    assert page.FILE.read_text(encoding="utf-8") == page.page(), "run python -m tests.hostile.page"
    assert len(TABLE) >= 40
    assert all(attack.sentence and attack.holds for attack in TABLE.values())
    assert {attack.deed.__module__ for attack in TABLE.values()} == {subject.__name__ for subject in every.SUBJECTS}
