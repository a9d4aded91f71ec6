"""Large labs from a few words: `single,1000`, `tree,3,10`, `fat-tree,8`. Pure.

A generated lab is an ordinary one: what `generate` returns is what `resolve` makes of the lab file that `as_document`
writes, and tests hold it to that. It is made in the resolved form at once, since a thousand hosts as YAML take seconds
to read.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from ipaddress import IPv4Address, IPv4Interface, IPv4Network
from typing import TYPE_CHECKING, Any

from emulator import names
from emulator.errors import UsageError, counted
from emulator.frozen import dataclass, field
from emulator.lab.resolved import (
    NO_SERVICES,
    SWITCH_BRIDGE,
    Bridge,
    Container,
    Interface,
    Link,
    Node,
    Place,
    ResolvedLab,
    Route,
    Segment,
)

if TYPE_CHECKING:
    from emulator.lab.nodes import Backend, Kind

MTU_BYTES = 1500
POD_PREFIX = 16
EDGE_PREFIX = 24
LAN = "lan"
"""The bridge of an edge router of a fat tree; its hosts are plugged in there."""

_TRANSIT = int(IPv4Address("172.16.0.0"))
"""From here on the cables between routers have two addresses each (RFC 3021)."""


@dataclass(frozen=True)
class Shape:
    """What was asked for: `tree,3,10` is the kind `tree` with the numbers 3 and 10."""

    kind: str
    numbers: tuple[int, ...]

    @property
    def words(self) -> str:
        """`tree,3,10`."""
        return ",".join((self.kind, *map(str, self.numbers)))

    @property
    def name(self) -> str:
        """`tree-3-10`, the lab's name."""
        return self.words.replace(",", "-")


@dataclass(frozen=True)
class _Device:
    """A node as it is drawn.

    Attributes:
        interfaces: of routers, and of hosts beside them: name → address; None for a port of the bridge `lan`.
        routes: prefix (None for the default route), next hop, interface.
        lan: the address of the bridge that joins the ports.
    """

    kind: Kind
    stp: bool = False
    interfaces: dict[str, IPv4Interface | None] = field(default_factory=dict)
    lan: IPv4Interface | None = None
    routes: tuple[tuple[IPv4Network | None, IPv4Address, str], ...] = ()


@dataclass(frozen=True)
class _Drawing:
    """Nodes in the order of the lab file, and cables.

    Attributes:
        routed: addresses and routes are part of the drawing; else one network is chosen for all hosts.
    """

    title: str
    devices: Mapping[str, _Device]
    cables: Sequence[tuple[Place, Place]]
    routed: bool = False


@dataclass(frozen=True)
class _Kind:
    """A kind of topology: its numbers, the lowest that each may be, how many nodes that makes, and how it is drawn.

    Attributes:
        most: the largest that its number may be, and why.
        note: what a person should know of a lab of these numbers.
    """

    form: str
    lowest: tuple[int, ...]
    nodes: Callable[..., int]
    draw: Callable[..., _Drawing]
    even: bool = False
    most: tuple[int, str] | None = None
    note: Callable[..., str] = lambda *_: ""


def parse(text: str) -> Shape:
    """The shape that `text` asks for.

    Raises:
        UsageError: there is no such kind, or its numbers are wrong or make too large a lab.
    """
    kind, *words = text.split(",")
    known = KINDS.get(kind)
    if known is None:
        from difflib import get_close_matches

        close = get_close_matches(kind, KINDS, n=1)
        forms = "  ".join(entry.form for entry in KINDS.values())
        hint = f"did you mean {KINDS[close[0]].form}?" if close else forms
        raise UsageError(f"no kind of topology '{kind}'", hint=hint)
    if len(words) != len(known.lowest) or not all(
        word.isascii() and word.isdigit() and len(word) <= 9 for word in words
    ):
        raise UsageError(f"'{text}' is not a topology", hint=f"expected {known.form} with whole numbers")
    numbers = tuple(map(int, words))
    labels = known.form.split(",")[1:]
    for label, number, lowest in zip(labels, numbers, known.lowest, strict=True):
        if number < lowest:
            raise UsageError(f"'{text}': {label} is at least {lowest}", hint=f"expected {known.form}")
        if known.even and number % 2:
            raise UsageError(f"'{text}': {label} is an even number", hint=f"expected {known.form}")
        if number > names.NODES_MAX:
            raise UsageError(f"'{text}': a lab has at most {names.NODES_MAX:,} nodes")
    if known.most and numbers[0] > known.most[0]:
        raise UsageError(f"'{text}': {known.most[1]}", hint=f"the largest is {kind},{known.most[0]}")
    if known.nodes(*numbers) > names.NODES_MAX:
        raise UsageError(f"'{text}': a lab has at most {names.NODES_MAX:,} nodes")
    if kind == "tree" and numbers[1] + (numbers[0] > 1) > names.SWITCH_PORTS_MAX:
        raise UsageError(f"'{text}': a switch has at most {names.SWITCH_PORTS_MAX:,} ports, its uplink among them")
    return Shape(kind, numbers)


def generate(text: str, backend: Backend = "netns") -> ResolvedLab:
    """The lab that `text` asks for, such as `single,1000`.

    Args:
        backend: what hosts and routers are made of.

    Raises:
        UsageError: see `parse`.
    """
    shape = parse(text)
    drawing = _draw(shape)
    lab = _resolved(shape.name, drawing)
    if backend == "netns":
        return lab
    from dataclasses import replace

    nodes = lab.nodes.items()
    made = {name: node if node.kind == "switch" else replace(node, container=Container()) for name, node in nodes}
    return replace(lab, nodes=made)


def note(text: str) -> str:
    """What a person should know of the lab that `text` asks for, in one sentence; mostly nothing."""
    shape = parse(text)
    return KINDS[shape.kind].note(*shape.numbers)


def as_document(text: str) -> dict[str, Any]:
    """The same lab as the plain values of a lab file."""
    shape = parse(text)
    drawing = _draw(shape)
    value: dict[str, Any] = {"name": shape.name, "title": drawing.title, "nodes": {}}
    if drawing.routed:
        value["defaults"] = {"routes": "given"}
    for name, device in drawing.devices.items():
        node: dict[str, Any] = {"kind": device.kind}
        if device.stp:
            node["bridges"] = {SWITCH_BRIDGE: {"stp": True}}
        if device.interfaces:
            node["interfaces"] = {key: str(address) for key, address in device.interfaces.items() if address}
        if device.lan:
            ports = [key for key, address in device.interfaces.items() if address is None]
            node["bridges"] = {LAN: {"ports": ports, "address": str(device.lan)}}
        if device.routes:
            node["routes"] = [{"to": str(to) if to else "default", "via": str(via)} for to, via, _ in device.routes]
        value["nodes"][name] = node
    value["links"] = [[":".join(a), ":".join(b)] for a, b in drawing.cables]
    return value


def _draw(shape: Shape) -> _Drawing:
    return KINDS[shape.kind].draw(*shape.numbers)


def _hosts(count: int) -> dict[str, _Device]:
    return {f"h{number}": _Device("host") for number in range(1, count + 1)}


def _switches(count: int, *, stp: bool = False) -> dict[str, _Device]:
    return {f"s{number}": _Device("switch", stp=stp) for number in range(1, count + 1)}


def _plug(host: int, switch: int) -> tuple[Place, Place]:
    """The cable of a host: the switch's port is named after the host."""
    return (f"h{host}", "eth0"), (f"s{switch}", f"h{host}")


def _trunk(a: int, b: int) -> tuple[Place, Place]:
    """The cable between two switches."""
    return (f"s{a}", f"s{b}"), (f"s{b}", f"s{a}")


def _leaves(hosts: int) -> int:
    """Switches below the first one of `single`: none while its own ports are enough."""
    return 0 if hosts <= names.SWITCH_PORTS_MAX else -(-hosts // (names.SWITCH_PORTS_MAX - 1))


def _single(hosts: int) -> _Drawing:
    leaves = _leaves(hosts)
    title = f"{counted(hosts, 'host')} on one switch"
    if not leaves:
        return _Drawing(title, {**_hosts(hosts), **_switches(1)}, [_plug(host, 1) for host in range(1, hosts + 1)])
    each = -(-hosts // leaves)
    cables = [_plug(host, 2 + (host - 1) // each) for host in range(1, hosts + 1)]
    cables += [_trunk(1, leaf) for leaf in range(2, leaves + 2)]
    title = f"{counted(hosts, 'host')} on {leaves} switches, joined by one more"
    return _Drawing(title, {**_hosts(hosts), **_switches(leaves + 1)}, cables)


def _single_note(hosts: int) -> str:
    leaves = _leaves(hosts)
    if not leaves:
        return ""
    most = f"a switch has at most {names.SWITCH_PORTS_MAX:,} ports"
    return f"{most}: s1 joins s2 to s{leaves + 1}, each with up to {-(-hosts // leaves)} hosts"


def _tree(depth: int, fanout: int) -> _Drawing:
    """As Mininet's TreeTopo: switches are numbered as one meets them on the way down, hosts from left to right."""
    cables: list[tuple[Place, Place]] = []
    switches = hosts = 0
    pending = [(0, depth)]  # the switch above, and how many levels there are from here on
    while pending:
        above, levels = pending.pop()
        if levels == 0:
            hosts += 1
            cables.append(_plug(hosts, above))
            continue
        switches += 1
        if above:
            cables.append(_trunk(above, switches))
        pending += [(switches, levels - 1)] * fanout
    title = f"{counted(hosts, 'host')} below a tree of {switches:,} switch{'' if switches == 1 else 'es'}"
    return _Drawing(title, {**_hosts(hosts), **_switches(switches)}, cables)


def _tree_nodes(depth: int, fanout: int) -> int:
    """Hosts and switches, counted as far as is needed to see that they are too many."""
    total = level = 1
    for _ in range(depth):
        level *= fanout
        total += level
        if total > names.NODES_MAX:
            break
    return total


def _row(count: int) -> list[tuple[Place, Place]]:
    cables = [_plug(number, number) for number in range(1, count + 1)]
    return cables + [_trunk(number, number + 1) for number in range(1, count)]


def _linear(count: int) -> _Drawing:
    title = f"{count:,} switches in a row with a host each" if count > 1 else "one switch with a host"
    return _Drawing(title, {**_hosts(count), **_switches(count)}, _row(count))


def _ring(count: int) -> _Drawing:
    title = f"{count:,} switches in a ring with a host each; the spanning tree protocol blocks one cable"
    return _Drawing(title, {**_hosts(count), **_switches(count, stp=True)}, [*_row(count), _trunk(count, 1)])


def _fat_tree(ports: int) -> _Drawing:
    """The k-ary fat tree of routers (Al-Fares, Loukissas, Vahdat: A scalable, commodity data center network
    architecture, SIGCOMM 2008), addressed as there: pod p is 10.p.0.0/16, its edge router s has 10.p.s.0/24.

    The ways up are shared out by destination, so that all core routers carry something: edge routers at the places e
    and d of their pods send to each other by aggregation router e + d, pods p and q by core router p + q of that
    aggregation router's. Both directions take one way, which reverse path filters (RFC 3704) ask for.
    """
    half = ports // 2
    cables: list[tuple[Place, Place]] = []
    routers: dict[str, _Device] = {}
    transit = itertools.count(_TRANSIT, 2)
    pods = [IPv4Network((10 << 24 | pod << 16, POD_PREFIX)) for pod in range(ports)]
    lans = [[IPv4Network((10 << 24 | pod << 16 | edge << 8, EDGE_PREFIX)) for edge in range(half)]
            for pod in range(ports)]  # fmt: skip
    up: dict[tuple[str, str], IPv4Address] = {}  # (from, to) → the next hop

    def join(lower: str, upper: str) -> tuple[IPv4Interface, IPv4Interface]:
        """A cable between two routers, and the addresses of its ends."""
        first = next(transit)
        a, b = IPv4Interface((first, 31)), IPv4Interface((first + 1, 31))
        up[lower, upper], up[upper, lower] = b.ip, a.ip
        cables.append(((lower, upper), (upper, lower)))
        return a, b

    ends: dict[str, dict[str, IPv4Interface | None]] = {}
    hosts: dict[str, _Device] = {}
    for pod in range(ports):
        for place in range(half):
            edge = f"e{pod * half + place + 1}"
            mine: dict[str, IPv4Interface | None] = ends.setdefault(edge, {})
            base = int(lans[pod][place].network_address)
            for number in range(half):
                host = f"h{len(hosts) + 1}"
                address = IPv4Interface((base + 2 + number, EDGE_PREFIX))
                hosts[host] = _Device(
                    "host", interfaces={"eth0": address}, routes=((None, IPv4Address(base + 1), "eth0"),)
                )
                mine[host] = None
                cables.append(((host, "eth0"), (edge, host)))
            for other in range(half):
                above = f"a{pod * half + other + 1}"
                mine[above], ends.setdefault(above, {})[edge] = join(edge, above)
        for place in range(half):
            aggregation = f"a{pod * half + place + 1}"
            for other in range(half):
                core = f"c{place * half + other + 1}"
                ends[aggregation][core], ends.setdefault(core, {})[aggregation] = join(aggregation, core)

    for number in range(half * half):
        core = f"c{number + 1}"
        below = [f"a{pod * half + number // half + 1}" for pod in range(ports)]
        routes = tuple((pods[pod], up[core, below[pod]], below[pod]) for pod in range(ports))
        routers[core] = _Device("router", interfaces=ends[core], routes=routes)
    for pod in range(ports):
        for place in range(half):
            aggregation = f"a{pod * half + place + 1}"
            down = [(lans[pod][edge], f"e{pod * half + edge + 1}") for edge in range(half)]
            away = [(pods[q], f"c{place * half + (pod + q) % half + 1}") for q in range(ports) if q != pod]
            routes = tuple((to, up[aggregation, via], via) for to, via in (*down, *away))
            routers[aggregation] = _Device("router", interfaces=ends[aggregation], routes=routes)
    for pod in range(ports):
        for place in range(half):
            edge = f"e{pod * half + place + 1}"
            ways = [
                (lans[q][d], f"a{pod * half + (place + d) % half + 1}")
                for q in range(ports)
                for d in range(half)
                if (q, d) != (pod, place)
            ]
            lan = IPv4Interface((int(lans[pod][place].network_address) + 1, EDGE_PREFIX))
            routers[edge] = _Device(
                "router", interfaces=ends[edge], lan=lan, routes=tuple((to, up[edge, via], via) for to, via in ways)
            )
    title = f"{counted(len(hosts), 'host')} below a fat tree of {len(routers):,} routers with {ports} ports each"
    return _Drawing(title, {**hosts, **routers}, cables, routed=True)


KINDS: Mapping[str, _Kind] = {
    "single": _Kind("single,HOSTS", (1,), lambda hosts: hosts + 1 + _leaves(hosts), _single, note=_single_note),
    "tree": _Kind("tree,DEPTH,FANOUT", (1, 1), _tree_nodes, _tree),
    "linear": _Kind("linear,SWITCHES", (1,), lambda count: 2 * count, _linear),
    "ring": _Kind(
        "ring,SWITCHES",
        (3,),
        lambda count: 2 * count,
        _ring,
        most=(100, "in a larger ring frames would go round before its spanning tree is found"),
    ),
    "fat-tree": _Kind(
        "fat-tree,PORTS",
        (2,),
        lambda k: k**3 // 4 + 5 * k * k // 4,
        _fat_tree,
        even=True,
        most=(32, "each of its edge routers has a route to each other one, which would be too many"),
    ),
}
"""The kinds of topology that can be asked for."""


def _resolved(name: str, drawing: _Drawing) -> ResolvedLab:
    """The drawing with MACs by the node's place, and addresses where it gives none, as in every other lab."""
    ends: dict[str, dict[str, Place]] = {node: {} for node in drawing.devices}
    segment_of: dict[Place, str] = {}
    for a, b in drawing.cables:
        ends[a[0]][a[1]], ends[b[0]][b[1]] = b, a
        segment_of[a] = segment_of[b] = _segment(drawing, a, b)
    chosen = {} if drawing.routed else _chosen(list(drawing.devices))
    table: dict[Place, Interface] = {}
    by_node: dict[str, tuple[Interface, ...]] = {}
    members: dict[str, list[Interface]] = {}
    for number, (node, device) in enumerate(drawing.devices.items(), 1):
        switch = device.kind == "switch"
        order = [key for key in ends[node] if device.interfaces.get(key)] if device.interfaces else [*ends[node]]
        ports = [key for key in ends[node] if switch or (device.lan and not device.interfaces[key])]
        order += [key for key in ports if not switch] + ([LAN] if device.lan else [])
        for index, key in enumerate(order):
            address = device.lan if key == LAN else device.interfaces.get(key) or chosen.get(node)
            entry = Interface(
                node=node,
                name=key,
                mac=names.mac_address(number, index),
                mtu_bytes=MTU_BYTES,
                offload=False,
                peer=ends[node].get(key),
                segment=segment_of.get((node, key), f"{node}-{LAN}"),
                addresses=() if address is None or switch else (address,),
                bridge=(SWITCH_BRIDGE if switch else LAN) if key in ends[node] and address is None else "",
            )
            table[node, key] = entry
            if not entry.bridge:
                members.setdefault(entry.segment, []).append(entry)
        by_node[node] = tuple(table[node, key] for key in order)
    return ResolvedLab(
        name=name,
        title=drawing.title,
        nodes={node: _node(node, device, by_node[node]) for node, device in drawing.devices.items()},
        links=tuple(Link(table[a], table[b]) for a, b in drawing.cables),
        segments={segment: _members(segment, entries) for segment, entries in members.items()},
        zones={},
        root_hints=(),
        scenes=(),
        checks=(),
    )


def _segment(drawing: _Drawing, a: Place, b: Place) -> str:
    """The name of the broadcast domain of a cable: its first switch or bridge, or both its ends."""
    if not drawing.routed:
        return "s1"
    return f"{b[0]}-{LAN}" if drawing.devices[a[0]].kind == "host" else f"{a[0]}-{b[0]}"


def _members(name: str, entries: Sequence[Interface]) -> Segment:
    networks = dict.fromkeys(address.network for entry in entries for address in entry.addresses)
    return Segment(name, tuple((entry.node, entry.name) for entry in entries), tuple(networks))


def _chosen(nodes: Sequence[str]) -> Mapping[str, IPv4Interface]:
    """The addresses that hosts on one network get: the first private one that has room for them, a /24 at least."""
    hosts = [node for node in nodes if node.startswith("h")]
    prefix = min(24, 32 - (len(hosts) + 1).bit_length())
    return {host: IPv4Interface(((10 << 24) + number, prefix)) for number, host in enumerate(hosts, 1)}


def _node(name: str, device: _Device, interfaces: tuple[Interface, ...]) -> Node:
    bridges: tuple[Bridge, ...] = ()
    if bridge := SWITCH_BRIDGE if device.kind == "switch" else LAN if device.lan else "":
        bridges = (_bridge(bridge, device, interfaces),)
    return Node(
        name=name,
        kind=device.kind,
        about="",
        interfaces=interfaces,
        routes=tuple(Route(to, via, interface, given=True) for to, via, interface in device.routes),
        dns=(),
        sysctls={},
        env={},
        exec=(),
        nat=None,
        firewall=None,
        services=NO_SERVICES,
        bridges=bridges,
    )


def _bridge(name: str, device: _Device, interfaces: tuple[Interface, ...]) -> Bridge:
    """A bridge with the settings that a lab file's bridges have when it gives none."""
    return Bridge(
        name=name,
        ports=tuple(entry.name for entry in interfaces if entry.bridge == name),
        mac=interfaces[-1].mac if device.lan else None,
        ageing_s=300,
        stp=device.stp,
        priority=32768,
        hello_time_s=1,
        forward_delay_s=2,
        max_age_s=6,
    )
