"""Tells, as JSON, what its process finds; modules were imported before the fork, and so were their states made."""

import json
import os
import random
import signal
import uuid
from pathlib import Path

import tcppar


def mask(name: str) -> list[int]:
    """The signals of a line of /proc/self/status (proc(5)), but for those that the C library has for itself."""
    lines = Path("/proc/self/status").read_text().splitlines()
    bits = int(next(line.split()[1] for line in lines if line.startswith(f"{name}:")), 16)
    return [number for number in sorted(signal.valid_signals()) if bits >> (number - 1) & 1]


def descriptors() -> dict[str, str]:
    """What each open descriptor is, without the one that looks."""
    found = {}
    for entry in os.listdir("/proc/self/fd"):
        try:
            found[entry] = os.readlink(f"/proc/self/fd/{entry}")
        except FileNotFoundError:
            pass
    return found


def handle(conn: tcppar.Connection) -> None:
    facts = {
        "pid": os.getpid(),
        "parent": os.getppid(),
        "group": os.getpgrp(),
        "id": conn.id,
        "socket": conn.fileno(),
        "descriptors": descriptors(),
        "blocked": mask("SigBlk"),
        "ignored": mask("SigIgn"),
        "caught": mask("SigCgt"),
        "wakeup": signal.set_wakeup_fd(-1),
        "random": [random.random(), os.urandom(8).hex(), str(uuid.uuid4())],
        "directory": os.getcwd(),
        "variable": os.environ.get("TCPPAR_TEST"),
    }
    conn.write(json.dumps(facts).encode())
