"""Checks of the data link: ARP, switches and the spanning tree."""

from __future__ import annotations

from ipaddress import IPv6Address
from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from emulator.lab.base import (
    AddressText,
    EndpointName,
    NodeName,
    NodeNames,
    Places,
)
from emulator.lab.checks.base import Check


def _not_ipv6(text: str) -> str:
    """`text`, unless it is an IPv6 address, for which there is no ARP."""
    try:
        IPv6Address(text)
    except ValueError:
        return text
    raise ValueError(f"expected an IPv4 address, a node or node:interface, not '{text}'")


class ArpResolution(Check):
    """One broadcast question, one unicast answer, then no further question while the entry is fresh (RFC 826)."""

    check: Literal["arp-resolution"]
    asker: EndpointName = Field(description="The interface that asks for a MAC.")
    target: EndpointName = Field(description="The interface whose IPv4 address is asked for.")


class AddressConflict(Check):
    """A probe asks whether an address is in use, and another MAC answers that it is (RFC 5227, section 2.1.1)."""

    check: Literal["address-conflict"]
    at: Places = Field(min_length=1, description="Nodes or node:interface; each sees both the probe and the answer.")
    address: Annotated[AddressText, AfterValidator(_not_ipv6)] = Field(
        description="The IPv4 address, or the node or node:interface that has it."
    )


class NextHopMac(Check):
    """Frames from a host to another network carry the router's MAC and the far host's address."""

    check: Literal["next-hop-mac"]
    from_: EndpointName = Field(alias="from", description="The host's interface.")
    to: EndpointName = Field(description="The far host's interface, in another network.")
    router: EndpointName = Field(description="The router's interface on the host's network.")


class MacTable(Check):
    """The switch learned each host's MAC on the port where the host's cable is, and nothing else (IEEE 802.1D, 7.8)."""

    check: Literal["mac-table"]
    switch: NodeName = Field(description="The switch whose table is read.")


class NoFlooding(Check):
    """A unicast frame to a learned MAC leaves the switch by that MAC's port only."""

    check: Literal["no-flooding"]
    switch: NodeName = Field(description="The switch whose ports are watched.")


class SpanningTree(Check):
    """The switches agree on one root, the one with the lowest identifier; each other switch has one root port; the
    links on which both ends forward are a tree, without a loop; the others are blocked (IEEE 802.1D-1998, section 8).

    The tables are read after the scenes, so what counts is the last word on every cable, whatever the scene.
    """

    check: Literal["spanning-tree"]
    switches: NodeNames = Field(min_length=2, description="All switches that run the spanning tree together.")
