"""Addresses as users write them."""

import ipaddress
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tcppar.net.address import EXPECTED, Address, format_endpoint

PORTS = st.integers(0, 65535)


def stands_for_itself(text: str) -> bool:
    ip = ipaddress.ip_address(text)
    return not (
        ip.is_multicast or text == "255.255.255.255" or (ip.version == 6 and (ip.is_link_local or ip.ipv4_mapped))
    )


IPV4 = st.ip_addresses(v=4).map(str).filter(stands_for_itself)
IPV6 = st.ip_addresses(v=6).map(str).filter(stands_for_itself)
TEXTS = st.one_of(
    st.builds("{}:{}".format, IPV4, PORTS),
    st.builds("[{}]:{}".format, IPV6, PORTS),
    st.builds("{}{}".format, st.sampled_from(["", ":", "*:"]), PORTS),
    st.text(st.characters(exclude_characters="\0", codec="utf-8"), min_size=1, max_size=26)
    .filter(lambda path: not path.endswith("/"))
    .map("unix:{}".format),
    st.just("inherited"),
    st.text(st.characters(exclude_characters=":"), min_size=1).map("inherited:{}".format),
)


def parts(address: Address) -> tuple[str, int, str, bool, str]:
    return address.host, address.port, address.path, address.inherited, address.name


@given(TEXTS)
def test_an_address_reads_back_as_what_it_is_shown_as(text: str) -> None:
    address = Address(text)
    again = Address(str(address))
    assert again == address
    assert parts(again) == parts(address)


@given(IPV4, PORTS)
def test_an_ipv4_address_stands_before_the_port(host: str, port: int) -> None:
    assert parts(Address(f"{host}:{port}")) == (host, port, "", False, "")


@given(IPV6, PORTS)
def test_an_ipv6_address_stands_before_the_port_in_brackets(host: str, port: int) -> None:
    assert parts(Address(f"[{host}]:{port}")) == (host, port, "", False, "")


@pytest.mark.parametrize("zone", ["eth0", "2", "br-lan.7"])
def test_a_link_local_address_has_its_interface(zone: str) -> None:
    assert parts(Address(f"[fe80::1%{zone}]:80")) == (f"fe80::1%{zone}", 80, "", False, "")


@pytest.mark.parametrize("text", [":7000", "7000", "*:7000"])
def test_a_bare_port_is_for_both_families(text: str) -> None:
    address = Address(text)
    assert address == ":7000"
    assert parts(address) == ("", 7000, "", False, "")


@pytest.mark.parametrize(
    ("text", "path"),
    [("unix:/run/a.sock", "/run/a.sock"), ("unix:a:b", "a:b"), (f"unix:/{106 * 'a'}", f"/{106 * 'a'}")],
)
def test_a_unix_socket_has_a_path(text: str, path: str) -> None:
    assert parts(Address(text)) == ("", 0, path, False, "")


@pytest.mark.parametrize(("text", "name"), [("inherited", ""), ("inherited:web", "web"), ("inherited:a b", "a b")])
def test_an_inherited_listener_may_have_a_name(text: str, name: str) -> None:
    assert parts(Address(text)) == ("", 0, "", True, name)


@pytest.mark.parametrize(
    ("text", "same"),
    [
        ("[2001:0DB8:0:0::1]:80", "[2001:db8::1]:80"),
        ("[::ffff:192.0.2.1]:80", "192.0.2.1:80"),
        ("[::ffff:c000:201]:80", "192.0.2.1:80"),
        ("[FE80:0::1%eth0]:80", "[fe80::1%eth0]:80"),
        ("127.0.0.1:0080", "127.0.0.1:80"),
    ],
)
def test_ways_to_write_one_address_are_one_address(text: str, same: str) -> None:
    assert Address(text) == Address(same)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "has no port between 0 and 65535"),
        (":", "has no port between 0 and 65535"),
        ("127.0.0.1", "has no port between 0 and 65535"),
        ("127.0.0.1:", "has no port between 0 and 65535"),
        ("127.0.0.1:65536", "has no port between 0 and 65535"),
        ("127.0.0.1:-1", "has no port between 0 and 65535"),
        ("127.0.0.1:http", "has no port between 0 and 65535"),
        ("127.0.0.1:٨٠", "has no port between 0 and 65535"),
        ("[::1]", "has no port between 0 and 65535"),
        ("localhost:80", "'localhost' is not a numeric address"),
        ("127.1:80", "'127.1' is not a numeric address"),
        ("[]:80", "'' is not a numeric address"),
        ("[::1:80", "put an IPv6 address in brackets, as in [::1]:7000"),
        ("::1:80", "put an IPv6 address in brackets, as in [::1]:7000"),
        ("fe80::1%eth0:80", "put an IPv6 address in brackets, as in [::1]:7000"),
        ("tcp:127.0.0.1:80", "'tcp:127.0.0.1' is not a numeric address"),
        ("http://127.0.0.1:80", "'http://127.0.0.1' is not a numeric address"),
        ("[fe80::1]:80", "a link-local address needs an interface, as in [fe80::1%eth0]"),
        ("[fe80::1%]:80", "is not a numeric address"),
        ("[::1%lo]:80", "only a link-local address (fe80::/10) can have an interface"),
        ("[2001:db8::1%eth0]:80", "only a link-local address (fe80::/10) can have an interface"),
        ("[::ffff:192.0.2.1%eth0]:80", "only a link-local address (fe80::/10) can have an interface"),
        ("224.0.0.1:80", "is a multicast address, to which nobody can connect"),
        ("[ff02::1]:80", "is a multicast address, to which nobody can connect"),
        ("[::ffff:224.0.0.1]:80", "is a multicast address, to which nobody can connect"),
        ("[ff02::1%lo]:80", "is a multicast address, to which nobody can connect"),
        ("255.255.255.255:80", "is a broadcast address, to which nobody can connect"),
        ("[::ffff:255.255.255.255]:80", "is a broadcast address, to which nobody can connect"),
        ("inherited:", "expected a name without colons; `inherited` alone takes all listeners"),
        ("inherited:web:1", "expected a name without colons"),
        ("unix:/run/", "ends with a slash: expected the path of a file"),
        ("unix:", "has no path"),
        ("unix:/run/a\0b", "expected"),
        ("unix:/" + 107 * "a", "expected a path of at most 107 bytes"),
        ("unix:/" + 53 * "é" + "a", "expected a path of at most 107 bytes"),
    ],
)
def test_what_is_no_address_is_refused_with_what_is_wrong_with_it(text: str, said: str) -> None:
    with pytest.raises(ValueError, match=re.escape(said)) as refused:
        Address(text)
    assert str(refused.value).startswith(repr(text))


@pytest.mark.parametrize("value", [7000, None, 7000.0, ["127.0.0.1:80"]])
def test_what_is_no_text_is_no_address(value: object) -> None:
    with pytest.raises(ValueError, match="is not a string; " + re.escape(EXPECTED)):
        Address(value)


@given(st.text().filter(lambda text: ":" not in text and not text.isdigit() and text != "inherited"))
def test_a_text_of_none_of_the_forms_is_refused_with_all_of_them(text: str) -> None:
    with pytest.raises(ValueError, match=re.escape(EXPECTED)):
        Address(text)


@pytest.mark.parametrize(
    ("host", "port", "shown"), [("192.0.2.1", 80, "192.0.2.1:80"), ("::1", 80, "[::1]:80"), ("", 80, ":80")]
)
def test_an_endpoint_is_shown_with_brackets_where_they_are_needed(host: str, port: int, shown: str) -> None:
    assert format_endpoint(host, port) == shown
