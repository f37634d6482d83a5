"""Durations, file modes, bounds and limits as people write them, and texts as the system has them."""

import os

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tcppar.quantities import LARGEST_BOUND, UNLIMITED, Bounds, Duration, FileMode, Limit, ResourceLimit, Text

UNIT_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
FORMS = 'a number of seconds, or numbers with the units d, h, m, s and ms, such as "30s", "1h30m", "1.5d" or "250ms"'
LONGEST_DURATION = 36500 * 86400.0  # a hundred years
LARGEST_LIMIT = 2**63 - 1  # what setrlimit(2) takes through Python


@given(st.integers(0, 10_000), st.sampled_from(sorted(UNIT_SECONDS)), st.sampled_from(["", " "]))
def test_a_duration_is_a_number_and_a_unit(number: int, unit: str, space: str) -> None:
    assert Duration(f"{number}{space}{unit}") == number * UNIT_SECONDS[unit]


@given(st.integers(0, 10**9) | st.floats(0, 1e9))
def test_a_duration_without_a_unit_is_in_seconds(seconds: float) -> None:
    assert Duration(seconds) == seconds


@pytest.mark.parametrize(("text", "seconds"), [("30", 30.0), ("1.5", 1.5), ("0.5s", 0.5), ("1.5m", 90.0)])
def test_a_duration_may_have_a_fraction(text: str, seconds: float) -> None:
    assert Duration(text) == seconds


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("1h30m", 5400),
        ("1h 30m", 5400),
        ("5m30s", 330),
        ("1d12h", 129600),
        ("1d1h1m1.5s", 90061.5),
        ("1s500ms", 1.5),
        ("2m5ms", 120.005),
    ],
)
def test_a_duration_may_be_of_several_units_the_largest_first(text: str, seconds: float) -> None:
    assert Duration(text) == seconds


@pytest.mark.parametrize(
    ("seconds", "text"), [(0, "0s"), (0.25, "0.25s"), (30, "30s"), (300, "5m"), (43200, "12h"), (604800, "7d")]
)
def test_a_duration_is_shown_in_the_largest_unit_that_fits(seconds: float, text: str) -> None:
    assert str(Duration(seconds)) == text


@given(st.floats(0, LONGEST_DURATION))
@example(-0.0)
@example(5e-324)
@example(LONGEST_DURATION)
def test_a_duration_reads_back_as_what_it_is_shown_as(seconds: float) -> None:
    duration = Duration(seconds)
    assert Duration(str(duration)) == duration


@pytest.mark.parametrize(
    "value",
    [
        "",
        "s",
        "5 min",
        "1 day",
        "1w",
        "1,5h",
        "1:30",
        "1D",
        "+5s",
        "-1",
        "1e3",
        "30m1h",
        "1h1h",
        "1h30",
        "1.5h30m",
        "1h ",
        "1h  30m",
        " 1h30m",
        ".5",
        "infinity",
        True,
        None,
        [],
        "30s\n",
    ],
)
def test_what_is_no_duration_is_refused_with_examples_of_one(value: object) -> None:
    with pytest.raises(ValueError, match=f"is not a duration: expected {FORMS}$"):
        Duration(value)


@pytest.mark.parametrize("text", ["1d", "1.5h", "90", "1h 30m", "1 h", "250ms", "1d 12h", "1m 30s", "1.5d"])
def test_what_is_natural_is_a_duration(text: str) -> None:
    assert Duration(text) > 0


@pytest.mark.parametrize(
    "value",
    [
        -1,
        -0.001,
        float("inf"),
        float("nan"),
        LONGEST_DURATION + 1,
        "36501d",
        pytest.param(10**400, id="10**400"),
        pytest.param("9" * 400, id="'999...'"),
    ],
)
def test_a_duration_out_of_range_is_refused(value: object) -> None:
    with pytest.raises(ValueError, match="is not a duration: expected"):
        Duration(value)


@given(st.integers(0, 0o777))
def test_a_file_mode_reads_back_as_what_it_is_shown_as(mode: int) -> None:
    assert FileMode(str(FileMode(f"{mode:o}"))) == FileMode(f"0o{mode:o}") == mode


@pytest.mark.parametrize("value", ["1777", "7777", "4755", "01000", "0o2770"])
def test_a_file_mode_has_no_other_bits_than_rights(value: str) -> None:
    with pytest.raises(ValueError, match=f"'{value}': expected 0777 at most: setuid, setgid and sticky bits have no"):
        FileMode(value)


@pytest.mark.parametrize("value", ["", "8", "0089", "rwx", "-22", "7" * 10_000])
def test_what_is_no_file_mode_is_refused_with_an_example_of_one(value: str) -> None:
    with pytest.raises(ValueError, match='is not a file mode: expected octal digits, like "0027"'):
        FileMode(value)


@pytest.mark.parametrize("value", [27, 0o027, 0, 0o1000, -1, True, None, 2.0])
def test_a_number_is_no_file_mode_for_it_may_be_meant_in_octal_or_not(value: object) -> None:
    with pytest.raises(ValueError, match='is not a file mode: expected octal digits in quotes, like "0027"'):
        FileMode(value)


BOUNDS = st.tuples(st.integers(1, LARGEST_BOUND), st.integers(1, LARGEST_BOUND)).map(sorted)


@given(BOUNDS)
def test_bounds_are_the_least_and_the_most(pair: list[int]) -> None:
    bounds = Bounds(f"{pair[0]}-{pair[1]}")
    assert [bounds.least, bounds.most] == pair


@given(st.integers(1, LARGEST_BOUND))
def test_one_number_is_both_bounds(number: int) -> None:
    for bounds in (Bounds(number), Bounds(str(number)), Bounds(f"{number}-{number}")):
        assert (bounds.least, bounds.most) == (number, number)


@given(BOUNDS)
def test_bounds_read_back_as_what_they_are_shown_as(pair: list[int]) -> None:
    bounds = Bounds(f"{pair[0]}-{pair[1]}")
    again = Bounds(str(bounds))
    assert again == bounds
    assert [again.least, again.most] == pair


def test_bounds_that_mean_the_same_are_equal() -> None:
    assert Bounds("007") == Bounds(7) == Bounds("7-7") != Bounds("7-8")


@pytest.mark.parametrize(
    "value",
    ["", "0", 0, -1, "-1", "0-4", "4-2", "2-", "-2", "2--4", "2 - 4", "1-2-3", "two", "2.5", 2.0, True, None, [2], "²",
     "2\n", 10**9],
)  # fmt: skip
def test_what_are_no_bounds_is_refused_with_examples_of_some(value: object) -> None:
    with pytest.raises(ValueError, match='is not a range: expected a number, or two such as "2-16", from 1 to 10000'):
        Bounds(value)


@given(st.integers(UNLIMITED, LARGEST_LIMIT))
def test_a_limit_reads_back_as_what_it_is_shown_as(number: int) -> None:
    assert Limit(str(Limit(number))) == number


@given(st.integers(0, 1000), st.sampled_from(["k", "K", "m", "M", "g", "G"]))
def test_a_limit_may_be_a_size(number: int, unit: str) -> None:
    assert Limit(f"{number}{unit}") == number * 1024 ** ("kmg".index(unit.lower()) + 1)


def test_unlimited_is_a_limit_too() -> None:
    assert Limit("unlimited") == UNLIMITED


@pytest.mark.parametrize("value", ["", "M", "64MB", "1.5G", "Unlimited", "-2", -2, True, None, 1.0])
def test_what_is_no_limit_is_refused_with_an_example_of_one(value: object) -> None:
    with pytest.raises(
        ValueError, match='is not a limit: expected a number, a size in K, M or G such as "64M", or "unlimited"'
    ):
        Limit(value)


@pytest.mark.parametrize(
    ("text", "soft", "hard"),
    [
        (64, 64, 64),
        ("64M", 64 << 20, 64 << 20),
        ("unlimited", -1, -1),
        ("1024:524288", 1024, 524288),
        ("1k:1k", 1024, 1024),
        ("0:unlimited", 0, -1),
        ("unlimited:unlimited", -1, -1),
    ],
)
def test_a_resource_limit_is_one_limit_or_two(text: object, soft: int, hard: int) -> None:
    limit = ResourceLimit(text)
    assert (limit.soft, limit.hard) == (soft, hard)
    again = ResourceLimit(str(limit))
    assert (again, again.soft, again.hard) == (limit, soft, hard)


@pytest.mark.parametrize(
    "value", ["", ":", "1:", ":1", "1:2:3", "2:1", "unlimited:1", "1 : 2", "a:b", True, None, 1.0, [1]]
)
def test_what_is_no_resource_limit_is_refused(value: object) -> None:
    with pytest.raises(ValueError, match="is not a limit: expected"):
        ResourceLimit(value)


@given(st.binary().filter(lambda raw: b"\0" not in raw))
def test_a_text_is_any_bytes_and_reads_back_from_what_is_kept_of_it(raw: bytes) -> None:
    text = Text(os.fsdecode(raw))
    assert os.fsencode(text) == raw
    assert Text(text.plain) == text
    assert isinstance(text.plain, str if _is_utf8(raw) else bytes)


def _is_utf8(raw: bytes) -> bool:
    try:
        raw.decode()
    except UnicodeDecodeError:
        return False
    return True


@pytest.mark.parametrize("value", ["a\0b", "\ud800", 7, None, ["a"]])
def test_what_the_system_cannot_have_is_no_text(value: object) -> None:
    with pytest.raises(ValueError, match="expected a string"):
        Text(value)


@pytest.mark.parametrize("value", [LARGEST_LIMIT + 1, 2**64, "99999999999G"])
def test_a_limit_that_the_system_cannot_hold_is_refused(value: object) -> None:
    with pytest.raises(ValueError, match="is not a limit: expected"):
        Limit(value)
