"""Checks of the network layer: subnets, routers, IPv6 neighbours, address translation."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv4Network
from typing import Annotated, Literal

from pydantic import BeforeValidator, Field

from emulator.lab.base import (
    EndpointName,
    FilterText,
    NodeName,
    NodeNames,
    as_list,
)
from emulator.lab.checks.base import Check

Endpoints = Annotated[tuple[EndpointName, ...], BeforeValidator(as_list, json_schema_input_type=str | list[str])]


class SubnetArithmetic(Check):
    """Network, broadcast address and number of hosts follow from an address and its prefix length (RFC 4632, section
    3.1; RFC 1122, section 3.2.1.3): the lab file, arithmetic and the kernel say the same."""

    check: Literal["subnet-arithmetic"]
    at: Endpoints = Field(min_length=1, description="Interfaces in this network, as node:interface.")
    network: IPv4Network = Field(description="Address & mask, with the prefix length.")
    broadcast: IPv4Address = Field(description="The network's last address: network | ~mask.")
    hosts: int = Field(ge=0, description="Addresses that hosts may have: 2^n − 2 with n host bits.")
    first: IPv4Address | None = Field(None, description="The first address that a host may have.")
    last: IPv4Address | None = Field(None, description="The last address that a host may have.")


class HopCount(Check):
    """TTL, or the hop limit of IPv6, falls by one at each router between two hosts, for each frame that matches
    `filter` (RFC 1812, section 5.3.1; RFC 8200, section 3)."""

    check: Literal["hop-count"]
    from_: EndpointName = Field(alias="from", description="Where the packets leave.")
    to: EndpointName = Field(description="Where they arrive.")
    routers: NodeNames = Field(description="The routers between, in the order of the way.")
    filter: FilterText = Field(description="Which packets, as they leave `from`.")


class Unanswered(Check):
    """Packets that match `filter` arrived at a place, and nothing at all came back to their sender's port."""

    check: Literal["unanswered"]
    filter: FilterText = Field(description="Which packets.")
    at: EndpointName = Field(description="Where they are seen: their sender's interface, or that of whom they are for.")


class NeighbourDiscovery(Check):
    """One question to the target's solicited-node group, one answer to the asker alone, then no further question while
    the entry is fresh (RFC 4861, section 7.2): what ARP is to IPv4."""

    check: Literal["neighbour-discovery"]
    asker: EndpointName = Field(description="The interface that asks for a MAC.")
    target: EndpointName = Field(description="The interface whose IPv6 address is asked for.")


class DuplicateAddressDetection(Check):
    """Before the interface uses an IPv6 address it asks for that address from ::, and nobody answers (RFC 4862, section
    5.4)."""

    check: Literal["duplicate-address-detection"]
    at: EndpointName = Field(description="The interface that gets an address while it is watched.")


class Slaac(Check):
    """The client made its address of the prefix in the router's advertisement and its own interface identifier, with
    the lifetimes told there, and sends what goes further to the router's link-local address (RFC 4862, section 5.5;
    RFC 4861, section 6.3.4)."""

    check: Literal["slaac"]
    client: EndpointName = Field(description="The interface that configures itself.")
    router: EndpointName = Field(description="The router's interface on the same network.")


class PrivateDropped(Check):
    """Packets with a private address (RFC 1918) that reach the router go no further, and its counter agrees."""

    check: Literal["private-dropped"]
    router: NodeName = Field(description="The router with `firewall: {drop-private: true}`.")


class SourceNat(Check):
    """The same packet on both sides of a router: source rewritten going out, and back in the answer (RFC 3022)."""

    check: Literal["source-nat"]
    router: NodeName = Field(description="The router that translates.")
    inside: str = Field(description="Its interface with private addresses.")
    outside: str = Field(description="Its interface with the public address.")
    filter: FilterText = Field(description="Which packets, as they look on the inside.")


class PortTranslation(Check):
    """Two clients that use the same source port to one server are told apart by a translated port (RFC 3022, 2.2)."""

    check: Literal["port-translation"]
    router: NodeName = Field(description="The router that translates.")
    inside: str = Field(description="Its interface with private addresses.")
    outside: str = Field(description="Its interface with the public address.")
    clients: tuple[EndpointName, ...] = Field(min_length=2, description="The interfaces of the clients.")
    filter: FilterText = Field(description="The clients' packets, as they look on the inside.")


class DestinationNat(Check):
    """What reaches a published port goes on to the inside server, and its answer comes back from the published port."""

    check: Literal["destination-nat"]
    router: NodeName = Field(description="The router that publishes the port.")
    inside: str = Field(description="Its interface with private addresses.")
    outside: str = Field(description="Its interface with the public address.")
    port: int = Field(ge=1, le=65535, description="The published port on the outside address.")
    server: EndpointName = Field(description="The interface of the server inside.")
    server_port: int = Field(ge=1, le=65535, description="The port on which the server listens.")
    protocol: Literal["tcp", "udp"] = Field("tcp", description="The transport protocol.")


class ConntrackAgrees(Check):
    """Every translated flow of the packets is in the router's connection tracking table, with the same addresses."""

    check: Literal["conntrack-agrees"]
    router: NodeName = Field(description="The router that translates.")
    inside: str = Field(description="Its interface with private addresses.")
    outside: str = Field(description="Its interface with the public address.")
