"""Which addresses are one place, whatever they are called, and which cannot be listened on side by side.

A check, a start and a reload ask here, so that they cannot differ.
"""

import os
from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Generic, NamedTuple, TypeVar

from tcppar.net.address import Address, format_endpoint, split_zone
from tcppar.net.listener import Listener
from tcppar.net.opening import ListenerOptions, has_ipv6
from tcppar.net.unix_sockets import is_abstract

_WILDCARDS = ("0.0.0.0", "::")
_ALL = "*"

_Holder = TypeVar("_Holder")


class Part(NamedTuple):
    """What only one can have.

    Attributes:
        whole: what it is a part of: of a port and a family each address is one, of the service manager's listeners each
            name; anything else has one part only.
        part: which one, or all of them.
        device: at which network interface; empty for all.
    """

    whole: Hashable
    part: Hashable = _ALL
    device: str = ""


@dataclass(frozen=True, slots=True)
class Place:
    """What one listener takes. Two that take the same are equal.

    Attributes:
        address: as it was written, which makes no difference.
        parts: what it takes; two parts if an address of IPv6 takes IPv4 clients too.
    """

    address: Address = field(compare=False)
    parts: tuple[Part, ...]

    @property
    def both_families(self) -> bool:
        """Whether it is an address of IPv6 to which IPv4 clients come too."""
        return len(self.parts) > 1


class Taken(Generic[_Holder]):
    """Places that somebody has. To ask for one takes no longer if there are many."""

    def __init__(self) -> None:
        self._holders: dict[Hashable, dict[str, dict[Hashable, list[_Holder]]]] = {}

    def enter(self, place: Place, holder: _Holder) -> None:
        """Note who has it."""
        for whole, part, device in place.parts:
            self._holders.setdefault(whole, {}).setdefault(device, {}).setdefault(part, []).append(holder)

    def overlapping(self, place: Place) -> Iterator[_Holder]:
        """Whoever has something of it; if of two parts, twice."""
        for whole, part, device in place.parts:
            for other, holders in self._holders.get(whole, {}).items():
                if not device or not other or device == other:
                    yield from _having(part, holders)


def _having(part: Hashable, holders: Mapping[Hashable, list[_Holder]]) -> Iterator[_Holder]:
    for one in holders if part == _ALL else (part, _ALL):
        yield from holders.get(one, ())


def mistakes(listens: Mapping[str, tuple[Sequence[Address], ListenerOptions]]) -> Iterator[tuple[str, str]]:
    """Every address of a configuration that overlaps with one before it.

    Args:
        listens: of each service the addresses and how they are opened, by its name.

    Returns:
        The name of the service, and what is wrong.
    """
    taken = Taken[tuple[str, Address]]()
    for name, (addresses, options) in listens.items():
        for address in addresses:
            places = list(_of_address(address, options, name, _WILDCARDS))
            found = next((holder for place in places for holder in taken.overlapping(place)), None)
            if found is not None:
                yield name, _told(address, *found)
            for place in places:
                taken.enter(place, (name, address))


def _told(address: Address, holder: str, other: Address) -> str:
    if other == address:
        return f"{address} is already used by service.{holder}"
    return f"{address} overlaps with {other} of service.{holder}"


def wanted(addresses: Iterable[Address], options: ListenerOptions, service: str) -> list[Place]:
    """The places that the addresses of a service stand for: two for a bare port, if this machine has IPv6."""
    wildcards = _WILDCARDS if has_ipv6() else _WILDCARDS[:1]
    return [place for address in addresses for place in _of_address(address, options, service, wildcards)]


def of(listener: Listener, service: str) -> Place:
    """The place of a listener of a service's."""
    address = listener.address
    if address.chosen_by_system or address.path or address.inherited:
        return _apart(address, service)
    return _of_port(Address(str(listener)), both_families=listener.both_families, device=listener.device)


def known(place: Place, moved: Mapping[Place, Listener]) -> Place:
    """That of the listener whose socket is at a path now, with the address of this one; itself if there is none.

    Args:
        moved: listeners that nobody asks for by their own places.
    """
    path = place.address.path
    found = (other for other, listener in moved.items() if path and listener.is_at(path))
    return replace(next(found, place), address=place.address)


def _of_address(address: Address, options: ListenerOptions, service: str, wildcards: Sequence[str]) -> Iterator[Place]:
    if address.chosen_by_system or address.path or address.inherited:
        yield _apart(address, service)
    elif address.host:
        both_families = address.host == "::" and not options.ipv6_only
        yield _of_port(address, both_families=both_families, device=options.device)
    else:
        for host in wildcards:
            yield _of_port(Address(format_endpoint(host, address.port)), device=options.device)


def _apart(address: Address, service: str) -> Place:
    if address.inherited:
        part = Part("inherited", address.name or _ALL)
    elif address.chosen_by_system:
        part = Part((service, address))  # each has a port of its own, but of one service they could not be told apart
    else:
        part = Part(("unix", address.path if is_abstract(address.path) else _file(address.path)))
    return Place(address, (part,))


def _file(path: str) -> Hashable:
    """A socket's file, whatever links lead to it, and whether or not it is there."""
    folder, name = os.path.split(path)
    try:
        found = os.stat(folder or ".")
    except OSError:
        return os.path.realpath(folder), name
    return found.st_dev, found.st_ino, name


def _of_port(address: Address, *, both_families: bool = False, device: str) -> Place:
    part = _ALL if address.host in _WILDCARDS else split_zone(address.host)
    families = (4, 6) if both_families else (6,) if ":" in address.host else (4,)
    return Place(address, tuple(Part((family, address.port), part, device) for family in families))
