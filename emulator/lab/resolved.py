"""A lab with nothing left open: every interface, address, MAC, route, record and filter is filled in. Frozen data."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import cached_property
from ipaddress import IPv4Address, IPv4Interface, IPv4Network, IPv6Address, IPv6Interface, IPv6Network, ip_address
from typing import TYPE_CHECKING

from emulator.frozen import dataclass, field

if TYPE_CHECKING:  # the model takes a third of a second to import, and a generated lab has no use for it
    from emulator.lab.checks.base import Check
    from emulator.lab.model import BreakSpec
    from emulator.lab.nodes import FirewallSpec, Kind, NatSpec
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


SWITCH_BRIDGE = "br0"
"""The name of the bridge that makes a switch."""

LOOPBACK = "lo"

CA_FILE = "/run/wirelab/ca.pem"
"""The certificate of the lab's CA, on every node of a lab with TLS."""


def parent_zone(zone: str, zones: Mapping[str, object]) -> str | None:
    """The deepest of `zones` above `zone`; None for the root and where there is none."""
    while zone != ".":
        zone = zone.partition(".")[2] or "."
        if zone in zones:
            return zone
    return None


def client_name(interface: str, *, alone: bool) -> str:
    """The name of the DHCP client's process on an interface; `alone`: it is the only one of its node."""
    return "udhcpc" if alone else f"udhcpc-{interface}"


@dataclass(frozen=True)
class Interface:
    """One end of a link, a bridge inside a node, or a loopback interface.

    Attributes:
        segment: name of the broadcast domain that it is in.
        peer: (node, interface) at the other end of the cable; None for a bridge and for `lo`.
        offload: checksum and segmentation offload stay on.
        bridge: the bridge of the node that it is a port of, or nothing.
        slaac: addresses come from router advertisements (RFC 4862).
        rate_bits_s: how much it sends a second at most, or None.
    """

    node: str
    name: str
    mac: str
    mtu_bytes: int
    offload: bool
    peer: Place | None
    segment: str
    addresses: tuple[AnyInterface, ...] = ()
    dhcp: bool = False
    bridge: str = ""
    slaac: bool = False
    rate_bits_s: int | None = None

    @property
    def place(self) -> str:
        """`node:interface`, as captures name it."""
        return f"{self.node}:{self.name}"

    @property
    def is_loopback(self) -> bool:
        """Whether it is the node's `lo`, whose frames meet no cable."""
        return self.name == LOOPBACK

    def first(self, version: int) -> AnyInterface | None:
        """The first fixed address of IP version 4 or 6, or None."""
        return next((address for address in self.addresses if address.version == version), None)


@dataclass(frozen=True)
class Bridge:
    """A bridge of a node: the ports that it joins, and how it works (IEEE 802.1D)."""

    name: str
    ports: tuple[str, ...]
    mac: str | None
    ageing_s: int
    stp: bool
    priority: int
    hello_time_s: int
    forward_delay_s: int
    max_age_s: int


@dataclass(frozen=True)
class File:
    """A file that only one node sees."""

    path: str
    content: str
    mode: int


@dataclass(frozen=True)
class Program:
    """A program that runs as long as the lab does; `ready` is a condition and its port or path, or None; `restart` is
    `on-failure` or nothing."""

    name: str
    argv: tuple[str, ...]
    ready: tuple[str, int | str] | None
    restart: str = ""


@dataclass(frozen=True)
class Bind:
    """A file or folder of the machine that a node sees.

    Attributes:
        source: its path on the machine; relative ones have been joined to the lab file's folder. Links in it and `..`
            are not resolved: what it stands for is found out, and shown, when the user is asked.
        target: its path in the node, absolute.
        read_only: the node cannot change it.
    """

    source: str
    target: str
    read_only: bool


@dataclass(frozen=True)
class Container:
    """What the file says about a node that is a container.

    Attributes:
        image: None: one of Wirelab's own.
        cmd: None: the image's own.
        cpus, memory_bytes: limits; None: none.
        capabilities: beside the usual ones, without CAP_.
    """

    image: str | None = None
    cmd: tuple[str, ...] | None = None
    user: str = ""
    cpus: float | None = None
    memory_bytes: int | None = None
    capabilities: tuple[str, ...] = ()


class NoServices:
    """What a node without daemons has in the place of `Services`."""

    dnsmasq: None = None
    unbound: None = None
    nsd: None = None
    http: None = None


NO_SERVICES = NoServices()


@dataclass(frozen=True)
class Route:
    """A static route; `to` is None for the default route."""

    to: AnyNetwork | None
    via: AnyAddress
    interface: str
    given: bool = False


@dataclass(frozen=True)
class Node:
    """A node. `dns` are the servers of its /etc/resolv.conf; `container` is None for a network namespace."""

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
    services: Services | NoServices
    bridges: tuple[Bridge, ...] = ()
    hosts: tuple[tuple[str, AnyAddress], ...] = ()
    files: tuple[File, ...] = ()
    programs: tuple[Program, ...] = ()
    binds: tuple[Bind, ...] = ()
    container: Container | None = None

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
    def ipv6(self) -> bool:
        """Whether IPv6 is on: it has an IPv6 address, or asks for one."""
        return any(address.version == 6 for address in self.addresses) or any(i.slaac for i in self.interfaces)

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
    negative_ttl: int = 300
    dnssec: bool = False
    expired: bool = False
    """Its signatures are too old."""
    forged: tuple[Record, ...] = ()
    """What its servers say instead of the records of the same name and type, whose signatures stay."""


@dataclass(frozen=True)
class Step:
    """One thing done in a running lab; `groups` are those of a partition."""

    id: str
    action: str
    nodes: tuple[str, ...] = ()
    argv: tuple[str, ...] = ()
    target: str = ""
    timeout_s: int = 10
    stdin: str = ""
    background: bool = False
    until: str | None = None
    unattended: bool = False
    groups: tuple[tuple[str, ...], ...] = ()


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
    included: Mapping[str, str] = field(default_factory=dict)
    """What the files of the lab's folder said that it includes: name → text."""

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
        return {interface.mac: interface for interface in self.interfaces() if not interface.is_loopback}

    @cached_property
    def by_address(self) -> Mapping[AnyAddress, Interface]:
        """Interfaces by fixed address."""
        return {address.ip: interface for interface in self.interfaces() for address in interface.addresses}

    def port_towards(self, switch: str, interface: Interface) -> str | None:
        """The port of `switch` behind which `interface` is, through other switches if need be; None without one."""
        for port in self.nodes[switch].interfaces:
            seen = {(switch, port.bridge)}
            pending = [port.peer]
            while pending:
                place = pending.pop()
                if place is None:
                    continue
                if place == (interface.node, interface.name):
                    return port.name
                node = self.nodes[place[0]]
                bridge = node.interface(place[1]).bridge
                if bridge and (place[0], bridge) not in seen:
                    seen.add((place[0], bridge))
                    if (place[0], bridge) == (interface.node, interface.name):
                        return port.name
                    pending.extend(
                        other.peer for other in node.interfaces if other.bridge == bridge and other.name != place[1]
                    )
        return None

    def node_at(self, address: str) -> str | None:
        """The node that has the fixed address `address`."""
        found = self.by_address.get(ip_address(address))
        return found.node if found else None
