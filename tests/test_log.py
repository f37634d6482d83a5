"""The log: one line for each event, on whatever the descriptor is, without ever waiting for it."""

import json
import os
import pty
import re
import resource
import select
import socket
import time
import tty
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from types import UnionType
from typing import Any, get_args, get_origin, get_type_hints

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tcppar.events import (
    ChildOutput,
    ConnectionRefused,
    Event,
    Level,
    Listening,
    ReloadFailed,
    Stopping,
)
from tcppar.observe.log import RENDERERS, Log
from tcppar.policy.life import EndedBy
from tcppar.policy.timers import NEVER
from tcppar.settings import LogFormat

# A write that waits for a reader who never comes is a failure, not a reason to wait for as long.
pytestmark = pytest.mark.timeout(10)

TEXT, JSON = LogFormat.TEXT, LogFormat.JSON
# More than what the log keeps and the system's buffers hold together.
TOO_MANY = 20_000
# How long to look for more before asking the log again whether it has some.
LOOK = 0.05


def event(number: int = 3) -> Event:
    return Stopping(reason="SIGTERM", connections=number)


def rendered(told: Event, log_format: LogFormat, now: float = 0.0) -> str:
    return RENDERERS[log_format]()(told, now)


def records(data: bytes) -> list[dict[str, Any]]:
    return [json.loads(line) for line in data.splitlines()]


def read_all(log: Log, reader: int) -> bytes:
    """What comes out at the other end until the log has nothing left to write."""
    data = b""
    while True:
        log.flush()
        if select.select([reader], [], [], LOOK)[0]:
            data += os.read(reader, 65536)
        elif not log.pending:
            return data


# Lines.


def values(hint: Any) -> st.SearchStrategy[Any]:
    """Values of a field."""
    if get_origin(hint) is UnionType:
        return st.one_of([values(part) for part in get_args(hint)])
    if get_origin(hint) is tuple:
        return st.lists(values(get_args(hint)[0])).map(tuple)
    if hint is int:
        return st.integers(0, 2**40)
    if hint is float:
        return st.floats(0, 1e9)
    return st.from_type(hint)


def of_kind(kind: type[Event]) -> st.SearchStrategy[Event]:
    hints = get_type_hints(kind)
    return st.builds(kind, **{field: values(hints[field]) for field in kind.__struct_fields__})


KINDS: list[type[Event]] = Event.__subclasses__()
EVENTS = st.sampled_from(KINDS).flatmap(of_kind)


@given(EVENTS, st.sampled_from(LogFormat))
def test_an_event_is_one_line_whatever_stands_in_it(told: Event, log_format: LogFormat) -> None:
    line = rendered(told, log_format)
    assert line.endswith("\n")
    assert line.count("\n") == 1


@given(EVENTS)
def test_a_json_line_has_the_time_the_level_the_kind_and_every_field(told: Event) -> None:
    record = json.loads(rendered(told, JSON))
    assert list(record) == ["time", "level", "event", *told.__struct_fields__]
    assert record["level"] == told.level
    assert record["event"] == told.__struct_config__.tag


@given(st.text())
def test_a_text_comes_back_out_of_a_json_line_as_it_went_in(text: str) -> None:
    record = json.loads(rendered(ChildOutput(service="web", id=None, pid=None, line=text), JSON))
    assert record["line"] == text


# Of each kind one: direction, width, line breaks, control, what is invisible in letters' and emoji's clothes.
UNSEEN = (
    *map(chr, (*range(0x202A, 0x202F), *range(0x2066, 0x206A), *range(0x200B, 0x2010), 0x2060, 0x061C, 0xFEFF, 0xAD)),
    *map(chr, (0x7F, 0x80, 0x85, 0x9B, 0x9F, 0x2028, 0x2029, 0x034F, 0x180E, 0x3164, 0xFE0F, 0xFFF9)),
    *map(chr, (0x1D173, 0xE0001, 0xE0041, 0xE0100)),
)


@pytest.mark.parametrize("unseen", UNSEEN, ids=lambda character: f"{ord(character):04x}")
def test_what_a_child_writes_and_nobody_sees_is_escaped(unseen: str) -> None:
    told = ChildOutput(service="web", id=None, pid=None, line=f"\N{SNOWMAN}paid{unseen}00.1\tdone")
    text, line = rendered(told, TEXT), rendered(told, JSON)
    assert f"\N{SNOWMAN}paid{ascii(unseen)[1:-1]}00.1\tdone" in text
    assert unseen not in line
    assert json.loads(line)["line"] == told.line


def test_what_is_seen_is_left_as_it_is() -> None:
    seen = "na\u00efve \u0645\u0631\u062d\u0628\u0627 \u65e5\u672c\u8a9e \U0001f600 e\u0301 \u00a0\u3000|\t|\\"
    told = ChildOutput(service="web", id=None, pid=None, line=seen)
    assert seen in rendered(told, TEXT)
    assert json.dumps(seen, ensure_ascii=False) in rendered(told, JSON)


@given(EVENTS)
def test_seconds_have_six_digits_behind_the_point_at_the_most(told: Event) -> None:
    record = json.loads(rendered(told, JSON), parse_float=str)
    for name in told.__struct_fields__:
        value = getattr(told, name)
        if isinstance(value, float) and value > 1e-4:  # below that JSON may have 5e-05
            assert len(record[name].partition(".")[2]) <= 6
            assert abs(float(record[name]) - value) <= 6e-7


def test_a_text_line_is_the_time_and_a_sentence() -> None:
    line = rendered(event(), TEXT, now=1767225600.5)
    assert line == "2026-01-01T00:00:00.500Z stopping (SIGTERM), 3 connections open\n"


def test_the_ready_line_is_a_sentence_without_a_time() -> None:
    assert rendered(Listening(address="127.0.0.1:80", service="web"), TEXT) == "listening on 127.0.0.1:80\n"


@given(st.lists(st.floats(0, 4e9), min_size=1, max_size=5), st.sampled_from(LogFormat))
def test_the_time_is_in_utc_with_milliseconds(times: list[float], log_format: LogFormat) -> None:
    render = RENDERERS[log_format]()
    for now in times:
        [text] = re.findall(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", render(event(), now))
        assert 0 <= now - datetime.fromisoformat(text).timestamp() < 0.001 + 1e-6


# Python's text for bytes of a file name or an environment that are not UTF-8.
NOT_UTF8 = os.fsdecode(b"/run/\xff")


@pytest.mark.parametrize(
    "told",
    [
        Listening(address=f"unix:{NOT_UTF8}\nlistening on 127.0.0.1:1", service="web"),
        ChildOutput(service="web", id=None, pid=None, line=f"{NOT_UTF8}\n"),
        ReloadFailed(mistakes=(f"{NOT_UTF8}\n",)),
        ConnectionRefused(
            id="1", service="web", peer=f"unix:{NOT_UTF8}\n", reason=EndedBy.FULL, queued=None, duration=0.0
        ),
    ],
    ids=lambda told: type(told).__name__,
)
@pytest.mark.parametrize("log_format", LogFormat)
def test_a_line_break_and_bytes_that_are_no_text_leave_a_line_a_line(
    told: Event, log_format: LogFormat, tmp_path: Path
) -> None:
    with (tmp_path / "log").open("wb") as file:
        log = Log(file.fileno(), log_format)
        log.emit(told)
        log.flush()
    [line] = (tmp_path / "log").read_text().splitlines()
    assert (r"/run/\udcff" if log_format is TEXT else r"/run/\\udcff") in line
    assert log_format is TEXT or json.loads(line)["event"] == told.__struct_config__.tag


@given(st.text())
def test_a_text_line_is_a_line_for_every_reader(text: str) -> None:
    assert len(rendered(ChildOutput(service="web", id=None, pid=None, line=text), TEXT).splitlines()) == 1


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_every_kind_of_event_has_a_name_and_a_description_of_its_own(kind: type[Event]) -> None:
    assert kind.__doc__
    assert kind.__doc__ != Event.__doc__
    assert [other for other in KINDS if other.__struct_config__.tag == kind.__struct_config__.tag] == [kind]


@given(EVENTS)
def test_every_event_has_a_level(told: Event) -> None:
    assert told.level in Level


# Writing.


def test_events_are_written_in_order_by_a_flush_and_not_before(tmp_path: Path) -> None:
    path = tmp_path / "log"
    with path.open("wb") as file:
        log = Log(file.fileno(), JSON)
        for number in range(3):
            log.emit(event(number))
        assert (path.read_bytes(), log.pending) == (b"", True)
        log.flush()
        assert (path.read_bytes() != b"", log.pending) == (True, False)
    assert [record["connections"] for record in records(path.read_bytes())] == [0, 1, 2]


def test_a_flush_of_nothing_writes_nothing(tmp_path: Path) -> None:
    with (tmp_path / "log").open("wb") as file:
        Log(file.fileno(), JSON).flush()
    assert (tmp_path / "log").read_bytes() == b""


def test_another_format_is_used_for_the_coming_records(tmp_path: Path) -> None:
    with (tmp_path / "log").open("wb") as file:
        log = Log(file.fileno(), TEXT)
        log.emit(event())
        log.use(JSON)
        log.emit(event())
        log.flush()
    first, second = (tmp_path / "log").read_text().splitlines()
    assert first.endswith("stopping (SIGTERM), 3 connections open")
    assert json.loads(second)["event"] == "stopping"


def test_a_record_is_due_soon_after_it_came_and_nothing_is_due_once_all_is_written(tmp_path: Path) -> None:
    with (tmp_path / "log").open("wb") as file:
        log = Log(file.fileno(), JSON)
        due = [log.due_at]
        log.emit(event())
        due.append(log.due_at)
        log.emit(event())
        due.append(log.due_at)
        log.flush()
        due.append(log.due_at)
    soon = due[1]
    assert due == [NEVER, soon, soon, NEVER]
    assert soon < time.monotonic() + 1


# What the descriptor can be: pairs of an end to read from and one to log to.

Ends = tuple[int, int]


def a_pipe() -> Ends:
    return os.pipe()


def a_socket() -> Ends:
    reader, writer = socket.socketpair()
    return reader.detach(), writer.detach()


def a_terminal() -> Ends:
    reader, writer = pty.openpty()
    tty.setraw(writer)
    return reader, writer


def a_terminal_that_expands_line_breaks() -> Ends:
    """As terminals are: a line break becomes two bytes on the way, which the room for one does not hold."""
    return pty.openpty()


@contextmanager
def who_may_not_open_it_anew() -> Iterator[None]:
    """As a server whose terminal or pipe belongs to another user: /proc does not let it open its descriptors."""
    if os.geteuid() != 0:
        pytest.skip("only root can be somebody else for a moment")
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)


@pytest.fixture(
    params=[a_pipe, a_socket, a_terminal, a_terminal_that_expands_line_breaks], ids=lambda make: make.__name__
)
def ends(request: pytest.FixtureRequest) -> Iterator[Ends]:
    """An end to read from, and the end to log to."""
    make: Callable[[], Ends] = request.param
    reader, writer = make()
    yield reader, writer
    os.close(reader)
    os.close(writer)


@pytest.fixture(params=["owner", "stranger"])
def log(request: pytest.FixtureRequest, ends: Ends) -> Log:
    """A log of one to whom the descriptor belongs, and of one who was only given it."""
    if request.param == "owner":
        return Log(ends[1], JSON)
    with who_may_not_open_it_anew():
        return Log(ends[1], JSON)


# A log lasts as long as its process and is never closed, but for here.
unclosed = pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning")


@unclosed
def test_what_is_logged_can_be_read(ends: Ends, log: Log) -> None:
    log.emit(event())
    assert [record["event"] for record in records(read_all(log, ends[0]))] == ["stopping"]


@unclosed
def test_a_reader_who_does_not_read_stops_nobody_and_is_told_later_how_much_was_lost(ends: Ends, log: Log) -> None:
    for number in range(TOO_MANY):
        log.emit(event(number))
        log.flush()
    assert log.pending
    read = records(read_all(log, ends[0]))
    numbers = [record["connections"] for record in read if record["event"] == "stopping"]
    assert numbers == list(range(len(numbers)))
    assert len(numbers) < TOO_MANY
    assert read[len(numbers) :] == [read[-1]]
    assert (read[-1]["event"], read[-1]["records"]) == ("log-lost", TOO_MANY - len(numbers))


@unclosed
def test_after_a_loss_the_log_goes_on_as_before(ends: Ends, log: Log) -> None:
    for number in range(TOO_MANY):
        log.emit(event(number))
    read_all(log, ends[0])
    log.emit(event(TOO_MANY))
    assert [record["connections"] for record in records(read_all(log, ends[0]))] == [TOO_MANY]


@unclosed
def test_the_descriptor_stays_blocking_for_all_who_share_it(ends: Ends, log: Log) -> None:
    log.emit(event())
    log.flush()
    assert os.get_blocking(ends[1])


@unclosed
@pytest.mark.parametrize("make", [a_pipe, a_socket, a_terminal])
@pytest.mark.parametrize("closed", ["before", "after"])
def test_a_reader_who_has_gone_stops_nobody(make: Callable[[], Ends], closed: str) -> None:
    reader, writer = make()
    if closed == "before":
        os.close(reader)
    log = Log(writer, JSON)
    if closed == "after":
        os.close(reader)
    for number in range(100):
        log.emit(event(number))
        log.flush()
    os.close(writer)


def test_a_full_disk_stops_nobody() -> None:
    with open("/dev/full", "wb") as disk:
        log = Log(disk.fileno(), JSON)
        for number in range(100):
            log.emit(event(number))
            log.flush()
        assert log.pending


@contextmanager
def who_may_write_no_more_than(size: int) -> Iterator[Callable[[], None]]:
    """No file may grow beyond a size (RLIMIT_FSIZE), until the function that this gives is called."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)

    def lift() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)

    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield lift
    finally:
        lift()


def test_a_disk_that_is_full_for_a_while_gets_all_lines_whole(tmp_path: Path) -> None:
    with who_may_write_no_more_than(1000) as lift, (tmp_path / "log").open("wb") as file:
        log = Log(file.fileno(), JSON)
        for number in range(100):
            log.emit(event(number))
            log.flush()
        lift()
        log.flush()
    assert [record["connections"] for record in records((tmp_path / "log").read_bytes())] == list(range(100))


def test_a_descriptor_that_is_closed_is_no_log() -> None:
    reader, writer = os.pipe()
    os.close(writer)
    log = Log(writer, JSON)
    log.emit(event())
    log.flush()
    assert not log.pending
    os.close(reader)
