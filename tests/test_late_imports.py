"""Nothing that is documented is imported after the fork; what a handler imports there is told once, with its cost."""

import re
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import pytest

from tcppar.child.late_imports import LateImports
from tests.support.command import Serve
from tests.support.handlers import said_by, start
from tests.support.server import Record, Server, read_all, read_line

only_full = pytest.mark.parametrize("serve", ["full"], indirect=True)


def tellings(server: Server) -> list[Record]:
    return [record for record in server.events("stderr") if "in the process of a connection" in record["line"]]


@pytest.mark.parametrize("mode", ["fork", "pool"])
def test_nothing_of_a_connection_is_imported_after_the_fork(serve: Serve, mode: str) -> None:
    server = start(serve, "importing:documented", mode=mode)
    with server.connect() as client:
        client.sendall(b"line\nxrest\n")
        assert read_line(client) == "more"
        client.sendall(b"abc")
        client.shutdown(1)
        assert read_all(client) == b"."
    assert server.wait_for_event("end")[0]["exit"] == 0
    assert server.stop() == 0
    assert [record["line"].partition(" from ")[0] for record in server.events("stderr")] == ["INFO"]


@pytest.mark.parametrize("mode", ["fork", "pool"])
def test_nothing_of_an_async_connection_is_imported_after_the_fork(serve: Serve, mode: str) -> None:
    server = start(serve, "importing:documented_async", mode=mode)
    assert said_by(server, b"line\nxrest\nabc") == "."
    assert server.stop() == 0
    assert tellings(server) == []


@pytest.mark.parametrize("mode", ["fork", "pool"])
def test_what_a_handler_imports_after_the_fork_is_told_once(serve: Serve, mode: str) -> None:
    server = start(serve, "importing:late", mode=mode)
    with ThreadPoolExecutor(4) as clients:
        assert Counter(clients.map(lambda _: said_by(server), range(12))) == {"imported": 12}
    server.wait_for_event("end", 12)
    assert server.stop() == 0
    lines = [record["line"] for record in tellings(server)]
    if server.portable and len(lines) > 1:
        lines = lines[:1]  # without the code in C, of two processes that look at once both may tell
    [line] = lines
    assert re.fullmatch(
        r"handler importing:late: imports xml\.etree\.ElementTree in the process of a connection, in "
        r"\d+\.\d ms: .* set preload = \[\"xml\.etree\.ElementTree\"\]",
        line,
    )


@only_full
@pytest.mark.parametrize("mode", ["fork", "pool"])
def test_what_is_preloaded_is_not_told(serve: Serve, mode: str) -> None:
    server = start(serve, "importing:late", "--preload", "xml.etree.ElementTree", mode=mode)
    assert said_by(server) == "imported"
    server.wait_for_event("end")
    assert server.stop() == 0
    assert server.events("stderr") == []


@only_full
def test_a_logger_that_was_not_foreseen_works_and_is_told(serve: Serve) -> None:
    server = start(serve, "unforeseen:handle")
    assert said_by(server) == ""
    server.wait_for_event("end")
    assert server.stop() == 0
    assert [record["line"] for record in server.events("stderr") if record["line"].startswith("INFO")] == [
        "INFO hidden"
    ]
    assert len(tellings(server)) == 1


def test_the_parts_of_a_package_are_told_as_one() -> None:
    told: list[str] = []

    def is_first(name: str) -> bool:
        told.append(name)
        return False

    late = LateImports("x:y", is_first)
    late.found = [("a", 0.1), ("a.b", 0.1), ("a.b.c", 0.1), ("d", 0.1)]
    late.tell()
    assert told == ["a.b.c", "d"]
    assert late.found == []
