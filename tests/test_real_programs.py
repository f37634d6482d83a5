"""Programs as they are found on systems, written for inetd, tcpserver or systemd, and the clients that people use."""

import hashlib
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import HERE, tool
from tests.support.command import Serve
from tests.support.server import PATIENCE, read_all

CHILDREN = HERE / "children"
GIT_CLIENTS = 8
FILE_SIZES = {"empty": 0, "small.txt": 1000, "deep/er/page.html": 70_000, "large.bin": 2_000_000}
# Whoever runs the tests may have settings of his own for git.
GIT_ENVIRONMENT = {
    "GIT_CONFIG_GLOBAL": os.devnull,
    "GIT_CONFIG_NOSYSTEM": "1",
    **{f"GIT_{who}_{what}": "test@example.org" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")},
}


def write_files(folder: Path) -> None:
    """Files of random content, from none to some megabytes."""
    for name, size in FILE_SIZES.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(os.urandom(size))


def digest(folder: Path) -> str:
    """One hash over all names and contents."""
    whole = hashlib.sha256()
    for name in sorted(FILE_SIZES):
        whole.update(f"{name}:".encode() + hashlib.sha256((folder / name).read_bytes()).digest())
    return whole.hexdigest()


def git(*arguments: str | Path) -> str:
    return subprocess.run(
        [tool("git"), *map(str, arguments)],
        env=os.environ | GIT_ENVIRONMENT,
        stdout=subprocess.PIPE,
        text=True,
        timeout=PATIENCE,
        check=True,
    ).stdout.strip()


def talk(command: list[str], data: bytes) -> bytes:
    """What a real client prints when it is given this on its standard input."""
    return subprocess.run(command, input=data, stdout=subprocess.PIPE, timeout=PATIENCE, check=True).stdout


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A repository with some megabytes of random files."""
    folder = tmp_path_factory.mktemp("git") / "project"
    folder.mkdir()
    write_files(folder)
    git("-C", folder, "init", "--quiet")
    git("-C", folder, "config", "core.compression", "0")
    git("-C", folder, "add", ".")
    git("-C", folder, "commit", "--quiet", "--message", "All files")
    return folder


def git_daemon(repository: Path) -> list[str]:
    base = f"--base-path={repository.parent}"
    log = ["--verbose", "--log-destination=stderr"]
    return [tool("git"), "daemon", "--inetd", "--export-all", *log, base, str(repository.parent)]


def test_eight_clients_clone_from_git_daemon_at_once(serve: Serve, repository: Path, tmp_path: Path) -> None:
    server = serve("127.0.0.1:0", "--", *git_daemon(repository), environment=GIT_ENVIRONMENT)
    url = f"git://127.0.0.1:{server.address[1]}/{repository.name}"
    clones = [tmp_path / f"clone-{number}" for number in range(GIT_CLIENTS)]
    clients = [
        subprocess.Popen([tool("git"), "clone", "--quiet", url, str(clone)], env=os.environ | GIT_ENVIRONMENT)
        for clone in clones
    ]
    assert [client.wait(PATIENCE) for client in clients] == [0] * GIT_CLIENTS
    heads = {git("-C", clone, "rev-parse", "HEAD") for clone in clones}
    assert heads == {git("-C", repository, "rev-parse", "HEAD")}
    assert {digest(clone) for clone in clones} == {digest(repository)}
    ends = server.wait_for_event("end", GIT_CLIENTS)
    assert [record["exit"] for record in ends] == [0] * GIT_CLIENTS


def test_git_daemon_logs_its_client_by_the_name_of_systemds_protocol(serve: Serve, repository: Path) -> None:
    server = serve("127.0.0.1:0", "--", *git_daemon(repository), environment=GIT_ENVIRONMENT)
    git("ls-remote", f"git://127.0.0.1:{server.address[1]}/{repository.name}")
    (end,) = server.wait_for_event("end")
    # git daemon knows REMOTE_ADDR and REMOTE_PORT from systemd, and writes its log to descriptor 2.
    (said,) = server.wait_for(lambda r: r["event"] == "stderr" and "Connection from" in r["line"])
    assert said["line"].endswith(f"Connection from {end['peer']}")


def test_curl_fetches_many_files_at_once_from_busybox_httpd(serve: Serve, tmp_path: Path) -> None:
    site, copies = tmp_path / "site", tmp_path / "copies"
    write_files(site)
    server = serve("127.0.0.1:0", "--", tool("busybox"), "httpd", "-i", "-h", site)
    url = f"http://127.0.0.1:{server.address[1]}"
    wanted = [word for name in FILE_SIZES for word in ("--output", str(copies / name), f"{url}/{name}")]
    always = ["--silent", "--show-error", "--fail", "--create-dirs", "--noproxy", "*"]
    at_once = ["--parallel", "--parallel-immediate"]
    subprocess.run([tool("curl"), *always, *at_once, *wanted], check=True, timeout=PATIENCE)
    assert digest(copies) == digest(site)
    assert {record["exit"] for record in server.wait_for_event("end", len(FILE_SIZES))} == {0}


def test_netcat_gets_back_from_cat_what_it_sends(serve: Serve) -> None:
    server = serve("127.0.0.1:0", "--", "cat")
    data = os.urandom(1_000_000)
    assert talk([tool("nc"), "-N", "127.0.0.1", str(server.address[1])], data) == data


def test_netcat_talks_to_a_unix_socket(serve: Serve, tmp_path: Path) -> None:
    path = tmp_path / "socket"
    serve(f"unix:{path}", "--", "cat")
    data = os.urandom(1_000_000)
    assert talk([tool("nc"), "-N", "-U", str(path)], data) == data


def test_busybox_netcat_gets_a_reply(serve: Serve) -> None:
    server = serve("127.0.0.1:0", "--", "sh", "-c", 'read -r line; echo "$line, too"')
    assert talk([tool("busybox"), "nc", "127.0.0.1", str(server.address[1])], b"hello\n") == b"hello, too\n"


def test_tcpclient_talks_to_a_program_of_tcpservers(serve: Serve) -> None:
    # tcpclient (ucspi-tcp) gives its program the connection on 6 and 7, and its own names for both ends.
    server = serve("127.0.0.1:0", "--", CHILDREN / "ucspi_program.sh")
    program = 'echo hello >&7; echo "$TCPLOCALPORT"; cat <&6'
    client = [tool("tcpclient"), "-RHl0", "127.0.0.1", str(server.address[1]), "sh", "-c", program]
    port, reply = talk(client, b"").decode().splitlines()
    assert reply == f"TCP 127.0.0.1:{port} -> 127.0.0.1:{server.address[1]} hello"


def test_a_program_of_tcpservers_is_told_of_ipv6_clients_without_brackets(serve: Serve) -> None:
    server = serve("[::1]:0", "--", CHILDREN / "ucspi_program.sh")
    with server.connect() as client:
        port = client.getsockname()[1]
        client.sendall(b"hello\n")
        assert read_all(client).decode() == f"TCP ::1:{port} -> ::1:{server.address[1]} hello\n"


def test_recordio_runs_the_program_behind_it_and_records_on_the_log(serve: Serve) -> None:
    server = serve("127.0.0.1:0", "--", tool("recordio"), CHILDREN / "ucspi_program.sh")
    reply = server.exchange(b"hello\n").decode()
    assert reply.endswith("hello\n")
    # recordio prints its pid, "<" for what came in and ">" for what went out, and a blank for the end of a line.
    server.wait_for(lambda r: r["event"] == "stderr" and r["line"].endswith("< hello "))
    server.wait_for(lambda r: r["event"] == "stderr" and r["line"].endswith(f"> {reply.rstrip()} "))


def test_a_program_of_systemds_takes_the_connection_as_descriptor_3(serve: Serve) -> None:
    server = serve("127.0.0.1:0", "--descriptors", "listen-fds", "--", sys.executable, CHILDREN / "systemd_program.py")
    with server.connect() as client:
        client.sendall(b"hello\n")
        client.shutdown(socket.SHUT_WR)
        host, port = client.getsockname()
        assert read_all(client).decode() == f"{host}:{port} hello\n"
    (end,) = server.wait_for_event("end")
    assert end["exit"] == 0


def test_a_program_of_many_names_is_called_by_one_of_them(serve: Serve) -> None:
    server = serve("127.0.0.1:0", "--argv0", "echo", "--", tool("busybox"), "hello")
    assert server.exchange(b"") == b"hello\n"
