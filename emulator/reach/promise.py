"""Which pairs of hosts a lab promises: there is a way for the request and one for the reply, by the lab file. Pure.

The way is walked as the nodes do it: an address in a network of an own interface is a neighbour (RFC 1122, section
3.3.1.1), else the route with the longest prefix says the next hop. A router that masquerades gives what leaves there
its own address (RFC 3022), and takes the reply back. What a router's packet filter drops is not promised. What programs
of the lab do to routes and filters is not known here.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from ipaddress import ip_address

from emulator.lab.resolved import AnyAddress, AnyInterface, Interface, Node, ResolvedLab, Route, is_private
from emulator.plan.addresses import gateway
from emulator.reach.scheme import Scheme

_MOST_ROUTERS = 64
"""What a TTL of 64 lets through."""

Leases = Mapping[tuple[str, str], Sequence[AnyInterface]]
"""Node and interface → the addresses that it has got there, by DHCP or router advertisements."""


@dataclass(frozen=True)
class _Hop:
    """A router on the way, and the interfaces by which a packet comes and goes."""

    router: str
    into: str
    out: str


class Ways:
    """The ways that packets take through a lab."""

    def __init__(self, lab: ResolvedLab, leases: Leases) -> None:
        self._lab = lab
        self._owners: dict[tuple[str, AnyAddress], tuple[Node, Interface]] = {}
        self._interfaces: dict[str, list[tuple[Interface, tuple[AnyInterface, ...]]]] = {}
        self._routes: dict[str, list[Route]] = {}
        for node in lab.nodes.values():
            mine = self._interfaces[node.name] = []
            for interface in node.interfaces:
                addresses = (*interface.addresses, *leases.get((node.name, interface.name), ()))
                if addresses and not interface.is_loopback:
                    mine.append((interface, addresses))
                for address in addresses:
                    self._owners[interface.segment, address.ip] = node, interface
        for node in lab.nodes.values():
            self._routes[node.name] = [*node.routes, *self._learnt(node)]

    def _learnt(self, node: Node) -> Iterator[Route]:
        """The default routes that a node gets with its addresses."""
        if any(route.to is None and route.via.version == 4 for route in node.routes):
            pass
        elif any(interface.dhcp for interface in node.interfaces) and (leased := gateway(self._lab, node.name)):
            via = ip_address(leased)
            for interface, addresses in self._interfaces[node.name]:
                if any(via in address.network for address in addresses):
                    yield Route(None, via, interface.name)
        for interface, _ in self._interfaces[node.name]:
            if interface.slaac:
                for other, name in self._lab.segments[interface.segment].members:
                    router = self._lab.nodes[other].interface(name)
                    first = router.first(6)
                    if first and forwards(self._lab.nodes[other], 6):
                        yield Route(None, first.ip, interface.name)
                        break

    def _next(self, node: str, destination: AnyAddress) -> tuple[Interface, AnyAddress] | None:
        """The interface and the neighbour to which `node` sends what is for `destination`."""
        connected = [
            (address.network.prefixlen, interface)
            for interface, addresses in self._interfaces[node]
            for address in addresses
            if destination in address.network
        ]
        routes = [
            (route.to.prefixlen if route.to else 0, route)
            for route in self._routes[node]
            if route.via.version == destination.version and (route.to is None or destination in route.to)
        ]
        near = max(connected, key=lambda each: each[0], default=None)
        far = max(routes, key=lambda each: each[0], default=None)
        if near and (far is None or near[0] >= far[0]):
            return near[1], destination
        if far:
            for interface, _ in self._interfaces[node]:
                if interface.name == far[1].interface:
                    return interface, far[1].via
        return None

    def walk(self, node: str, destination: AnyAddress) -> tuple[list[_Hop], str] | None:
        """The routers between `node` and the node that has `destination`, and that node; None without a way."""
        hops: list[_Hop] = []
        here, came = node, ""
        for _ in range(_MOST_ROUTERS):
            if here != node and any(destination == a.ip for _, own in self._interfaces[here] for a in own):
                return hops, here
            if here != node and not forwards(self._lab.nodes[here], destination.version):
                return None
            step = self._next(here, destination)
            found = step and self._owners.get((step[0].segment, step[1]))
            if not step or not found:
                return None
            if here != node:
                hops.append(_Hop(here, came, step[0].name))
            here, came = found[0].name, found[1].name
        return None

    def source(self, node: str, destination: AnyAddress) -> AnyAddress | None:
        """The address that a request of `node` to `destination` has: one of the interface by which it leaves, in the
        network of the next hop where there is one (RFC 1122, section 3.3.4.3)."""
        step = self._next(node, destination)
        if step is None:
            return None
        own = [address for interface, addresses in self._interfaces[node] if interface is step[0]
               for address in addresses if address.version == destination.version]  # fmt: skip
        near = [address.ip for address in own if step[1] in address.network]
        return next(iter(near or [address.ip for address in own]), None)

    def steps(self, sender: str, receiver: str, destination: AnyAddress) -> tuple[tuple[str, str], ...]:
        """Which node must find which neighbour for a request and its reply: those on the way there, and those on the
        way back where that is another one. On the same way back each has just been asked by the one that it looks
        for, and knows it (RFC 826, "Packet Reception")."""
        way = self.walk(sender, destination)
        if way is None:
            return ()
        there = list(itertools.pairwise([sender, *(hop.router for hop in way[0]), way[1]]))
        source = self.source(sender, destination)
        back = self.walk(receiver, source) if source else None
        if back is not None:
            pairs = itertools.pairwise([receiver, *(hop.router for hop in back[0]), back[1]])
            there += [(one, other) for one, other in pairs if (other, one) not in there]
        return tuple(there)

    def promised(self, sender: str, receiver: str, destination: AnyAddress) -> bool:
        """Whether the request arrives and the reply comes back."""
        source = self.source(sender, destination)
        way = self.walk(sender, destination)
        if source is None or way is None or way[1] != receiver:
            return False
        if ignores_echo(self._lab.nodes[receiver], destination.version):
            return False
        translated: list[tuple[str, AnyAddress]] = []
        seen = source
        for hop in way[0]:
            node = self._lab.nodes[hop.router]
            if _dropped(node, hop, seen, destination, new=True):
                return False
            if destination.version == 4 and _masquerades(node, hop):
                own = self.source(hop.router, destination)
                if own is None:
                    return False
                translated.append((hop.router, seen))
                seen = own
        here = receiver
        while True:
            back = self.walk(here, seen)
            if back is None:
                return False
            for hop in back[0]:
                if _dropped(self._lab.nodes[hop.router], hop, destination, seen, new=False):
                    return False
            if not translated:
                return back[1] == sender
            router, seen = translated.pop()
            if back[1] != router:
                return False
            here = router


def forwards(node: Node, version: int) -> bool:
    """Whether `node` passes on what is not for it."""
    names = ("net.ipv4.ip_forward", "net.ipv4.conf.all.forwarding") if version == 4 else (
        "net.ipv6.conf.all.forwarding",
    )  # fmt: skip
    given = [str(node.sysctls[name]) for name in names if name in node.sysctls]
    return given[-1] != "0" if given else node.forwards


def ignores_echo(node: Node, version: int) -> bool:
    """Whether the lab file tells `node` to answer no echo requests."""
    name = "net.ipv4.icmp_echo_ignore_all" if version == 4 else "net.ipv6.icmp.echo_ignore_all"
    return str(node.sysctls.get(name, "0")) != "0"


def _masquerades(node: Node, hop: _Hop) -> bool:
    rules = node.nat.masquerade if node.nat else ()
    return any(rule.out == hop.out and (not rule.protocols or "icmp" in rule.protocols) for rule in rules)


def _dropped(node: Node, hop: _Hop, source: AnyAddress, destination: AnyAddress, *, new: bool) -> bool:
    if node.firewall is None:
        return False
    if node.firewall.drop_private and (is_private(source) or is_private(destination)):
        return True
    return new and source.version == 4 and hop.into in node.firewall.untrusted


def promised_rows(lab: ResolvedLab, scheme: Scheme, ways: Ways) -> tuple[bytes, ...]:
    """A row for each host with `1` for each host that it is promised to reach, `0` for the others, `-` for itself.

    Hosts that have their addresses in the same subnets and the same routes differ in nothing but the last digits, so
    the way is walked once for two such kinds of host, unless there are routes for parts of a subnet.
    """
    addresses = [ip_address(bytes.fromhex(endpoint.address)) for endpoint in scheme.endpoints]
    small = {route.to for node in lab.nodes.values() for route in node.routes if route.to is not None}
    kinds: list[object] = []
    for number, name in enumerate(scheme.stations[: scheme.hosts]):
        node = lab.nodes[name]
        own = tuple(sorted(scheme.own[number]))
        within = tuple(
            route for route in small for place in scheme.own[number].values()
            if addresses[place] in route and _is_part(route, scheme.endpoints[place].subnet)
        )  # fmt: skip
        several = number if any(len(places) > 1 for places in scheme.by_version[number].values()) else None
        quiet = ignores_echo(node, 4), ignores_echo(node, 6)
        cables = tuple((interface.segment, interface.dhcp, interface.slaac) for interface in node.interfaces)
        kinds.append((own, node.routes, within, several, quiet, cables))
    ids: dict[object, int] = {}
    kind_of = [ids.setdefault(kind, len(ids)) for kind in kinds]
    known: dict[tuple[int, int], bool] = {}
    rows = []
    for sender in range(scheme.hosts):
        row = bytearray(b"0" * scheme.hosts)
        mine = kind_of[sender]
        for receiver in range(scheme.hosts):
            if receiver == sender:
                row[receiver] = ord("-")
                continue
            key = mine, kind_of[receiver]
            found = known.get(key)
            if found is None:
                found = known[key] = _promised(lab, ways, scheme, addresses, sender, receiver)
            if found:
                row[receiver] = ord("1")
        rows.append(bytes(row))
    return tuple(rows)


def _is_part(route: object, subnet: str) -> bool:
    return not subnet.endswith(f"|{route}")


def _promised(
    lab: ResolvedLab, ways: Ways, scheme: Scheme, addresses: Sequence[AnyAddress], sender: int, receiver: int
) -> bool:
    one, other = scheme.stations[sender], scheme.stations[receiver]
    target = scheme.target(sender, receiver)
    if target is None:
        return _should_meet(lab.nodes[one], lab.nodes[other])
    return ways.promised(one, other, addresses[target])


def _should_meet(one: Node, other: Node) -> bool:
    """Whether two hosts on one segment cannot ask each other because one of them did not get the address that it was
    to get."""
    places = {interface.segment: interface for interface in one.interfaces}
    both = [(places[each.segment], each) for each in other.interfaces if each.segment in places]
    return any(each.dhcp or each.slaac for pair in both for each in pair)
