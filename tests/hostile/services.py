"""The services that are attacked, those that stand beside them, and whose they are."""

import functools
import os
import shutil
import sys
from pathlib import Path

from tcppar.testing.subject import PACKAGE, copy_package, may_enter
from tests.conftest import HERE, unavailable

LIFETIME = 1.0
"""max_lifetime of what is attacked, in seconds."""
KILL = 0.3
"""kill_timeout."""

ATTACKED = ("program", "fork", "pool")
OTHERS = ("other", "others-program")

_ATTACKER, _OTHER = "nobody", "daemon"
_FOLDER = HERE / "hostile" / "attacker"

Settings = dict[str, object]


def users() -> tuple[str, str] | None:
    """Who attacks, and who is the other one; None where we cannot become anybody else."""
    if os.geteuid() != 0:
        return None
    return _users()


@functools.cache
def _users() -> tuple[str, str]:
    for name in (_ATTACKER, _OTHER):
        if not may_enter(name, Path("/")):
            unavailable(f"there is no user {name} on this system, or we cannot become that user")
    return _ATTACKER, _OTHER


def package(folder: Path) -> Path:
    """The package, or where others may not read it a copy in a folder."""
    names = users()
    return PACKAGE if names is None or all(may_enter(name, PACKAGE) for name in names) else copy_package(folder)


def configuration(folder: Path, package: Path, directory: Path) -> dict[str, Settings]:
    """All services.

    Args:
        folder: the attackers are copied to it, for them to be read whoever they are.
        package: of the server.
        directory: the working directory of those that are attacked.
    """
    own: Settings
    others: Settings
    own, others = ({}, {}) if (names := users()) is None else ({"user": names[0]}, {"user": names[1]})
    attacker = shutil.copytree(_FOLDER, folder / _FOLDER.relative_to(HERE.parent))
    both: Settings = {"listen": ["127.0.0.1:0"], "kill_timeout": KILL}
    attacked = both | own | {"max_lifetime": LIFETIME, "directory": str(directory)}
    command = [os.path.realpath(sys.executable), "-I", "-S", str(attacker / "program.py"), "{ctl}"]
    echo = package / "testing" / "echo.py"
    return {
        "program": attacked | {"command": command, "control_file": "{fd}"},
        "fork": attacked | {"handler": f"{attacker}/handler.py:fork"},
        "pool": attacked | {"handler": f"{attacker}/handler.py:pool", "mode": "pool", "workers": "4-40"},
        "other": both | others | {"handler": f"{echo}:handle", "mode": "pool", "workers": "4"},
        "others-program": both | others | {"command": ["sh", "-c", "echo $TCPPAR_CONNECTION_ID $$; exec cat"]},
    }
