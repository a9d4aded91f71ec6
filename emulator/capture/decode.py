"""Packets taken apart into frames with named fields. The only module that imports scapy.

Fields are named as Wireshark's display filters are, and hold what those hold: whole numbers, flags as booleans,
addresses and names as text, payloads as octets. Names of our own begin with `wirelab.`. Each header is given to
scapy's class for it, one at a time and cut to its own length, so that what follows is decided here: a later fragment,
and a packet quoted in an ICMP error, have no transport header of their own; padding is no payload.

A layer `malformed` (and `_ws.malformed`) means: a header, a message or what it announces does not fit in the frame.
"""

# ruff: noqa: E402

from __future__ import annotations

import logging
import struct
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from scapy.config import conf

# Before the layers are imported: at their import scapy reads the machine's routes, and complains when it has none.
conf.route_autoload = False
conf.route6_autoload = False
logging.getLogger("scapy").setLevel(logging.CRITICAL)

from scapy.layers.dhcp import BOOTP, DHCP
from scapy.layers.dns import DNS
from scapy.layers.inet import ICMP, IP, TCP, UDP
from scapy.layers.inet6 import (
    ICMPv6DestUnreach,
    ICMPv6EchoRequest,
    ICMPv6ND_NA,
    ICMPv6ND_NS,
    ICMPv6ND_RA,
    ICMPv6ND_Redirect,
    ICMPv6ND_RS,
    ICMPv6PacketTooBig,
    ICMPv6ParamProblem,
    ICMPv6TimeExceeded,
    ICMPv6Unknown,
    IPv6,
    IPv6ExtHdrDestOpt,
    IPv6ExtHdrFragment,
    IPv6ExtHdrHopByHop,
    IPv6ExtHdrRouting,
)
from scapy.layers.l2 import ARP, Dot1Q, Ether
from scapy.packet import Packet as Layer

from emulator.capture import checksum
from emulator.capture.application import Fields, dhcp_fields, dhcp_options, dns_fields, http_fields
from emulator.capture.frame import Frame, Interface, Value
from emulator.capture.pcapng import LINKTYPE_ETHERNET, LINKTYPE_RAW, Packet

_LINKTYPE_IPV4: Final = 228
_LINKTYPE_IPV6: Final = 229

_ETHERTYPE_MIN: Final = 0x0600
"""Smaller numbers in the place of the type are a length (IEEE 802.3, section 3.2.6)."""

_VLAN_TYPES: Final = frozenset({0x8100, 0x88A8})
_QUOTING_ICMP: Final = frozenset({3, 4, 5, 11, 12})
"""ICMP messages that quote the packet which caused them (RFC 792)."""

_QUOTING_ICMP6: Final = frozenset({1, 2, 3, 4})
"""ICMPv6 messages that do (RFC 4443)."""

_ICMP_OCTETS: Final = {13: 20, 14: 20, 17: 12, 18: 12}
"""Sizes of ICMP headers other than 8 octets."""

_ICMP6: Final[Mapping[int, tuple[type[Layer], int]]] = {
    1: (ICMPv6DestUnreach, 8),
    2: (ICMPv6PacketTooBig, 8),
    3: (ICMPv6TimeExceeded, 8),
    4: (ICMPv6ParamProblem, 8),
    128: (ICMPv6EchoRequest, 8),
    129: (ICMPv6EchoRequest, 8),
    133: (ICMPv6ND_RS, 8),
    134: (ICMPv6ND_RA, 16),
    135: (ICMPv6ND_NS, 24),
    136: (ICMPv6ND_NA, 24),
    137: (ICMPv6ND_Redirect, 40),
}
"""Classes and header sizes of ICMPv6 messages; others are read as type, code and checksum."""

_DNS_PORT: Final = 53
_DHCP_PORTS: Final = frozenset({67, 68})


@dataclass(frozen=True)
class _Network:
    """What a transport header needs to know of the IP header around it.

    `length` is the octets of the transport header and data which the IP header announces; `whole` is False for fragments.
    """

    source: bytes
    destination: bytes
    length: int
    whole: bool

    def checksum_status(self, protocol: int, octets: bytes) -> int:
        """Whether `octets`, the whole transport header and data, bear a right checksum."""
        if not self.whole or len(octets) < self.length:
            return checksum.UNVERIFIED
        return checksum.status(checksum.pseudo_header(self.source, self.destination, protocol, len(octets)) + octets)


def decode(packets: Sequence[Packet], interfaces: Sequence[Interface]) -> tuple[Frame, ...]:
    """Take `packets` apart; never fails on what they hold.

    A frame seen at many interfaces is taken apart once: those frames share their field values.

    Args:
        packets: in the order of the capture file.
        interfaces: those that `Packet.interface` points to.
    """
    known: dict[tuple[int, int, bytes], _Dissection] = {}
    frames = []
    for number, packet in enumerate(packets, 1):
        interface = interfaces[packet.interface]
        key = interface.link_type, packet.length, packet.data
        if (found := known.get(key)) is None:
            found = known[key] = _Dissection.of(interface.link_type, packet.data, packet.length)
        frames.append(
            Frame(
                number=number,
                time_ns=packet.time_ns,
                interface=interface.name,
                direction=packet.direction,
                data=packet.data,
                length=packet.length,
                fields={
                    "frame.number": (number,),
                    "frame.len": (packet.length,),
                    "frame.cap_len": (len(packet.data),),
                    "frame.interface_name": (interface.name,),
                    **found.fields,
                },
                layers=found.layers,
                reencoded=found.reencoded,
            )
        )
    return tuple(frames)


@dataclass(frozen=True)
class _Dissection:
    """What the octets of a frame say, apart from where and when they were seen."""

    fields: Mapping[str, tuple[Value, ...]]
    layers: tuple[str, ...]
    reencoded: bool | None

    @classmethod
    def of(cls, link_type: int, data: bytes, length: int) -> _Dissection:
        walk = _Walk(cut=len(data) < length)
        if link_type == LINKTYPE_ETHERNET:
            walk.ethernet(data)
        elif link_type in {LINKTYPE_RAW, _LINKTYPE_IPV4, _LINKTYPE_IPV6}:
            walk.version(data)
        fields = {name: tuple(values) for name, values in walk.fields.items()}
        return cls(fields, tuple(walk.layers), walk.reencoded(data))
