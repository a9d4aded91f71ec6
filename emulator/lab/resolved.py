"""A lab with nothing left open: every interface, address, MAC, route, record and filter is filled in. Frozen data."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from ipaddress import IPv4Address, IPv4Interface, IPv4Network, IPv6Address, IPv6Interface, IPv6Network, ip_address

from emulator.lab.checks import Check
from emulator.lab.model import BreakSpec, FirewallSpec, Kind, NatSpec
from emulator.lab.services import Services

AnyAddress = IPv4Address | IPv6Address
AnyInterface = IPv4Interface | IPv6Interface
AnyNetwork = IPv4Network | IPv6Network

Place = tuple[str, str]
"""A node and one of its interfaces."""

PRIVATE_NETWORKS = tuple(IPv4Network(text) for text in ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16"))
"""Private address space (RFC 1918, section 3)."""


def is_private(address: AnyAddress) -> bool:
    """Whether `address` may not travel on a public link (RFC 1918)."""
    return isinstance(address, IPv4Address) and any(address in network for network in PRIVATE_NETWORKS)


def client_name(interface: str, *, alone: bool) -> str:
    """The name of the DHCP client's process on an interface; `alone`: it is the only one of its node."""
    return "udhcpc" if alone else f"udhcpc-{interface}"


@dataclass(frozen=True)
class Interface:
    """One end of a link.

    Attributes:
        segment: name of the broadcast domain that it is in.
        peer: (node, interface) at the other end of the cable.
        offload: checksum and segmentation offload stay on.
    """

    node: str
    name: str
    mac: str
    mtu_bytes: int
    offload: bool
    peer: tuple[str, str]
    segment: str
    addresses: tuple[AnyInterface, ...] = ()
    dhcp: bool = False

    @property
    def place(self) -> str:
        """`node:interface`, as captures name it."""
        return f"{self.node}:{self.name}"


@dataclass(frozen=True)
class Route:
    """A static route; `to` is None for the default route."""

    to: AnyNetwork | None
    via: AnyAddress
    interface: str
    given: bool = False


@dataclass(frozen=True)
class Node:
    """A node. `dns` are the servers of its /etc/resolv.conf."""

    name: str
    kind: Kind
    about: str
    interfaces: tuple[Interface, ...]
    routes: tuple[Route, ...]
    dns: tuple[AnyAddress, ...]
    sysctls: Mapping[str, str]
    env: Mapping[str, str]
    exec: tuple[tuple[str, ...], ...]
    nat: NatSpec | None
    firewall: FirewallSpec | None
    services: Services

    def interface(self, name: str) -> Interface:
        """The interface called `name`; KeyError when there is none."""
        for interface in self.interfaces:
            if interface.name == name:
                return interface
        raise KeyError(f"{self.name}:{name}")

    @property
    def addresses(self) -> tuple[AnyInterface, ...]:
        """All fixed addresses, in the order of the interfaces."""
        return tuple(address for interface in self.interfaces for address in interface.addresses)

    @property
    def forwards(self) -> bool:
        """Whether packets pass through it."""
        return self.kind == "router"


@dataclass(frozen=True)
class Link:
    """A cable between two interfaces."""

    a: Interface
    b: Interface

    @property
    def name(self) -> str:
        """`node:interface – node:interface`."""
        return f"{self.a.place} – {self.b.place}"


@dataclass(frozen=True)
class Segment:
    """A broadcast domain: interfaces joined by cables and switches."""

    name: str
    members: tuple[tuple[str, str], ...]
    """Interfaces of hosts and routers."""
    networks: tuple[AnyNetwork, ...]


@dataclass(frozen=True)
class Record:
    """One DNS resource record; `name` is absolute, with the final dot."""

    name: str
    ttl: int
    type: str
    data: str


@dataclass(frozen=True)
class Zone:
    """A DNS zone: its own records, and the delegations and glue that it holds for its children."""

    name: str
    servers: tuple[str, ...]
    """Nodes that serve it."""
    ttl: int
    records: tuple[Record, ...]


@dataclass(frozen=True)
class Step:
    """One thing done in a running lab."""

    id: str
    action: str
    nodes: tuple[str, ...] = ()
    argv: tuple[str, ...] = ()
    target: str = ""
    timeout_s: int = 10


@dataclass(frozen=True)
class Scene:
    """Steps that are done one after the other while the lab is watched."""

    name: str
    about: str
    steps: tuple[Step, ...]


@dataclass(frozen=True)
class Twin:
    """A way of breaking the lab that is done while it runs, and the checks that must fail then."""

    name: str
    spec: BreakSpec
    steps: tuple[Step, ...]


@dataclass(frozen=True)
class ResolvedLab:
    """The whole lab, ready to be compiled into a plan and to be compared with evidence."""

    name: str
    title: str
    nodes: Mapping[str, Node]
    links: tuple[Link, ...]
    segments: Mapping[str, Segment]
    zones: Mapping[str, Zone]
    root_hints: tuple[Record, ...]
    scenes: tuple[Scene, ...]
    checks: tuple[Check, ...]
    twins: Mapping[str, Twin] = field(default_factory=dict)

    def interface(self, place: str) -> Interface:
        """The interface called `node:interface`; KeyError when there is none."""
        node, _, name = place.partition(":")
        return self.nodes[node].interface(name)

    def interfaces(self) -> Iterator[Interface]:
        """All interfaces of all nodes."""
        for node in self.nodes.values():
            yield from node.interfaces

    @cached_property
    def by_mac(self) -> Mapping[str, Interface]:
        """Interfaces by MAC address."""
        return {interface.mac: interface for interface in self.interfaces()}

    @cached_property
    def by_address(self) -> Mapping[AnyAddress, Interface]:
        """Interfaces by fixed address."""
        return {address.ip: interface for interface in self.interfaces() for address in interface.addresses}

    def port_towards(self, switch: str, interface: Interface) -> str | None:
        """The port of `switch` behind which `interface` is, through other switches if need be; None without one."""
        for port in self.nodes[switch].interfaces:
            seen = {switch}
            pending = [port.peer]
            while pending:
                node, name = pending.pop()
                if (node, name) == (interface.node, interface.name):
                    return port.name
                if node not in seen and self.nodes[node].kind == "switch":
                    seen.add(node)
                    pending.extend(other.peer for other in self.nodes[node].interfaces if other.name != name)
        return None

    def node_at(self, address: str) -> str | None:
        """The node that has the fixed address `address`."""
        found = self.by_address.get(ip_address(address))
        return found.node if found else None
