"""The programs of the scheme (samples/a-shell), each against the other side with plain sockets; and the recipe."""

import os
import re
import socket
import subprocess
import sys
import threading
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.conftest import HERE
from tests.support import a_shell
from tests.support.a_shell import SAMPLES, ParallelServer, converse, load, receive, script, send
from tests.support.certificates import Authority, tls_server
from tests.support.command import Serve
from tests.support.server import PATIENCE, wait_until

CONNECTIONS = int(os.environ.get("TCPPAR_SOAK_CONNECTIONS", "96"))
CLIENTS = 16

pytestmark = pytest.mark.timeout(max(120, CONNECTIONS))

both_families = pytest.mark.parametrize("host", ["127.0.0.1", "::1"], ids=["ipv4", "ipv6"])
Completed = subprocess.CompletedProcess[str]


@contextmanager
def listening(host: str) -> Iterator[socket.socket]:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.create_server((host, 0), family=family) as listener:
        listener.settimeout(PATIENCE)
        yield listener


def run_client(*arguments: object) -> Completed:
    return subprocess.run(
        script("client.py", *arguments), capture_output=True, text=True, timeout=PATIENCE, check=False
    )


# TCPCH1


@contextmanager
def child_with_connection(host: str) -> Iterator[tuple["subprocess.Popen[str]", socket.socket]]:
    """A running child.py, and the client's end of its connection."""
    with listening(host) as listener, socket.create_connection(listener.getsockname()[:2], PATIENCE) as client:
        connection, _ = listener.accept()
        with connection:
            words = script("child.py", connection.fileno())
            child = subprocess.Popen(words, stdout=subprocess.PIPE, text=True, pass_fds=[connection.fileno()])
        with child:
            yield child, client
            client.close()


@both_families
def test_the_child_holds_a_conversation_of_several_exchanges(host: str) -> None:
    with child_with_connection(host) as (child, client):
        converse(client, exchanges=20)
        send(client, "")
        assert receive(client) == "21 "
        client.shutdown(socket.SHUT_WR)
        assert receive(client) is None
        output, _ = child.communicate(timeout=PATIENCE)
        assert re.fullmatch(r"socket \d+: 21 exchanges\n", output)
        assert child.returncode == 0


def test_packets_that_come_in_pieces_or_joined_are_told_apart() -> None:
    with child_with_connection("127.0.0.1") as (_, client):
        for piece in (b"00", b"05he", b"llo0003one0003t", b"wo"):
            client.sendall(piece)
        assert [receive(client) for _ in range(3)] == ["1 HELLO", "2 ONE", "3 TWO"]


@pytest.mark.parametrize("nonsense", [b"abcd", b"-001", b"0009half", b"00"])
def test_the_child_ends_a_conversation_that_makes_no_sense(nonsense: bytes) -> None:
    with child_with_connection("127.0.0.1") as (child, client):
        client.sendall(nonsense)
        client.shutdown(socket.SHUT_WR)
        assert receive(client) is None
        assert child.wait(PATIENCE) == 0


# The client


def serve_one(listener: socket.socket, conversation: list[str]) -> threading.Thread:
    """The server's side with plain sockets: note what one client says, and answer it."""

    def serve() -> None:
        connection, _ = listener.accept()
        with connection:
            while (question := receive(connection)) is not None:
                conversation.append(question)
                send(connection, f"you said {question}")

    thread = threading.Thread(target=serve)
    thread.start()
    return thread


@both_families
def test_the_client_sends_each_word_and_prints_the_answers(host: str) -> None:
    conversation: list[str] = []
    with listening(host) as listener:
        server = serve_one(listener, conversation)
        completed = run_client(host, listener.getsockname()[1], "hello", "world", "é")
        server.join()
    assert conversation == ["hello", "world", "é"]
    assert completed.stdout.splitlines() == ["you said hello", "you said world", "you said é"]
    assert (completed.returncode, completed.stderr) == (0, "")


@both_families
def test_a_client_whom_nobody_serves_says_so(host: str) -> None:
    port = a_shell.free_port(host)
    completed = run_client(host, port, "hello")
    assert (completed.returncode, completed.stdout) == (1, "")
    assert completed.stderr == f"client: {host} port {port}: Connection refused\n"


def test_a_client_whose_host_is_not_known_says_so() -> None:
    completed = run_client("no-such-host.invalid", 7000, "hello")
    assert completed.returncode == 1
    assert "Name or service not known" in completed.stderr or "resolution" in completed.stderr, completed.stderr


def test_a_client_whose_server_leaves_says_so() -> None:
    with listening("127.0.0.1") as listener:
        leaver = threading.Thread(target=lambda: listener.accept()[0].close())
        leaver.start()
        completed = run_client("127.0.0.1", listener.getsockname()[1], "hello")
        leaver.join()
    assert completed.returncode == 1
    assert completed.stderr.startswith("client: ")


# The client and TLS


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.mark.parametrize(("host", "name"), [("127.0.0.1", "localhost"), ("::1", "::1")], ids=["ipv4", "ipv6"])
def test_a_good_certificate_of_openssls_server_is_accepted(authority: Authority, host: str, name: str) -> None:
    with tls_server(authority.certificate(f"good-{len(name)}", name), host) as server:
        words = script("client.py", "--tls", "--ca", authority.file, name, server.port, "hello", "world")
        client = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        with client:
            for question, answer in [(b"0005hello", b"00071 HELLO"), (b"0005world", b"00072 WORLD")]:
                server.receive(question)
                server.send(answer)
            output, complaints = client.communicate(timeout=PATIENCE)
    assert (client.returncode, complaints) == (0, "")
    assert output.splitlines() == ["1 HELLO", "2 WORLD"]


@pytest.mark.parametrize(
    ("host", "valid_to", "reason"),
    [
        ("localhost", "20200201000000Z", "certificate has expired"),
        ("other.example", "20991231235959Z", "Hostname mismatch, certificate is not valid for 'localhost'"),
    ],
    ids=["expired", "wrong name"],
)
def test_a_bad_certificate_of_openssls_server_is_refused_and_why_is_told(
    authority: Authority, host: str, valid_to: str, reason: str
) -> None:
    certificate = authority.certificate(reason.split()[1], host, valid_to)
    with tls_server(certificate) as server:
        completed = run_client("--tls", "--ca", authority.file, "localhost", server.port, "hello")
    assert (completed.returncode, completed.stdout) == (1, "")
    assert reason in completed.stderr


def test_a_certificate_of_nobody_that_is_trusted_is_refused(authority: Authority) -> None:
    with tls_server(authority.certificate("untrusted", "localhost")) as server:
        completed = run_client("--tls", "localhost", server.port, "hello")
    assert completed.returncode == 1
    assert "certificate verify failed" in completed.stderr or "unable to get local issuer" in completed.stderr


# TCPPAR


@pytest.fixture(params=["127.0.0.1", "::1"], ids=["ipv4", "ipv6"])
def tcppar_server(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[ParallelServer]:
    with ParallelServer(tmp_path, host=request.param) as server:
        yield server


def test_each_client_has_a_child_of_its_own_and_none_disturbs_another(tcppar_server: ParallelServer) -> None:
    with tcppar_server.connect() as silent, tcppar_server.connect() as first, tcppar_server.connect() as second:
        for number in (1, 2, 3):
            for client in (second, first):
                send(client, "hello")
                assert receive(client) == f"{number} HELLO"
        assert len(tcppar_server.children) == 3
        send(silent, "at last")
        assert receive(silent) == "1 AT LAST"


def test_housekeeping_leaves_no_zombie_and_no_file(tcppar_server: ParallelServer, tmp_path: Path) -> None:
    with tcppar_server.connect() as staying:
        converse(staying)
        assert load(tcppar_server, clients=4, connections=12) == []
        wait_until(lambda: len(tcppar_server.children) == 1)
        assert sorted(path.suffix for path in tmp_path.iterdir()) == ["", ".CTL", ".LOG"]
        assert tcppar_server.said.count("\n") == 1


def test_the_samples_serve_each_other(tcppar_server: ParallelServer) -> None:
    completed = run_client(*tcppar_server.address, "hello", "world")
    assert (completed.returncode, completed.stdout) == (0, "1 HELLO\n2 WORLD\n")


def test_a_port_that_is_taken_is_told(tcppar_server: ParallelServer, tmp_path: Path) -> None:
    port = tcppar_server.address[1]
    words = script("parallel_server.py", "--bind", tcppar_server.address[0], port)
    second = subprocess.run(words, capture_output=True, text=True, cwd=tmp_path, timeout=PATIENCE, check=False)
    assert second.returncode == 1
    assert second.stderr == f"TCPPAR: port {port}: Address already in use\n"


def test_16_clients_at_once_are_all_served(tmp_path: Path) -> None:
    with ParallelServer(tmp_path) as server:
        assert load(server, CLIENTS, CONNECTIONS) == []
        assert server.said.count("\n") == 1


@pytest.mark.parametrize("mode", ["raw", "errno"])
def test_the_resets_that_the_counter_asks_for_lose_nobody(tmp_path: Path, mode: str) -> None:
    with ParallelServer(tmp_path, "--interrupted", mode) as server:

        def wait_for_reset() -> None:
            """Until the ends of a wave's children have led to a reset, if they do. The next wave comes right then."""
            before = server.resets
            wait_until(lambda: server.resets > before or not server.children)

        assert load(server, CLIENTS, CONNECTIONS, between=wait_for_reset) == []
        print(f"{server.resets} resets in {CONNECTIONS} connections")
        assert server.resets > 0
        assert server.said.count("\n") == 1 + server.resets


# The recipe


def recipe() -> str:
    """The configuration of the recipe in docs/a-shell.md."""
    page = (HERE.parent / "docs" / "a-shell.md").read_text()
    block = re.search(r"\n\n((?:    .*\n|\n)*?    \[service\.tcpch1\]\n(?:    .*\n|\n)*)", page)
    assert block
    return re.sub(r"^    ", "", block[1], flags=re.MULTILINE)


def test_an_existing_tcpch1_runs_under_tcppar_serve_with_a_control_file(serve: Serve, tmp_path: Path) -> None:
    assert tomllib.loads(recipe())["service"]["tcpch1"]["descriptors"] == "listen-fds"
    ashell = tmp_path / "ashell"
    ashell.write_text(f"#!/bin/sh\nexec {sys.executable} {HERE / 'support' / 'ashell.py'}\n")
    ashell.chmod(0o755)
    file = tmp_path / "tcppar.toml"
    file.write_text(recipe().replace(":7000", "127.0.0.1:0"))
    server = serve("-c", file, environment={"PATH": f"{tmp_path}:{os.environ['PATH']}"})
    clients = [server.connect() for _ in range(3)]
    for client in clients:
        converse(client)
    for client in clients:
        with client:
            client.shutdown(socket.SHUT_WR)
            assert receive(client) is None
    assert {end["exit"] for end in server.wait_for_event("end", 3)} == {0}
    lines = [record["line"] for record in server.wait_for_event("stderr", 3)]
    assert set(lines) == {"socket 3: 2 exchanges"}


def test_a_sample_is_short() -> None:
    assert all(len(path.read_text().splitlines()) <= 120 for path in SAMPLES.glob("*.py"))
