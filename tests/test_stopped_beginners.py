"""Processes that are stopped before they have become what they are made to be, which whoever makes them waits for."""

import os
import platform
import resource
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tcppar.spawner import attempt, runnable
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


# Who tries whether the program can be run, before the first client comes (spawner/runnable.py).


def stop_self(*_: object) -> None:
    os.kill(os.getpid(), signal.SIGSTOP)


def stopping_before(call: Callable[..., Any]) -> Callable[..., Any]:
    """A call before which its process is stopped."""

    def stop(*arguments: Any) -> Any:
        stop_self()
        return call(*arguments)

    return stop


def stopping_other(call: Callable[[int], bool]) -> Callable[[int], bool]:
    """A call about a process, after which that one is stopped."""

    def stop(pid: int) -> bool:
        told = call(pid)
        os.kill(pid, signal.SIGSTOP)
        return told

    return stop


def refusal() -> str | None:
    return runnable.refusal("/bin/sh", [b"sh"], {}, [])


def test_who_tries_the_program_and_is_stopped_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its spawner waited for it, and a reload of all services failed after half a minute."""
    monkeypatch.setattr(runnable, "_may_run", stop_self)
    assert refusal() is None


@pytest.mark.parametrize(
    ("module", "name", "stopping"),
    [
        (signal, "alarm", stopping_before),
        (resource, "setrlimit", stopping_before),
        (os, "execve", stopping_before),
        (attempt, "_is_loaded_by_gnu", stopping_other),
    ],
    ids=["before it is traced", "traced", "before its exec", "loading"],
)
def test_a_program_that_is_stopped_when_it_is_tried_is_not_refused(
    monkeypatch: pytest.MonkeyPatch, module: object, name: str, stopping: Callable[..., Any]
) -> None:
    if sys.platform != "linux":
        unavailable("ptrace(2) of Linux")
    monkeypatch.setattr(module, name, stopping(getattr(module, name)))
    assert refusal() is None
