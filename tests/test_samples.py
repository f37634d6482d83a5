"""The samples, each with real clients."""

import socket
import sqlite3
import struct
from contextlib import closing
from pathlib import Path

import pytest

from tests.conftest import HERE
from tests.support.command import Serve
from tests.support.handlers import end_of, peer_of
from tests.support.server import Server, read_line, wait_until

SAMPLES = HERE.parent / "samples"

only_full = pytest.mark.parametrize("serve", ["full"], indirect=True)


@pytest.fixture(params=["fork", "pool"])
def mode(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def start(serve: Serve, sample: str, mode: str, *more: str) -> Server:
    return serve("127.0.0.1:0", "--handler", SAMPLES / sample, "--mode", mode, *more)


@pytest.mark.parametrize("sample", sorted(SAMPLES.glob("*.py")), ids=lambda path: path.name)
def test_a_sample_is_short(sample: Path) -> None:
    assert len(sample.read_text().splitlines()) <= 60


@only_full
def test_echo_answers_each_line(serve: Serve, mode: str) -> None:
    server = start(serve, "echo.py:handle", mode)
    assert server.exchange(b"one\ntwo\nthree") == b"one\ntwo\nthree"
    with server.connect() as first, server.connect() as second:
        for client in (second, first):
            client.sendall(b"hello\n")
            assert read_line(client) == "hello"
    assert {end["exit"] for end in server.wait_for_event("end", 3)} == {0}


@only_full
def test_echo_tells_why_it_ends_a_conversation(serve: Serve, mode: str) -> None:
    server = start(serve, "echo.py:handle", mode)
    with server.connect() as client:
        client.sendall(b"x" * 4096)
        assert read_line(client) == "That line is too long. Goodbye."
        assert client.recv(1) == b""
        assert end_of(server, peer_of(client))["exit"] == 0


class Chat:
    """A server of the chat, and the table that its conversations share."""

    def __init__(self, serve: Serve, mode: str, folder: Path) -> None:
        self._database = folder / "chat.db"
        self.server = start(serve, "chat.py:handle", mode, "--environment", f"CHAT_DATABASE={self._database}")

    def enter(self, name: str) -> socket.socket:
        """Somebody who takes part from now on."""
        client = self.server.connect()
        assert read_line(client) == "Who are you?"
        client.sendall(f"{name}\n".encode())
        self.wait_for(f"{name} is here")
        return client

    def wait_for(self, line: str) -> None:
        """Wait until this has been said, whoever was told."""
        wait_until(lambda: line in self._said())

    def _said(self) -> list[str]:
        if not self._database.exists():
            return []
        with closing(sqlite3.connect(self._database)) as room:
            if not room.execute("SELECT 1 FROM sqlite_master WHERE name = 'said'").fetchone():
                return []
            return [line for (line,) in room.execute("SELECT line FROM said")]


def test_everybody_in_the_chat_sees_what_the_others_say(serve: Serve, mode: str, tmp_path: Path) -> None:
    chat = Chat(serve, mode, tmp_path)
    with chat.enter("Anna") as anna, chat.enter("Bert") as bert, chat.enter("Carl") as carl:
        assert [read_line(anna), read_line(anna)] == ["Bert is here", "Carl is here"]
        assert read_line(bert) == "Carl is here"
        # A line that comes in parts, with pauses in which news is looked for.
        anna.sendall(b"hel")
        bert.sendall(b"good day\n")
        assert read_line(anna) == read_line(carl) == "Bert: good day"
        anna.sendall(b"lo\n")
        assert read_line(bert) == read_line(carl) == "Anna: hello"
        bert.close()
        assert read_line(anna) == read_line(carl) == "Bert has left"
    assert {end["exit"] for end in chat.server.wait_for_event("end", 3)} == {0}


@only_full
def test_who_comes_to_the_chat_is_told_what_is_said_from_then_on(serve: Serve, tmp_path: Path) -> None:
    chat = Chat(serve, "fork", tmp_path)
    with chat.enter("Anna") as anna:
        anna.sendall(b"before\n")
        chat.wait_for("Anna: before")
        with chat.enter("Bert") as bert:
            anna.sendall(b"after\n")
            assert read_line(bert) == "Anna: after"


def replies_to(server: Server, *requests: str) -> list[str]:
    return server.exchange("".join(f"{request}\n" for request in requests).encode()).decode().splitlines()


@only_full
def test_requests_of_one_connection_are_answered_when_they_are_ready(serve: Serve, mode: str) -> None:
    server = start(serve, "async_protocol.py:handle", mode)
    assert replies_to(server, "1 wait 0.5", "2 wait 0.2", "3 upper some text") == [
        "3 ok SOME TEXT",
        "2 ok waited",
        "1 ok waited",
    ]
    (end,) = server.wait_for_event("end")
    assert end["exit"] == 0


@only_full
def test_no_more_requests_than_the_most_are_under_way_at_once(serve: Serve) -> None:
    server = start(serve, "async_protocol.py:handle", "fork")
    replies = replies_to(server, *(f"{number} wait 0.1" for number in range(32)))
    assert sorted(int(reply.split()[0]) for reply in replies) == list(range(32))
    (end,) = server.wait_for_event("end")
    assert end["duration"] >= 0.2


@only_full
def test_a_request_that_takes_too_long_is_given_up_and_no_other(serve: Serve) -> None:
    server = start(serve, "async_protocol.py:handle", "fork")
    assert replies_to(server, "1 wait 60", "2 upper x") == ["2 ok X", "1 error it takes too long"]


@only_full
@pytest.mark.parametrize(
    ("request_", "reply"),
    [
        ("1 nonsense", "1 error expected TAG upper TEXT, or TAG wait SECONDS"),
        ("1 wait x", "1 error could not convert string to float: 'x'"),
        ("", "- error expected TAG upper TEXT, or TAG wait SECONDS"),
        ("x" * 1024, "- error the line is too long"),
    ],
)
def test_a_request_that_makes_no_sense_is_told(serve: Serve, request_: str, reply: str) -> None:
    server = start(serve, "async_protocol.py:handle", "fork")
    with server.connect() as client:
        client.sendall(f"{request_}\n".encode())
        assert read_line(client) == reply


@only_full
def test_a_client_that_leaves_in_the_middle_of_its_requests_leaves_no_traceback(serve: Serve, mode: str) -> None:
    server = start(serve, "async_protocol.py:handle", mode)
    with server.connect() as client:
        client.sendall(b"1 wait 1\n2 upper x\n")
        assert read_line(client) == "2 ok X"
        peer = peer_of(client)
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    assert end_of(server, peer)["exit"] == 0
    assert server.events("stderr") == []
