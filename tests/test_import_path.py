"""Where code comes from: handlers' modules as with `python -P` or `python file.py`, tcppar's own never from there."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tcppar import import_path
from tests.conftest import HERE
from tests.support import command
from tests.support.handlers import HANDLERS, said_by
from tests.support.poison import Poison
from tests.support.server import Server, read_all

WAYS = (
    *("raise", "group", "unspeakable", "deep", "chained", "syntax", "warned", "never awaited", "unraisable"),
    *("exit", "decode", "idle", "late", "long", "gone", "unrun"),
)
TELLS = "def handle(conn): conn.write(WHERE)\n"
INSTALLED = Path(sys.executable).with_name("tcppar")


@pytest.fixture
def poison(tmp_path: Path) -> Poison:
    return Poison(tmp_path / "uploads", tmp_path / "marks")


@pytest.fixture(params=["full", "portable"])
def portable(request: pytest.FixtureRequest) -> bool:
    return bool(request.param == "portable")


def module(folder: Path, name: str, where: str) -> Path:
    folder.mkdir(exist_ok=True)
    file = folder / f"{name}.py"
    file.write_text(f"WHERE = b{where!r}\n{TELLS}")
    return file


def fail_in_every_way(server: Server) -> None:
    for way in WAYS:
        with server.connect() as client:
            client.sendall(f"{way}\n".encode())
            if way != "late":
                client.shutdown(1)
            read_all(client)
    server.wait_for_event("end", len(WAYS))
    assert server.stop() == 0


@pytest.mark.parametrize("mode", ["fork", "pool"])
@pytest.mark.parametrize("name", ["handle", "coroutine", "Request"])
def test_nothing_of_tcppars_comes_from_the_folder_of_the_handler(
    poison: Poison, name: str, mode: str, portable: bool
) -> None:
    # As with `python file.py`, that folder comes first for what the handler imports.
    shutil.copy(HANDLERS / "every_way_to_fail.py", poison.folder)
    target = f"{poison.folder}/every_way_to_fail.py:{name}"
    limits = ["--rlimit", "nofile=64", *(["--worker-memory", "900M"] if mode == "pool" else [])]
    with Server("127.0.0.1:0", "--handler", target, "--mode", mode, *limits, portable=portable) as server:
        fail_in_every_way(server)
        assert poison.imported == []
        printed = "\n".join(record["line"] for record in server.events("stderr"))
    assert "ZeroDivisionError: division by zero" in printed
    assert "could not start" not in printed


@pytest.mark.parametrize("mode", ["fork", "pool"])
def test_nothing_comes_from_the_working_directory_if_the_handler_is_a_file(poison: Poison, mode: str) -> None:
    target = f"{HANDLERS}/failing.py:handle"
    with Server(
        "127.0.0.1:0", "--handler", target, "--mode", mode, "--directory", poison.folder, cwd=poison.folder
    ) as server:
        assert server.exchange(b"raise\n") == b"read\n"
        server.wait_for(lambda record: "LookupError: this is the reason" in record.get("line", ""))
        assert server.stop() == 0
    assert poison.imported == []


def test_the_command_imports_nothing_from_where_it_is_started(poison: Poison, tmp_path: Path) -> None:
    handler = ["--handler", f"{module(tmp_path / 'app', 'app', 'app')}:handle"]
    for words in (
        ["check", "127.0.0.1:1", *handler],
        ["check", "127.0.0.1:1", *handler, "--from", "127.0.0.1"],
        ["check", "127.0.0.1:1", "--handler", "missing:handle"],
        ["serve", "127.0.0.1:0", "--handler", "missing:handle"],
        ["serve", "1.2.3.4:1", "--", "cat"],
        ["--help"],
    ):
        subprocess.run([INSTALLED, *words], cwd=poison.folder, capture_output=True, timeout=60, check=False)
    assert poison.imported == []


@pytest.mark.parametrize("keeper", [[], ["--keep"]])
def test_a_server_imports_nothing_from_where_it_is_started_all_its_life(poison: Poison, keeper: list[str]) -> None:
    target = f"{HANDLERS}/every_way_to_fail.py:handle"
    with Server("127.0.0.1:0", "--handler", target, *keeper, cwd=poison.folder) as server:
        assert subprocess.run([INSTALLED, "upgrade", str(server.pid)], cwd=poison.folder, check=False).returncode == 0
        fail_in_every_way(server)
    assert poison.imported == []


def test_what_pythonpath_has_takes_no_modules_place_in_the_server(poison: Poison) -> None:
    # Python itself imports some before the server can see to it: those are not poisoned here.
    for name in ("encodings", "importlib", "runpy", "collections", "functools", "contextlib", "warnings", "types"):
        shutil.rmtree(poison.folder / name, ignore_errors=True)
        (poison.folder / f"{name}.py").unlink()
    for file in poison.folder.glob("*.py"):
        if file.stem not in ("traceback", "logging", "asyncio", "socket", "click", "msgspec", "selectors", "tomllib"):
            file.unlink()
    environment = {"PYTHONPATH": str(poison.folder)}
    with Server("127.0.0.1:0", "--", "cat", environment=environment) as server:
        assert server.exchange(b"x") == b"x"
        assert server.stop() == 0
    assert poison.imported == []


# Modules.


def test_a_module_that_is_installed_is_not_replaced_by_one_of_the_working_directory(tmp_path: Path) -> None:
    module(tmp_path / "lib", "shop", "installed")
    module(tmp_path / "uploads", "shop", "uploaded")
    module(tmp_path / "uploads", "beside", "beside")
    (tmp_path / "lib" / "looking.py").write_text(
        "import sys\ndef handle(conn): conn.write(repr([e for e in sys.path if 'uploads' in e]).encode())\n"
    )
    environment = {"PYTHONPATH": str(tmp_path / "lib")}
    uploads = tmp_path / "uploads"
    places: list[tuple[list[str], Path | None]] = [([], uploads), (["--directory", str(uploads)], None)]
    for more, cwd in places:
        with Server("127.0.0.1:0", "--handler", "shop:handle", *more, environment=environment, cwd=cwd) as server:
            assert said_by(server) == "installed"
        with Server("127.0.0.1:0", "--handler", "looking:handle", *more, environment=environment, cwd=cwd) as server:
            assert said_by(server) == "[]"


def test_what_is_not_installed_is_found_where_the_server_was_started_and_comes_first(tmp_path: Path) -> None:
    (tmp_path / "looking.py").write_text("import sys\ndef handle(conn): conn.write(repr(sys.path).encode())\n")
    with Server("127.0.0.1:0", "--handler", "looking:handle", cwd=tmp_path) as server:
        path = eval(said_by(server))
    assert path[0] == str(tmp_path)
    assert all(os.path.isabs(entry) for entry in path)
    assert path.count(str(tmp_path)) == 1


def test_the_folder_of_a_link_is_that_of_what_it_leads_to(tmp_path: Path) -> None:
    module(tmp_path / "app", "ftp", "app")
    module(tmp_path / "app", "beside", "app")
    module(tmp_path / "uploads", "beside", "uploads")
    (tmp_path / "app" / "ftp.py").write_text("from beside import handle\n")
    (tmp_path / "uploads" / "ftp.py").symlink_to("../app/ftp.py")
    with Server("127.0.0.1:0", "--handler", f"{tmp_path}/uploads/ftp.py:handle") as server:
        assert said_by(server) == "app"


@pytest.fixture
def started_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    ("pythonpath", "wanted"),
    [
        ("", []),
        (":", []),
        ("/usr/share:", ["/usr/share"]),
        (".", ["{here}"]),
        (":lib:", ["{here}/lib"]),
        ("lib:{here}", ["{here}/lib", "{here}"]),
    ],
)
def test_entries_of_pythonpath_are_absolute_and_an_empty_one_means_nothing(
    started_in: Path, pythonpath: str, wanted: list[str]
) -> None:
    script = "from tcppar import import_path; print(*import_path.of_handlers(), sep='\\n')"
    environment = os.environ | {"PYTHONPATH": pythonpath.format(here=started_in)}
    for flag in ("-P", "-B"):
        found = subprocess.run(
            [sys.executable, flag, "-c", script], env=environment, capture_output=True, text=True, check=True
        ).stdout.split()
        library = os.path.dirname(os.__file__)
        first = found[: next(at for at, entry in enumerate(found) if entry.startswith(os.path.dirname(library)))]
        assert first == [entry.format(here=started_in) for entry in wanted]
        assert library in found


def test_a_program_s_server_looks_where_the_program_does(tmp_path: Path) -> None:
    poison = Poison(tmp_path / "uploads", tmp_path / "marks")
    app = tmp_path / "app"
    module(app, "beside", "beside")
    (app / "program.py").write_text(
        "import sys, socket, tcppar\nsys.path.append('extra')\nimport beside\n"
        "def handle(conn): conn.write(beside.WHERE)\n"
        "if __name__ == '__main__':\n"
        "    with tcppar.Server('127.0.0.1:0', handler=handle) as server:\n"
        "        print(socket.create_connection(server.addresses[0]).recv(100))\n"
    )
    done = subprocess.run(
        [sys.executable, app / "program.py"], cwd=poison.folder, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.stdout == "b'beside'\n", done.stderr
    assert poison.imported == []


def test_the_variable_of_a_program_is_not_for_children() -> None:
    environment = {import_path.OF_A_PROGRAM: str(HERE)}
    with Server("127.0.0.1:0", "--", "env", environment=environment) as server:
        assert import_path.OF_A_PROGRAM.encode() not in server.exchange(b"")
    assert command.run("--version").returncode == 0
