"""The same packet seen at many interfaces: how it is recognised across switches, routers and translators.

A router changes MACs, TTL and header checksum (RFC 1812, section 5.2.1.2); a translator changes addresses, ports and
the ICMP query id (RFC 3022, section 4). Everything else of a packet stays and identifies it.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from ipaddress import IPv4Address

from emulator.capture.frame import Frame

ICMP, TCP, UDP, ICMPV6 = 1, 6, 17, 58
_ICMP_ERRORS = frozenset({3, 4, 5, 11, 12})
"""ICMP messages that quote the packet they are about (RFC 792)."""
_ICMPV6_ERRORS = frozenset({1, 2, 3, 4})
"""ICMPv6 messages that do (RFC 4443, section 2.1)."""
_ECHO = {ICMP: (8, 0), ICMPV6: (128, 129)}
"""The types of an echo request and its reply (RFC 792; RFC 4443, section 4)."""
_NAMES = {ICMP: "icmp", TCP: "tcp", UDP: "udp", ICMPV6: "icmpv6"}
_ETHERNET_OCTETS = 14
_VLAN_TAG_OCTETS = 4
_IPV6_OCTETS = 40


@dataclass(frozen=True)
class Flow:
    """Both ends of a conversation, seen from the sender. Of an ICMP query, the id stands for the asker's port."""

    protocol: str
    source: str
    source_port: int
    target: str
    target_port: int

    @property
    def reversed(self) -> Flow:
        """The same, as the answers carry it."""
        return Flow(self.protocol, self.target, self.target_port, self.source, self.source_port)

    @property
    def sender(self) -> str:
        """`192.0.2.80:80`, `[2001:db8::80]:80` (RFC 3986, section 3.2.2); without ports the address alone."""
        if self.protocol not in ("tcp", "udp"):
            return self.source
        return f"[{self.source}]:{self.source_port}" if ":" in self.source else f"{self.source}:{self.source_port}"

    @property
    def receiver(self) -> str:
        """The same of the other end."""
        return self.reversed.sender

    def __str__(self) -> str:
        return f"{self.protocol} {self.sender} → {self.receiver}"


def _protocol(frame: Frame) -> int:
    """The protocol that an IP packet carries; of IPv6 the one after the extension headers."""
    if not frame.fields.get("ipv6.src"):
        return frame.number_of("ip.proto")
    kinds = {"tcp.srcport": TCP, "udp.srcport": UDP, "icmpv6.type": ICMPV6}
    return next((kind for name, kind in kinds.items() if frame.fields.get(name)), frame.number_of("ipv6.nxt"))


def flow_of(frame: Frame) -> Flow | None:
    """The flow of a frame: TCP, UDP or ICMP echo in IPv4 or IPv6."""
    protocol = _protocol(frame)
    source, target = frame.text("ip.src") or frame.text("ipv6.src"), frame.text("ip.dst") or frame.text("ipv6.dst")
    if protocol in (TCP, UDP):
        name = _NAMES[protocol]
        if not frame.fields.get(f"{name}.srcport"):
            return None
        return Flow(name, source, frame.number_of(f"{name}.srcport"), target, frame.number_of(f"{name}.dstport"))
    if protocol in _ECHO:
        name = _NAMES[protocol]
        kind, (request, reply) = frame.number_of(f"{name}.type"), _ECHO[protocol]
        query = frame.number_of("icmp.ident" if protocol == ICMP else "icmpv6.echo.identifier")
        if kind in (request, reply):
            ports = (query, 0) if kind == request else (0, query)
            return Flow(name, source, ports[0], target, ports[1])
    return None


def ip_payload(frame: Frame) -> bytes:
    """The octets after the IPv4 or IPv6 header, taken from the captured octets."""
    start = _ETHERNET_OCTETS + _VLAN_TAG_OCTETS * len(frame.fields.get("vlan.id", ()))
    if len(frame.data) <= start:
        return b""
    if frame.fields.get("ipv6.src"):
        length = int.from_bytes(frame.data[start + 4 : start + 6], "big")
        return frame.data[start + _IPV6_OCTETS : start + _IPV6_OCTETS + length]
    total = int.from_bytes(frame.data[start + 2 : start + 4], "big")
    return frame.data[start + 4 * (frame.data[start] & 0x0F) : start + total]


def quoted_flow(frame: Frame) -> Flow | None:
    """The flow of the packet that an ICMP error is about (RFC 792, RFC 4443); None when `frame` is no such message."""
    if frame.fields.get("ipv6.src"):
        return _quoted_flow6(frame)
    if frame.number_of("ip.proto") != ICMP or frame.number_of("icmp.type") not in _ICMP_ERRORS:
        return None
    packet = ip_payload(frame)[8:]
    header = 4 * (packet[0] & 0x0F) if packet else 0
    if len(packet) < max(header, 20) + 8:
        return None
    source, target = str(IPv4Address(packet[12:16])), str(IPv4Address(packet[16:20]))
    name = _NAMES.get(packet[9], f"protocol {packet[9]}")
    if name == "icmp":
        return Flow(name, source, int.from_bytes(packet[header + 4 : header + 6], "big"), target, 0)
    ports = int.from_bytes(packet[header : header + 2], "big"), int.from_bytes(packet[header + 2 : header + 4], "big")
    return Flow(name, source, ports[0], target, ports[1])


def _quoted_flow6(frame: Frame) -> Flow | None:
    """The same of an ICMPv6 error; the decoder has read the packet in it."""
    if frame.number_of("icmpv6.type") not in _ICMPV6_ERRORS:
        return None
    prefix = "wirelab.icmpv6."
    source, target = frame.text(f"{prefix}ipv6.src"), frame.text(f"{prefix}ipv6.dst")
    for name in ("tcp", "udp"):
        if frame.fields.get(f"{prefix}{name}.srcport"):
            ports = [frame.number_of(f"{prefix}{name}.{end}port") for end in ("src", "dst")]
            return Flow(name, source, ports[0], target, ports[1])
    if frame.number_of(f"{prefix}icmp.type") in _ECHO[ICMPV6]:
        return Flow("icmpv6", source, frame.number_of(f"{prefix}icmp.ident"), target, 0)
    return None


def identity(frame: Frame) -> Hashable | None:
    """What stays the same of an IP packet from its sender to its receiver; None of a frame without one."""
    if frame.fields.get("ip.src"):
        protocol = frame.number_of("ip.proto")
        return (4, protocol, frame.number_of("ip.id"), frame.number_of("ip.frag_offset"), *_upper(frame, protocol))
    if frame.fields.get("ipv6.src"):
        protocol = frame.number_of("ipv6.nxt")
        return (6, protocol, frame.number_of("ipv6.plen"), frame.number_of("ipv6.flow"), *_upper(frame, protocol))
    return None


def _upper(frame: Frame, protocol: int) -> tuple[Hashable, ...]:
    """The invariant part of what the IP packet carries."""
    if protocol == TCP and frame.fields.get("tcp.seq_raw"):
        return (*(frame.get(name) for name in ("tcp.seq_raw", "tcp.ack_raw", "tcp.flags")), frame.get("tcp.payload"))
    if protocol == UDP and frame.fields.get("udp.srcport"):
        return (frame.get("udp.length"), frame.get("udp.payload"))
    if protocol == ICMP and frame.fields.get("icmp.type"):
        kind = frame.number_of("icmp.type")
        packet = ip_payload(frame)[8:]
        if kind in _ICMP_ERRORS:
            return (kind, frame.number_of("icmp.code"), packet[4:6], packet[9:10])
        return (kind, frame.number_of("icmp.code"), frame.get("icmp.seq"), packet)
    if protocol == ICMPV6 and frame.number_of("icmpv6.type") in _ECHO[ICMPV6]:
        sequence = frame.get("icmpv6.echo.sequence_number")
        return (frame.number_of("icmpv6.type"), frame.number_of("icmpv6.code"), sequence, ip_payload(frame)[8:])
    return (ip_payload(frame) if frame.fields.get("ip.src") else frame.data[_ETHERNET_OCTETS + 8 :],)


@dataclass(frozen=True)
class Crossing:
    """A packet that came into a router and, unless `leaving` is None, left it."""

    entering: Frame
    leaving: Frame | None


@dataclass(frozen=True)
class Sightings:
    """All frames of a capture, findable by the packet that they carry."""

    frames: Sequence[Frame]

    @cached_property
    def _by_identity(self) -> Mapping[Hashable, list[Frame]]:
        found: defaultdict[Hashable, list[Frame]] = defaultdict(list)
        for frame in self.frames:
            key = identity(frame)
            if key is not None:
                found[key].append(frame)
        return found

    @cached_property
    def _by_octets(self) -> Mapping[bytes, list[Frame]]:
        """Frames without an IP packet: no router passes them on, so their octets stay as they are."""
        found: defaultdict[bytes, list[Frame]] = defaultdict(list)
        for frame in self.frames:
            if identity(frame) is None:
                found[frame.data].append(frame)
        return found

    def of(self, frame: Frame) -> Sequence[Frame]:
        """Every sighting of the packet in `frame`, and of exact repetitions of it, in time order."""
        key = identity(frame)
        return self._by_octets.get(frame.data, [frame]) if key is None else self._by_identity.get(key, [frame])

    def journey(self, frame: Frame) -> tuple[Frame, ...]:
        """The sightings of the packet from `frame` on, until the next exact repetition at the same interface."""
        journey: list[Frame] = []
        for sighting in self.of(frame):
            if sighting.number == frame.number:
                journey = [sighting]
            elif journey and (sighting.interface, sighting.direction) == (frame.interface, frame.direction):
                break
            elif journey:
                journey.append(sighting)
        return tuple(journey)

    def onward(self, entering: Frame, place: str) -> Frame | None:
        """The frame in which the packet that came in with `entering` left by `place`; repetitions pair in order."""
        departures = [f for f in self.of(entering) if f.interface == place and f.direction == "out"]
        for arrival in self.of(entering):
            if arrival.interface == entering.interface and arrival.direction == "in":
                leaving = next((f for f in departures if f.time_ns >= arrival.time_ns), None)
                if arrival.number == entering.number:
                    return leaving
                if leaving is not None:
                    departures.remove(leaving)
        return None

    def crossings(self, frames: Sequence[Frame], entry: str, exit_: str) -> Iterator[Crossing]:
        """Each of `frames` that came in at `entry`, with the frame that left by `exit_`."""
        for frame in frames:
            if frame.interface == entry and frame.direction == "in" and identity(frame) is not None:
                yield Crossing(frame, self.onward(frame, exit_))
