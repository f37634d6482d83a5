"""The short form of ./run fuzz: each target for a moment, with the same choices each time."""

from collections.abc import Iterator

import pytest

from tcppar.spawner import zygote
from tests.conftest import unavailable
from tests.fuzz import building
from tests.fuzz.workshop import PYTHON_TARGETS, Workshop

SEED = 1
SECONDS = 1.0


@pytest.fixture(scope="module")
def workshop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workshop]:
    if not zygote.AVAILABLE:
        unavailable("the extension modules were not compiled")
    folder, findings = tmp_path_factory.mktemp("fuzz"), tmp_path_factory.mktemp("findings")
    try:
        yield Workshop(folder, findings)
    except building.NoSanitizers as error:
        unavailable(str(error))


@pytest.mark.parametrize("target", [*building.PROGRAMS, *PYTHON_TARGETS])
def test_nothing_is_found(target: str, workshop: Workshop) -> None:
    outcome = workshop.run(target, SECONDS, SEED)
    assert outcome.finding is None, f"{outcome.finding}: {outcome.reports}"
    assert int(outcome.said.split()[0]) > 0
