"""What the package offers for testing servers: it must see every way in which a client can be let down."""

import contextlib
import socket
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from xml.etree import ElementTree

import pytest

from tcppar.testing import chaos, faults, holdings, subject
from tcppar.testing.books import Books
from tcppar.testing.chaos import Plan
from tcppar.testing.client import Failure, Greeting, Manner, Target
from tcppar.testing.holdings import Held
from tcppar.testing.load import Load, Outcome, Second
from tcppar.testing.processes import wait_until
from tcppar.testing.report import Event, Report
from tcppar.testing.server import Server, read_all
from tcppar.testing.subject import Subject
from tests.chaos import plot

QUICK = {Manner.QUICK: 1}
GREETING = b"run-1 4711\n"


# Clients.


@contextmanager
def answered_by(answer: Callable[[socket.socket], None]) -> Iterator[Target]:
    """A server of this process: each client is answered, then closed."""
    listener = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        with contextlib.suppress(OSError):  # the listener was shut down
            while True:
                client, _ = listener.accept()
                with client, contextlib.suppress(OSError):
                    answer(client)

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        yield Target("fake", listener.getsockname())
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        thread.join()
        listener.close()


def outcome_of(target: Target, **options: float) -> Outcome:
    """What becomes of one client or more."""
    with Load([target], rate=20, most=1, manners=QUICK, **options) as load:  # type: ignore[arg-type]
        wait_until(lambda: load.outcome.done > 0)
    return load.outcome


def echo(client: socket.socket) -> None:
    client.sendall(GREETING)
    while data := client.recv(1 << 16):
        client.sendall(data)


def cut(client: socket.socket) -> None:
    client.sendall(GREETING)
    client.sendall(client.recv(64)[:30])


def differ(client: socket.socket) -> None:
    client.sendall(GREETING)
    data = bytearray(client.recv(64))
    data[40] ^= 1
    client.sendall(data)


def say_more(client: socket.socket) -> None:
    echo(client)
    client.sendall(b"and more")


def reset(client: socket.socket) -> None:
    client.sendall(GREETING)
    client.recv(64)
    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


def greet_twice(client: socket.socket) -> None:
    client.sendall(2 * GREETING)


@pytest.mark.parametrize(
    ("answer", "failure"),
    [
        (cut, Failure.CUT),
        (differ, Failure.DIFFERENT),
        (say_more, Failure.DIFFERENT),
        (reset, Failure.RESET),
        (greet_twice, Failure.DIFFERENT),
        (lambda client: None, Failure.CUT),
    ],
)
def test_a_client_tells_how_it_was_let_down(answer: Callable[[socket.socket], None], failure: Failure) -> None:
    with answered_by(answer) as target:
        outcome = outcome_of(target)
    assert set(outcome.failures) == {failure}
    assert outcome.failed == outcome.done == len(outcome.losses)
    assert outcome.losses[0].service == "fake"


def test_a_client_who_is_refused_tells_it() -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        address = closed.getsockname()
    assert set(outcome_of(Target("nobody", address)).failures) == {Failure.REFUSED}


def test_a_client_who_is_never_answered_loses_its_patience() -> None:
    with socket.create_server(("127.0.0.1", 0)) as deaf:
        outcome = outcome_of(Target("deaf", deaf.getsockname()), patience=0.2)
    assert set(outcome.failures) == {Failure.SILENT}


def test_a_client_who_waits_for_more_than_a_second_is_late_and_not_lost() -> None:
    def hesitate(client: socket.socket) -> None:
        threading.Event().wait(1.1)
        echo(client)

    with answered_by(hesitate) as target:
        outcome = outcome_of(target)
    assert outcome.failed == 0
    assert outcome.late == len(outcome.waits) >= 1
    assert outcome.waits[0].ended - outcome.waits[0].began > 1.0


def test_all_manners_of_clients_are_satisfied_by_an_echo() -> None:
    greetings = list[Greeting]()
    with Server(
        "127.0.0.1:0", "--", "sh", "-c", "echo $TCPPAR_CONNECTION_ID $$; exec cat", "--stderr", "null"
    ) as server:
        targets = [Target("echo", server.address)]
        manners = dict.fromkeys(Manner, 1)
        with Load(targets, rate=40, manners=manners, on_greeting=greetings.append) as load:
            server.wait_for_event("end", 3 * len(manners))
        ends = {record["id"]: record["pid"] for record in server.wait_for_event("end", load.outcome.done)}
    assert load.outcome.failed == 0
    assert load.outcome.rude >= 1
    assert len(greetings) == load.outcome.done - load.outcome.rude
    assert all(ends[greeting.id] == greeting.pid for greeting in greetings)
    assert sum(second.done for second in load.outcome.seconds) == len(greetings)


def test_what_is_amiss_on_the_clients_side_is_no_failure_of_the_servers() -> None:
    nowhere = Target("nowhere", ("not an address", 1))
    load = Load([nowhere], rate=20).__enter__()
    wait_until(lambda: not load.running)
    with pytest.raises(OSError, match="Name or service not known"):
        load.finish()


# Books.


def end(number: int, pid: int = 7, **more: object) -> dict[str, object]:
    return {"event": "end", "id": f"run-{number}", "pid": pid, "ended_by": None, **more}


STOPPED = {"event": "stopped", "accepted": 2, "ended": 2, "refused": 0}


def books_of(seen: list[tuple[int, int]], records: list[dict[str, object]]) -> Books:
    books = Books()
    for number, pid in seen:
        books.see(Greeting(f"run-{number}", pid))
    for record in records:
        books.record(record)
    return books


def test_books_that_balance_have_no_problems() -> None:
    books = books_of([(1, 7), (2, 8)], [end(2, 8), end(1, 7), STOPPED])
    assert books.problems() == []
    assert books.recorded == 2


@pytest.mark.parametrize(
    ("seen", "records", "problem"),
    [
        ([(1, 7), (2, 7)], [end(1), end(2), end(2), STOPPED], "recorded more than once: 2"),
        ([(1, 7), (2, 7), (2, 7)], [end(1), end(2), STOPPED], "told to more than one client: 2"),
        ([(1, 7), (2, 7), (3, 7)], [end(1), end(2), STOPPED], "told, but never recorded: 3"),
        ([(1, 7)], [end(1), end(2), STOPPED], "recorded, but told to nobody: 2"),
        ([(1, 7), (2, 9)], [end(1), end(2), STOPPED], "recorded with another process than the client was told: run-2"),
        ([(1, 7), (2, 7)], [end(1), end(2, ended_by="stop"), STOPPED], "ended or refused by a rule: 1 by stop"),
        ([(1, 7)], [end(1), STOPPED], "the sums differ: accepted 2, ended and refused 2, recorded 1"),
    ],
)
def test_books_tell_what_does_not_balance(
    seen: list[tuple[int, int]], records: list[dict[str, object]], problem: str
) -> None:
    (found,) = books_of(seen, records).problems()
    assert found.startswith(problem)


def test_books_see_that_the_server_has_begun_another_life() -> None:
    books = books_of([(1, 7)], [end(1)])
    books.see(Greeting("other-2", 7))
    books.record(end(2) | {"id": "other-2"})
    assert books.problems() == ["prefixes of ids, where there should be one: run"]


def test_clients_who_left_unseen_may_be_in_the_records_alone() -> None:
    books = books_of([(1, 7)], [end(1), end(2), STOPPED])
    assert books.problems(unknown=1) == []


def test_a_record_may_come_twice_from_a_supervisor_that_was_killed_but_not_three_times() -> None:
    seen, records = [(1, 7), (2, 7)], [end(1), end(2), end(2), STOPPED]
    assert books_of(seen, records).problems(again=True) == []
    assert books_of(seen, records).doubled == 1
    assert books_of(seen, [end(2), *records]).problems(again=True) == ["recorded more than once: 2"]


def test_records_of_single_connections_are_not_kept() -> None:
    books = Books()
    assert not books.record(end(1))
    assert books.record(STOPPED)


# Faults, on a real server.


@pytest.fixture(scope="module")
def tried() -> Iterator[Subject]:
    with Subject(workers="8", user=subject.less_than_root()) as one:
        yield one


@pytest.mark.parametrize("kind", sorted(chaos.possible(linux=False, binding=False)))
def test_a_fault_that_any_system_has_loses_nobody(tried: Subject, kind: str) -> None:
    with tried.load(rate=50) as load:
        chaos.KINDS[kind](tried)
    assert load.outcome.losses == []
    assert load.outcome.done > 0


def test_a_killed_child_is_its_own_clients_matter(tried: Subject) -> None:
    for service in subject.SHARES:
        greeting = faults.kill_child(tried.server, service)
        tried.books.see(greeting)


def test_without_descriptors_accepts_fail_and_clients_wait(tried: Subject) -> None:
    with tried.load(rate=50) as load, faults.short_of_descriptors(tried.server):
        tried.server.wait_for(lambda record: record["event"] == "fault" and "EMFILE" in record["error"])
    assert load.outcome.losses == []


def test_without_processes_forks_fail_and_clients_wait(tried: Subject) -> None:
    if subject.less_than_root() is None:
        pytest.skip("nobody whom limits bind can run the handler")
    with tried.load(rate=50) as load, faults.short_of_processes(tried.server, subject.FORK):
        tried.server.wait_for(lambda record: record["event"] == "fault" and "EAGAIN" in record["error"])
    assert load.outcome.losses == []


def test_what_is_left_by_it_all(tried: Subject) -> None:
    assert holdings.zombies(tried.server) == []
    assert tried.settle()["supervisor"].processes == 1
    assert tried.problems() == []


# Looking.


def test_a_server_in_trouble_says_what_its_log_ended_with(tmp_path: Path) -> None:
    with pytest.raises(AssertionError, match="no such program"):
        Server("127.0.0.1:0", "--", tmp_path / "missing")


def test_records_can_be_watched_and_let_go() -> None:
    watched = list[str]()

    def watch(record: dict[str, object]) -> bool:
        watched.append(str(record["event"]))
        return record["event"] != "end"

    with Server("127.0.0.1:0", "--", "cat", watch=watch) as server:
        with server.connect() as client:
            client.shutdown(socket.SHUT_WR)
            assert read_all(client) == b""
        server.stop()
    assert watched.count("end") == 1
    assert server.events("end") == []


def test_processes_are_found_by_a_mark_in_their_environment() -> None:
    with Server("127.0.0.1:0", "--", "cat", environment={"TCPPAR_TEST_MARK": "here"}) as server:
        assert server.pid in holdings.marked("TCPPAR_TEST_MARK", "here")
        assert holdings.marked("TCPPAR_TEST_MARK", "elsewhere") == []


def test_more_than_before_is_a_difference() -> None:
    before = {"supervisor": Held(1, 20, 20_000)}
    assert holdings.differences(before, {"supervisor": Held(1, 20, 20_900)}) == []
    assert holdings.differences(before, {"supervisor": Held(1, 20, 15_000)}) == []
    assert holdings.differences(before, {"supervisor": Held(1, 21, 20_000)})
    assert holdings.differences(before, {"supervisor": Held(2, 20, 20_000)})
    assert holdings.differences(before, {"supervisor": Held(1, 20, 21_100)})


def test_a_plan_does_all_of_its_faults_in_the_same_order_each_time() -> None:
    plan = Plan(seconds=1, connections=0, rate=1, faults=chaos.FAULTS)
    assert plan.order() == plan.order()
    assert sorted(plan.order()) == sorted(kind for kind, number in chaos.FAULTS.items() for _ in range(number))
    assert chaos.FAULTS.keys() <= chaos.KINDS.keys()


# Reports.


def report(seconds: int = 3000) -> Report:
    outcome = Outcome(done=10 * seconds)
    outcome.failures[Failure.CUT] = 2
    outcome.late = 3
    outcome.seconds = [Second(100.0 + at, 10, 0.001, 0.01, 0.5) for at in range(seconds)]
    held = {"supervisor": Held(1, 20, 20_000)}
    events = [Event("reset", 110, 111), Event("<storm>", 120, 122)]
    return Report.of(outcome, events, excused=1, problems=["one was lost"], before=held, after=held)


def test_a_report_counts_from_its_start() -> None:
    made = report(60)
    assert (made.seconds, made.instants[0].at, made.events[0].began) == (60, 0, 10)
    assert (made.failures["cut"], made.late, made.excused, made.passed) == (2, 2, 1, False)
    assert made.lines()[-1] == "one was lost"


def test_the_picture_is_xml_and_has_no_more_points_than_can_be_seen() -> None:
    picture = plot.svg(report())
    root = ElementTree.fromstring(picture)
    lines = root.findall("{http://www.w3.org/2000/svg}polyline")
    assert len(lines) == 4
    assert all(100 < len(line.attrib["points"].split()) <= 480 for line in lines)
    assert "&lt;storm&gt; (1)" in picture
