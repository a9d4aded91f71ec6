"""Addresses of interfaces: are those that the file gives possible, and which do the others get? Pure."""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Mapping
from dataclasses import replace
from ipaddress import IPv4Interface, IPv4Network, collapse_addresses

from emulator.lab.document import Path
from emulator.lab.model import LabSpec
from emulator.lab.problems import Problems
from emulator.lab.resolved import PRIVATE_NETWORKS, AnyInterface, Interface, Place

Table = dict[Place, Interface]
Members = Mapping[str, list[Place]]


def outside(spec: LabSpec, interface: Interface) -> bool:
    """Whether the interface's router hides what is behind it from there (masquerade)."""
    nat = spec.nodes[interface.node].nat
    return nat is not None and any(rule.out == interface.name for rule in nat.masquerade)


def check_addresses(
    spec: LabSpec,
    table: Table,
    members: Members,
    realms: Mapping[str, Hashable],
    problems: Problems,
    *,
    complete: bool,
) -> None:
    """Addresses that no host can have, that two have, and that are in no network of their cable.

    Args:
        realms: segment → the part of the lab within which an address is unique.
        complete: all cables are known, so that it is known who shares a network with whom.
    """
    owners: dict[tuple[Hashable, object], Place] = {}
    for place, interface in table.items():
        for index, address in enumerate(interface.addresses):
            path = _path(problems, place, index)
            if wrong := _impossible(address):
                problems.add(path, f"{address} {wrong}")
                continue
            first = owners.setdefault((realms[interface.segment], address.ip), place)
            if first != place:
                problems.add(path, f"duplicate address {address.ip}: {':'.join(first)} has it")
            elif address in interface.addresses[:index]:
                problems.add(path, f"duplicate address {address.ip}: it is given twice")
    if complete:
        for places in members.values():
            possible = [table[place] for place in places if not any(map(_impossible, table[place].addresses))]
            _check_networks(possible, problems)


def _path(problems: Problems, place: Place, index: int) -> Path:
    """Where an interface's address stands: its short form is the address or a list, its long form has a key."""
    base: Path = ("nodes", place[0], "interfaces", place[1])
    if ("nodes", place[0], "bridges", place[1]) in problems.document.places:
        base = ("nodes", place[0], "bridges", place[1])
    tails: tuple[Path, ...] = (("address", index), ("address",), (index,))
    return next(((*base, *tail) for tail in tails if (*base, *tail) in problems.document.places), base)


def _impossible(address: AnyInterface) -> str | None:
    if address.ip.is_multicast or address.ip.is_unspecified or address.ip.is_loopback:
        return "cannot be the address of an interface"
    if address.network.prefixlen == 0:
        return "would make every address a neighbour"
    if isinstance(address, IPv4Interface) and address.network.prefixlen < 31:
        if address.ip == address.network.network_address:
            return "is the address of the network itself, not of a host"
        if address.ip == address.network.broadcast_address:
            return "is the broadcast address of its network, not of a host"
    return None


def _check_networks(interfaces: list[Interface], problems: Problems) -> None:
    """Whoever has addresses shares a network with somebody else on its segment who has."""
    owners: dict[object, set[Place]] = {}
    for interface in interfaces:
        for address in interface.addresses:
            owners.setdefault(address.network, set()).add((interface.node, interface.name))
    if len(owners) < 2:
        return
    networks = [network for network in owners if isinstance(network, IPv4Network)]
    lonely = [
        interface
        for interface in interfaces
        if interface.addresses
        and all(len(owners[address.network]) == 1 for address in interface.addresses)
        and not any(
            isinstance(address, IPv4Interface)
            and any(address.network != other and address.network.overlaps(other) for other in networks)
            for address in interface.addresses
        )
    ]
    if len(lonely) == sum(1 for interface in interfaces if interface.addresses):
        lonely = lonely[1:]
    for interface in lonely:
        own = {address.network for address in interface.addresses}
        others = ", ".join(str(network) for network in list(owners)[:4] if network not in own)
        text = f"{interface.addresses[0]} is outside the network of its cable"
        problems.add(_path(problems, (interface.node, interface.name), 0), text, f"the others there are in {others}")


def choose_addresses(spec: LabSpec, table: Table, members: Members, problems: Problems) -> Table:
    """An address for each interface of a host or router for which the file says nothing."""
    supply = _Supply([a.network for i in table.values() for a in i.addresses if isinstance(a, IPv4Interface)])
    result = dict(table)
    for places in members.values():
        open_places = [place for place in places if _is_open(spec, table[place], place)]
        if not open_places:
            continue
        networks = [a.network for p in places for a in table[p].addresses if isinstance(a, IPv4Interface)]
        network = networks[0] if networks else supply.take(len(places))
        if network is None:
            problems.add(("nodes", open_places[0][0]), "no private network is left for this cable", "give addresses")
            break
        taken = {int(a.ip) for p in places for a in table[p].addresses} | _reserved(spec, places)
        free = _free(network, taken, _ranges(spec, places))
        for place in open_places:
            number = next(free, None)
            if number is None:
                problems.add(("nodes", place[0]), f"no free address left in {network} for {':'.join(place)}", key=True)
                break
            chosen = IPv4Interface((number, network.prefixlen))
            result[place] = replace(result[place], addresses=(chosen,))
    return result


def _is_open(spec: LabSpec, interface: Interface, place: Place) -> bool:
    node = spec.nodes[place[0]]
    given = node.bridges.get(place[1]) or node.interfaces.get(place[1])
    fixed = given is not None and given.address is not None
    return not (interface.dhcp or interface.slaac or interface.addresses or interface.is_loopback or fixed)


def _ranges(spec: LabSpec, places: list[Place]) -> list[tuple[int, int]]:
    """What the DHCP servers at `places` give out."""
    ranges = []
    for node, interface in places:
        dnsmasq = spec.nodes[node].services.dnsmasq
        for pool in dnsmasq.dhcp if dnsmasq else ():
            if pool.interface == interface:
                ranges.append((int(pool.range[0]), int(pool.range[1])))
    return ranges


def _reserved(spec: LabSpec, places: list[Place]) -> set[int]:
    """What the DHCP servers at `places` keep for one node each."""
    reserved: set[int] = set()
    for node, interface in places:
        dnsmasq = spec.nodes[node].services.dnsmasq
        for pool in dnsmasq.dhcp if dnsmasq else ():
            if pool.interface == interface:
                reserved.update(int(address) for address in pool.reservations.values())
    return reserved


def _free(network: IPv4Network, taken: set[int], ranges: list[tuple[int, int]]) -> Iterator[int]:
    """The host addresses of `network` that are neither taken nor in a range, in order."""
    inner = 1 if network.prefixlen < 31 else 0
    number = int(network.network_address) + inner
    last = int(network.broadcast_address) - inner
    while number <= last:
        ends = [end for start, end in ranges if start <= number <= end]
        if ends:
            number = max(ends) + 1
            continue
        if number not in taken:
            yield number
        number += 1


class _Supply:
    """Private networks (RFC 1918) that overlap nothing in `used`, one after the other, from 10.0.0.0 on."""

    def __init__(self, used: list[IPv4Network]) -> None:
        spans = ((int(n.network_address), int(n.broadcast_address)) for n in collapse_addresses(used))
        self._used = sorted(spans, reverse=True)
        self._blocks = list(reversed(PRIVATE_NETWORKS))
        self._position = int(self._blocks[-1].network_address)

    def take(self, hosts: int) -> IPv4Network | None:
        """The next network with room for `hosts`, a /24 at least; None when there is none."""
        prefix = min(24, 32 - (hosts + 1).bit_length())
        size = 1 << (32 - prefix)
        while self._blocks:
            start = (self._position + size - 1) // size * size
            while self._used and self._used[-1][1] < start:
                self._used.pop()
            if start + size - 1 > int(self._blocks[-1].broadcast_address):
                self._blocks.pop()
                if self._blocks:
                    self._position = int(self._blocks[-1].network_address)
            elif self._used and self._used[-1][0] < start + size:
                self._position = self._used[-1][1] + 1
            else:
                self._position = start + size
                return IPv4Network((start, prefix))
        return None
