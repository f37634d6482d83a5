"""Serving from a Python program: names of handlers, settings as arguments, the server's life beside the program."""

import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from signal import Signals
from textwrap import dedent
from typing import IO, Any

import click
import pytest

import tcppar
from tcppar import config as configuration
from tcppar import flags
from tcppar.cli import cli
from tcppar.handler_name import name_of
from tests.support import api_handlers, command
from tests.support.command import Serve
from tests.support.server import PATIENCE, descendants, read_all, stat_fields, wait_until

MODULE = "tests.support.api_handlers"


def connect(address: Any) -> socket.socket:
    client = socket.socket(socket.AF_UNIX if isinstance(address, str) else socket.AF_INET)
    client.settimeout(PATIENCE)
    try:
        client.connect(address)
    except OSError:
        client.close()
        raise
    return client


def answers(client: socket.socket) -> bool:
    """Whether a handler that echoes lines is at the other end."""
    client.sendall(b"hello\n")
    return client.recv(6, socket.MSG_WAITALL) == b"hello\n"


def told(address: Any) -> bytes:
    """What a handler says that only speaks."""
    with connect(address) as client:
        return read_all(client)


def is_refused(address: Any) -> bool:
    try:
        connect(address).close()
    except ConnectionRefusedError:
        return True
    return False


def is_over(pid: int) -> bool:
    return stat_fields(pid)[:1] in ([], ["Z"])


@pytest.fixture
def quiet() -> dict[str, Any]:
    """Settings of servers that tests start: no log, and no waiting for conversations at a stop."""
    return {"stderr": subprocess.DEVNULL, "drain_timeout": 0}


# Programs, where a test is about more than a call.


@contextmanager
def program(file: Path, text: str, *words: str, **popen: Any) -> Iterator["subprocess.Popen[str]"]:
    """Run a Python program beside the test, with its output to be read; it is ended by force if it still runs."""
    file.write_text(dedent(text))
    options = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True} | popen
    process = subprocess.Popen([sys.executable, *(words or [str(file)])], **options)
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def outcome(file: Path, text: str, *words: str, **popen: Any) -> tuple[int, str, str]:
    """Run a Python program to its end: exit code, output, errors."""
    with program(file, text, *words, **popen) as process:
        out, errors = process.communicate(timeout=PATIENCE)
        return process.returncode, out, errors


# Names of handlers.


@pytest.mark.parametrize(
    ("handler", "name"),
    [
        (api_handlers.echo, f"{MODULE}:echo"),
        (api_handlers.Outer.EchoRequests, f"{MODULE}:Outer.EchoRequests"),
        ("orders:handle", "orders:handle"),
        ("./orders.py:handle", "./orders.py:handle"),
    ],
)
def test_a_handler_is_named_by_its_module_and_its_name_there(handler: Any, name: str) -> None:
    assert name_of(handler, os.getcwd()) == name


@pytest.mark.parametrize(
    ("kind", "why"),
    [
        ("lambda", "a lambda of tests.support.api_handlers has no name"),
        ("closure", "_made_inside.<locals>.inner is defined inside a function"),
        ("partial", "is an object without a name"),
        ("method", "is not the object that is called Outer.method"),
        ("instance", "is an object without a name"),
        ("replaced", "is not the object that is called _replaced"),
    ],
)
def test_what_another_process_could_not_find_again_is_refused_with_the_reason(kind: str, why: str) -> None:
    with pytest.raises(tcppar.ConfigurationError, match="imports its handler by name") as refusal:
        tcppar.Server("127.0.0.1:0", handler=api_handlers.UNNAMEABLE[kind])
    assert why in str(refusal.value)


NAMES_ITSELF = """
    from tcppar.handler_name import name_of
    def handle(conn): pass
    print(name_of(handle, "/"))
"""


def test_a_handler_of_the_program_itself_is_named_by_its_file(tmp_path: Path) -> None:
    file = tmp_path / "my-server.py"
    assert outcome(file, NAMES_ITSELF, file.name, cwd=tmp_path)[1] == f"{file}:handle\n"


def test_a_handler_of_a_program_that_runs_as_a_module_is_named_by_the_module(tmp_path: Path) -> None:
    assert outcome(tmp_path / "my_server.py", NAMES_ITSELF, "-m", "my_server", cwd=tmp_path)[1] == "my_server:handle\n"


@pytest.mark.parametrize("file", ["__main__.py", "a.b.py", "program", "this.py"])
def test_a_program_whose_file_cannot_be_imported_by_its_name_is_refused(file: str, tmp_path: Path) -> None:
    assert "does not have a module name of its own" in outcome(tmp_path / file, NAMES_ITSELF)[2]


def test_a_program_that_is_in_no_file_is_refused(tmp_path: Path) -> None:
    assert "the program is not in a file" in outcome(tmp_path / "x", NAMES_ITSELF, "-c", dedent(NAMES_ITSELF))[2]


def test_a_handler_whose_name_means_another_one_where_the_server_looks_is_refused(tmp_path: Path) -> None:
    (tmp_path / "orders.py").write_text("def handle(conn): pass")
    (other := tmp_path / "other").mkdir()
    (other / "orders.py").write_text("def handle(conn): pass")
    text = """
        import orders, sys, tcppar
        {}
        print(tcppar.Server("127.0.0.1:0", handler=orders.handle))
    """
    # What this program finds by its path, the server finds by the same.
    assert outcome(tmp_path / "program.py", text.format(""), cwd=other)[0] == 0
    lost = text.format("del sys.path[0]")
    assert f"would not be imported; {other}/orders.py would" in outcome(tmp_path / "program.py", lost, cwd=other)[2]
    assert outcome(tmp_path / "program.py", lost, cwd=tmp_path)[0] == 0


# Settings as arguments.

MANY_SETTINGS: dict[str, Any] = {
    "handler": "orders:handle",
    "mode": "pool",
    "workers": "2-4",
    "connections_per_worker": 100,
    "worker_memory": "200M",
    "preload": ["json", "decimal"],
    "backlog": 5,
    "max_connections": 7,
    "when_full": "refuse",
    "hand_over_timeout": 0.25,
    "strikes": 0,
    "max_lifetime": "90s",
    "umask": 0o27,
    "directory": Path("/tmp"),
    "nice": 3,
    "rlimits": {"nofile": 100, "as": "64M", "cpu": "unlimited"},
    "environment": {"A": "b c=d", "B": "--", "NUMBER": "7"},
    "keep_environment": ["LANG", "TZ"],
    "clear_environment": True,
    "keepalive": False,
    "log_format": "json",
    "reload": False,
}


def parsed(words: list[str]) -> configuration.Config:
    """What the command makes of its words."""
    context = cli.commands["serve"].make_context("serve", words)
    given = {name: value for name, value in context.params.items() if name in flags_of_settings()}
    return flags.read(None, context.params["addresses"], context.obj, given)


def flags_of_settings() -> set[str]:
    options = [option for option in cli.commands["serve"].params if isinstance(option, click.Option)]
    return {option.name or "" for option in options} - {"file", "ready_fd", "failure_fd", "lifeline_fd"}


def test_the_command_reads_back_the_settings_that_were_given() -> None:
    listen = ["127.0.0.1:0", "unix:/run/a b"]
    result = parsed(flags.arguments_for({**MANY_SETTINGS, "listen": listen}))
    wanted = configuration.from_tree(
        {
            "log_format": "json",
            "reload": False,
            "service": {
                "orders": {
                    name: str(value) if isinstance(value, Path) else value
                    for name, value in MANY_SETTINGS.items()
                    if name not in ("log_format", "reload")
                }
                | {"listen": listen, "umask": "0027"}
            },
        },
        "wanted",
    )
    assert result == wanted


def test_a_program_can_be_given_in_place_of_a_handler() -> None:
    words = flags.arguments_for({"listen": ["127.0.0.1:0"], "command": ["cat", "--", "-u"], "nodelay": True})
    assert parsed(words).services["cat"].settings.command == ("cat", "--", "-u")


def test_every_mistake_of_the_settings_is_told_at_once_by_their_names() -> None:
    with pytest.raises(tcppar.ConfigurationError) as refusal:
        tcppar.Server("127.0.0.1:0", handler="a:b", max_conections=5, log_formt="json", max_lifetime="10 min")
    assert set(refusal.value.mistakes) == {
        "settings: log_formt: unknown setting; did you mean log_format?",
        "settings: max_conections: unknown setting; did you mean max_connections?",
        "settings: max_lifetime: '10 min' is not a duration: expected a number of seconds, or "
        'numbers with the units d, h, m, s and ms, such as "30s", "1h30m", "1.5d" or "250ms"',
    }


def test_a_server_without_an_address_or_with_two_lists_of_them_is_refused() -> None:
    with pytest.raises(tcppar.ConfigurationError, match="listen: missing"):
        tcppar.Server(handler="a:b")
    with pytest.raises(
        tcppar.ConfigurationError, match="listen: give the addresses either as arguments or as listen, not both"
    ):
        tcppar.Server("127.0.0.1:0", handler="a:b", listen=["127.0.0.1:0"])
    with pytest.raises(tcppar.ConfigurationError, match=r"listen: \('127.0.0.1', 0\): expected a string such as"):
        tcppar.Server(("127.0.0.1", 0), handler="a:b")  # type: ignore[arg-type]


# The server's life.


@pytest.mark.parametrize("settings", [{"mode": "fork"}, {"mode": "pool", "workers": 1}])
@pytest.mark.parametrize("handler", [api_handlers.echo, api_handlers.Outer.EchoRequests])
def test_a_server_serves_from_its_start_to_its_stop(
    settings: dict[str, Any], handler: Any, quiet: dict[str, Any]
) -> None:
    with tcppar.Server("127.0.0.1:0", handler=handler, **settings, **quiet) as server:
        address, pid = server.addresses[0], server.pid
        with connect(address) as client:
            assert answers(client)
    assert pid is not None
    assert (server.running, server.addresses, server.pid) == (False, [], None)
    assert is_refused(address)
    assert is_over(pid)


def test_the_addresses_are_the_real_ones(tmp_path: Path, quiet: dict[str, Any]) -> None:
    path = tmp_path / "a b\\c"
    with tcppar.Server("127.0.0.1:0", "[::1]:0", f"unix:{path}", handler=api_handlers.echo, **quiet) as server:
        first, second, third = server.addresses
        assert (first[0], second[0], third) == ("127.0.0.1", "::1", str(path))
        assert 0 not in (first[1], second[1])
        for address in (first, third):
            with connect(address) as client:
                assert answers(client)


def test_a_server_runs_once_and_can_be_started_again_after_its_stop(quiet: dict[str, Any]) -> None:
    server = tcppar.Server("127.0.0.1:0", handler=api_handlers.echo, **quiet)
    server.stop()  # nothing happens
    with server:
        before = server.pid
        with pytest.raises(RuntimeError, match="already running"):
            server.start()
        assert server.running
    with server, connect(server.addresses[0]) as client:
        assert server.pid != before
        assert answers(client)


def test_a_program_that_fails_in_the_block_leaves_no_server(quiet: dict[str, Any]) -> None:
    server = tcppar.Server("127.0.0.1:0", handler=api_handlers.echo, **quiet)
    pids = []

    def fail() -> None:
        with server:
            pids.append(server.pid or 0)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert is_over(pids[0])


def test_settings_reach_the_handler(tmp_path: Path, quiet: dict[str, Any]) -> None:
    settings: dict[str, Any] = {"directory": tmp_path, "environment": {"TOLD": "--no such=thing"}} | quiet
    with tcppar.Server("127.0.0.1:0", handler=api_handlers.surroundings, **settings) as server:
        assert told(server.addresses[0]).decode() == f"{tmp_path} --no such=thing"


def test_the_log_can_be_read(quiet: dict[str, Any]) -> None:
    settings = quiet | {"stderr": subprocess.PIPE, "log_format": "json"}
    with tcppar.Server("127.0.0.1:0", handler=api_handlers.echo, **settings) as server:
        log = server.stderr
    assert log is not None
    with log:
        assert b'"event":"stopped"' in log.read()


def test_a_start_leaves_no_descriptor_behind(quiet: dict[str, Any]) -> None:
    server = tcppar.Server("127.0.0.1:0", handler=api_handlers.echo, **quiet)
    before = os.listdir("/proc/self/fd")
    with server:
        pass
    assert os.listdir("/proc/self/fd") == before


def test_the_end_of_a_server_that_was_killed_is_an_error(quiet: dict[str, Any]) -> None:
    server = tcppar.Server("127.0.0.1:0", handler=api_handlers.echo, **quiet)
    server.start()
    with pytest.raises(TimeoutError, match=r"still running after 0\.01 s"):
        server.wait(0.01)
    server.send_signal(Signals.SIGKILL)
    with pytest.raises(tcppar.SystemRefused, match=r"the server ended \(signal SIGKILL\)"):
        server.wait(PATIENCE)
    server.stop()


def test_a_port_that_is_taken_is_told_in_the_servers_words(quiet: dict[str, Any]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        with pytest.raises(tcppar.SystemRefused, match=f"cannot listen on {address}: EADDRINUSE"):
            tcppar.Server(address, handler=api_handlers.echo, **quiet).start()
        with pytest.raises(tcppar.SystemRefused, match=f"cannot listen on {address}: EADDRINUSE"):
            tcppar.serve(address, handler=api_handlers.echo, **quiet)


def test_a_handler_that_is_not_there_is_told_in_the_servers_words(quiet: dict[str, Any]) -> None:
    with pytest.raises(tcppar.ConfigurationError, match=r"tests\.support\.api_handlers:missing: .* has no 'missing'"):
        tcppar.Server("127.0.0.1:0", handler=f"{MODULE}:missing", **quiet).start()


@pytest.mark.parametrize("portable", ["0", "1"])
def test_a_listener_of_the_programs_own_keeps_its_clients_from_one_start_to_the_next(
    portable: str, quiet: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TCPPAR_PORTABLE", portable)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        address = listener.getsockname()
        server = tcppar.Server(listener, handler=api_handlers.echo, **quiet)
        early = connect(address)
        with early, server:
            assert server.addresses == [address]
            assert answers(early)
        late = connect(address)
        with late, server:
            assert answers(late)


def test_a_socket_that_does_not_listen_is_refused(quiet: dict[str, Any]) -> None:
    with socket.socket() as unbound, pytest.raises(tcppar.SystemRefused, match="is not a listening stream socket"):
        tcppar.Server(unbound, handler=api_handlers.echo, **quiet).start()


# Programs that serve.

SERVES = """
    import os, sys
    import tcppar
    import beside

    def handle(conn):
        conn.write(f"{beside.WORD} {os.getppid()}\\n".encode())

    if __name__ == "__main__":
        tcppar.serve(f"unix:{sys.argv[1]}", handler=handle)
        print("and goes on")
"""


@pytest.fixture
def served(tmp_path: Path) -> Iterator[tuple[Path, "subprocess.Popen[str]"]]:
    """The socket of a program that serves a function of its own, with a module beside it; and the program."""
    (tmp_path / "beside.py").write_text("WORD = 'found'")
    path = tmp_path / "socket"
    file = tmp_path / "serving.py"
    with program(file, SERVES, str(file), str(path), cwd="/") as process:
        wait_until(lambda: path.exists() and not is_refused(str(path)))
        yield path, process


def test_a_program_serves_a_function_of_its_own_that_uses_modules_beside_it(
    served: tuple[Path, "subprocess.Popen[str]"],
) -> None:
    assert told(str(served[0])).startswith(b"found ")


@pytest.mark.parametrize("number", [Signals.SIGINT, Signals.SIGTERM])
def test_a_signal_that_stops_the_program_stops_the_server_and_lets_the_program_go_on(
    number: Signals, served: tuple[Path, "subprocess.Popen[str]"]
) -> None:
    path, process = served
    process.send_signal(number)
    out, errors = process.communicate(timeout=PATIENCE)
    assert (process.returncode, out) == (0, "and goes on\n")
    assert f"stopping ({number.name})" in errors
    assert not path.exists()


def test_a_program_that_is_killed_leaves_no_server_behind(served: tuple[Path, "subprocess.Popen[str]"]) -> None:
    path, process = served
    spawner = int(told(str(path)).split()[1])
    process.kill()
    assert "stopping (end of file on the lifeline)" in process.communicate(timeout=PATIENCE)[1]
    assert not path.exists()
    wait_until(lambda: is_over(spawner))


STOPPED_AT_ONCE = """
    import os, signal, subprocess, sys
    import tcppar

    start = subprocess.Popen.__init__

    def start_and_ask(self, *arguments, **options):
        start(self, *arguments, **options)
        os.kill(os.getpid(), signal.{name})

    subprocess.Popen.__init__ = start_and_ask
    tcppar.serve("127.0.0.1:0", command=["cat"])
    print("and goes on")
"""


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM"])
def test_a_signal_that_comes_before_the_server_can_be_stopped_is_not_lost(name: str, tmp_path: Path) -> None:
    code, out, errors = outcome(tmp_path / "stopped.py", STOPPED_AT_ONCE.format(name=name))
    assert (code, out) == (0, "and goes on\n")
    assert f"stopping ({name})" in errors


def test_a_thread_can_serve_too(tmp_path: Path) -> None:
    text = """
        import os, signal, threading
        import tcppar

        errors = []

        def serve():
            try:
                tcppar.serve("127.0.0.1:0", handler="nowhere:handle")
            except tcppar.ConfigurationError as error:
                print(error)

        thread = threading.Thread(target=serve)
        thread.start()
        thread.join()
    """
    code, out, _ = outcome(tmp_path / "threaded.py", text)
    assert code == 0
    assert "No module named 'nowhere'" in out


def test_a_program_can_have_a_subclass_of_a_server_beside_its_request_handler(tmp_path: Path) -> None:
    text = """
        import socket, socketserver, threading
        import tcppar

        class Handler(socketserver.BaseRequestHandler):
            def handle(self):
                self.request.sendall(b"served")

        class Mine(tcppar.PoolTCPServer):
            tcppar_settings = {"workers": 1}

        if __name__ == "__main__":
            with Mine(("127.0.0.1", 0), Handler) as server:
                thread = threading.Thread(target=server.serve_forever)
                thread.start()
                with socket.create_connection(server.server_address) as client:
                    print(client.recv(100))
                server.shutdown()
                thread.join()
    """
    code, out, errors = outcome(tmp_path / "mine.py", text)
    assert (code, out) == (0, "b'served'\n"), errors


def test_a_program_that_starts_its_server_unguarded_is_told_so_and_starts_no_second_one(tmp_path: Path) -> None:
    text = """
        import tcppar
        def handle(conn): pass
        tcppar.serve("127.0.0.1:0", handler=handle)
    """
    code, _, errors = outcome(tmp_path / "unguarded.py", text)
    assert code == 1
    assert errors.count("spawner pid") == 1
    told = 'start it under `if __name__ == "__main__":`'
    assert errors.rstrip().endswith(f"{told} ({tmp_path / 'unguarded.py'}, line 4)"), errors


# The lifeline, and what the command says of its start.


Pipe = tuple[int, IO[bytes]]


@pytest.fixture
def pipe() -> Iterator[Pipe]:
    """The number of a lifeline, and its other end."""
    reader, writer = os.pipe()
    with os.fdopen(reader), os.fdopen(writer, "wb", buffering=0) as other_end:
        yield reader, other_end


def test_the_end_of_the_lifeline_stops_the_server_and_what_is_written_to_it_does_not(serve: Serve, pipe: Pipe) -> None:
    reader, writer = pipe
    server = serve("--lifeline-fd", str(reader), "127.0.0.1:0", "--", "cat", pass_fds=[reader])
    writer.write(b"x" * 1000)
    assert server.exchange(b"hello") == b"hello"
    writer.close()
    assert server.wait() == 0
    assert server.events("stopping")[0]["reason"] == "end of file on the lifeline"


def test_conversations_have_their_time_at_the_end_of_the_lifeline_as_after_sigterm(serve: Serve, pipe: Pipe) -> None:
    reader, writer = pipe
    server = serve("--lifeline-fd", str(reader), "127.0.0.1:0", "--", "cat", pass_fds=[reader])
    with server.connect() as client:
        assert answers(client)
        writer.close()
        server.wait_for_event("closed")
        assert answers(client)
    assert server.wait() == 0
    assert server.events("end")[0]["exit"] == 0


def test_the_server_alone_has_the_lifeline_and_the_ready_descriptor(serve: Serve, pipe: Pipe) -> None:
    reader, _ = pipe
    ready, says = os.pipe()
    server = serve(
        *("--lifeline-fd", str(reader), "--ready-fd", str(says), "127.0.0.1:0", "--", "cat"), pass_fds=[reader, says]
    )
    os.close(says)
    with open(ready, "rb") as line, server.connect() as client:
        assert answers(client)
        assert line.read().startswith(b"ready ")  # to the end: nobody else has it
        processes = [*descendants(server.pid)]
        assert len(processes) >= 2
        assert os.readlink(f"/proc/{server.pid}/fd/{reader}") not in {
            os.readlink(file) for pid in processes for file in Path(f"/proc/{pid}/fd").iterdir()
        }


def test_a_lifeline_that_has_ended_already_lets_the_server_not_begin(serve: Serve, pipe: Pipe) -> None:
    reader, writer = pipe
    writer.close()
    server = serve("--lifeline-fd", str(reader), "127.0.0.1:0", "--", "cat", pass_fds=[reader], wait_ready=False)
    assert server.wait() == 0
    assert server.events("listening") == []


@pytest.mark.parametrize("option", ["--ready-fd", "--failure-fd", "--lifeline-fd"])
@pytest.mark.parametrize("number", ["77", "-1", str(2**40)])
def test_a_descriptor_that_is_not_open_is_a_mistake(option: str, number: str) -> None:
    result = command.run("serve", option, number, "127.0.0.1:0", "--", "cat")
    assert result.returncode == 100
    assert f"{option}: descriptor {number} is not open" in result.stderr


def test_a_file_is_no_lifeline(tmp_path: Path) -> None:
    with open(tmp_path / "file", "w+b") as file:
        number = file.fileno()
        result = command.run("serve", "--lifeline-fd", str(number), "127.0.0.1:0", "--", "cat", pass_fds=[number])
    assert result.returncode == 100
    assert "expected a pipe, a socket or a terminal" in result.stderr


def test_why_a_start_fails_is_told_on_a_descriptor_in_the_words_of_the_log() -> None:
    reader, writer = os.pipe()
    with socket.create_server(("127.0.0.1", 0)) as taken, os.fdopen(reader) as failure:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        options = ["--ready-fd", str(writer), "--failure-fd", str(writer)]
        result = command.run("serve", *options, address, "--", "cat", pass_fds=[writer])
        os.close(writer)
        assert f"tcppar: {failure.read()}" == result.stderr.splitlines(keepends=True)[-1]
        assert result.returncode == 111


def test_every_mistake_is_told_on_that_descriptor_each_in_a_line() -> None:
    reader, writer = os.pipe()
    with os.fdopen(reader) as failure:
        command.run("serve", "--failure-fd", str(writer), "x", "--strikes", "-1", "--", "cat", pass_fds=[writer])
        os.close(writer)
        lines = failure.read().splitlines()
    assert [line.split(":")[1].strip() for line in lines] == ["listen", "strikes"], lines
