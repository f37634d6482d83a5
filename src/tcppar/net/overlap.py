"""Addresses of one configuration that cannot be listened on side by side."""

import os
from collections.abc import Hashable, Iterator, Mapping, Sequence

from tcppar.net.address import Address, split_zone

_ALL = "*"

_Parts = dict[Hashable, tuple[str, Address]]
# What only one can listen on, and who has it: of a port, at each interface that somebody is bound to, the addresses; of
# the service manager's listeners the names.
_Taken = dict[Hashable, dict[str, _Parts]]


def between(listens: Mapping[str, Sequence[Address]], devices: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    """Every address that overlaps with one before it.

    Args:
        listens: of each service the addresses, by its name.
        devices: the interfaces of those services that are bound to one (`bind_to_device`).

    Returns:
        The name of the service, and what is wrong.
    """
    taken: _Taken = {}
    for name, addresses in listens.items():
        device = devices.get(name, "")
        for address in addresses:
            places = list(_places(name, address))
            found = next(filter(None, (_found(taken.get(group, {}), device, part) for group, part in places)), None)
            if found is not None:
                holder, other = found
                yield (
                    name,
                    (
                        f"{address} is already listened on by service.{holder}"
                        if other == address
                        else f"{address} overlaps with {other} of service.{holder}"
                    ),
                )
            for group, part in places:
                taken.setdefault(group, {}).setdefault(device, {}).setdefault(part, (name, address))


def _found(by_device: Mapping[str, _Parts], device: str, part: Hashable) -> tuple[str, Address] | None:
    """Who has it at that interface; whoever is bound to none is at all of them."""
    those = (parts for other, parts in by_device.items() if not device or not other or other == device)
    return next(filter(None, (_holder(parts, part) for parts in those)), None)


def _holder(parts: _Parts, part: Hashable) -> tuple[str, Address] | None:
    if part == _ALL:
        return next(iter(parts.values()), None)
    return parts.get(part) or parts.get(_ALL)


def _places(service: str, address: Address) -> Iterator[tuple[Hashable, Hashable]]:
    """What an address takes: groups of which everybody can have a part of his own, and the part."""
    if address.inherited:
        yield "inherited", address.name or _ALL
    elif address.path:
        folder, name = os.path.split(address.path)
        yield "unix", os.path.join(os.path.realpath(folder), name)
    elif address.chosen_by_system:
        yield (service, address), _ALL  # each has a port of its own, but of one service they could not be told apart
    else:
        for host in (address.host,) if address.host else ("0.0.0.0", "::"):
            yield (":" in host, address.port), _ALL if host in ("0.0.0.0", "::") else split_zone(host)
