"""Fixtures for all tests: programs compiled once, tools required or skipped for."""

import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import NoReturn

import pytest

from tcppar.spawner import zygote
from tcppar.testing.processes import allow_descriptors
from tests.support import surroundings
from tests.support.command import Serve, killed_afterwards
from tests.support.server import Server

HERE = Path(__file__).parent


def pytest_configure() -> None:
    surroundings.settle()


@pytest.fixture(scope="session", autouse=True)
def _nothing_is_left(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """No test leaves a process, or a temporary file beside its own folder, which stays for a look at it."""
    tmp_path_factory.getbasetemp()
    with surroundings.nothing_is_left():
        yield


def tool(name: str) -> str:
    """Path of a program of the system's; the test is skipped without it, and fails where none may be skipped."""
    return shutil.which(name) or unavailable(f"{name} is not installed")


def unavailable(reason: str) -> NoReturn:
    """Skip the test, for something that this system has not; fail it where none may be skipped."""
    if os.environ.get("TCPPAR_REQUIRE_TOOLS") == "1":
        pytest.fail(f"{reason}, and TCPPAR_REQUIRE_TOOLS=1 lets no test be skipped")
    pytest.skip(reason)


@pytest.fixture(scope="session")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> Callable[[Path], Path]:
    """Compiles a C source into a static program, once a session."""
    folder = tmp_path_factory.mktemp("programs")
    made: dict[Path, Path] = {}

    def compile_one(source: Path) -> Path:
        if source not in made:
            program = folder / source.stem
            subprocess.run([tool("gcc"), "-O2", "-Wall", "-Werror", "-static", "-o", program, source], check=True)
            made[source] = program
        return made[source]

    return compile_one


@pytest.fixture
def echo(compiled: Callable[[Path], Path]) -> Path:
    """A tiny C program: answers what it reads, to the end."""
    return compiled(HERE / "children" / "echo.c")


@pytest.fixture(scope="session")
def many_descriptors() -> None:
    """As many descriptors as tests with many connections need can be open."""
    if not allow_descriptors(surroundings.DESCRIPTORS):
        unavailable(f"fewer than {surroundings.DESCRIPTORS} descriptors may be open (ulimit -n)")


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A folder that every user can read: neither `tmp_path` nor a checkout of root's need be one."""
    with tempfile.TemporaryDirectory() as name:
        os.chmod(name, 0o755)
        yield Path(name)


@pytest.fixture
def compiled_loop() -> None:
    """The spawner of handlers has its loop in C."""
    if not zygote.AVAILABLE:
        unavailable("the loop was not compiled: the one in Python is used")


@pytest.fixture
def load(compiled: Callable[[Path], Path]) -> Path:
    """The load client: many connections by many clients, each byte verified."""
    return compiled(HERE.parent / "bench" / "load.c")


@pytest.fixture(params=["full", "portable"])
def serve(request: pytest.FixtureRequest) -> Iterator[Serve]:
    """Starts servers, in both profiles. They are killed after the test: one that is about their end asks for it itself,
    and the others need not wait for it.
    """
    with killed_afterwards(partial(Server, portable=request.param == "portable")) as start:
        yield start
