"""Processes that are stopped before they have become what they are made to be, which whoever makes them waits for."""

import platform
import sys
from pathlib import Path

import pytest

from tests.conftest import unavailable
from tests.support.command import Serve

_CLONE = {"x86_64": 56, "aarch64": 220}
# As vfork(2), but with memory of its own, so that Python can go on in it.
_MODULE = """
import ctypes, os, signal
CLONE_VFORK = 0x4000
if ctypes.CDLL(None).syscall({clone}, CLONE_VFORK | signal.SIGCHLD, 0, 0, 0, 0) == 0:
    os.kill(os.getpid(), signal.SIGSTOP)
    os._exit(0)

def handle(conn):
    conn.write(b"served")
"""


@pytest.mark.parametrize("serve", ["full"], indirect=True)  # only Linux tells which processes are whose
@pytest.mark.parametrize("mode", ["fork", "pool"])
def test_a_spawner_whose_vfork_child_was_stopped_goes_on(serve: Serve, tmp_path: Path, mode: str) -> None:
    """It takes no signal meanwhile, and did not count as stopped."""
    clone = _CLONE.get(platform.machine())
    if sys.platform != "linux" or clone is None:
        unavailable("the number of clone(2)")
    (file := tmp_path / "handler.py").write_text(_MODULE.format(clone=clone))
    server = serve("127.0.0.1:0", "--handler", f"{file}:handle", "--mode", mode)
    assert server.exchange(b"") == b"served"
