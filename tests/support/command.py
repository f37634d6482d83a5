"""The bare command: for starts that fail, for the text form, and for odd descriptors, which the harness has not."""

import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.support.server import PATIENCE, Server

Completed = subprocess.CompletedProcess[str]
Serve = Callable[..., Server]


def words(*arguments: str | Path, wrapper: Sequence[str] = ()) -> list[str]:
    """`tcppar ARGUMENT...` by this Python, under another command if one is given."""
    return [*wrapper, sys.executable, "-m", "tcppar", *map(str, arguments)]


def environment_with(more: Mapping[str, str] | None = None, *, portable: bool = False) -> dict[str, str]:
    """This process's environment and more."""
    return os.environ | dict(more or {}) | ({"TCPPAR_PORTABLE": "1"} if portable else {})


def run(
    *arguments: str | Path, environment: Mapping[str, str] | None = None, wrapper: Sequence[str] = (), **popen: Any
) -> Completed:
    """Run the command to its end, which is expected to be soon."""
    return subprocess.run(
        words(*arguments, wrapper=wrapper),
        env=environment_with(environment),
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
        **popen,
    )


@contextmanager
def running(
    *arguments: str | Path,
    environment: Mapping[str, str] | None = None,
    portable: bool = False,
    wrapper: Sequence[str] = (),
    **popen: Any,
) -> Iterator["subprocess.Popen[bytes]"]:
    """Run the command beside the test; it is ended after the block if it still runs."""
    env = environment_with(environment, portable=portable)
    process = subprocess.Popen(words(*arguments, wrapper=wrapper), env=env, **popen)
    try:
        yield process
    finally:
        if process.poll() is None:
            process.terminate()
            try:
                process.wait(PATIENCE)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        if process.stderr is not None:
            process.stderr.close()


@contextmanager
def killed_afterwards(serve: Serve) -> Iterator[Serve]:
    """Starts servers as `serve` does, and kills them after the block. Who is killed removes nothing, so their temporary
    files have a folder.
    """
    started: list[Server] = []
    with tempfile.TemporaryDirectory() as folder:
        os.chmod(folder, 0o755)  # for children that are somebody else

        def start(*arguments: str | Path, environment: Mapping[str, str] | None = None, **options: Any) -> Server:
            started.append(serve(*arguments, environment={"TMPDIR": folder, **(environment or {})}, **options))
            return started[-1]

        try:
            yield start
        finally:
            for server in started:
                server.process.kill()
                server.__exit__(None, None, None)
