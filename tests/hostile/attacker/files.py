"""Files that the server and the service's user both can reach."""

import os
import shutil
import sys
import time
from functools import partial

from tests.hostile.attacker.base import EVERY, HANDLERS, ONE, Me, attack

STANDARD = ("traceback", "socket", "logging", "asyncio", "selectors", "msgspec", "random", "signal", "enum")
"""Modules that somebody may import late."""

EVIL = "import os\nopen(os.path.join(os.path.dirname(__file__), 'executed'), 'a').write(__name__ + '\\n')\n"


@attack(ONE, "The folder is made again for the next client.", alone=True)
def control_folder_removed(me: Me) -> None:
    """A child removes the folder of the control files."""
    folder = os.path.dirname(_control_file())
    shutil.rmtree(folder, ignore_errors=True)
    me.say("done" if not os.path.exists(folder) else "it may not")


@attack(ONE, "The server writes nothing where the link leads, and makes the folder again.", alone=True)
def control_folder_replaced(me: Me) -> None:
    """A child puts a link to another folder in the place of the control files' folder."""
    folder = os.path.dirname(_control_file())
    me.try_to(lambda: os.rename(folder, folder + ".old"))
    me.try_to(lambda: os.symlink("/tmp", folder))
    me.say("done")


@attack(ONE, "The server removes nothing but the link.", alone=True)
def control_file_replaced(me: Me) -> None:
    """A child puts a link, and for the next ones folders, in the place of control files."""
    file = _control_file()
    os.unlink(file)
    os.symlink("/etc/hostname", file)
    for number in range(me.facts["number"] + 1, me.facts["number"] + 5):
        me.try_to(lambda n=number: os.mkdir(f"{os.path.dirname(file)}/{n}"))  # type: ignore[misc]
    me.say("done")


@attack(ONE, "The folder is made again, or mended, for the next client.", alone=True)
def control_folder_closed(me: Me) -> None:
    """A child takes all rights from the folder of the control files."""
    os.chmod(os.path.dirname(_control_file()), 0)
    me.say("done")


def _control_file() -> str:
    return sys.argv[1]


@attack(EVERY, "Nothing of it is imported, by whatever comes later.")
def modules_in_its_folder(me: Me) -> None:
    """A child writes modules with names of the standard library's, and of packages, into its working directory."""
    for name in STANDARD:
        with open(f"{name}.py", "w") as file:
            file.write(EVIL)
    os.makedirs("tcppar", exist_ok=True)
    for name in ("tcppar/__init__.py", "sitecustomize.py", "usercustomize.py"):
        with open(name, "w") as file:
            file.write(EVIL)
    me.say("done")


@attack(HANDLERS, "Its traceback is in the log.", stays=True)
def an_exception(me: Me) -> None:
    """A handler raises, so that whatever is imported late for its traceback is imported."""
    raise ValueError("as it was asked to")


@attack(EVERY, "The system refuses it.", another_user=True)
def files_of_the_server(me: Me) -> None:
    """A child writes to the server's program, its handler and its configuration."""
    import tests.hostile.attacker.base as base

    for path in (base.__file__, sys.executable, "/etc/passwd"):
        me.must_not_get(path, partial(os.open, path, os.O_WRONLY | os.O_APPEND))


@attack(EVERY, "The system refuses it.", another_user=True)
def back_to_root(me: Me) -> None:
    """A child takes back the user, the groups and the rights that its spawner had at first."""
    me.must_not_get("root", lambda: os.setuid(0))
    me.must_not_get("root's groups", lambda: os.setgroups([0]))
    me.must_not_get("another root folder", lambda: os.chroot("/"))


@attack(EVERY, "The next ones find the folder as it is, and are served, because nothing is read from it.", alone=True)
def its_folder_closed(me: Me) -> None:
    """A child takes all rights from its working directory, and gives them back."""
    folder = os.open(".", os.O_RDONLY)
    os.fchmod(folder, 0)
    time.sleep(0.3)
    os.fchmod(folder, 0o755)
