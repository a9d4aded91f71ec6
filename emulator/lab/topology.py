"""Cables to interfaces, interfaces to broadcast domains, and an address for every interface that has none. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from ipaddress import IPv4Address, IPv4Interface, IPv4Network, ip_interface

from emulator import names
from emulator.lab.load import near
from emulator.lab.model import LabSpec
from emulator.lab.problems import Problems
from emulator.lab.resolved import AnyInterface, AnyNetwork, Interface, Link, Segment

Place = tuple[str, str]
Table = dict[Place, Interface]

AUTOMATIC = IPv4Network("10.0.0.0/8")
"""Networks that the file leaves open are taken from here, in the order of the file."""


@dataclass(frozen=True)
class Topology:
    """Interfaces in the order of the file, cables and broadcast domains."""

    interfaces: Mapping[Place, Interface]
    links: tuple[Link, ...]
    segments: Mapping[str, Segment]


def split_place(text: str) -> tuple[str, str | None]:
    """`node:interface` → both; `node` → the node and None."""
    node, colon, interface = text.partition(":")
    return node, interface if colon else None


def build_topology(spec: LabSpec, problems: Problems) -> Topology:
    """The topology of `spec`; what is wrong with it is added to `problems`."""
    for name in spec.nodes:
        if not names.NODE_NAME.fullmatch(name):
            problems.add(("nodes", name), f"'{name}' cannot be a node's name", "letters, digits and inner hyphens", key=True)
    ends = _endpoints(spec, problems)
    table = _interfaces(spec, ends, problems)
    segment_of = _segments(spec, ends)
    table = {place: replace(interface, segment=segment_of[place]) for place, interface in table.items()}
    _given_addresses(spec, table, problems)
    members: dict[str, list[Place]] = {}
    for place, interface in table.items():
        if spec.nodes[place[0]].kind != "switch":
            members.setdefault(interface.segment, []).append(place)
    table = _choose_addresses(spec, table, members, problems)
    segments = {
        name: Segment(name, tuple(places), tuple(dict.fromkeys(networks_of(table, places))))
        for name, places in members.items()
    }
    links = tuple(Link(table[a], table[b]) for a, b in ends if a in table and b in table)
    return Topology(table, links, segments)


def networks_of(table: Mapping[Place, Interface], places: list[Place]) -> Iterator[AnyNetwork]:
    """The networks of all addresses at `places`."""
    for place in places:
        for address in table[place].addresses:
            yield address.network


def _endpoints(spec: LabSpec, problems: Problems) -> list[tuple[Place, Place]]:
    """Both ends of every cable, interface names filled in; wrong ends are noted and left out."""
    used: dict[Place, int] = {}
    taken: dict[str, set[str]] = {name: set(node.interfaces) for name, node in spec.nodes.items()}
    known = list(spec.nodes)
    parsed: list[list[tuple[str, str | None] | None]] = []
    for index, link in enumerate(spec.links):
        row: list[tuple[str, str | None] | None] = []
        for side, text in enumerate(link.endpoints):
            node, interface = split_place(text)
            path = ("links", index, side) if ("links", index, side) in problems.document.places else (
                "links", index, "endpoints", side)  # fmt: skip
            if node not in spec.nodes:
                problems.add(path, f"no node '{node}'", near(node, known))
                row.append(None)
                continue
            if interface is not None:
                if len(interface) > names.INTERFACE_NAME_MAX:
                    problems.add(path, f"interface name '{interface}' has {len(interface)} characters; at most 15")
                elif not names.INTERFACE_NAME.fullmatch(interface) or interface in ("lo", "all", "default"):
                    problems.add(path, f"'{interface}' cannot be an interface's name")
                elif (node, interface) in used:
                    first = used[node, interface]
                    problems.add(path, f"{node}:{interface} has a cable already", f"in the {_ordinal(first)} link")
                else:
                    used[node, interface] = index
                    taken[node].add(interface)
                    row.append((node, interface))
                    continue
                row.append(None)
                continue
            row.append((node, None))
        parsed.append(row)
    free = {
        name: [i for i in node.interfaces if (name, i) not in used] for name, node in spec.nodes.items()
    }  # declared but not wired by name: taken in order by links that name no interface
    ends: list[tuple[Place, Place]] = []
    for row in parsed:
        a, b = row
        if a is None or b is None:
            continue
        places = []
        for (node, interface), other in ((a, b[0]), (b, a[0])):
            name = interface
            if name is None:
                if spec.nodes[node].kind == "switch":
                    name = names.port_name(other, taken[node])
                elif free[node]:
                    name = free[node].pop(0)
                else:
                    name = names.next_interface(taken[node])
                taken[node].add(name)
            places.append((node, name))
        ends.append((places[0], places[1]))
    for name, rest in free.items():
        for interface in rest:
            problems.add(("nodes", name, "interfaces", interface), f"{name}:{interface} has no cable", key=True)
    return ends


def _ordinal(index: int) -> str:
    number = index + 1
    suffix = "th" if number % 100 in (11, 12, 13) else {1: "st", 2: "nd", 3: "rd"}.get(number % 10, "th")
    return f"{number}{suffix}"


def _interfaces(spec: LabSpec, ends: list[tuple[Place, Place]], problems: Problems) -> Table:
    cable: dict[Place, tuple[Place, int]] = {}
    for index, (a, b) in enumerate(ends):
        cable[a], cable[b] = (b, index), (a, index)
    by_node: dict[str, list[str]] = {}
    for a, b in ends:
        by_node.setdefault(a[0], []).append(a[1])
        by_node.setdefault(b[0], []).append(b[1])
    table: Table = {}
    macs: dict[str, Place] = {}
    for node_index, (name, node) in enumerate(spec.nodes.items()):
        declared = [interface for interface in node.interfaces if (name, interface) in cable]
        others = [interface for interface in by_node.get(name, []) if interface not in node.interfaces]
        for number, interface in enumerate([*declared, *others]):
            place = (name, interface)
            peer, link_index = cable[place]
            link = spec.links[link_index] if link_index < len(spec.links) else None
            given = node.interfaces.get(interface)
            path = ("nodes", name, "interfaces", interface)
            if node.kind == "switch" and given and (given.dhcp or given.address):
                problems.add(path, f"a switch port has no address: {name}:{interface}")
            mac = given.mac if given and given.mac else names.mac_address(node_index + 1, number)
            if mac in macs:
                other = ":".join(macs[mac])
                problems.add((*path, "mac"), f"the MAC {mac} is used by {other} too")
            macs[mac] = place
            table[place] = Interface(
                node=name,
                name=interface,
                mac=mac,
                mtu_bytes=link.mtu if link and link.mtu else spec.defaults.mtu,
                offload=link.offload if link and link.offload is not None else spec.defaults.offload,
                peer=peer,
                segment="",
                addresses=tuple(ip_interface(a) for a in given.address or ()) if given else (),
                dhcp=bool(given and given.dhcp),
            )
    return table


def _segments(spec: LabSpec, ends: list[tuple[Place, Place]]) -> dict[Place, str]:
    """The broadcast domain of each interface, named after its first switch, or after its cable."""
    parent: dict[object, object] = {}

    def root(item: object) -> object:
        while parent.setdefault(item, item) != item:
            parent[item] = parent[parent[item]]
            item = parent[item]
        return item

    for a, b in ends:
        for place in (a, b):
            if spec.nodes[place[0]].kind == "switch":
                parent[root(place)] = root(place[0])
        parent[root(a)] = root(b)
    names_of: dict[object, str] = {}
    for switch in (name for name, node in spec.nodes.items() if node.kind == "switch"):
        names_of.setdefault(root(switch), switch)
    for a, b in ends:
        names_of.setdefault(root(a), f"{a[0]}-{b[0]}")
    taken: dict[str, object] = {}
    for key, name in list(names_of.items()):
        number = 2
        while taken.setdefault(name, key) != key:
            name = f"{names_of[key]}-{number}"
            number += 1
        names_of[key] = name
    return {place: names_of[root(place)] for pair in ends for place in pair}


def _given_addresses(spec: LabSpec, table: Table, problems: Problems) -> None:
    """Duplicate addresses, network and broadcast addresses, and hosts whose network nobody shares."""
    owners: dict[tuple[str, object], Place] = {}
    for place, interface in table.items():
        path = ("nodes", place[0], "interfaces", place[1])
        for address in interface.addresses:
            network = address.network
            if isinstance(address, IPv4Interface) and network.prefixlen < 31:
                if address.ip == network.network_address:
                    problems.add(path, f"{address} is the address of the network itself, not of a host")
                elif address.ip == network.broadcast_address:
                    problems.add(path, f"{address} is the broadcast address of its network, not of a host")
            if address.ip.is_multicast or address.ip.is_unspecified or address.ip.is_loopback:
                problems.add(path, f"{address.ip} cannot be the address of an interface")
            first = owners.setdefault((interface.segment, address.ip), place)
            if first != place:
                problems.add(path, f"duplicate address {address.ip}: {first[0]}:{first[1]} has it on the same network")


def reserved_addresses(spec: LabSpec, table: Table, members: list[Place]) -> set[IPv4Address]:
    """Addresses of a broadcast domain that its DHCP servers give out."""
    reserved: set[IPv4Address] = set()
    for node, interface in members:
        dnsmasq = spec.nodes[node].services.dnsmasq
        for pool in dnsmasq.dhcp if dnsmasq else ():
            if pool.interface == interface and (node, interface) in table:
                first, last = (int(address) for address in pool.range)
                reserved.update(IPv4Address(number) for number in range(first, min(last, first + 65_536) + 1))
                reserved.update(pool.reservations.values())
    return reserved


def _choose_addresses(spec: LabSpec, table: Table, members: dict[str, list[Place]], problems: Problems) -> Table:
    """An address for each interface of a host or router for which the file says nothing."""
    used = [a.network for interface in table.values() for a in interface.addresses if isinstance(a, IPv4Interface)]
    supply = _Supply(used)
    result = dict(table)
    for places in members.values():
        open_places = [place for place in places if _is_open(spec, table[place], place)]
        if not open_places:
            continue
        networks = [a.network for p in places for a in table[p].addresses if isinstance(a, IPv4Interface)]
        network = networks[0] if networks else supply.take(len(places))
        taken = {a.ip for p in places for a in table[p].addresses} | reserved_addresses(spec, table, places)
        free = (address for address in network.hosts() if address not in taken)
        for place in open_places:
            address = next(free, None)
            if address is None:
                problems.add(("nodes", place[0]), f"no free address left in {network} for {place[0]}:{place[1]}")
                break
            chosen: tuple[AnyInterface, ...] = (IPv4Interface(f"{address}/{network.prefixlen}"),)
            result[place] = replace(result[place], addresses=chosen)
    return result


def _is_open(spec: LabSpec, interface: Interface, place: Place) -> bool:
    given = spec.nodes[place[0]].interfaces.get(place[1])
    return not interface.dhcp and not interface.addresses and (given is None or given.address is None)


class _Supply:
    """Networks of AUTOMATIC that overlap nothing in `used`, one after the other."""

    def __init__(self, used: list[IPv4Network]) -> None:
        self._used = used
        self._position = int(AUTOMATIC.network_address)

    def take(self, hosts: int) -> IPv4Network:
        """The next network with room for `hosts`, a /24 at least."""
        prefix = min(24, 32 - (hosts + 2).bit_length())
        size = 1 << (32 - prefix)
        while True:
            start = (self._position + size - 1) // size * size
            self._position = start + size
            network = IPv4Network((start, prefix))
            if not any(network.overlaps(other) for other in self._used):
                return network
