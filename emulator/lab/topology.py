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
from emulator.lab.nodes import NodeSpec
from emulator.lab.problems import Problems, near
from emulator.lab.resolved import LOOPBACK, SWITCH_BRIDGE, AnyNetwork, Interface, Link, Place, Segment

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
    segment_of = _segments(spec, table, [(cable.a, cable.b) for cable in cables] + [(end, end) for end in loose])
    table = {place: replace(interface, segment=segment_of[place]) for place, interface in table.items()}
    members: dict[str, list[Place]] = {}
    for place, interface in table.items():
        if not interface.bridge:
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
            if interface == LOOPBACK and node.kind != "switch":
                given = node.interfaces[interface]
                if given.dhcp or given.slaac or given.mac:
                    text = "`lo` can have addresses, and nothing else"
                    problems.add(("nodes", name, "interfaces", interface), text)
            elif wrong := _wrong_name(interface):
                problems.add(("nodes", name, "interfaces", interface), *wrong, key=True)
        _check_bridges(name, node, problems)


def _check_bridges(name: str, node: NodeSpec, problems: Problems) -> None:
    """The bridges of a node have possible names, and no interface is a port of two."""
    ports: dict[str, str] = {}
    for bridge, settings in node.bridges.items():
        path: Path = ("nodes", name, "bridges", bridge)
        if node.kind == "switch":
            if bridge != SWITCH_BRIDGE:
                problems.add(path, f"a switch is one bridge, called {SWITCH_BRIDGE}", key=True)
            for key in ("ports", "address"):
                if getattr(settings, key):
                    text = "all its interfaces are its ports" if key == "ports" else "a switch has no address"
                    problems.add((*path, key), f"{text}; a router can have bridges with `{key}`", key=True)
            continue
        if wrong := _wrong_name(bridge):
            problems.add(path, *wrong, key=True)
        if bridge in node.interfaces:
            problems.add(path, f"'{bridge}' is an interface of {name} already", key=True)
        if not settings.ports:
            problems.add(path, "a bridge needs `ports`", "ports: [lan1, lan2]", key=True)
        for index, port in enumerate(settings.ports):
            if port in ports:
                problems.add((*path, "ports", index), f"{port} is a port of {ports[port]} already")
            ports.setdefault(port, bridge)


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
        self.taken = {name: {*node.interfaces, *node.bridges, *_ports(node)} for name, node in spec.nodes.items()}
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
            name: [
                interface
                for interface in dict.fromkeys([*node.interfaces, *_ports(node)])
                if (name, interface) not in self.used and interface != LOOPBACK
            ]
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
                    path = _declared_at(name, self.spec.nodes[name], interface)
                    self.problems.add(path, text, hint, key=path[2] == "interfaces")
        else:
            loose += [(name, interface) for name, rest in self.declared.items() for interface in rest]
        return cables, loose

    def _end(self, index: int, side: int, text: str) -> tuple[str, str | None] | None:
        """The node and, when given, the interface of one end; None when it is wrong."""
        node, interface = split_place(text)
        path: Path = ("links", index, side)
        if self.problems.document.written(path) not in self.problems.document.places:
            path = ("links", index, "endpoints", side)
        if node not in self.spec.nodes:
            self.problems.add(path, f"no node '{node}'", near(node, self.spec.nodes))
            return None
        if interface is None:
            return node, None
        if wrong := _wrong_name(interface):
            if interface not in self.spec.nodes[node].interfaces or interface == LOOPBACK:
                self.problems.add(path, *wrong, offset=len(node) + 1)
            return None
        if interface in self.spec.nodes[node].bridges:
            text = f"{node}:{interface} is a bridge; a cable goes into one of its ports"
            self.problems.add(path, text, ", ".join(self.spec.nodes[node].bridges[interface].ports) or None)
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


def _ports(node: NodeSpec) -> list[str]:
    """Interfaces that are ports of the node's bridges."""
    return [port for bridge in node.bridges.values() for port in bridge.ports]


def _declared_at(name: str, node: NodeSpec, interface: str) -> Path:
    """Where the file first says that the node has this interface."""
    if interface in node.interfaces:
        return ("nodes", name, "interfaces", interface)
    for bridge, settings in node.bridges.items():
        if interface in settings.ports:
            return ("nodes", name, "bridges", bridge, "ports", settings.ports.index(interface))
    return ("nodes", name)


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
        bridge_of = {port: bridge for bridge, settings in node.bridges.items() for port in settings.ports}
        declared = [i for i in dict.fromkeys([*node.interfaces, *bridge_of]) if (name, i) in peers]
        others = [i for i in wired.get(name, []) if i not in node.interfaces and i not in bridge_of]
        bridges = [] if node.kind == "switch" else [b for b in node.bridges if b not in node.interfaces]
        for number, interface in enumerate([*declared, *others, *bridges]):
            place = (name, interface)
            peer, link = (None, None) if interface in bridges else peers[place]
            bridge = SWITCH_BRIDGE if node.kind == "switch" else bridge_of.get(interface, "")
            settings = node.interfaces.get(interface)
            if bridge and settings and (settings.dhcp or settings.address or settings.slaac):
                text = f"a switch port has no address: {name}:{interface}"
                if node.kind != "switch":
                    text = f"{name}:{interface} is a port of {bridge}, so it has no address; {bridge} can have one"
                problems.add(("nodes", name, "interfaces", interface), text)
                settings = None
            addresses = node.bridges[interface].address if interface in bridges else settings and settings.address
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
                addresses=tuple(ip_interface(a) for a in addresses or ()),
                dhcp=bool(settings and settings.dhcp),
                bridge=bridge,
                slaac=bool(settings and settings.slaac),
                rate_bits_s=link.rate if link else None,
            )
        if (loopback := node.interfaces.get(LOOPBACK)) is not None and node.kind != "switch":
            table[name, LOOPBACK] = Interface(
                node=name,
                name=LOOPBACK,
                mac="00:00:00:00:00:00",
                mtu_bytes=65536,
                offload=True,
                peer=None,
                segment="",
                addresses=tuple(ip_interface(a) for a in loopback.address or ()),
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


def _segments(spec: LabSpec, table: Table, ends: list[tuple[Place, Place]]) -> dict[Place, str]:
    """The broadcast domain of each interface, named after its first switch, or after its cable."""
    groups = _Groups()
    switched: dict[Place, str] = {}
    for place, interface in table.items():
        if interface.bridge:
            node = place[0]
            switch = spec.nodes[node].kind == "switch"
            hub: Place = (node, interface.bridge)
            switched.setdefault(hub, node if switch else f"{node}-{interface.bridge}")
            groups.join(place, hub)
    for a, b in ends:
        groups.join(a, b)
    wanted: dict[Hashable, str] = {}
    for kind in ("switch", "router", "host"):  # a switch gives its name before a bridge inside another node does
        for hub, name in switched.items():
            if spec.nodes[hub[0]].kind == kind:
                wanted.setdefault(groups.root(hub), name)
    for a, b in ends:
        wanted.setdefault(groups.root(a), f"{a[0]}-{b[0]}")
    for place in table:
        wanted.setdefault(groups.root(place), "-".join(place))
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
    return {place: name_of[groups.root(place)] for place in table}


def _realms(spec: LabSpec, table: Table) -> dict[str, Hashable]:
    """Segment → the part of the lab within which an address is unique: up to the outsides of translating routers."""
    groups = _Groups()
    inside: dict[str, str] = {}
    for interface in table.values():
        groups.root(interface.segment)
        if spec.nodes[interface.node].kind == "router" and not outside(spec, interface):
            groups.join(inside.setdefault(interface.node, interface.segment), interface.segment)
    return {interface.segment: groups.root(interface.segment) for interface in table.values()}
