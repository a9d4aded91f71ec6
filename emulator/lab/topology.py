"""Cables to interfaces, interfaces to broadcast domains, and an address for every interface that has none. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Iterator, Mapping
from dataclasses import dataclass, replace
from ipaddress import ip_interface

from emulator import names
from emulator.lab.addressing import check_addresses, choose_addresses, outside
from emulator.lab.document import Path
from emulator.lab.model import LabSpec, LinkSpec
from emulator.lab.problems import Problems, near
from emulator.lab.resolved import AnyNetwork, Interface, Link, Place, Segment

Table = dict[Place, Interface]


@dataclass(frozen=True)
class Topology:
    """Interfaces in the order of the file, cables and broadcast domains.

    Attributes:
        complete: every cable was understood. Where one was not, who is on a network with whom is not known, and
            nothing more should be said about it.
    """

    interfaces: Mapping[Place, Interface]
    links: tuple[Link, ...]
    segments: Mapping[str, Segment]
    by_node: Mapping[str, tuple[Interface, ...]]
    complete: bool = True


@dataclass(frozen=True)
class _Cable:
    a: Place
    b: Place
    link: LinkSpec


def split_place(text: str) -> tuple[str, str | None]:
    """`node:interface` → both; `node` → the node and None."""
    node, colon, interface = text.partition(":")
    return node, interface if colon else None


def build_topology(spec: LabSpec, problems: Problems) -> Topology:
    """The topology of `spec`; what is wrong with it is added to `problems`."""
    _check_sizes(spec, problems)
    _check_names(spec, problems)
    cables, loose = _Ends(spec, problems).connect()
    table = _interfaces(spec, cables, loose, problems)
    segment_of = _segments(spec, [(cable.a, cable.b) for cable in cables] + [(place, place) for place in loose])
    table = {place: replace(interface, segment=segment_of[place]) for place, interface in table.items()}
    members: dict[str, list[Place]] = {}
    for place, interface in table.items():
        if spec.nodes[place[0]].kind != "switch":
            members.setdefault(interface.segment, []).append(place)
    complete = len(cables) == len(spec.links)
    check_addresses(spec, table, members, _realms(spec, table), problems, complete=complete)
    table = choose_addresses(spec, table, members, problems)
    segments = {
        name: Segment(name, tuple(places), tuple(dict.fromkeys(_networks(table, places))))
        for name, places in members.items()
    }
    by_node: dict[str, list[Interface]] = {}
    for interface in table.values():
        by_node.setdefault(interface.node, []).append(interface)
    return Topology(
        interfaces=table,
        links=tuple(Link(table[cable.a], table[cable.b]) for cable in cables),
        segments=segments,
        by_node={node: tuple(interfaces) for node, interfaces in by_node.items()},
        complete=complete,
    )


def _networks(table: Mapping[Place, Interface], places: list[Place]) -> Iterator[AnyNetwork]:
    for place in places:
        for address in table[place].addresses:
            yield address.network


def _check_sizes(spec: LabSpec, problems: Problems) -> None:
    """A lab that is too large is not looked at any further."""
    if len(spec.nodes) > names.NODES_MAX:
        problems.add(("nodes",), f"{len(spec.nodes):,} nodes; a lab has at most {names.NODES_MAX:,}")
    count = Counter(split_place(text)[0] for link in spec.links for text in link.endpoints)
    for name, ends in count.items():
        if name in spec.nodes:
            switch = spec.nodes[name].kind == "switch"
            most = names.SWITCH_PORTS_MAX if switch else names.INTERFACES_MAX
            if ends > most:
                what = "a switch has at most" if switch else "a node has at most"
                problems.add(("nodes", name), f"{name} has {ends:,} cables; {what} {most:,}", key=True)
    problems.stop()


def _check_names(spec: LabSpec, problems: Problems) -> None:
    for name, node in spec.nodes.items():
        if not names.NODE_NAME.fullmatch(name):
            rule = "a host name: letters, digits and inner hyphens, at most 63"
            problems.add(("nodes", name), f"'{name}' cannot be a node's name", rule, key=True)
        for interface in node.interfaces:
            if wrong := _wrong_name(interface):
                problems.add(("nodes", name, "interfaces", interface), *wrong, key=True)


def _wrong_name(interface: str) -> tuple[str, str | None] | None:
    """What is wrong with the name of an interface, and a hint; None when it is good."""
    if len(interface) > names.INTERFACE_NAME_MAX:
        most = names.INTERFACE_NAME_MAX
        return f"the interface name '{interface}' has {len(interface)} characters", f"Linux takes at most {most}"
    if interface in names.KERNEL_INTERFACES:
        return f"'{interface}' cannot be an interface's name: it is taken by the system", None
    if not names.INTERFACE_NAME.fullmatch(interface):
        return f"'{interface}' cannot be an interface's name", "letters, digits, `_`, and inside also `-` and `.`"
    return None


class _Ends:
    """Both ends of every cable, with the names of interfaces that the file leaves open filled in."""

    def __init__(self, spec: LabSpec, problems: Problems) -> None:
        self.spec = spec
        self.problems = problems
        self.used: dict[Place, int] = {}
        self.taken = {name: set(node.interfaces) for name, node in spec.nodes.items()}
        self.unnamed = {name: names.free_interfaces(taken) for name, taken in self.taken.items()}
        self.declared: dict[str, list[str]] = {}

    def connect(self) -> tuple[list[_Cable], list[Place]]:
        """The cables, and the interfaces that are without one because a cable is wrong."""
        rows = [
            [self._end(index, side, text) for side, text in enumerate(link.endpoints)]
            for index, link in enumerate(self.spec.links)
        ]
        # Interfaces that the file describes but no link names: links that name none take them in order.
        self.declared = {
            name: [interface for interface in node.interfaces if (name, interface) not in self.used]
            for name, node in self.spec.nodes.items()
        }
        cables: list[_Cable] = []
        loose: list[Place] = []
        for (a, b), link in zip(rows, self.spec.links, strict=True):
            if a and b:
                first = (a[0], a[1] or self._name(a[0], b[0]))
                second = (b[0], b[1] or self._name(b[0], a[0]))
                cables.append(_Cable(first, second, link))
            elif (end := a or b) and (end[1] or self.spec.nodes[end[0]].kind != "switch"):
                loose.append((end[0], end[1] or self._name(end[0], "")))
        if len(cables) == len(self.spec.links):
            for name, rest in self.declared.items():
                for interface in rest:
                    text, hint = f"{name}:{interface} has no cable", f"- [{name}:{interface}, NODE]  under `links`"
                    self.problems.add(("nodes", name, "interfaces", interface), text, hint, key=True)
        else:
            loose += [(name, interface) for name, rest in self.declared.items() for interface in rest]
        return cables, loose

    def _end(self, index: int, side: int, text: str) -> tuple[str, str | None] | None:
        """The node and, when given, the interface of one end; None when it is wrong."""
        node, interface = split_place(text)
        path: Path = ("links", index, side)
        if path not in self.problems.document.places:
            path = ("links", index, "endpoints", side)
        if node not in self.spec.nodes:
            self.problems.add(path, f"no node '{node}'", near(node, self.spec.nodes))
            return None
        if interface is None:
            return node, None
        if wrong := _wrong_name(interface):
            if interface not in self.spec.nodes[node].interfaces:
                self.problems.add(path, *wrong, offset=len(node) + 1)
            return None
        first = self.used.setdefault((node, interface), index)
        if first != index or text in self.spec.links[index].endpoints[:side]:
            where = f"in the {_ordinal(first)} link" if first != index else "the other end of this one"
            self.problems.add(path, f"{node}:{interface} has a cable already", where)
            return None
        self.taken[node].add(interface)
        return node, interface

    def _name(self, node: str, other: str) -> str:
        if self.spec.nodes[node].kind == "switch":
            name = names.port_name(other, self.taken[node])
        elif self.declared[node]:
            name = self.declared[node].pop(0)
        else:
            name = next(self.unnamed[node])
        self.taken[node].add(name)
        return name


def _ordinal(index: int) -> str:
    number = index + 1
    suffix = "th" if number % 100 in (11, 12, 13) else {1: "st", 2: "nd", 3: "rd"}.get(number % 10, "th")
    return f"{number}{suffix}"


def _interfaces(spec: LabSpec, cables: list[_Cable], loose: list[Place], problems: Problems) -> Table:
    """All interfaces: those that the file describes in its order, then the others in the order of the links."""
    peers: dict[Place, tuple[Place, LinkSpec | None]] = {place: (place, None) for place in loose}
    for cable in cables:
        peers[cable.a], peers[cable.b] = (cable.b, cable.link), (cable.a, cable.link)
    wired: dict[str, list[str]] = {}
    for owner, end in [place for cable in cables for place in (cable.a, cable.b)] + loose:
        wired.setdefault(owner, []).append(end)
    macs: dict[str, Place] = {}
    for name, node in spec.nodes.items():
        for interface, given in node.interfaces.items():
            if given.mac and (first := macs.setdefault(given.mac, (name, interface))) != (name, interface):
                path = ("nodes", name, "interfaces", interface, "mac")
                problems.add(path, f"duplicate MAC {given.mac}: {':'.join(first)} has it")
    table: Table = {}
    for node_number, (name, node) in enumerate(spec.nodes.items(), 1):
        declared = [interface for interface in node.interfaces if (name, interface) in peers]
        others = [interface for interface in wired.get(name, []) if interface not in node.interfaces]
        for number, interface in enumerate([*declared, *others]):
            place = (name, interface)
            peer, link = peers[place]
            settings = node.interfaces.get(interface)
            if node.kind == "switch" and settings and (settings.dhcp or settings.address):
                text = f"a switch port has no address: {name}:{interface}"
                problems.add(("nodes", name, "interfaces", interface), text)
                settings = None
            mac = settings.mac if settings and settings.mac else names.mac_address(node_number, number)
            if (first := macs.setdefault(mac, place)) != place and not (settings and settings.mac):
                given_path = ("nodes", first[0], "interfaces", first[1], "mac")
                problems.add(given_path, f"the MAC {mac} is one that Wirelab gives, to {':'.join(place)}")
            table[place] = Interface(
                node=name,
                name=interface,
                mac=mac,
                mtu_bytes=link.mtu if link and link.mtu else spec.defaults.mtu,
                offload=link.offload if link and link.offload is not None else spec.defaults.offload,
                peer=peer,
                segment="",
                addresses=tuple(ip_interface(a) for a in settings.address or ()) if settings else (),
                dhcp=bool(settings and settings.dhcp),
            )
    return table


class _Groups:
    """Disjoint sets of things that belong together."""

    def __init__(self) -> None:
        self._parent: dict[Hashable, Hashable] = {}

    def root(self, item: Hashable) -> Hashable:
        """The one that stands for all that belong to `item`."""
        while self._parent.setdefault(item, item) != item:
            self._parent[item] = self._parent[self._parent[item]]
            item = self._parent[item]
        return item

    def join(self, a: Hashable, b: Hashable) -> None:
        """What belongs to `a` belongs to `b`."""
        self._parent[self.root(a)] = self.root(b)


def _segments(spec: LabSpec, ends: list[tuple[Place, Place]]) -> dict[Place, str]:
    """The broadcast domain of each interface, named after its first switch, or after its cable."""
    groups = _Groups()
    for a, b in ends:
        for place in (a, b):
            if spec.nodes[place[0]].kind == "switch":
                groups.join(place, place[0])
        groups.join(a, b)
    wanted: dict[Hashable, str] = {}
    for switch in (name for name, node in spec.nodes.items() if node.kind == "switch"):
        wanted.setdefault(groups.root(switch), switch)
    for a, b in ends:
        wanted.setdefault(groups.root(a), f"{a[0]}-{b[0]}")
    name_of: dict[Hashable, str] = {}
    taken: set[str] = set()
    count: Counter[str] = Counter()
    for key, name in wanted.items():
        unique = name
        while unique in taken:
            count[name] += 1
            unique = f"{name}-{count[name] + 1}"
        taken.add(unique)
        name_of[key] = unique
    return {place: name_of[groups.root(place)] for pair in ends for place in pair}


def _realms(spec: LabSpec, table: Table) -> dict[str, Hashable]:
    """Segment → the part of the lab within which an address is unique: up to the outsides of translating routers."""
    groups = _Groups()
    inside: dict[str, str] = {}
    for interface in table.values():
        groups.root(interface.segment)
        if spec.nodes[interface.node].kind == "router" and not outside(spec, interface):
            groups.join(inside.setdefault(interface.node, interface.segment), interface.segment)
    return {interface.segment: groups.root(interface.segment) for interface in table.values()}
