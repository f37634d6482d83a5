"""The arenas: one server for many attacks, and another one when it was harmed."""

from collections.abc import Iterator

import pytest

from tests.hostile.arena import Arena
from tests.hostile.services import users


class Arenas:
    """The one in use, of each kind."""

    def __init__(self) -> None:
        self._open: dict[bool, Arena] = {}

    def of(self, *, keep: bool) -> Arena:
        """One that is as it should be."""
        if keep not in self._open:
            self._open[keep] = arena = Arena(keep=keep)
            arena.let_honest_ones_come()
        return self._open[keep]

    def close(self) -> None:
        """Close all."""
        while self._open:
            self._open.popitem()[1].close()


@pytest.fixture(scope="module")
def arenas() -> Iterator[Arenas]:
    """Those of a file: their clients are threads of this process, in which other tests exchange what modules call."""
    all_of_them = Arenas()
    yield all_of_them
    all_of_them.close()


@pytest.fixture
def arena(request: pytest.FixtureRequest, arenas: Arenas) -> Iterator[Arena]:
    """A server under attack; after a test that has failed, the next one gets another server."""
    if users() is None:
        pytest.skip("the server of an ordinary user is within reach of its children: docs/security.md")
    failed = request.session.testsfailed
    yield arenas.of(keep=request.param)
    if request.session.testsfailed > failed:
        arenas.close()
