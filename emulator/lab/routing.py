"""Static routes by shortest path, so that a lab file needs none. Pure.

A router announces every network it reaches to its neighbours, except through an interface where it masquerades: what
is behind address translation is unknown outside (RFC 1918, section 3; RFC 3022, section 2). Only IPv4 is translated, so
IPv6 networks are announced everywhere.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from ipaddress import ip_address, ip_network

from emulator.lab.addressing import outside
from emulator.lab.document import Path
from emulator.lab.model import LabSpec
from emulator.lab.problems import Problems
from emulator.lab.references import is_address
from emulator.lab.resolved import AnyAddress, AnyNetwork, Interface, Route
from emulator.lab.topology import Topology

MAX_ROUTES = 1_000_000
"""Routes of all routers of a lab together, at most."""

MAX_NEIGHBOURS = 200_000
"""Pairs of a router and something else on one network, of all networks at most; each pair is looked at."""

MAX_WAYS = 4_000_000
"""Pairs of routers, at most; from each to each other a way is looked for."""


@dataclass(frozen=True)
class _Choice:
    """A router that a node reaches directly: by its own interface, at the router's interface and address."""

    interface: Interface
    other: Interface
    via: AnyAddress


@dataclass(frozen=True)
class _Hop:
    """The first router on the way to another, and how many are to be crossed."""

    cost: int
    choice: _Choice | None = None


_Ways = dict[str, dict[str, _Hop]]
"""Router → every router that it announces its networks to, near or far → the first hop from there."""


def _hides(spec: LabSpec, choice: _Choice) -> bool:
    """Whether the other router announces nothing there: it translates what is behind it, which only IPv4 is."""
    return choice.via.version == 4 and outside(spec, choice.other)


class _Network:
    """The lab as routers see it."""

    def __init__(self, spec: LabSpec, topology: Topology) -> None:
        self.spec = spec
        self.topology = topology
        self._routers_on: dict[str, list[Interface]] = {}
        self.attached: dict[AnyNetwork, dict[str, None]] = {}
        for interface in topology.interfaces.values():
            if spec.nodes[interface.node].kind == "router":
                self._routers_on.setdefault(interface.segment, []).append(interface)
                for address in interface.addresses:
                    self.attached.setdefault(address.network, {}).setdefault(interface.node)
        self.routers = [name for name, node in spec.nodes.items() if node.kind == "router"]
        self.ways: dict[int, _Ways] = {4: {}, 6: {}}

    def find_ways(self) -> None:
        """Find the way from every router to every other."""
        listeners: dict[int, dict[str, list[tuple[str, _Choice]]]] = {4: {}, 6: {}}
        for router in self.routers:
            for choice in self.choices(router):
                if not _hides(self.spec, choice):
                    listeners[choice.via.version].setdefault(choice.other.node, []).append((router, choice))
        for version, told in listeners.items():
            self.ways[version] = {router: _ways_to(router, told, len(self.routers)) for router in self.routers}

    def choices(self, node: str) -> Iterator[_Choice]:
        """Every router that `node` can send to, one address of each version per interface."""
        for own in self.topology.by_node.get(node, ()):
            for other in self._routers_on.get(own.segment, ()):
                if other.node == node:
                    continue
                versions = set()
                for address in other.addresses:
                    near = any(address.ip in mine.network for mine in own.addresses)
                    if near and address.version not in versions:
                        versions.add(address.version)
                        yield _Choice(own, other, address.ip)

    def hops(self, node: str, choices: list[_Choice], version: int) -> dict[AnyNetwork, _Choice]:
        """The next hop of `node` for every network that it is told of and not connected to."""
        connected = {a.network for interface in self.topology.by_node[node] for a in interface.addresses}
        ways = self.ways[version]
        result: dict[AnyNetwork, _Choice] = {}
        for destination, owners in self.attached.items():
            if destination in connected or destination.version != version:
                continue
            if node in ways:
                found = [hop for owner in owners if (hop := ways[owner].get(node))]
            else:
                found = [
                    _Hop(hop.cost, choice)
                    for choice in choices
                    if not _hides(self.spec, choice)
                    for owner in owners
                    if (hop := ways[owner].get(choice.other.node))
                ]
            best = min(found, key=lambda hop: hop.cost, default=None)
            if best and best.choice:
                result[destination] = best.choice
        return result


def _ways_to(target: str, listeners: Mapping[str, list[tuple[str, _Choice]]], routers: int) -> dict[str, _Hop]:
    """From every router that hears of `target`, of all `routers` at most, the first hop on a shortest way: breadth
    first, so no way is a loop."""
    ways = {target: _Hop(0)}
    queue = deque([target])
    while queue and len(ways) < routers:
        router = queue.popleft()
        for listener, choice in listeners.get(router, ()):
            if listener not in ways:
                ways[listener] = _Hop(ways[router].cost + 1, choice)
                queue.append(listener)
    return ways


def _check_neighbours(spec: LabSpec, topology: Topology, problems: Problems) -> None:
    """Who has how many routers beside it is looked at one by one."""
    pairs = 0
    for segment in topology.segments.values():
        routers = sum(spec.nodes[node].kind == "router" for node, _ in segment.members)
        pairs += routers * len(segment.members)
        if pairs > MAX_NEIGHBOURS:
            text = f"{routers:,} routers on one network of {len(segment.members):,} need too many routes"
            problems.add(("nodes", segment.members[0][0]), text, "defaults: {routes: given}", key=True)
            problems.stop()


def compute_routes(spec: LabSpec, topology: Topology, problems: Problems) -> Mapping[str, tuple[Route, ...]]:
    """Routes of every host and router: the given ones, then the computed ones."""
    if spec.defaults.routes == "given":
        nodes = (name for name, node in spec.nodes.items() if node.kind != "switch")
        return {name: tuple(_given(name, spec, topology, problems)) for name in nodes}
    _check_neighbours(spec, topology, problems)
    network = _Network(spec, topology)
    if len(network.routers) * len(network.attached) > MAX_ROUTES:
        text = f"{len(network.routers):,} routers with {len(network.attached):,} networks"
        problems.add(("nodes",), f"{text} need too many routes: more than {MAX_ROUTES:,}", key=True)
        problems.stop()
    if len(network.routers) ** 2 > MAX_WAYS:
        text = f"the ways between {len(network.routers):,} routers are too many: more than {MAX_WAYS:,}"
        problems.add(("nodes",), text, "defaults: {routes: given}", key=True)
        problems.stop()
    network.find_ways()
    result: dict[str, tuple[Route, ...]] = {}
    for name, node in spec.nodes.items():
        if node.kind == "switch":
            continue
        given = list(_given(name, spec, topology, problems))
        computed: list[Route] = []
        choices = list(network.choices(name))
        for version in (4, 6):
            computed += _computed(
                name, network, [choice for choice in choices if choice.via.version == version], version
            )
        covered = {(route.to, route.via.version) for route in given}
        result[name] = (*given, *(route for route in computed if (route.to, route.via.version) not in covered))
    return result


def _computed(name: str, network: _Network, choices: list[_Choice], version: int) -> list[Route]:
    is_host = network.spec.nodes[name].kind == "host"
    if not choices:
        return []
    if is_host and len({choice.via for choice in choices}) == 1:
        return [Route(None, choices[0].via, choices[0].interface.name)]
    hops = network.hops(name, choices, version)
    default = _default(network.spec, is_host, choices, hops)
    routes = [Route(None, default.via, default.interface.name)] if default else []
    for destination, hop in hops.items():
        if default is None or (hop.via, hop.interface) != (default.via, default.interface):
            routes.append(Route(destination, hop.via, hop.interface.name))
    return routes


def _default(
    spec: LabSpec, is_host: bool, choices: list[_Choice], hops: Mapping[AnyNetwork, _Choice]
) -> _Choice | None:
    """The next hop that most networks are behind: of a host any, of a translating router one that is outside, and not
    itself a translating router's outside. Other routers have no default route."""
    if not is_host:
        choices = [choice for choice in choices if outside(spec, choice.interface)]
    open_choices = [choice for choice in choices if not outside(spec, choice.other)]
    choices = open_choices or (choices if is_host else [])
    count = Counter((hop.via, hop.interface.name) for hop in hops.values())
    return max(choices, key=lambda choice: count[choice.via, choice.interface.name], default=None)


def _given(name: str, spec: LabSpec, topology: Topology, problems: Problems) -> Iterator[Route]:
    node = spec.nodes[name]
    interfaces = topology.by_node.get(name, ())
    own = {address.ip for interface in interfaces for address in interface.addresses}
    seen: set[tuple[AnyNetwork | None, int]] = set()
    base: Path = ("nodes", name)
    wanted: list[tuple[str, str, Path]] = [
        (route.to, route.via, (*base, "routes", index)) for index, route in enumerate(node.routes)
    ]
    if node.gateway is not None:
        wanted.append(("default", node.gateway, (*base, "gateway")))
    for to, via, path in wanted:
        place = (*path, "via") if path[-1] != "gateway" else path
        if not is_address(via) and (via.partition(":")[0] not in spec.nodes or not topology.complete):
            continue
        if is_address(via) and ip_address(via) in own:
            problems.add(place, f"the next hop {via} is an address of {name} itself")
            continue
        hop = _hop(via, name, topology)
        if hop is None:
            networks = ", ".join(str(address.network) for i in interfaces for address in i.addresses) or "none"
            text = f"the next hop {via} is outside the networks of {name}"
            problems.add(place, text, f"its networks: {networks}")
            continue
        destination = None if to == "default" else ip_network(to)
        if destination is not None and destination.version != hop[0].version:
            problems.add(place, f"the next hop {via} is not an IPv{destination.version} address like {to}")
        elif (destination, hop[0].version) in seen:
            problems.add(path, f"a second route to {to}; one can be")
        else:
            seen.add((destination, hop[0].version))
            yield Route(destination, hop[0], hop[1], given=True)


def _hop(via: str, node: str, topology: Topology) -> tuple[AnyAddress, str] | None:
    """The address and own interface for a next hop that is given as an address, a node or node:interface."""
    for interface in topology.by_node.get(node, ()):
        if is_address(via):
            if any(ip_address(via) in own.network for own in interface.addresses):
                return ip_address(via), interface.name
            continue
        for place in topology.segments[interface.segment].members:
            if place[0] == node or via not in (place[0], ":".join(place)):
                continue
            for address in topology.interfaces[place].addresses:
                if any(address.ip in own.network for own in interface.addresses):
                    return address.ip, interface.name
    return None
