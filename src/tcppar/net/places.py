"""What one socket listens on: what tells a listener that is wanted from one that is there."""

import ipaddress
from collections.abc import Iterable
from typing import NamedTuple

from tcppar.net.address import Address, format_endpoint
from tcppar.net.listener import Listener
from tcppar.net.opening import ListenerOptions, has_ipv6

_BOTH_WILDCARDS = ("0.0.0.0", "::")


class Place(NamedTuple):
    """One of them. A bare port is two, so that `:7000` and `0.0.0.0:7000` have one in common.

    Attributes:
        service: whose it is, where the address alone does not say that: with port 0, each has one of its own.
        both_families: an address of IPv6 to which IPv4 clients come too.
        device: the network interface; empty for all.
    """

    address: Address
    service: str = ""
    both_families: bool = False
    device: str = ""

    def overlaps(self, other: "Place") -> bool:
        """Whether there are clients whom either could take."""
        if not (self.address.port and self.address.port == other.address.port):
            return False
        if self.device and other.device and self.device != other.device:
            return False
        return bool(self._families & other._families) and (
            self.address.host == other.address.host or self._is_wildcard or other._is_wildcard
        )

    @property
    def _is_wildcard(self) -> bool:
        return self.address.host in _BOTH_WILDCARDS

    @property
    def _families(self) -> set[int]:
        found = ipaddress.ip_address(self.address.host)
        mapped = found.version == 6 and found.ipv4_mapped is not None
        return {4, 6} if self.both_families else {4} if mapped else {found.version}


def wanted(addresses: Iterable[Address], options: ListenerOptions, service: str) -> list[Place]:
    """The places that the addresses of a service stand for."""
    return [place for address in addresses for place in _of_address(address, options, service)]


def _of_address(address: Address, options: ListenerOptions, service: str) -> list[Place]:
    if address.chosen_by_system or address.path or address.inherited:
        return [Place(address, service if address.chosen_by_system else "")]
    if not address.host:
        hosts = _BOTH_WILDCARDS if has_ipv6() else _BOTH_WILDCARDS[:1]
        return [Place(Address(format_endpoint(host, address.port)), device=options.device) for host in hosts]
    both_families = address.host == "::" and not options.ipv6_only
    return [Place(address, both_families=both_families, device=options.device)]


def of(listener: Listener, service: str) -> Place:
    """The place of a listener of a service's."""
    address = listener.address
    if address.chosen_by_system or address.path or address.inherited:
        return Place(address, service if address.chosen_by_system else "")
    return Place(Address(str(listener)), "", listener.both_families, listener.device)
