"""Programs that cannot be run: `check` and `serve` see it alike, as the service's user and from its directory."""

import os
import platform
import pwd
import resource
import shutil
import signal
import struct
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.conftest import HERE, tool
from tests.support import command
from tests.support.config import write
from tests.support.server import Server

Serve = Callable[..., Server]

only_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can start a service of another user")

HELLO = "#!/bin/sh\necho hello\n"


def script(path: Path, text: str = HELLO, mode: int = 0o755) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(mode)
    return path


def give(path: Path, uid: int, rights: int) -> None:
    """Give one user rights of his own to a file, as `setfacl -m u:UID:RIGHTS` does (linux/posix_acl_xattr.h)."""
    mode, nobody = path.stat().st_mode, 0xFFFFFFFF
    owner, user, group, mask, other = 0x01, 0x02, 0x04, 0x10, 0x20
    entries = [
        (owner, mode >> 6 & 7, nobody),
        (user, rights, uid),
        (group, mode >> 3 & 7, nobody),
        (mask, 7, nobody),
        (other, mode & 7, nobody),
    ]
    acl = struct.pack("<I", 2) + b"".join(struct.pack("<HHI", *entry) for entry in entries)
    try:
        os.setxattr(path, "system.posix_acl_access", acl)
    except OSError as error:
        pytest.skip(f"no ACL can be set: {error.strerror}")


@pytest.fixture
def folder(open_folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that every user can read, and where everything is started."""
    monkeypatch.chdir(open_folder)
    return open_folder


def refused(*arguments: str | Path) -> str:
    """What both commands say of a service that neither lets pass, without who says it."""
    checked, served = command.run("check", *arguments), command.run("serve", *arguments)
    assert (checked.returncode, served.returncode) == (100, 100), (checked, served)
    said = checked.stderr.removeprefix("tcppar: command line: ").replace("service.", "service ", 1)
    [line] = [line for line in served.stderr.splitlines() if line.startswith("tcppar: ")]
    assert line.removeprefix("tcppar: ").removeprefix("command line: ") == said.removesuffix("\n")
    return said


def served(serve: Serve, *arguments: str | Path) -> bytes:
    """What a client gets of a service that `check` lets pass."""
    checked = command.run("check", *arguments)
    assert (checked.returncode, checked.stderr) == (0, "")
    server = serve(*arguments)
    answer = server.exchange(b"")
    assert server.stop() == 0
    return answer


# From where it is looked for.


@pytest.mark.parametrize("directory", ["app", "{folder}/app"], ids=["relative", "absolute"])
def test_a_relative_program_is_looked_for_in_the_directory(directory: str, serve: Serve, folder: Path) -> None:
    script(folder / "app/bin/hello")
    options = ["127.0.0.1:0", "--directory", directory.format(folder=folder)]
    assert served(serve, *options, "--", "bin/hello") == b"hello\n"
    assert served(serve, *options, "--", "./bin/hello") == b"hello\n"


def test_a_relative_program_is_not_looked_for_where_the_server_was_started(folder: Path) -> None:
    script(folder / "hello")
    (folder / "app").mkdir()
    assert "'./hello': no such program" in refused("127.0.0.1:0", "--directory", "app", "--", "./hello")


@pytest.mark.parametrize("entry", ["bin", "", "."])
def test_a_relative_entry_of_path_counts_from_the_directory(entry: str, serve: Serve, folder: Path) -> None:
    script(folder / "app" / entry / "tcppar-hello")
    options = ["127.0.0.1:0", "--directory", "app", "--environment", f"PATH={entry}:/usr/bin:/bin"]
    assert served(serve, *options, "--", "tcppar-hello") == b"hello\n"


def test_a_relative_entry_of_path_does_not_count_from_where_the_server_was_started(folder: Path) -> None:
    script(folder / "bin/tcppar-hello")
    (folder / "app").mkdir()
    options = ["127.0.0.1:0", "--directory", "app", "--environment", "PATH=bin:/usr/bin:/bin"]
    assert "'tcppar-hello': no such program" in refused(*options, "--", "tcppar-hello")


def test_without_a_directory_a_relative_program_counts_from_where_the_server_was_started(
    serve: Serve, folder: Path
) -> None:
    script(folder / "hello")
    assert served(serve, "127.0.0.1:0", "--", "./hello") == b"hello\n"


def test_a_program_of_the_directory_without_a_slash_is_told_with_how_it_is_written(folder: Path) -> None:
    script(folder / "app/hello.sh")
    said = refused("127.0.0.1:0", "--directory", "app", "--", "hello.sh")
    assert said.endswith(": to run the file in the directory, write ./hello.sh\n")


# Who looks.


@only_root
def test_a_program_behind_a_closed_folder_is_refused_with_the_folder_and_the_user(folder: Path) -> None:
    program = script(folder / "private/bin/hello")
    (folder / "private").chmod(0o700)
    said = refused("127.0.0.1:0", "--user", "nobody", "--", program)
    reason = f"user nobody cannot run it: Permission denied (at {folder}/private/)"
    assert said == f"service hello: command: '{program}': {reason}\n"


@only_root
def test_a_program_that_the_user_has_no_right_to_is_refused(folder: Path) -> None:
    program = script(folder / "hello", mode=0o700)
    said = refused("127.0.0.1:0", "--user", "nobody", "--", program)
    assert said == f"service hello: command: '{program}': user nobody cannot run it: Permission denied\n"


@only_root
def test_a_right_that_an_acl_takes_from_the_user_is_missing(folder: Path) -> None:
    program = script(folder / "hello")
    give(program, pwd.getpwnam("nobody").pw_uid, os.R_OK)
    assert "user nobody cannot run it" in refused("127.0.0.1:0", "--user", "nobody", "--", program)


@only_root
def test_a_right_that_an_acl_gives_to_the_user_is_enough(serve: Serve, folder: Path) -> None:
    program = script(folder / "hello", mode=0o700)
    give(program, pwd.getpwnam("nobody").pw_uid, os.R_OK | os.X_OK)
    assert served(serve, "127.0.0.1:0", "--user", "nobody", "--", program) == b"hello\n"


@only_root
def test_of_several_in_path_the_first_that_the_user_may_run_is_run(serve: Serve, folder: Path) -> None:
    script(folder / "private/tcppar-hello", "#!/bin/sh\necho private\n")
    (folder / "private").chmod(0o700)
    script(folder / "public/tcppar-hello")
    path = f"PATH={folder}/private:{folder}/public:/usr/bin:/bin"
    arguments = ["127.0.0.1:0", "--user", "nobody", "--environment", path, "--", "tcppar-hello"]
    assert served(serve, *arguments) == b"hello\n"
    explained = command.run("check", "--from", "127.0.0.1", *arguments).stdout
    both = f"{folder}/private/tcppar-hello or {folder}/public/tcppar-hello"
    assert f"\nprogram: {both}, the first that user nobody can run\n" in explained


@only_root
def test_a_directory_that_the_user_may_not_enter_is_told_by_both(folder: Path) -> None:
    (folder / "private/app").mkdir(parents=True)
    (folder / "private").chmod(0o700)
    arguments = ["127.0.0.1:0", "--user", "nobody", "--directory", f"{folder}/private/app", "--", "cat"]
    place = f"'{folder}/private/app': user nobody cannot enter it (at {folder}/private/)"
    checked, served = command.run("check", *arguments), command.run("serve", *arguments)
    assert checked.stderr == f"tcppar: command line: service.cat: directory: {place}: Permission denied\n"
    assert served.stderr.splitlines()[-1] == f"tcppar: service cat: directory: {place}: Permission denied"


@only_root
def test_a_script_that_its_interpreter_may_not_read_is_refused(folder: Path) -> None:
    program = script(folder / "hello", mode=0o711)
    said = refused("127.0.0.1:0", "--user", "nobody", "--", program)
    reason = "user nobody cannot read it, and its interpreter has to: Permission denied"
    assert said == f"service hello: command: '{program}': {reason}\n"


@only_root
def test_a_binary_need_not_be_readable(serve: Serve, folder: Path) -> None:
    program = Path(shutil.copy2(tool("echo"), folder / "program"))
    program.chmod(0o711)
    assert served(serve, "127.0.0.1:0", "--user", "nobody", "--", program, "hello") == b"hello\n"


# What it needs.


@pytest.mark.parametrize(
    ("first", "told"),
    [
        ("#!/nonexistent/python", "its interpreter '/nonexistent/python' cannot be run: No such file or directory"),
        ("#! /nonexistent/python -u", "its interpreter '/nonexistent/python' cannot be run: No such file"),
        ("#!/bin/sh\r", "its interpreter '/bin/sh\\r' cannot be run: No such file or directory; the line ends with CR"),
        ("#!/etc/passwd", "its interpreter '/etc/passwd' cannot be run: Permission denied"),
        ("#!/usr/bin/env tcppar-no-python", "its interpreter 'tcppar-no-python' was not found in PATH ("),
        ("#!/usr/bin/env -S tcppar-no-python -u", "its interpreter 'tcppar-no-python' was not found in PATH ("),
        ("echo hello", "the system cannot run it: expected a binary for this system, or a script that begins"),
        ("", "the system cannot run it: expected a binary"),
        ("\x7fELF", "the system cannot run it: expected a binary"),
    ],
)
def test_a_script_that_cannot_be_run_is_refused(first: str, told: str, folder: Path) -> None:
    program = script(folder / "hello", f"{first}\necho hello\n" if first else "")
    assert refused("127.0.0.1:0", "--", program).startswith(f"service hello: command: '{program}': {told}")


@pytest.mark.parametrize("first", ["#!/bin/sh", "#! /bin/sh", "#!/usr/bin/env sh", "#!/usr/bin/env -S A=b sh"])
def test_a_script_that_can_be_run_is(first: str, serve: Serve, folder: Path) -> None:
    assert served(serve, "127.0.0.1:0", "--", script(folder / "hello", f"{first}\necho hello\n")) == b"hello\n"


def test_a_binary_whose_loader_is_missing_is_refused(folder: Path) -> None:
    program, source = folder / "program", folder / "program.c"
    source.write_text("int main(void) { return 0; }\n")
    loader = "-Wl,--dynamic-linker=/nonexistent/ld.so"
    subprocess.run([tool("gcc"), loader, "-o", program, source], check=True)
    said = refused("127.0.0.1:0", "--", program)
    assert "a file that it needs is missing, such as its loader" in said


def test_a_program_is_not_run_for_the_look_at_it(folder: Path) -> None:
    program = script(folder / "program", f"#!/bin/sh\ntouch {folder}/it-ran\n")
    assert command.run("check", "127.0.0.1:0", "--", program).returncode == 0
    assert not (folder / "it-ran").exists()


def test_a_binary_is_not_run_for_the_look_at_it(folder: Path) -> None:
    touch = shutil.copy2(tool("touch"), folder / "touch")
    # Given no file, it would say so, on the descriptor that is a spawner's log.
    checked = command.run("check", "127.0.0.1:0", "--", touch)
    assert (checked.returncode, checked.stderr) == (0, "")


def test_where_no_process_may_be_traced_what_can_be_known_is(folder: Path) -> None:
    ptrace = {"x86_64": 101, "aarch64": 117, "riscv64": 117}[platform.machine()]
    wrapper = [sys.executable, str(HERE / "support/forbidding.py"), "EPERM", str(ptrace)]
    sound, without, lost = script(folder / "sound"), folder / "without", script(folder / "lost", "#!/nonexistent\n")
    script(without, "touch it-ran\n")
    for program, code in ((sound, 0), (without, 0), (lost, 100)):
        assert command.run("check", "127.0.0.1:0", "--", program, wrapper=wrapper).returncode == code
    assert not (folder / "it-ran").exists()


def test_a_reload_to_a_program_that_cannot_be_run_is_refused(serve: Serve, folder: Path) -> None:
    file = folder / "tcppar.toml"
    services = {"web": {"listen": ["127.0.0.1:0"], "command": [str(script(folder / "hello"))]}}
    write(file, services)
    server = serve("-c", file)
    services["web"]["command"] = [str(script(folder / "other", "#!/nonexistent\n"))]
    write(file, services)
    server.signal(signal.SIGHUP)
    [record] = server.wait_for_event("reload-failed")
    [checked] = command.run("check", "-c", file).stderr.splitlines()
    [mistake] = record["mistakes"]
    assert checked == f"tcppar: {file}: {mistake.replace('service ', 'service.', 1)}"
    assert server.exchange(b"") == b"hello\n"


def test_a_service_goes_on_when_its_program_is_gone_and_says_so_of_each_client(serve: Serve, folder: Path) -> None:
    program = script(folder / "hello")
    server = serve("127.0.0.1:0", "--", program)
    program.unlink()
    [spawner] = server.events("spawner")
    os.kill(spawner["pid"], signal.SIGKILL)
    assert server.exchange(b"") == b""
    assert "ENOENT" in server.wait_for_event("refused")[0]["detail"]


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("#!/usr/bin/env python3 -u", "'python3 -u' was not found in PATH"),
        ("#!/usr/bin/env -S python3 -u", ""),
        ("#!/usr/bin/env python3", ""),
    ],
)
def test_env_takes_the_rest_of_its_line_for_one_name(line: str, told: str, tmp_path: Path) -> None:
    script = tmp_path / "script"
    script.write_text(f"{line}\n")
    script.chmod(0o755)
    done = command.run("check", "127.0.0.1:0", "--", script)
    assert told in done.stderr
    assert bool(told) is (done.returncode != 0)


# Interpreters in a row.


def chain(folder: Path, length: int, last: str = "/bin/sh") -> Path:
    """A script whose interpreter is a script, and so on."""
    interpreter = Path(last)
    for number in range(length):
        interpreter = script(folder / f"script{number}", f"#!{interpreter}\necho hello\n")
    return interpreter


def test_five_scripts_in_a_row_can_be_run(serve: Serve, folder: Path) -> None:
    # The innermost is run, by sh.
    assert served(serve, "127.0.0.1:0", "--", chain(folder, 5)) == b"hello\n"


def test_six_are_too_many(folder: Path) -> None:
    assert "its interpreter is a script too, and so are more than five" in refused(
        "127.0.0.1:0", "--", chain(folder, 6)
    )


def test_the_interpreter_of_an_interpreter_that_is_missing_is_named(folder: Path) -> None:
    said = refused("127.0.0.1:0", "--", chain(folder, 3, "/nonexistent/sh"))
    assert "its interpreter '/nonexistent/sh' cannot be run: No such file" in said


# Room.


@pytest.mark.parametrize("limit", ["as=64K", "as=1M", "data=0", "data=64K", "stack=4K", "nofile=3"])
def test_limits_in_which_a_program_cannot_begin_are_refused(limit: str) -> None:
    said = refused("127.0.0.1:0", "--rlimit", limit, "--", "cat")
    assert "are its limits too low (rlimits, ulimit -a)?" in said


def test_limits_in_which_an_interpreter_cannot_begin_are_refused(folder: Path) -> None:
    said = refused("127.0.0.1:0", "--rlimit", "as=1M", "--", script(folder / "script"))
    assert "are its limits too low" in said


def test_limits_in_which_it_can_are_not(serve: Serve) -> None:
    limits = ["--rlimit", "as=64M", "--rlimit", "data=16M", "--rlimit", "stack=256K", "--rlimit", "nofile=8"]
    assert served(serve, "127.0.0.1:0", *limits, "--", "echo", "hello") == b"hello\n"


LARGE = ["x" * 100_000] * 3


def test_what_is_too_large_for_the_limit_on_the_stack_is_refused() -> None:
    assert "its arguments and its environment are too large" in refused(
        "127.0.0.1:0", "--rlimit", "stack=1M", "--", "echo", *LARGE
    )


def test_what_is_not_too_large_for_the_services_own_limit_is_served(tmp_path: Path) -> None:
    """Though it is for the server's."""
    file = tmp_path / "tcppar.toml"
    write(file, {"one": {"command": ["echo", *LARGE], "rlimits": {"stack": "8M"}, "listen": ["127.0.0.1:0"]}})

    def little() -> None:
        resource.setrlimit(resource.RLIMIT_STACK, (512 << 10, resource.getrlimit(resource.RLIMIT_STACK)[1]))

    assert command.run("check", "-c", file, preexec_fn=little).stderr == ""
    with Server("-c", file, preexec_fn=little) as server:
        assert len(server.exchange(b"")) == sum(len(word) + 1 for word in LARGE)


def test_a_word_that_is_too_long_for_any_program_is_refused(tmp_path: Path) -> None:
    write(tmp_path / "tcppar.toml", {"echo": {"command": ["echo", "x" * 140_000], "listen": ["127.0.0.1:0"]}})
    assert "expected each to be shorter than 128 kB" in command.run("check", "-c", tmp_path / "tcppar.toml").stderr


# Libraries.


def test_a_library_that_is_missing_is_named(folder: Path) -> None:
    (folder / "needed.c").write_text("int needed(void) { return 0; }\n")
    (folder / "program.c").write_text("int needed(void); int main(void) { return needed(); }\n")
    gcc, library, program = tool("gcc"), folder / "libtcppar-needed.so", folder / "program"
    subprocess.run([gcc, "-shared", "-fPIC", "-o", library, folder / "needed.c"], check=True)
    subprocess.run([gcc, "-o", program, folder / "program.c", f"-L{folder}", "-ltcppar-needed"], check=True)
    found = ["--environment", f"LD_LIBRARY_PATH={folder}"]
    assert command.run("check", "127.0.0.1:0", *found, "--", program).returncode == 0
    assert "it cannot be loaded: libtcppar-needed.so => not found" in refused("127.0.0.1:0", "--", program)
