"""Static routes by shortest path, so that a lab file needs none. Pure.

A router announces every network it reaches to its neighbours, except through an interface where it masquerades: what
is behind address translation is unknown outside (RFC 1918, section 3; RFC 3022, section 2).
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from ipaddress import ip_address, ip_network

from emulator.lab.model import LabSpec
from emulator.lab.problems import Problems
from emulator.lab.references import is_address
from emulator.lab.resolved import AnyAddress, AnyNetwork, Interface, Route
from emulator.lab.topology import Place, Topology


@dataclass(frozen=True)
class NextHop:
    """Where a node sends packets for some network: `cost` routers are still to be crossed."""

    via: AnyAddress
    interface: str
    cost: int


@dataclass(frozen=True)
class _Neighbours:
    """Who can be a next hop for whom."""

    spec: LabSpec
    topology: Topology

    def routers(self, place: Place) -> Iterator[tuple[Interface, AnyAddress]]:
        """Interfaces of routers that `place` reaches directly, each with the address to send to."""
        own = self.topology.interfaces[place]
        for other_place in self.topology.segments[own.segment].members:
            other = self.topology.interfaces[other_place]
            if other.node == own.node or self.spec.nodes[other.node].kind != "router":
                continue
            for address in other.addresses:
                if any(address.ip in mine.network for mine in own.addresses):
                    yield other, address.ip
                    break


def _outside(spec: LabSpec, interface: Interface) -> bool:
    nat = spec.nodes[interface.node].nat
    return nat is not None and any(rule.out == interface.name for rule in nat.masquerade)


def compute_routes(spec: LabSpec, topology: Topology, problems: Problems) -> Mapping[str, tuple[Route, ...]]:
    """Routes of every host and router: the given ones, then the computed ones."""
    neighbours = _Neighbours(spec, topology)
    own: dict[str, list[Interface]] = {}
    for interface in topology.interfaces.values():
        own.setdefault(interface.node, []).append(interface)
    distances = _distances(spec, topology, neighbours)
    result: dict[str, tuple[Route, ...]] = {}
    for name, node in spec.nodes.items():
        if node.kind == "switch":
            continue
        given = list(_given(name, spec, own.get(name, []), topology, problems))
        computed = _computed(name, spec, own.get(name, []), neighbours, distances)
        covered = {route.to for route in given}
        result[name] = (*given, *(route for route in computed if route.to not in covered))
    return result


def _distances(
    spec: LabSpec, topology: Topology, neighbours: _Neighbours
) -> Mapping[AnyNetwork, Mapping[str, tuple[int, frozenset[str]]]]:
    """For each network: router → (routers still to cross, outside interfaces by which it must not be announced)."""
    attached: dict[AnyNetwork, list[str]] = {}
    interfaces_of: dict[str, list[Interface]] = {}
    for interface in topology.interfaces.values():
        if spec.nodes[interface.node].kind == "router":
            interfaces_of.setdefault(interface.node, []).append(interface)
            for address in interface.addresses:
                attached.setdefault(address.network, []).append(interface.node)
    adjacent: dict[str, list[str]] = {
        router: [
            other.node
            for interface in interfaces
            if not _outside(spec, interface)
            for other, _ in neighbours.routers((interface.node, interface.name))
        ]
        for router, interfaces in interfaces_of.items()
    }
    hidden = {
        router: frozenset(interface.name for interface in interfaces if _outside(spec, interface))
        for router, interfaces in interfaces_of.items()
    }
    result: dict[AnyNetwork, dict[str, tuple[int, frozenset[str]]]] = {}
    for network, routers in attached.items():
        cost: dict[str, tuple[int, frozenset[str]]] = {router: (0, hidden[router]) for router in dict.fromkeys(routers)}
        queue = deque(cost)
        while queue:
            router = queue.popleft()
            for other in adjacent[router]:
                if other not in cost:
                    cost[other] = (cost[router][0] + 1, hidden[other])
                    queue.append(other)
        result[network] = cost
    return result


def _computed(
    name: str,
    spec: LabSpec,
    interfaces: list[Interface],
    neighbours: _Neighbours,
    distances: Mapping[AnyNetwork, Mapping[str, tuple[int, frozenset[str]]]],
) -> list[Route]:
    node = spec.nodes[name]
    connected = {address.network for interface in interfaces for address in interface.addresses}
    choices = [
        (interface, other, via)
        for interface in interfaces
        for other, via in neighbours.routers((interface.node, interface.name))
    ]
    if not choices:
        return []
    if node.kind == "host" and len({via for _, _, via in choices}) == 1:
        interface, _, via = choices[0]
        return [Route(None, via, interface.name)]
    best: dict[AnyNetwork, NextHop] = {}
    for network, cost in distances.items():
        if network in connected:
            continue
        for interface, other, via in choices:
            reach = cost.get(other.node)
            if reach is None or other.name in reach[1] or via.version != network.version:
                continue
            hop = NextHop(via, interface.name, reach[0])
            if network not in best or hop.cost < best[network].cost:
                best[network] = hop
    default = _default(spec, node.kind == "host", choices, best)
    routes = [Route(None, default.via, default.interface)] if default else []
    for network, hop in best.items():
        if default is None or (hop.via, hop.interface) != (default.via, default.interface):
            routes.append(Route(network, hop.via, hop.interface))
    return routes


def _default(
    spec: LabSpec,
    is_host: bool,
    choices: list[tuple[Interface, Interface, AnyAddress]],
    best: Mapping[AnyNetwork, NextHop],
) -> NextHop | None:
    """A host's most used next hop; a translating router's neighbour outside; other routers have no default route."""
    if is_host:
        counts = Counter((hop.via, hop.interface) for hop in best.values())
        if counts:
            via, name = counts.most_common(1)[0][0]
            return NextHop(via, name, 0)
        return NextHop(choices[0][2], choices[0][0].name, 0)
    for interface, _, via in choices:
        if _outside(spec, interface):
            return NextHop(via, interface.name, 0)
    return None


def _given(
    name: str, spec: LabSpec, interfaces: list[Interface], topology: Topology, problems: Problems
) -> Iterator[Route]:
    node = spec.nodes[name]
    wanted = [(route.to, route.via, ("nodes", name, "routes", index)) for index, route in enumerate(node.routes)]
    if node.gateway is not None:
        wanted.append(("default", node.gateway, ("nodes", name, "gateway")))
    for to, via_text, path in wanted:
        hop = _hop(via_text, interfaces, topology)
        if hop is None:
            networks = ", ".join(str(address.network) for i in interfaces for address in i.addresses) or "none"
            problems.add(path, f"the next hop {via_text} is outside the networks of {name}", f"its networks: {networks}")
            continue
        yield Route(None if to == "default" else ip_network(to), hop[0], hop[1], given=True)


def _hop(via: str, interfaces: list[Interface], topology: Topology) -> tuple[AnyAddress, str] | None:
    """The address and own interface for a next hop that is given as an address or a node."""
    for interface in interfaces:
        for place in topology.segments[interface.segment].members:
            other = topology.interfaces[place]
            for address in other.addresses:
                if via in (other.node, str(address.ip)) and any(address.ip in own.network for own in interface.addresses):
                    return address.ip, interface.name
        if is_address(via) and any(ip_address(via) in own.network for own in interface.addresses):
            return ip_address(via), interface.name
    return None
