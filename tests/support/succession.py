"""Servers that are upgraded, or have a keeper."""

import os
import shutil
import signal
from pathlib import Path

import tcppar
from tests.support.handlers import HANDLERS, children_of
from tests.support.server import Record, Server, wait_until

SAYS_PID = ("--", "sh", "-c", "echo $$; exec cat")
KINDS: dict[str, tuple[str, ...]] = {
    "program": SAYS_PID,
    "fork": ("--handler", f"{HANDLERS}/waiting.py:handle"),
    "pool": ("--handler", f"{HANDLERS}/waiting.py:handle", "--mode", "pool", "--workers", "2"),
}
"""What tells its process id and then echoes, by what makes it."""

_OUTCOMES = ("upgraded", "upgrade-failed")


def ask_for_upgrade(server: Server) -> Record:
    """SIGUSR2, and what comes of it."""
    before = len([record for record in server.records if record["event"] in _OUTCOMES])
    server.signal(signal.SIGUSR2)
    return server.wait_for(lambda record: record["event"] in _OUTCOMES, before + 1)[before]


def upgrade(server: Server) -> None:
    """Upgrade it, until its spawners are replaced too."""
    before = len(server.events("reloaded"))
    assert ask_for_upgrade(server)["event"] == "upgraded"
    server.wait_for_event("reloaded", before + 1)


def supervisor_of(server: Server) -> int:
    """The supervisor of a server that has a keeper; one that serves."""
    found: list[int] = []

    def is_found() -> bool:
        found[:] = [pid for pid in children_of(server.pid) if b"\0serve\0" in command_of(pid)]
        return bool(found)

    wait_until(is_found)
    return found[0]


def command_of(pid: int) -> bytes:
    """The words that a process was started with; none if it is gone."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except (FileNotFoundError, ProcessLookupError):
        return b""


def kill_supervisor(server: Server) -> Record:
    """SIGKILL for the supervisor of a server that has a keeper, and the word of the next one."""
    before = len(server.events("recovered"))
    os.kill(supervisor_of(server), signal.SIGKILL)
    return server.wait_for_event("recovered", before + 1)[before]


def install(folder: Path, file: str, old: str, new: str) -> None:
    """Another version of tcppar, which differs in one place, where PYTHONPATH finds it first."""
    package = folder / "tcppar"
    if not package.exists():
        shutil.copytree(tcppar.__path__[0], package, ignore=shutil.ignore_patterns("__pycache__"))
    text = (package / file).read_text()
    assert text.count(old) == 1
    (package / file).write_text(text.replace(old, new))
