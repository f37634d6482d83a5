"""The error table, row by row."""

import errno

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tcppar.policy import faults
from tcppar.policy.faults import Remedy

GO_ON, COUNT, BACK_OFF, STRIKE = Remedy.GO_ON, Remedy.COUNT, Remedy.BACK_OFF, Remedy.STRIKE

# What to do about an error of:  accept    a wait  making a child
TABLE = {
    errno.EINTR: (GO_ON, GO_ON, BACK_OFF),
    errno.EAGAIN: (GO_ON, STRIKE, BACK_OFF),
    errno.EWOULDBLOCK: (GO_ON, STRIKE, BACK_OFF),
    errno.ECONNABORTED: (COUNT, STRIKE, STRIKE),
    errno.ECONNRESET: (COUNT, STRIKE, STRIKE),
    errno.EPROTO: (COUNT, STRIKE, STRIKE),
    errno.EMFILE: (BACK_OFF, STRIKE, BACK_OFF),
    errno.ENFILE: (BACK_OFF, STRIKE, BACK_OFF),
    errno.ENOBUFS: (BACK_OFF, STRIKE, BACK_OFF),
    errno.ENOMEM: (BACK_OFF, STRIKE, BACK_OFF),
    errno.ETOOMANYREFS: (STRIKE, STRIKE, BACK_OFF),
    errno.ETXTBSY: (STRIKE, STRIKE, BACK_OFF),
    errno.EPERM: (STRIKE, STRIKE, STRIKE),
    errno.EBADF: (STRIKE, STRIKE, STRIKE),
    errno.EINVAL: (STRIKE, STRIKE, STRIKE),
    errno.ENOTSOCK: (STRIKE, STRIKE, STRIKE),
    errno.EFAULT: (STRIKE, STRIKE, STRIKE),
    errno.ENOENT: (STRIKE, STRIKE, STRIKE),
    errno.EACCES: (STRIKE, STRIKE, STRIKE),
}

# accept(2), "Error handling": "the application should detect the network errors [...] after accept() and treat them
# like EAGAIN by retrying. In the case of TCP/IP, these are" the following.
NETWORK_ERRORS = [
    "ENETDOWN",
    "EPROTO",
    "ENOPROTOOPT",
    "EHOSTDOWN",
    "ENONET",
    "EHOSTUNREACH",
    "EOPNOTSUPP",
    "ENETUNREACH",
]


@pytest.mark.parametrize("number", TABLE, ids=lambda number: errno.errorcode[number])
def test_each_error_has_its_remedy(number: int) -> None:
    assert (faults.of_accept(number), faults.of_wait(number), faults.of_spawn(number)) == TABLE[number]


@pytest.mark.parametrize("symbol", NETWORK_ERRORS)
def test_a_network_error_that_accept_passes_on_is_the_clients_fault(symbol: str) -> None:
    assert faults.of_accept(getattr(errno, symbol)) is Remedy.COUNT


@given(st.integers(0, 10_000).filter(lambda number: number not in errno.errorcode))
def test_an_error_that_nobody_knows_is_a_strike(number: int) -> None:
    assert {faults.of_accept(number), faults.of_wait(number), faults.of_spawn(number)} == {Remedy.STRIKE}


def test_a_child_is_tried_again_or_given_up_and_nothing_else() -> None:
    assert {faults.of_spawn(number) for number in errno.errorcode} == {Remedy.BACK_OFF, Remedy.STRIKE}


def test_an_error_is_shown_with_its_symbol_and_its_text() -> None:
    assert faults.name(errno.EMFILE) == "EMFILE (Too many open files)"


def test_an_error_without_a_symbol_is_shown_by_its_number() -> None:
    assert faults.name(9999) == "9999 (Unknown error 9999)"
