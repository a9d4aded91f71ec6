"""What can be wrong with services, address translation and packet filters, beyond the form of the file."""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import IPv4Address

from emulator.lab.document import Path
from emulator.lab.model import LabSpec
from emulator.lab.nodes import NodeSpec
from emulator.lab.problems import Problems, near
from emulator.lab.services import DhcpPool
from emulator.lab.topology import Topology


@dataclass(frozen=True)
class _Pool:
    """A DHCP pool with its server and its place in the file."""

    spec: DhcpPool
    node: str
    path: Path


def check_services(spec: LabSpec, topology: Topology, problems: Problems) -> None:
    """Add what is wrong to `problems`."""
    ranges: dict[str, list[_Pool]] = {}
    served = {server for zone in spec.zones.values() for server in zone.nameservers.values()}
    for name, node in spec.nodes.items():
        _check_kind(name, node, problems)
        _check_interfaces_named(name, node, topology, problems)
        dnsmasq = node.services.dnsmasq
        for index, pool in enumerate(dnsmasq.dhcp if dnsmasq else ()):
            entry = _Pool(pool, name, ("nodes", name, "services", "dnsmasq", "dhcp", index))
            segment = _check_pool(entry, topology, problems)
            ranges.setdefault(segment or "", []).append(entry)
        _check_advertisements(name, node, topology, problems)
        if dnsmasq and dnsmasq.dns and not dnsmasq.dns.forward and not dnsmasq.dns.names:
            problems.add(("nodes", name, "services", "dnsmasq", "dns"), "a forwarder needs `forward` or `names`")
        if node.services.unbound and node.services.unbound.root_hints == "lab" and not spec.zones:
            text = "a resolver needs a root to start at"
            problems.add(("nodes", name, "services", "unbound"), text, "add the zone '.'", key=True)
        if node.services.nsd and name not in served:
            text, hint = f"no zone names {name} as its server", f"nameservers: {name}  in a zone"
            problems.add(("nodes", name, "services", "nsd"), text, hint, key=True)
    for segment, pools in ranges.items():
        if segment:
            _check_overlap(pools, problems)
    if topology.complete and "" not in ranges:
        _check_clients(topology, ranges, problems)
    if topology.complete:
        _check_slaac(spec, topology, problems)


def _check_kind(name: str, node: NodeSpec, problems: Problems) -> None:
    if node.kind != "router":
        for key in ("nat", "firewall"):
            if getattr(node, key) is not None:
                problems.add(("nodes", name, key), f"`{key}` is for routers; {name} is a {node.kind}", key=True)
    if node.kind == "switch":
        for key in ("gateway", "routes", "dns", "hosts"):
            if getattr(node, key):
                problems.add(("nodes", name, key), f"a switch has no `{key}`", key=True)
        for service, value in node.services:
            if value is not None:
                problems.add(("nodes", name, "services", service), "a switch runs no services", key=True)
    if node.services.dnsmasq and node.services.dnsmasq.dns and (node.services.unbound or node.services.nsd):
        problems.add(("nodes", name, "services"), "two services of this node want UDP and TCP port 53")
    elif node.services.unbound and node.services.nsd:
        problems.add(("nodes", name, "services"), "unbound and nsd both want UDP and TCP port 53")


def _check_interfaces_named(name: str, node: NodeSpec, topology: Topology, problems: Problems) -> None:
    own = [interface.name for interface in topology.by_node.get(name, ())]

    def check(interface: str | None, path: Path) -> None:
        if interface is not None and interface not in own:
            problems.add(path, f"{name} has no interface '{interface}'", near(interface, own))

    if node.nat:
        for index, rule in enumerate(node.nat.masquerade):
            check(rule.out, ("nodes", name, "nat", "masquerade", index, "out"))
        published: set[tuple[str | None, str, int]] = set()
        for index, port in enumerate(node.nat.publish):
            path: Path = ("nodes", name, "nat", "publish", index)
            if ("nodes", name, "nat", "publish", "port") in problems.document.places:
                path = path[:-1]
            check(port.on, (*path, "on"))
            if port.on is None and not node.nat.masquerade:
                problems.add(path, "on which interface is the port published?", "on: INTERFACE")
            on = port.on or next((rule.out for rule in node.nat.masquerade), None)
            if (on, port.protocol, port.port) in published:
                problems.add((*path, "port"), f"{port.protocol} port {port.port} of {on} is published already")
            published.add((on, port.protocol, port.port))
    for index, interface in enumerate(node.firewall.untrusted if node.firewall else ()):
        check(interface, ("nodes", name, "firewall", "untrusted", index))


def _check_pool(entry: _Pool, topology: Topology, problems: Problems) -> str | None:
    """The segment that a DHCP pool serves; None when it is not known."""
    pool, name, path = entry.spec, entry.node, entry.path
    interface = topology.interfaces.get((name, pool.interface))
    if interface is None:
        own = [other.name for other in topology.by_node.get(name, ())]
        problems.add((*path, "interface"), f"{name} has no interface '{pool.interface}'", near(pool.interface, own))
        return None
    first, last = pool.range
    networks = [address.network for address in interface.addresses if address.version == 4]
    home = next((network for network in networks if first in network), None)
    if not networks:
        text = f"{interface.place} needs a fixed address to give out addresses of its network"
        problems.add((*path, "interface"), text)
        return interface.segment
    if home is None or last not in home:
        shown = ", ".join(str(network) for network in networks)
        text = f"the range {first}-{last} is outside the network of {interface.place}"
        problems.add((*path, "range"), text, f"its network: {shown}")
        return interface.segment
    if first > last:
        problems.add((*path, "range"), f"the range {first}-{last} is empty: its first address is above its last")
        return interface.segment
    if first == home.network_address or last == home.broadcast_address:
        text = f"the range {first}-{last} has an address that no host can have"
        problems.add((*path, "range"), text, f"{home.network_address + 1}-{home.broadcast_address - 1} at most")
    members = topology.segments[interface.segment].members
    fixed: dict[object, str] = {}
    for place in members:
        for used in topology.interfaces[place].addresses:
            fixed[used.ip] = ":".join(place)
            if used.version == 4 and first <= used.ip <= last:
                text = f"{used.ip} of {':'.join(place)} lies in the range that DHCP gives out"
                problems.add((*path, "range"), text)
    kept: dict[IPv4Address, str] = {}
    for node, address in pool.reservations.items():
        here: Path = (*path, "reservations", node)
        if address not in home or address in (home.network_address, home.broadcast_address):
            problems.add(here, f"the reservation {address} is outside the network {home}")
        elif address in fixed:
            problems.add(here, f"duplicate address {address}: {fixed[address]} has it")
        elif kept.setdefault(address, node) != node:
            problems.add(here, f"duplicate address {address}: it is reserved for {kept[address]}")
        if topology.complete and node in topology.by_node:
            asking = [place for place in members if place[0] == node]
            if not asking:
                problems.add(here, f"{node} is not on the network of {interface.place}", key=True)
            elif not any(topology.interfaces[place].dhcp for place in asking):
                hint = f"interfaces: {{{asking[0][1]}: dhcp}}"
                problems.add(here, f"{node} does not ask by DHCP, so nothing can be reserved for it", hint, key=True)
    return interface.segment


def _check_overlap(pools: list[_Pool], problems: Problems) -> None:
    """No address is given out by two pools on one network."""
    for index, entry in enumerate(pools):
        pool = entry.spec
        for other in pools[:index]:
            start, end = other.spec.range
            if pool.range[0] <= end and start <= pool.range[1]:
                who = f"the DHCP servers {other.node} and {entry.node}" if other.node != entry.node else entry.node
                text = f"two ranges of {who} overlap on one network"
                problems.add((*entry.path, "range"), text, f"the other is {start}-{end}")
        for other in pools:
            start, end = other.spec.range
            for node, address in pool.reservations.items() if other is not entry else ():
                if start <= address <= end:
                    text = f"the reservation {address} lies in the range that {other.node} gives out"
                    problems.add((*entry.path, "reservations", node), text, f"{start}-{end}")


def _check_clients(topology: Topology, ranges: dict[str, list[_Pool]], problems: Problems) -> None:
    for interface in topology.interfaces.values():
        if interface.dhcp and interface.segment not in ranges:
            text = f"{interface.place} asks by DHCP, but no server is on its network"
            hint = "services: {dnsmasq: {dhcp: […]}}  on a node there"
            problems.add(("nodes", interface.node, "interfaces", interface.name), text, hint)


def _check_advertisements(name: str, node: NodeSpec, topology: Topology, problems: Problems) -> None:
    """Only routers announce themselves, on interfaces with an IPv6 network that addresses can be made of."""
    for index, entry in enumerate(node.services.dnsmasq.ra if node.services.dnsmasq else ()):
        path: Path = ("nodes", name, "services", "dnsmasq", "ra", index, "interface")
        interface = topology.interfaces.get((name, entry.interface))
        if interface is None:
            own = [other.name for other in topology.by_node.get(name, ())]
            problems.add(path, f"{name} has no interface '{entry.interface}'", near(entry.interface, own))
        elif not any(a.version == 6 and a.network.prefixlen == 64 for a in interface.addresses):
            problems.add(path, f"{interface.place} needs an IPv6 address with /64 to announce (RFC 4862, 5.5.3)")
        elif node.kind != "router":
            problems.add(path, f"only a router announces itself; {name} is a {node.kind}")


def _check_slaac(spec: LabSpec, topology: Topology, problems: Problems) -> None:
    announced = {
        topology.interfaces[name, entry.interface].segment
        for name, node in spec.nodes.items()
        if node.services.dnsmasq
        for entry in node.services.dnsmasq.ra
        if (name, entry.interface) in topology.interfaces
    }
    for interface in topology.interfaces.values():
        if interface.slaac and interface.segment not in announced:
            text = f"{interface.place} waits for router advertisements, but no router on its network sends any"
            hint = "services: {dnsmasq: {ra: [{interface: lan}]}}  on a router there"
            problems.add(("nodes", interface.node, "interfaces", interface.name), text, hint)
