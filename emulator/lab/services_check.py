"""What can be wrong with services, address translation and packet filters, beyond the form of the file."""

from __future__ import annotations

from emulator.lab.document import Path
from emulator.lab.load import near
from emulator.lab.model import LabSpec, NodeSpec
from emulator.lab.problems import Problems
from emulator.lab.references import is_address
from emulator.lab.services import DhcpPool
from emulator.lab.topology import Topology


def check_services(spec: LabSpec, topology: Topology, problems: Problems) -> None:
    """Add what is wrong to `problems`."""
    ranges: dict[str, list[tuple[DhcpPool, str, Path]]] = {}
    for name, node in spec.nodes.items():
        _check_kind(name, node, problems)
        _check_interfaces_named(name, node, topology, problems)
        dnsmasq = node.services.dnsmasq
        for index, pool in enumerate(dnsmasq.dhcp if dnsmasq else ()):
            path: Path = ("nodes", name, "services", "dnsmasq", "dhcp", index)
            segment = _check_pool(name, pool, path, topology, problems)
            if segment:
                ranges.setdefault(segment, []).append((pool, name, path))
        if dnsmasq and dnsmasq.dns and not dnsmasq.dns.forward and not dnsmasq.dns.names:
            problems.add(("nodes", name, "services", "dnsmasq", "dns"), "a forwarder needs `forward` or `names`")
        for index, text in enumerate(dnsmasq.dns.forward if dnsmasq and dnsmasq.dns else ()):
            if text not in spec.nodes and not is_address(text):
                here = ("nodes", name, "services", "dnsmasq", "dns", "forward", index)
                problems.add(here, f"no node '{text}'", near(text, list(spec.nodes)))
        if node.services.unbound and node.services.unbound.root_hints == "lab" and "." not in spec.zones:
            problems.add(("nodes", name, "services", "unbound"), "a resolver needs a root to start at", "add the zone '.'")
        if node.services.nsd and not any(name in zone.nameservers.values() for zone in spec.zones.values()):
            problems.add(("nodes", name, "services", "nsd"), f"no zone names {name} as a server")
    for pools in ranges.values():
        _check_overlap(pools, problems)
    _check_clients(spec, topology, ranges, problems)


def _check_kind(name: str, node: NodeSpec, problems: Problems) -> None:
    if node.kind != "router":
        for key in ("nat", "firewall"):
            if getattr(node, key) is not None:
                problems.add(("nodes", name, key), f"`{key}` is for routers; {name} is a {node.kind}", key=True)
    if node.kind == "switch":
        for key in ("gateway", "routes", "dns", "exec"):
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
    own = sorted(interface for owner, interface in topology.interfaces if owner == name)

    def check(interface: str | None, path: Path) -> None:
        if interface is not None and interface not in own:
            problems.add(path, f"{name} has no interface '{interface}'", near(interface, own))

    if node.nat:
        for index, rule in enumerate(node.nat.masquerade):
            check(rule.out, ("nodes", name, "nat", "masquerade", index, "out"))
        for index, port in enumerate(node.nat.publish):
            check(port.on, ("nodes", name, "nat", "publish", index, "on"))
            if port.on is None and not node.nat.masquerade:
                problems.add(("nodes", name, "nat", "publish", index), "publish on which interface?", "on: INTERFACE")
    for index, interface in enumerate(node.firewall.untrusted if node.firewall else ()):
        check(interface, ("nodes", name, "firewall", "untrusted", index))


def _check_pool(name: str, pool: DhcpPool, path: Path, topology: Topology, problems: Problems) -> str | None:
    interface = topology.interfaces.get((name, pool.interface))
    if interface is None:
        own = sorted(i for owner, i in topology.interfaces if owner == name)
        problems.add((*path, "interface"), f"{name} has no interface '{pool.interface}'", near(pool.interface, own))
        return None
    first, last = pool.range
    networks = [address.network for address in interface.addresses if address.version == 4]
    home = next((network for network in networks if first in network), None)
    if home is None or last not in home:
        shown = ", ".join(str(network) for network in networks) or "none"
        problems.add((*path, "range"), f"the range {first}-{last} is outside the network of {name}:{pool.interface}", shown)
        return None
    if first > last:
        problems.add((*path, "range"), f"the range {first}-{last} is empty: its first address is above its last")
    members = topology.segments[interface.segment].members
    for node, address in pool.reservations.items():
        here = (*path, "reservations", node)
        if address not in home:
            problems.add(here, f"the reservation {address} is outside the network {home}")
        if not any(owner == node for owner, _ in members):
            problems.add(here, f"{node} is not on the network of {name}:{pool.interface}", key=True)
    if len(set(pool.reservations.values())) != len(pool.reservations):
        problems.add((*path, "reservations"), "two reservations of one address")
    for place in members:
        for fixed in topology.interfaces[place].addresses:
            if fixed.version == 4 and first <= fixed.ip <= last:
                text = f"{fixed.ip} of {':'.join(place)} lies in the range that DHCP gives out"
                problems.add((*path, "range"), text)
            for node, address in pool.reservations.items():
                if address == fixed.ip:
                    problems.add((*path, "reservations", node), f"duplicate address {address}: {':'.join(place)} has it")
    return interface.segment


def _check_overlap(pools: list[tuple[DhcpPool, str, Path]], problems: Problems) -> None:
    for index, (pool, name, path) in enumerate(pools):
        for other, other_name, _ in pools[:index]:
            if pool.range[0] <= other.range[1] and other.range[0] <= pool.range[1]:
                text = f"the ranges of the DHCP servers {other_name} and {name} overlap on one network"
                problems.add((*path, "range"), text, f"{other.range[0]}-{other.range[1]} is the other")


def _check_clients(
    spec: LabSpec, topology: Topology, ranges: dict[str, list[tuple[DhcpPool, str, Path]]], problems: Problems
) -> None:
    for (node, name), interface in topology.interfaces.items():
        if interface.dhcp and interface.segment not in ranges:
            problems.add(("nodes", node, "interfaces", name), f"{node}:{name} asks by DHCP, but no server is on its network")
