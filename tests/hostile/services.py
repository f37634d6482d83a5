"""The services that are attacked, those that stand beside them, and whose they are."""

import functools
import os
import pwd
import subprocess
import sys
from pathlib import Path

from tcppar.testing import echo
from tests.conftest import HERE, unavailable

LIFETIME = 1.0
"""max_lifetime of what is attacked, in seconds."""
KILL = 0.3
"""kill_timeout."""

ATTACKED = ("program", "fork", "pool")
OTHERS = ("other", "others-program")

_ATTACKER, _OTHER = "nobody", "daemon"
_FOLDER = HERE / "hostile" / "attacker"
_PROGRAM = "program.py"
_HANDLER = "handler.py"

Settings = dict[str, object]


def users() -> tuple[str, str] | None:
    """Who attacks, and who is the other one; None where we cannot become anybody else."""
    if os.geteuid() != 0:
        return None
    return _users()


@functools.cache
def _users() -> tuple[str, str]:
    for name in (_ATTACKER, _OTHER):
        try:
            pwd.getpwnam(name)
        except KeyError:
            unavailable(f"there is no user {name} on this system")
        words = [sys.executable, "-c", "import tcppar, msgspec, tests.hostile.attacker.every"]
        if subprocess.run(words, user=name, cwd=HERE.parent, stderr=subprocess.DEVNULL, check=False).returncode != 0:
            unavailable(f"{name} may not read this checkout, so that services of its user cannot be served from it")
    return _ATTACKER, _OTHER


def configuration(directory: Path) -> dict[str, Settings]:
    """All services.

    Args:
        directory: the working directory of those that are attacked.
    """
    own: Settings
    others: Settings
    own, others = ({}, {}) if (names := users()) is None else ({"user": names[0]}, {"user": names[1]})
    both: Settings = {"listen": ["127.0.0.1:0"], "kill_timeout": KILL}
    attacked = both | own | {"max_lifetime": LIFETIME, "directory": str(directory)}
    command = [os.path.realpath(sys.executable), "-I", "-S", str(_FOLDER / _PROGRAM), "{ctl}"]
    return {
        "program": attacked | {"command": command, "control_file": "{fd}"},
        "fork": attacked | {"handler": f"{_FOLDER / _HANDLER}:fork"},
        "pool": attacked | {"handler": f"{_FOLDER / _HANDLER}:pool", "mode": "pool", "workers": "4-40"},
        "other": both | others | {"handler": f"{echo.__file__}:handle", "mode": "pool", "workers": "4"},
        "others-program": both | others | {"command": ["sh", "-c", "echo $TCPPAR_CONNECTION_ID $$; exec cat"]},
    }
