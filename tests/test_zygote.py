"""The spawner whose loop is C: what it makes of orders, of good ones and of others, and what it reports."""

import errno
import os
import pwd
import shutil
import signal
import socket
import tracemalloc
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

import tcppar
from tcppar.net.channel import ChannelClosed
from tcppar.records import (
    Busy,
    Deliver,
    Ended,
    Identity,
    Offer,
    Ready,
    Refused,
    Retire,
    Taken,
)
from tcppar.testing.subject import PACKAGE, may_enter
from tests.conftest import unavailable
from tests.support.command import Serve
from tests.support.handlers import HANDLERS, answers, children_of, is_over, said_by, start
from tests.support.server import descriptors, read_line, wait_until
from tests.support.spawner import UNIX, Spawner

only_full = pytest.mark.parametrize("serve", ["full"], indirect=True)
LENGTH = 4
SPARES = 2

pytestmark = pytest.mark.usefixtures("compiled_loop")


@pytest.fixture
def spawner() -> Iterator[Spawner]:
    spawner = Spawner()
    assert isinstance(spawner.report(), Ready)
    yield spawner
    assert spawner.close() == 0


# What is unpacked.

VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats(allow_nan=False)
    | st.text()
    | st.binary()
    | st.sampled_from(["x" * 31, "x" * 32, "x" * 255, "x" * 256, "x" * 65536]),
    lambda inner: st.lists(inner).map(tuple) | st.dictionaries(st.text() | st.binary(), inner),
)


def unpack(data: bytes) -> Any:
    from tcppar.spawner import _zygote

    return _zygote.unpack(data)


@given(VALUES)
def test_what_msgspec_has_packed_is_unpacked(value: object) -> None:
    assert unpack(msgspec.msgpack.encode(value)) == value


@pytest.mark.parametrize("size", [15, 16, 65535, 65536])
def test_arrays_and_maps_of_every_size_are_unpacked(size: int) -> None:
    array, names = tuple(range(size)), {f"{number}": number for number in range(size)}
    assert unpack(msgspec.msgpack.encode(array)) == array
    assert unpack(msgspec.msgpack.encode(names)) == names


@given(VALUES, st.data())
def test_a_part_of_it_is_refused_and_never_read_beyond(value: object, data: st.DataObject) -> None:
    packed = msgspec.msgpack.encode(value)
    with pytest.raises(ValueError, match="not MessagePack"):
        unpack(packed[: data.draw(st.integers(0, len(packed) - 1))])


@given(st.binary(max_size=64))
def test_anything_else_is_unpacked_or_refused(data: bytes) -> None:
    try:
        unpack(data)
    except (ValueError, TypeError):  # a map whose names are maps
        pass


def test_what_is_nested_without_end_is_refused() -> None:
    for nested in (b"\x91" * 100_000, b"\x81\x01" * 100_000, b"\x91" * 33 + b"\x01"):
        with pytest.raises(ValueError, match="not MessagePack"):
            unpack(nested)
    assert unpack(b"\x91" * 32 + b"\x01") is not None


def test_no_more_room_is_made_than_there_are_bytes_for() -> None:
    """Each array claims as many elements as there are bytes left, and so does its first element."""
    size = 100_000
    nested = b"".join(b"\xdd" + (size - 5 * depth).to_bytes(4, "big") for depth in range(1, 31))
    tracemalloc.start()
    with pytest.raises(ValueError, match="not MessagePack"):
        unpack(nested.ljust(size, b"\xc0"))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 20 * size  # the outermost array, and what Python itself needs


@pytest.mark.parametrize("data", [b"\x01\x02", b"\x91\x01\xc0", b"\x81\x80\x01", b"\xc1"])
def test_what_is_no_single_value_is_refused(data: bytes) -> None:
    with pytest.raises(ValueError, match="not MessagePack"):
        unpack(data)


# What it makes of offers.


def test_each_connection_gets_a_process_of_its_own_and_its_end_is_reported(spawner: Spawner) -> None:
    made = {}
    for number in range(10):
        client, taken = spawner.taken(number)
        made[number] = taken.pid
        with client:
            read_line(client)
            assert answers(client)
            assert os.getpgid(taken.pid) == taken.pid
        ended = spawner.report()
        assert isinstance(ended, Ended)
        assert (ended.number, ended.status) == (number, 0)
    assert len(set(made.values())) == 10


def test_connections_can_be_offered_before_others_are_answered(spawner: Spawner) -> None:
    clients = [spawner.offer(number) for number in range(20)]
    for client in clients:
        read_line(client)
        client.close()
    reports = [spawner.report() for _ in range(40)]
    for kind in (Taken, Ended):
        assert sorted(report.number for report in reports if isinstance(report, kind)) == list(range(20))


def test_the_very_offer_that_it_had_last_is_passed_over(spawner: Spawner) -> None:
    client, _ = spawner.taken(1, attempt=1)
    again = spawner.offer(1, attempt=1, again=True)
    assert again.recv(1) == b""  # its descriptor is closed
    read_line(client)
    # Another attempt is another offer; and so is one of which it is not said that it may have been sent.
    for more in ({"attempt": 2, "again": True}, {"attempt": 2}):
        other, _ = spawner.taken(1, **more)
        read_line(other)


def test_an_offer_whose_descriptor_got_lost_is_answered_busy(spawner: Spawner) -> None:
    spawner.channel.send(Offer(7, UNIX, attempt=3))
    assert spawner.report() == Busy(7, errno.EMFILE, "recvmsg", 3)
    client, _ = spawner.taken(8)
    read_line(client)


def test_frames_may_come_in_pieces_or_together(spawner: Spawner) -> None:
    client, taken = spawner.taken(5)
    read_line(client)
    frames = b""
    for order in (Deliver(9, signal.SIGTERM), Deliver(5, signal.SIGTERM)):
        body = msgspec.msgpack.encode(order)
        frames += len(body).to_bytes(LENGTH, "big") + body
    for byte in frames[:-1]:
        spawner.end.sendall(bytes([byte]))
    assert not is_over(taken.pid)
    body = msgspec.msgpack.encode(Retire())
    spawner.end.sendall(frames[-1:] + len(body).to_bytes(LENGTH, "big") + body)
    ended = spawner.report()
    assert isinstance(ended, Ended)
    assert (ended.number, ended.status) == (5, signal.SIGTERM)
    with pytest.raises(ChannelClosed):
        spawner.channel.receive()


@pytest.mark.parametrize("what", [b"\xff" * 64, (1 << 20).to_bytes(LENGTH, "big") * 5000])
def test_what_is_no_frame_ends_it_without_harm(what: bytes) -> None:
    spawner = Spawner()
    assert isinstance(spawner.report(), Ready)
    client, _ = spawner.taken(1)
    try:
        spawner.end.sendall(what)
    except OSError:
        pass  # it did not read to the end
    read_line(client)
    assert answers(client)
    assert spawner.close() == 0


@pytest.mark.parametrize(
    "order",
    [
        b"",
        b"\xc0",
        b"\x91\x05",  # no such order
        b"\x92\x01\x07",  # an offer without its ends
        b"\x93\x02\x07\xd3" + (2**32 + signal.SIGKILL).to_bytes(8, "big"),
        b"\x93\x02\x07\x00",
        b"\x93\x02\xcf" + b"\xff" * 8 + b"\x09",
        msgspec.msgpack.encode(Retire()) + b"\xc0",  # and something behind it
        msgspec.msgpack.encode(Offer(7, UNIX)).replace(b"unix", b"none"),
        b"\x91" * 5000,
    ],
    ids=lambda order: repr(order[:12]),
)
def test_an_order_that_is_none_ends_it_and_signals_nobody(order: bytes) -> None:
    spawner = Spawner()
    assert isinstance(spawner.report(), Ready)
    client, _ = spawner.taken(7)
    ours, its = socket.socketpair()
    with ours, its:
        socket.send_fds(spawner.end, [len(order).to_bytes(LENGTH, "big") + order], [its.fileno()])
        its.close()
        assert ours.recv(1) == b"", "what came with it is open"
    read_line(client)
    assert answers(client)
    client.close()
    with pytest.raises(ChannelClosed):
        spawner.channel.receive()
    assert spawner.close() == 0


def test_an_order_larger_than_any_ends_it_at_once() -> None:
    """It was waited for, and no more was read for want of room."""
    spawner = Spawner()
    assert isinstance(spawner.report(), Ready)
    spawner.end.sendall((8192 - LENGTH + 1).to_bytes(LENGTH, "big"))
    with pytest.raises(ChannelClosed):
        spawner.channel.receive()
    assert spawner.close() == 0


def test_a_descriptor_that_came_with_another_order_is_for_no_later_offer(spawner: Spawner) -> None:
    client, _ = spawner.taken(1)
    read_line(client)
    ours, its = socket.socketpair()
    with ours, its:
        spawner.channel.send(Deliver(9, signal.SIGTERM), its.fileno())
        its.close()
        spawner.channel.send(Offer(7, UNIX, attempt=3))
        assert spawner.report() == Busy(7, errno.EMFILE, "recvmsg", 3)
        assert ours.recv(1) == b"", "it is still open"


# Its children's lives, and its own.


def test_children_have_nothing_of_the_spawners_nor_of_each_other(spawner: Spawner) -> None:
    clients = [spawner.taken(number) for number in range(8)]
    for client, taken in clients:
        read_line(client)
        assert descriptors(taken.pid) == 4  # 0, 1, 2 and the connection


def test_spare_children_are_made_when_it_is_quiet_and_used_first(spawner: Spawner) -> None:
    wait_until(lambda: len(children_of(spawner.pid)) == SPARES)
    spares = children_of(spawner.pid)
    _, taken = spawner.taken(1)
    assert taken.pid in spares


def test_a_spare_child_that_is_killed_is_replaced_and_never_given_a_connection(spawner: Spawner) -> None:
    wait_until(lambda: len(children_of(spawner.pid)) == SPARES)
    killed = children_of(spawner.pid)
    for pid in killed:
        os.kill(pid, signal.SIGKILL)
    wait_until(lambda: all(is_over(pid) for pid in killed))
    for number in range(4):
        client, taken = spawner.taken(number)
        read_line(client)
        assert taken.pid not in killed


def test_spare_children_live_where_limits_leave_room_for_their_connection_alone() -> None:
    spawner = Spawner(rlimits=(("nofile", 4, 4),))
    assert isinstance(spawner.report(), Ready)
    wait_until(lambda: len(children_of(spawner.pid)) == SPARES)
    spares = children_of(spawner.pid)
    for number in range(SPARES):
        client, taken = spawner.taken(number)
        assert taken.pid in spares
        read_line(client)
        assert answers(client)
    assert spawner.close() == 0


def test_a_retiring_spawner_ends_with_its_last_child(spawner: Spawner) -> None:
    wait_until(lambda: len(children_of(spawner.pid)) == SPARES)
    spares = children_of(spawner.pid)
    client, taken = spawner.taken(1)
    spawner.channel.send(Retire())
    wait_until(lambda: all(is_over(pid) for pid in spares if pid != taken.pid))
    read_line(client)
    assert answers(client)
    client.close()
    assert isinstance(spawner.report(), Ended)
    with pytest.raises(ChannelClosed):
        spawner.channel.receive()


def test_children_go_on_when_the_supervisor_is_gone() -> None:
    spawner = Spawner()
    assert isinstance(spawner.report(), Ready)
    client, taken = spawner.taken(1)
    spawner.end.close()
    read_line(client)
    assert answers(client)
    assert not is_over(spawner.pid)
    assert spawner.close() == 0
    assert is_over(taken.pid)


@pytest.mark.skipif(os.getuid() != 0, reason="only root can make a process of a user who may have none")
def test_where_no_process_can_be_made_it_answers_busy_and_goes_on(open_folder: Path) -> None:
    if not may_enter("nobody", PACKAGE):
        unavailable("nobody cannot reach this package")
    handler = shutil.copyfile(HANDLERS / "alone.py", open_folder / "alone.py")
    spawner = Spawner(f"{handler}:handle", identity=Identity("nobody", 65534, 65534, (), "/"))
    assert isinstance(spawner.report(), Ready)
    for attempt in (1, 2):
        spawner.offer(1, attempt=attempt)
        assert spawner.report() == Busy(1, errno.EAGAIN, "spawn", attempt)
    assert spawner.close() == 0


def test_who_cannot_load_says_why() -> None:
    spawner = Spawner("failing:nothing")
    refusal = spawner.report()
    assert isinstance(refusal, Refused)
    assert refusal.mistake
    assert "has no 'nothing'" in refusal.reason
    assert str(HANDLERS / "failing.py") in refusal.sources
    assert spawner.close() == 1


def test_who_cannot_enter_says_why() -> None:
    spawner = Spawner(directory="/nowhere")
    user = pwd.getpwuid(os.geteuid()).pw_name
    told = f"directory: '/nowhere': user {user} cannot enter it: No such file or directory"
    assert spawner.report() == Refused(told)
    assert spawner.close() == 1


# Where it was not compiled.


@only_full
def test_without_a_compiler_the_loop_in_python_serves(serve: Serve, tmp_path: Path) -> None:
    package = Path(tcppar.__path__[0])
    for source in package.rglob("*.py"):
        copy = tmp_path / "tcppar" / source.relative_to(package)
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.write_bytes(source.read_bytes())
    server = start(serve, "counting:handle", environment={"PYTHONPATH": str(tmp_path)})
    assert [said_by(server).split()[1] for _ in range(3)] == ["1"] * 3
    [spawner] = {record["pid"] for record in server.events("spawner")}
    assert "_zygote" not in Path(f"/proc/{spawner}/maps").read_text()
