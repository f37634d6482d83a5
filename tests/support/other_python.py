"""A server that is run by another Python than the tests: one with packages of its own."""

import socket
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

from tests.support import command
from tests.support.server import PATIENCE


def served_by(
    python: Path,
    words: Sequence[str],
    folder: Path,
    *,
    portable: bool,
    times: int = 1,
    environment: Mapping[str, str] | None = None,
) -> list[str]:
    """What its handler says, to one client after the other."""
    process = subprocess.Popen(
        [str(python), "-m", "tcppar", "serve", "127.0.0.1:0", *words],
        stderr=subprocess.PIPE,
        env=command.environment_with(environment, portable=portable),
        text=True,
        cwd=folder,
    )
    try:
        address = _address(process)
        return [_said(address) for _ in range(times)]
    finally:
        process.terminate()
        process.communicate(timeout=PATIENCE)


def _address(process: "subprocess.Popen[str]") -> tuple[str, int]:
    assert process.stderr is not None
    lines = []
    for line in process.stderr:
        lines.append(line)
        if line.startswith("listening on "):
            host, _, port = line.split()[-1].rpartition(":")
            return host, int(port)
    raise AssertionError("".join(lines))


def _said(address: tuple[str, int]) -> str:
    with socket.create_connection(address, PATIENCE) as client, client.makefile("r") as reader:
        client.shutdown(socket.SHUT_WR)
        return reader.read()
