"""Real numpy in a handler, with the OpenBLAS of its wheel. It has to be fetched: TCPPAR_LONG_TESTS=1 asks for it."""

import json
import os
import subprocess
import sys
import venv
from pathlib import Path

import pytest

from tcppar.testing.subject import PACKAGE
from tests.support.other_python import served_by

TEXT = """
import json
import numpy

fresh, chosen = numpy.random.default_rng(), numpy.random.default_rng(42)
old_fresh, old_chosen = numpy.random.RandomState(), numpy.random.RandomState(42)
sources = (fresh.integers, old_fresh.randint, numpy.random.randint, chosen.integers, old_chosen.randint)
matrix = numpy.random.default_rng(1).random((300, 300))

def handle(conn):
    numbers = [int(source(1 << 30)) for source in sources]
    product = matrix @ matrix  # by several threads
    conn.write(json.dumps([*numbers, bool(numpy.isfinite(product).all())]).encode())
"""

pytestmark = [
    pytest.mark.skipif(os.environ.get("TCPPAR_LONG_TESTS") != "1", reason="TCPPAR_LONG_TESTS=1 asks for it"),
    pytest.mark.timeout(600),
]


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A virtual environment with numpy, and with what this one has."""
    folder = tmp_path_factory.mktemp("numpy")
    venv.create(folder, symlinks=True, with_pip=True)
    python = folder / "bin" / "python"
    words = [
        str(python),
        "-m",
        "pip",
        "install",
        "-q",
        "--disable-pip-version-check",
        "--only-binary",
        ":all:",
        "numpy",
    ]
    fetched = subprocess.run(words, capture_output=True, text=True, timeout=300, check=False)
    if fetched.returncode:
        pytest.skip(f"numpy cannot be fetched: {fetched.stderr.strip().splitlines()[-1:]}")
    [packages] = folder.glob("lib/*/site-packages")
    others = [entry for entry in sys.path if "site-packages" in entry] + [str(PACKAGE.parent)]
    (packages / "others.pth").write_text("\n".join(others))
    return python


@pytest.mark.parametrize("mode", ["fork", "pool"])
@pytest.mark.parametrize("portable", [False, True])
def test_numpy_is_imported_before_the_fork_and_works_after_it(
    python: Path, tmp_path: Path, mode: str, portable: bool
) -> None:
    (tmp_path / "app.py").write_text(TEXT)
    words = ["--handler", f"{tmp_path}/app.py:handle", "--mode", mode]
    told = served_by(python, words, tmp_path, portable=portable, times=4)
    *numbers, finite = zip(*map(json.loads, told), strict=True)
    assert finite == (True,) * 4
    assert [len(set(source)) for source in numbers[:3]] == [4, 4, 4]
    # A worker goes on where it was; which of them serves is not said.
    assert mode == "pool" or [len(set(source)) for source in numbers[3:]] == [1, 1]
