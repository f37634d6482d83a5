"""The script `run`, in checkouts of its own: small ones, whose packages need no network."""

import os
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from tests.conftest import HERE, tool
from tests.support.server import PATIENCE

RUN = HERE.parent / "run"
LOOPBACK = "127.0.0.1"
NOBODY = 65534
Completed = subprocess.CompletedProcess[str]

# A package that is built by nothing but Python, and writes a line for each time that it is.
PROJECT = """
[build-system]
requires = []
build-backend = "hatch_build"
backend-path = ["."]

[project]
name = "small"
version = "1"
"""
BACKEND = """
import os
import zipfile

def build_editable(folder, settings=None, metadata=None):
    with open(os.environ["BUILDS"], "a") as builds:
        builds.write("built\\n")
    with zipfile.ZipFile(f"{folder}/small-1-py3-none-any.whl", "w") as wheel:
        wheel.writestr("small.py", "")
        wheel.writestr("small-1.dist-info/METADATA", "Metadata-Version: 2.1\\nName: small\\nVersion: 1\\n")
        wheel.writestr("small-1.dist-info/WHEEL", "Wheel-Version: 1.0\\nRoot-Is-Purelib: true\\nTag: py3-none-any\\n")
        wheel.writestr("small-1.dist-info/RECORD", "")
    return "small-1-py3-none-any.whl"

build_wheel = build_editable
"""


class Checkout:
    """A small one.

    Args:
        folder: to make it in.
        requirements: the text of its lock files.
    """

    def __init__(self, folder: Path, requirements: str = "") -> None:
        self.folder = folder
        for part in ("src/tcppar/net", "samples"):
            (folder / part).mkdir(parents=True)
        shutil.copy(RUN, folder)
        files = {
            "requirements.txt": requirements,
            "requirements-build.txt": requirements,
            "requirements-dev.txt": requirements,
            "hatch_build.py": BACKEND,  # under this name the script takes it along
            "pyproject.toml": PROJECT,
            "LICENSE": "",
            "README.md": "",
            "src/tcppar/net/small.c": "",
            "samples/demo.py": "import sys\nprint(sys.prefix, *sys.argv[1:])\n",
        }
        for name, text in files.items():
            (folder / name).write_text(text)
        self.builds = folder.parent / "builds"
        self.builds.touch()

    def start(
        self, *words: str, environment: Mapping[str, str] | None = None, **options: object
    ) -> "subprocess.Popen[str]":
        """`./run WORD...`"""
        process: subprocess.Popen[str] = subprocess.Popen(
            [str(self.folder / "run"), *words],
            env=os.environ | {"BUILDS": str(self.builds), "PIP_CONFIG_FILE": os.devnull} | dict(environment or {}),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            **options,  # type: ignore[call-overload]
        )
        return process

    def run(self, *words: str, environment: Mapping[str, str] | None = None, **options: object) -> Completed:
        """The same, to its end."""
        return ended(self.start(*words, environment=environment, **options))


def ended(process: "subprocess.Popen[str]") -> Completed:
    """What came of one."""
    said, complained = process.communicate(timeout=PATIENCE)
    return Completed(process.args, process.returncode, said, complained)


@pytest.fixture
def checkout(tmp_path: Path) -> Checkout:
    return Checkout(tmp_path / "checkout")


# Words.


@pytest.mark.parametrize("word", ["--help", "-h", "help"])
def test_help_is_no_mistake(checkout: Checkout, word: str) -> None:
    helped = checkout.run(word)
    assert (helped.returncode, helped.stderr) == (0, "")
    assert helped.stdout.startswith("usage: ./run COMMAND")


@pytest.mark.parametrize("words", [(), ("",), ("tests",), ("--helf",)])
def test_an_unknown_command_is_one(checkout: Checkout, words: tuple[str, ...]) -> None:
    refused = checkout.run(*words)
    assert (refused.returncode, refused.stdout) == (2, "")
    assert refused.stderr.startswith("usage: ./run COMMAND")
    if "".join(words):
        assert refused.stderr.endswith(f"\nrun: {words[0]}: no such command\n")


@pytest.mark.parametrize("flag", ["-h", "--help"])
@pytest.mark.parametrize("name", ["demo", "test", "soak", "sanitize", "setup", "lock"])
def test_each_command_has_its_own_help_and_makes_nothing_for_it(checkout: Checkout, name: str, flag: str) -> None:
    helped = checkout.run(name, flag)
    assert (helped.returncode, helped.stderr) == (0, "")
    first, *lines = helped.stdout.splitlines()
    assert first == "usage: ./run COMMAND [ARGUMENT...]"
    assert lines[0].split()[0] == name
    assert all(line.startswith(" " * 20) for line in lines[1:])


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("demo", "7005", "7006"), "demo: too many arguments: 7005 7006 (see ./run --help)"),
        (("demo", ""), "demo: expected an argument, or none, not an empty one (see ./run --help)"),
        (("soak", ""), "soak: expected an argument, or none, not an empty one (see ./run --help)"),
        (("soak", "x"), "soak: x: expected a whole number, 1 or more"),
        (("soak", "0"), "soak: 0: expected a whole number, 1 or more"),
        (("soak", "-1"), "soak: -1: expected a whole number, 1 or more"),
        (("soak", "1", "2"), "soak: too many arguments: 1 2 (see ./run --help)"),
        (("setup", "now"), "setup: too many arguments: now (see ./run --help)"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_words_of_which_nothing_would_come_are_told(checkout: Checkout, words: tuple[str, ...], told: str) -> None:
    refused = checkout.run(*words)
    assert (refused.returncode, refused.stdout, refused.stderr) == (2, "", f"run: {told}\n")
    assert not (checkout.folder / ".venv").exists()


@pytest.mark.parametrize(
    ("words", "address"),
    [
        ((), "127.0.0.1:7000"),
        (("7005",), "127.0.0.1:7005"),
        ((":7005",), ":7005"),
        (("[::1]:7005",), "[::1]:7005"),
        (("unix:/run/demo",), "unix:/run/demo"),
    ],
)
def test_a_demo_stays_on_this_machine_unless_told_otherwise(
    made: Checkout, words: tuple[str, ...], address: str
) -> None:
    assert made.run("demo", *words).stdout.split()[-1] == address


# Where packages go.


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Checkout:
    """One that has its packages."""
    checkout = Checkout(tmp_path_factory.mktemp("made") / "checkout")
    assert checkout.run("setup").returncode == 0
    return checkout


def test_what_is_made_is_used_again(made: Checkout) -> None:
    assert made.run("setup").stdout == ""
    assert made.builds.read_text() == "built\n"


def test_what_is_compiled_and_has_changed_is_made_again(checkout: Checkout) -> None:
    assert checkout.run("setup").returncode == 0
    (checkout.folder / "src/tcppar/net/small.h").write_text("#define NEW\n")
    assert checkout.run("setup").returncode == 0
    assert checkout.builds.read_text() == "built\n" * 2


def test_two_that_are_started_at_once_make_it_once(checkout: Checkout) -> None:
    both = [checkout.start("demo", "1"), checkout.start("demo", "2")]
    said = [ended(process) for process in both]
    assert [one.returncode for one in said] == [0, 0]
    assert [one.stdout.splitlines()[-1] for one in said] == [
        f"{checkout.folder}/.venv 127.0.0.1:{port}" for port in (1, 2)
    ]
    assert checkout.builds.read_text() == "built\n"


def test_a_demo_does_not_keep_others_from_making_theirs(made: Checkout) -> None:
    """The lock is not the server's."""
    (made.folder / "samples/demo.py").write_text("import os\nprint(sorted(map(int, os.listdir('/dev/fd'))))\n")
    shutil.rmtree(made.folder / ".venv")
    try:
        assert made.run("demo").stdout.splitlines()[-1] == "[0, 1, 2, 3]"
    finally:
        (made.folder / "samples/demo.py").write_text("import sys\nprint(sys.prefix, *sys.argv[1:])\n")


def test_a_checkout_that_cannot_be_written_has_them_elsewhere(checkout: Checkout, open_folder: Path) -> None:
    folder = shutil.copytree(checkout.folder, open_folder / "checkout")
    home = open_folder / "home"
    home.mkdir()
    builds = home / "builds"
    options: dict[str, object] = {}
    if os.geteuid() == 0:
        for path in (folder, *folder.rglob("*")):
            path.chmod(0o755)
        os.chown(home, NOBODY, NOBODY)
        options = {"user": NOBODY, "group": NOBODY, "extra_groups": []}
    else:
        folder.chmod(0o555)
    checkout.folder = folder
    try:
        for _ in range(2):
            done = checkout.run("demo", environment={"HOME": str(home), "BUILDS": str(builds)}, **options)
            assert (done.returncode, done.stderr) == (0, "")
            prefix, address = done.stdout.split()[-2:]
            assert Path(prefix).is_relative_to(home / ".cache/tcppar")
            assert address == "127.0.0.1:7000"
        assert builds.read_text() == "built\n"
        assert not (folder / ".venv").exists()
    finally:
        folder.chmod(0o755)


def test_without_a_network_one_line_says_so(tmp_path: Path) -> None:
    checkout = Checkout(tmp_path / "checkout", f"small==1 --hash=sha256:{'0' * 64}\n")
    with socket.socket() as closed:
        closed.bind((LOOPBACK, 0))  # and nobody listens
        index = "http://{}:{}/simple".format(*closed.getsockname())
        refused = checkout.run("setup", environment={"PIP_INDEX_URL": index, "PIP_RETRIES": "0"})
    assert refused.returncode == 1
    assert refused.stderr == "run: no network: cannot reach the Python package index, which fills .venv\n"


def test_what_pip_says_of_anything_else_is_shown(tmp_path: Path) -> None:
    refused = Checkout(tmp_path / "checkout", "this is none\n").run("setup")
    assert refused.returncode == 1
    assert "Invalid requirement" in refused.stderr


# The demo itself.


@pytest.fixture
def demo() -> Callable[[str], "subprocess.Popen[str]"]:
    """Starts it, by this Python."""

    def start(address: str) -> "subprocess.Popen[str]":
        words = [sys.executable, str(RUN.parent / "samples/demo.py"), address]
        return subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    return start


def test_the_demo_says_how_to_talk_to_it_when_it_can_be_talked_to(
    demo: Callable[[str], "subprocess.Popen[str]"],
) -> None:
    process = demo("127.0.0.1:0")
    assert process.stdout is not None
    [_, line, _] = [process.stdout.readline() for _ in range(3)]
    *_, nc, host, port = line.split()
    assert (nc, host) == ("nc", LOOPBACK)
    with socket.create_connection((host, int(port))) as client:
        client.sendall(b"quit\n")
        assert client.makefile().read().startswith("Hello, 127.0.0.1!")
    process.send_signal(signal.SIGINT)
    assert ended(process).returncode == 0


def test_the_demo_promises_nothing_where_the_port_is_taken(demo: Callable[[str], "subprocess.Popen[str]"]) -> None:
    with socket.create_server((LOOPBACK, 0)) as taken:
        refused = ended(demo("{}:{}".format(*taken.getsockname())))
    assert (refused.returncode, refused.stdout) == (111, "")
    *_, reason, advice = refused.stderr.splitlines()
    assert "EADDRINUSE" in reason
    assert advice == "Choose another port, such as: ./run demo 7005"


@pytest.mark.parametrize("address", ["localhost:7000", "7000x", "", "--help", "[fe80::1%none]:7000"])
def test_the_demo_says_what_an_address_is(demo: Callable[[str], "subprocess.Popen[str]"], address: str) -> None:
    refused = ended(demo(address))
    assert (refused.returncode, refused.stdout) == (100, "")
    [line] = refused.stderr.splitlines()
    assert line.startswith("demo: ")
    assert line.endswith("; expected a port, such as 7001, or an address, such as 127.0.0.1:7001")


@pytest.mark.parametrize("kind", ["full", "pipe"])
def test_the_demo_ends_where_nobody_can_read_it(kind: str) -> None:
    if kind == "full":
        output = os.open("/dev/full", os.O_WRONLY)
    else:
        reader, output = os.pipe()
        os.close(reader)
    words = [sys.executable, str(RUN.parent / "samples/demo.py"), "127.0.0.1:0"]
    try:
        done = subprocess.run(words, stdout=output, stderr=subprocess.PIPE, text=True, timeout=PATIENCE)
    finally:
        os.close(output)
    why = {"full": "No space left on device", "pipe": "Broken pipe"}[kind]
    assert done.returncode == 111
    assert done.stderr.splitlines()[-1] == f"demo: cannot write the output: {why}"
    assert "Traceback" not in done.stderr


def test_the_script_is_posix_sh() -> None:
    assert RUN.read_text().startswith("#!/bin/sh\n")
    subprocess.run([tool("dash"), "-n", RUN], check=True)
    subprocess.run([tool("busybox"), "sh", "-n", RUN], check=True)
