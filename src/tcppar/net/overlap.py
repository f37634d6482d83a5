"""Addresses of one configuration that cannot be listened on side by side."""

import os
from collections.abc import Hashable, Iterator, Mapping, Sequence

from tcppar.net.address import Address, split_zone

_ALL = "*"

# What only one can listen on, and who has it: of a port the addresses, of the service manager's listeners the names.
_Taken = dict[Hashable, dict[Hashable, tuple[str, Address]]]


def between(listens: Mapping[str, Sequence[Address]]) -> Iterator[tuple[str, str]]:
    """Every address that overlaps with one before it.

    Args:
        listens: of each service the addresses, by its name.

    Returns:
        The name of the service, and what is wrong.
    """
    taken: _Taken = {}
    for name, addresses in listens.items():
        for address in addresses:
            places = list(_places(name, address))
            found = next(filter(None, (_holder(taken.get(group, {}), part) for group, part in places)), None)
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
                taken.setdefault(group, {}).setdefault(part, (name, address))


def _holder(parts: Mapping[Hashable, tuple[str, Address]], part: Hashable) -> tuple[str, Address] | None:
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
