"""What a spawner loads, as the server's Python would, and what it says of what cannot be loaded."""

import os
import sys
import venv
from pathlib import Path

import pytest

from tcppar.testing.subject import PACKAGE
from tests.conftest import unavailable
from tests.support import command
from tests.support.handlers import said_by
from tests.support.other_python import served_by
from tests.support.server import Server

HANDLE = "def handle(conn): conn.write(b'served')\n"


def refusal(folder: Path, target: str, *more: str, text: str | None = None) -> str:
    """The message of a start that fails, which is that of `check` too."""
    if text is not None:
        (folder / "m.py").write_text(text)
    options = ["--handler", target, "--directory", str(folder), *more]
    checked = command.run("check", "127.0.0.1:0", *options)
    served = command.run("serve", "127.0.0.1:0", "--log-format", "json", *options)
    [message] = [line for line in served.stderr.splitlines() if not line.startswith("{")]
    assert (checked.returncode, served.returncode) == (100, 100)
    [answer] = checked.stderr.splitlines()
    reason = message.partition(": service ")[2].partition(": ")[2]
    assert answer.endswith(reason), (answer, message)
    return reason


# Errors of modules.


def test_all_lines_of_an_error_and_all_that_it_came_of_are_told(tmp_path: Path) -> None:
    text = (
        "try:\n    import nowhere\n"
        "except ImportError as error:\n"
        "    error.add_note('is it installed?')\n"
        "    raise RuntimeError('first line\\n\\n  second line\\nthird line') from error\n"
    )
    reason = refusal(tmp_path, "m:handle", text=text)
    file = tmp_path / "m.py"
    assert reason == (
        f"handler m:handle: RuntimeError: first line second line third line ({file}, line 5), because of "
        f"ModuleNotFoundError: No module named 'nowhere' is it installed? ({file}, line 2)"
    )


def test_all_errors_of_a_group_are_told(tmp_path: Path) -> None:
    reason = refusal(tmp_path, "m:handle", text="raise ExceptionGroup('both', [ValueError('a'), KeyError('b')])\n")
    assert "ExceptionGroup: both (2 sub-exceptions): ValueError: a; KeyError: 'b' (" in reason


ENDS = {
    "exit": (
        "import sys\nsys.exit('no\\nlicence')\n",
        "ends its process when it is imported: SystemExit: no licence (",
    ),
    "exit 0": ("import sys\nsys.exit(0)\n", "ends its process when it is imported: SystemExit: 0 ("),
    "quit": ("quit()\n", "ends its process when it is imported: SystemExit ("),
    "_exit": (
        "import os\nos._exit(0)\n",
        "the process that was loading it ended (exit 0): a module that it imports calls",
    ),
    "interrupt": ("raise KeyboardInterrupt('ha')\n", "KeyboardInterrupt: ha ("),
    "own": ("class Odd(BaseException): pass\nraise Odd('ha')\n", "m.Odd: ha ("),
}


@pytest.mark.parametrize("way", ENDS)
def test_a_module_that_ends_its_process_is_told(tmp_path: Path, way: str) -> None:
    text, wanted = ENDS[way]
    assert f"handler m:handle: {wanted}" in refusal(tmp_path, "m:handle", text=text)


def test_a_module_that_crashes_is_told(tmp_path: Path) -> None:
    (tmp_path / "m.py").write_text("import os\nos.abort()\n")
    outcome = command.run("check", "127.0.0.1:0", "--handler", "m:handle", "--directory", tmp_path)
    assert "the process that was loading it ended (signal SIGABRT)" in outcome.stderr


# Files.


@pytest.mark.parametrize(
    ("name", "wanted"),
    [
        ("pkg/__main__.py", "write pkg.__main__:handle, with the folder above it as directory, or move"),
        ("my.server.py", "a module cannot have the name 'my.server'"),
        ("pkg/.py", "a module cannot have the name ''"),
    ],
)
def test_a_file_that_can_be_no_module_is_told_with_what_to_do(tmp_path: Path, name: str, wanted: str) -> None:
    file = tmp_path / name
    file.parent.mkdir(exist_ok=True)
    file.write_text(HANDLE)
    assert wanted in refusal(tmp_path, f"{file}:handle")


def test_the_main_module_of_a_package_can_be_one(tmp_path: Path) -> None:
    (tmp_path / "pkg").mkdir()
    (tmp_path / "pkg" / "__main__.py").write_text(HANDLE)
    with Server("127.0.0.1:0", "--handler", "pkg.__main__:handle", "--directory", tmp_path) as server:
        assert said_by(server) == "served"


@pytest.fixture
def nobody(open_folder: Path) -> Path:
    """A folder that everybody can read, for a service of the user nobody."""
    if os.geteuid() != 0:
        unavailable("only root can change the user")
    if not all(os.stat(parent).st_mode & 0o005 == 0o005 for parent in PACKAGE.parents):
        unavailable("the package is in a folder that others cannot enter")
    return open_folder


def test_a_file_that_the_user_cannot_read_is_told(nobody: Path) -> None:
    (nobody / "m.py").write_text(HANDLE)
    (nobody / "m.py").chmod(0o600)
    options = ["--handler", f"{nobody}/m.py:handle", "--user", "nobody"]
    outcome = command.run("check", "127.0.0.1:0", *options)
    assert f"'{nobody}/m.py': the user nobody cannot read it: Permission denied" in outcome.stderr


def test_a_folder_in_which_the_user_cannot_look_is_told(nobody: Path) -> None:
    hidden = nobody / "hidden"
    hidden.mkdir(mode=0o700)
    (hidden / "m.py").write_text(HANDLE)
    for target, wanted in (
        (f"{hidden}/m.py:handle", "the user nobody cannot read it: Permission denied"),
        ("m:handle", f"No module named 'm'; the user nobody cannot look into {hidden}"),
    ):
        outcome = command.run(
            "check", "127.0.0.1:0", "--handler", target, "--user", "nobody", environment={"PYTHONPATH": str(hidden)}
        )
        assert wanted in outcome.stderr


# What is executed at Python's start.


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A virtual environment that sees what this one has, and has a package installed from its folder, as setuptools
    does it for one that is not below src: by a finder, of which a line of a .pth file has it installed."""
    folder = tmp_path_factory.mktemp("venv")
    venv.create(folder, symlinks=True, with_pip=False)
    python = folder / "bin" / "python"
    [packages] = folder.glob("lib/*/site-packages")
    (folder / "flat").mkdir()
    (folder / "flat" / "shop.py").write_text("def handle(conn): conn.write(b'the shop of the finder')\n")
    (packages / "__editable___shop_finder.py").write_text(
        "import sys\nfrom importlib.util import spec_from_file_location\n"
        "class Finder:\n"
        "    @classmethod\n"
        "    def find_spec(cls, name, path=None, target=None):\n"
        f"        file = {str(folder / 'flat' / 'shop.py')!r}\n"
        "        return spec_from_file_location(name, file) if name == 'shop' else None\n"
        "def install(): sys.meta_path.append(Finder)\n"
    )
    (packages / "shop.pth").write_text("import __editable___shop_finder; __editable___shop_finder.install()\n")
    (packages / "extra.pth").write_text(f"{folder / 'extra'}\n")
    (folder / "extra").mkdir()
    (folder / "extra" / "found.py").write_text("")
    (folder / "customized").mkdir()
    # Before Python's own library: Debian has a module of this name there.
    (folder / "customized" / "sitecustomize.py").write_text(
        "import builtins, os\nbuiltins.customized_by = os.getpid()\n"
    )
    others = [entry for entry in sys.path if "site-packages" in entry] + [str(PACKAGE.parent)]
    (packages / "others.pth").write_text("\n".join(others))
    return python


LOOKS = """
import builtins, os, sys
def handle(conn):
    import found
    facts = (builtins.customized_by == os.getppid(), sys.prefix, callable(exit))
    conn.write(repr(facts).encode())
"""


@pytest.mark.parametrize("portable", [False, True])
def test_what_the_servers_python_executes_at_its_start_the_spawner_does_once(
    python: Path, tmp_path: Path, portable: bool
) -> None:
    (tmp_path / "looks.py").write_text(LOOKS)
    (tmp_path / "shop.py").write_text("def handle(conn): conn.write(b'another')\n")
    for target, wanted in (
        ("shop:handle", "the shop of the finder"),
        (f"{tmp_path}/looks.py:handle", repr((True, str(python.parent.parent), True))),
    ):
        words = ["--handler", target, "--directory", str(tmp_path)]
        paths = {"PYTHONPATH": str(python.parent.parent / "customized")}
        assert served_by(python, words, tmp_path, portable=portable, environment=paths) == [wanted]


def test_a_server_without_site_has_spawners_without_it(tmp_path: Path) -> None:
    (tmp_path / "m.py").write_text(
        "import builtins\ndef handle(conn): conn.write(str(hasattr(builtins, 'exit')).encode())\n"
    )
    others = [entry for entry in sys.path if "site-packages" in entry] + [str(PACKAGE.parent)]
    bare = tmp_path / "python"
    bare.write_text(f'#!/bin/sh\nPYTHONPATH={":".join(others)} exec {sys.executable} -S "$@"\n')
    bare.chmod(0o755)
    assert served_by(bare, ["--handler", f"{tmp_path}/m.py:handle"], tmp_path, portable=False) == ["False"]


def test_the_servers_options_hold_for_handlers(tmp_path: Path) -> None:
    text = (
        "import sys, warnings\n"
        "def handle(conn):\n"
        "    try:\n        warnings.warn('odd', UserWarning)\n        raised = False\n"
        "    except UserWarning:\n        raised = True\n"
        "    conn.write(repr((sys.flags.optimize, sys.dont_write_bytecode, sys.pycache_prefix, raised)).encode())\n"
    )
    (tmp_path / "m.py").write_text(text)
    environment = {
        "PYTHONOPTIMIZE": "2",
        "PYTHONDONTWRITEBYTECODE": "1",
        "PYTHONPYCACHEPREFIX": str(tmp_path / "cache"),
        "PYTHONWARNINGS": "error::UserWarning",
    }
    wanted = repr((2, True, str(tmp_path / "cache"), True))
    for portable in (False, True):
        with Server(
            "127.0.0.1:0", "--handler", f"{tmp_path}/m.py:handle", environment=environment, portable=portable
        ) as server:
            assert said_by(server) == wanted


def test_a_file_with_the_name_of_a_module_of_the_interpreters_is_told(tmp_path: Path) -> None:
    (tmp_path / "grp.py").write_text("def handle(conn): ...\n")
    done = command.run("check", "127.0.0.1:0", "--handler", tmp_path / "grp.py:handle")
    assert "the file has the same name as another module (the interpreter)" in done.stderr
