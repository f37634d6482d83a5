"""What was received and not yet read: nothing is lost, doubled or taken too early."""

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tcppar.child.buffer import Buffer
from tcppar.child.errors import LimitExceeded

# Few letters and short separators: they begin, break off and overlap all the time.
PIECES = st.binary(max_size=6).map(lambda data: bytes(b"ab\n"[byte % 3] for byte in data))
SEPARATORS = st.sampled_from([b"\n", b"ab", b"aab", b"\n\n"])
SIZES = st.integers(0, 12)
STEPS = st.lists(
    st.tuples(st.just("append"), PIECES)
    | st.tuples(st.just("take"), SIZES)
    | st.tuples(st.just("exactly"), SIZES)
    | st.tuples(st.just("until"), st.tuples(SEPARATORS, st.integers(1, 12)))
)


def until(data: bytes, separator: bytes, limit: int) -> bytes | str | None:
    """What take_until is to answer, said plainly."""
    end = data.find(separator) + len(separator)
    if separator in data and end <= limit:
        return data[:end]
    return "too long" if len(data) >= limit else None


def answer(buffer: Buffer, step: str, argument: object) -> bytes | str | None:
    match step, argument:
        case "take", int(most):
            return buffer.take(most)
        case "exactly", int(size):
            return buffer.take_exactly(size)
        case "until", (bytes(separator), int(limit)):
            try:
                return buffer.take_until(separator, limit)
            except LimitExceeded:
                return "too long"
    raise AssertionError(step)


def expected(data: bytes, step: str, argument: object) -> bytes | str | None:
    match step, argument:
        case "take", int(most):
            return data[:most]
        case "exactly", int(size):
            return data[:size] if size <= len(data) else None
        case "until", (bytes(separator), int(limit)):
            return until(data, separator, limit)
    raise AssertionError(step)


@given(STEPS)
@example([("append", b"ab"), ("until", (b"\n", 9)), ("until", (b"ab", 9))])
def test_a_buffer_answers_as_plain_bytes_would(steps: list[tuple[str, object]]) -> None:
    buffer, data = Buffer(), b""
    for step, argument in steps:
        if step == "append":
            assert isinstance(argument, bytes)
            buffer.append(argument)
            data += argument
        else:
            taken = answer(buffer, step, argument)
            assert taken == expected(data, step, argument)
            data = data[len(taken) :] if isinstance(taken, bytes) else data
        assert len(buffer) == len(data)
        assert bool(buffer) is bool(data)
    assert buffer.take_all() == data
    assert not buffer


@given(st.lists(PIECES), SEPARATORS)
def test_records_do_not_depend_on_how_they_were_cut_on_the_way(pieces: list[bytes], separator: bytes) -> None:
    whole = b"".join(pieces)
    buffer, records = Buffer(), []
    for piece in pieces:
        buffer.append(piece)
        while (record := buffer.take_until(separator, len(whole) + 1)) is not None:
            records.append(record)
    *full, rest = whole.split(separator)
    assert records == [part + separator for part in full]
    assert buffer.take_all() == rest


def test_a_record_of_many_pieces_is_searched_once() -> None:
    # Searched anew at every piece, this would be 50 gigabytes to look through.
    buffer, pieces = Buffer(), 10_000
    for _ in range(pieces):
        buffer.append(b"x" * 1000)
        assert buffer.take_until(b"\n", 1 << 30) is None
    buffer.append(b"\n")
    assert buffer.take_until(b"\n", 1 << 30) == b"x" * 1000 * pieces + b"\n"


@pytest.mark.parametrize(("separator", "limit"), [(b"", 10), (b"\n", 0), (b"\n", -1)])
def test_a_search_for_nothing_or_in_nothing_is_a_mistake(separator: bytes, limit: int) -> None:
    with pytest.raises(ValueError, match="at least 1"):
        Buffer().take_until(separator, limit)


def test_a_negative_size_is_a_mistake() -> None:
    with pytest.raises(ValueError, match="-1 is not a size"):
        Buffer().take_exactly(-1)
