"""The way through a frame from the outside in: which header comes next, where it ends, what belongs to it.

Pure. Each header is given to the `dissect` function one at a time and cut to its own length, so that what follows is
decided here and nowhere else: a later fragment, and a packet quoted in an ICMP error, have no transport header
of their own; padding is no payload.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from emulator.capture import checksum
from emulator.capture.application import Fields, dhcp_fields, http_fields
from emulator.capture.discovery import option_fields
from emulator.capture.dns import dns_fields
from emulator.capture.headers import (
    arp_fields,
    icmp_fields,
    icmpv6_fields,
    ip_fields,
    ipv6_fields,
    prefixed,
    tcp_fields,
    udp_fields,
)
from emulator.capture.pcapng import LINKTYPE_ETHERNET, LINKTYPE_RAW
from emulator.capture.stp import PROTOCOL as SPANNING_TREE
from emulator.capture.stp import stp_fields
from emulator.capture.tls import tls_fields

Dissect = Callable[[str, bytes], tuple[Any, bytes]]
"""A header's name and octets → its values as attributes, and the octets that those encode to.

Names are scapy's, those of the attributes too. Raises MalformedError.
"""

_LINKTYPES_INTERNET: Final = frozenset({LINKTYPE_RAW, 228, 229})
"""Link types without a link header: either IP version, IPv4, IPv6."""

_ETHERTYPE_MIN: Final = 0x0600
"""Smaller numbers in the place of the type are a length (IEEE 802.3, section 3.2.6)."""

_IPV4, _ARP, _IPV6, _UNKNOWN = 0x0800, 0x0806, 0x86DD, 0xFFFF
_VLAN_TYPES: Final = frozenset({0x8100, 0x88A8})
_NOBODY: Final = "00:00:00:00:00:00"

_BRIDGES: Final = 0x42
"""The LLC address of bridge protocols (IEEE 802.1D-2004, section 9.2)."""

_UNNUMBERED: Final = 3
"""An LLC control field of one octet (IEEE 802.2, section 5.2): UI frames are 0x03."""

_ICMP, _TCP, _UDP, _ICMPV6 = 1, 6, 17, 58

_ICMP_OCTETS: Final = {13: 20, 14: 20, 17: 12, 18: 12}
"""Sizes of the ICMP headers that do not have 8 octets (RFC 792, RFC 950)."""

_ICMP_QUOTES: Final = frozenset({3, 4, 5, 11, 12})
"""ICMP messages that quote the packet which caused them (RFC 792)."""

_ICMPV6_QUOTES: Final = frozenset({1, 2, 3, 4})
"""ICMPv6 messages that do (RFC 4443)."""

_ICMPV6_HEADERS: Final[Mapping[int, tuple[str, int]]] = {
    1: ("ICMPv6DestUnreach", 8),
    2: ("ICMPv6PacketTooBig", 8),
    3: ("ICMPv6TimeExceeded", 8),
    4: ("ICMPv6ParamProblem", 8),
    128: ("ICMPv6EchoRequest", 8),
    129: ("ICMPv6EchoReply", 8),
    133: ("ICMPv6ND_RS", 8),
    134: ("ICMPv6ND_RA", 16),
    135: ("ICMPv6ND_NS", 24),
    136: ("ICMPv6ND_NA", 24),
    137: ("ICMPv6ND_Redirect", 40),
}
"""Names and sizes of ICMPv6 headers (RFC 4443, RFC 4861); others are read as type, code and checksum."""

_NEIGHBOUR_DISCOVERY: Final = range(133, 138)
"""ICMPv6 messages that end in options (RFC 4861, section 4)."""

_ROUTING, _FRAGMENT = 43, 44
_EXTENSIONS: Final[Mapping[int, str]] = {
    0: "IPv6ExtHdrHopByHop",
    _ROUTING: "IPv6ExtHdrRouting",
    _FRAGMENT: "IPv6ExtHdrFragment",
    60: "IPv6ExtHdrDestOpt",
}

_DNS_PORT: Final = 53
_DNS_HEADER_OCTETS: Final = 12
_DHCP_PORTS: Final = frozenset({67, 68})
_BOOTP_OCTETS: Final = 236
_TLS_RECORDS: Final = range(20, 24)
"""What a TLS record begins with: control characters, with which no HTTP message does."""


class MalformedError(Exception):
    """What should come next does not fit in the octets that are there, or makes no sense."""


@dataclass(frozen=True)
class _Network:
    """What a transport header needs to know of the IP header around it.

    `length` is the octets that the IP header announces for it and its data; `whole` is False for fragments; `loopback`
    is True where the kernel does not finish checksums.
    """

    source: bytes
    destination: bytes
    length: int
    whole: bool
    loopback: bool

    def checksum_status(self, protocol: int, octets: bytes, announced: int, stored: int) -> int:
        """Whether `octets`, the transport header and its data, of which `announced` were sent, sum up rightly.

        `stored` is the checksum in the header.
        """
        if not self.whole or len(octets) != announced:
            return checksum.UNVERIFIED
        pseudo = checksum.pseudo_header(self.source, self.destination, protocol, announced)
        status = checksum.status(pseudo + octets)
        if status == checksum.BAD and self.loopback and checksum.is_unfinished(pseudo, stored):
            return checksum.UNVERIFIED
        return status


class Walk:
    """One frame, taken apart by `start` into `fields` and `layers`.

    There is a method a protocol, which is given the octets from the protocol's header on.
    """

    def __init__(self, dissect: Dissect, *, cut: bool) -> None:
        """`cut`: the capture does not hold the whole frame, so that a packet may be longer than its octets."""
        self.fields: Fields = {}
        self.layers: list[str] = []
        self._dissect = dissect
        self._cut = cut
        self._loopback = False
        self._encoded = bytearray()
        self._headers_whole = True
        self._sound = True

    def start(self, link_type: int, data: bytes) -> None:
        """Take `data` apart, as far as it goes."""
        try:
            if link_type == LINKTYPE_ETHERNET:
                self._ethernet(data)
            elif link_type in _LINKTYPES_INTERNET and data:
                self._internet({4: _IPV4, 6: _IPV6}.get(data[0] >> 4, _UNKNOWN), data)
        except MalformedError:
            self._headers_whole = False
            self._sound = False
        if not self._sound:
            self.layers.append("malformed")
            self.fields["_ws.malformed"] = [True]

    def reencoded(self, data: bytes) -> bool | None:
        """Whether the headers, encoded again, are what `data` begins with; None when there are none."""
        if not self.layers:
            return None
        return self._headers_whole and data.startswith(bytes(self._encoded))

    def _add(self, fields: Fields) -> None:
        for name, values in fields.items():
            self.fields.setdefault(name, []).extend(values)

    def _add_whole(self, fields: Fields, whole: bool) -> None:
        """Add what could be read of something; if that is not the `whole`, it was malformed."""
        self._add(fields)
        if not whole:
            self._sound = False

    def _header(self, kind: str, octets: bytes, size: int) -> Any:
        """The header in the first `size` octets; it takes part in `reencoded`."""
        if len(octets) < size:
            raise MalformedError
        header, encoded = self._dissect(kind, octets[:size])
        self._encoded += encoded
        return header

    def _ethernet(self, octets: bytes) -> None:
        self.layers.append("eth")
        header = self._header("Ether", octets, 14)
        self._add({"eth.dst": [header.dst], "eth.src": [header.src], "eth.addr": [header.dst, header.src]})
        self._loopback = header.src == header.dst == _NOBODY
        octets, kind = octets[14:], header.type
        self._add({"eth.type" if kind >= _ETHERTYPE_MIN else "eth.len": [kind]})
        while kind in _VLAN_TYPES:
            self.layers.append("vlan")
            tag = self._header("Dot1Q", octets, 4)
            octets, kind = octets[4:], tag.type
            self._add({"vlan.id": [tag.vlan], "vlan.priority": [tag.prio], "vlan.etype": [kind]})
        self._internet(kind, octets)

    def _internet(self, ethertype: int, octets: bytes) -> None:
        if ethertype == _IPV4:
            self._ip(octets)
        elif ethertype == _IPV6:
            self._ipv6(octets)
        elif ethertype == _ARP:
            self._arp(octets)
        elif ethertype < _ETHERTYPE_MIN and octets:
            self._llc(octets, ethertype)
        elif octets:
            self.layers.append("data")

    def _llc(self, octets: bytes, length: int) -> None:
        self.layers.append("llc")
        header = self._header("LLC", octets, 3)
        self._add({"llc.dsap": [header.dsap], "llc.ssap": [header.ssap]})
        if length > len(octets) and not self._cut:
            self._sound = False
        payload = octets[3:length]
        unnumbered = header.ctrl & _UNNUMBERED == _UNNUMBERED
        if unnumbered:
            self._add({"llc.control": [header.ctrl]})
        if unnumbered and header.dsap == header.ssap == _BRIDGES and payload.startswith(SPANNING_TREE):
            self.layers.append("stp")
            self._add_whole(*stp_fields(payload))
        elif payload:
            self.layers.append("data")

    def _arp(self, octets: bytes) -> None:
        self.layers.append("arp")
        if len(octets) < 8:
            raise MalformedError
        hardware_octets, protocol_octets = octets[4], octets[5]
        self._add(arp_fields(self._header("ARP", octets, 8 + 2 * (hardware_octets + protocol_octets))))

    def _ip(self, octets: bytes) -> None:
        self.layers.append("ip")
        size = (octets[0] & 0x0F) * 4 if octets else 20
        if size < 20:
            raise MalformedError
        header = self._header("IP", octets, size)
        self._add(ip_fields(header, checksum.status(octets[:size])))
        # Segmentation offload leaves the length 0 when it does not fit in 16 bits.
        total = header.len or len(octets)
        if total < size or header.version != 4:
            raise MalformedError
        if total > len(octets) and not self._cut:
            self._sound = False
        more_to_come = bool(int(header.flags) & 1)
        whole = not (more_to_come or header.frag)
        network = _Network(octets[12:16], octets[16:20], total - size, whole, self._loopback)
        payload = octets[size:total]
        if header.frag:
            self.layers.append("data")
        elif header.proto == _ICMP:
            self._icmp(payload, network)
        else:
            self._transport(header.proto, payload, network)

    def _ipv6(self, octets: bytes) -> None:
        self.layers.append("ipv6")
        header = self._header("IPv6", octets, 40)
        self._add(ipv6_fields(header))
        if header.version != 6:
            raise MalformedError
        total = 40 + (header.plen or len(octets) - 40)
        if total > len(octets) and not self._cut:
            self._sound = False
        source, destination = octets[8:24], octets[24:40]
        kind, whole, payload, announced = header.nh, True, octets[40:total], total - 40
        while kind in _EXTENSIONS:
            size = 8 if kind == _FRAGMENT or len(payload) < 2 else (payload[1] + 1) * 8
            extension = self._header(_EXTENSIONS[kind], payload, size)
            payload, announced = payload[size:], announced - size
            if kind == _FRAGMENT:
                self._add({"ipv6.fraghdr.offset": [extension.offset], "ipv6.fraghdr.more": [bool(extension.m)]})
                whole = whole and not (extension.offset or extension.m)
                if extension.offset:
                    self.layers.append("data")
                    return
            elif kind == _ROUTING:
                # The destination that the checksum covers is the last one of the route (RFC 8200, section 8.1).
                whole = False
            kind = extension.nh
        network = _Network(source, destination, announced, whole, self._loopback)
        if kind == _ICMPV6:
            self._icmpv6(payload, network)
        else:
            self._transport(kind, payload, network)

    def _transport(self, protocol: int, octets: bytes, network: _Network) -> None:
        if protocol == _TCP:
            self._tcp(octets, network)
        elif protocol == _UDP:
            self._udp(octets, network)
        elif octets:
            self.layers.append("data")

    def _icmp(self, octets: bytes, network: _Network) -> None:
        self.layers.append("icmp")
        size = _ICMP_OCTETS.get(octets[0], 8) if octets else 8
        header = self._header("ICMP", octets, size)
        verified = network.whole and len(octets) == network.length
        self._add(icmp_fields(header, checksum.status(octets) if verified else checksum.UNVERIFIED))
        if header.type in _ICMP_QUOTES:
            self._quoted("wirelab.icmp.", octets[8:])
        elif len(octets) > size:
            self.layers.append("data")

    def _icmpv6(self, octets: bytes, network: _Network) -> None:
        self.layers.append("icmpv6")
        kind, size = _ICMPV6_HEADERS.get(octets[0] if octets else 0, ("ICMPv6Unknown", 4))
        header = self._header(kind, octets, size)
        status = network.checksum_status(_ICMPV6, octets, network.length, header.cksum)
        self._add(icmpv6_fields(header, status))
        if header.type in _ICMPV6_QUOTES:
            self._quoted("wirelab.icmpv6.", octets[8:])
        elif header.type in _NEIGHBOUR_DISCOVERY and network.whole:
            fields, whole = option_fields(octets[size:])
            self._add_whole(fields, whole or len(octets) < network.length)

    def _quoted(self, prefix: str, octets: bytes) -> None:
        """The beginning of a packet in an error message, under names of our own. It may end anywhere."""
        version = octets[0] >> 4 if octets else 0
        try:
            if version == 6 and len(octets) >= 40:
                header, _encoded = self._dissect("IPv6", octets[:40])
                names: tuple[str, ...] = ("ipv6.src", "ipv6.dst", "ipv6.hlim", "ipv6.nxt")
                fields = ipv6_fields(header)
                protocol, octets, first = header.nh, octets[40:], True
            elif version == 4 and 20 <= (size := (octets[0] & 0x0F) * 4) <= len(octets):
                header, _encoded = self._dissect("IP", octets[:size])
                fields = ip_fields(header, checksum.UNVERIFIED)
                names = ("ip.src", "ip.dst", "ip.id", "ip.ttl", "ip.proto", "ip.len")
                protocol, octets, first = header.proto, octets[size:], header.frag == 0
            else:
                return
        except MalformedError:
            return
        self._add(prefixed(prefix, fields, *names))
        name = {_TCP: "tcp", _UDP: "udp"}.get(protocol)
        if first and name and len(octets) >= 4:
            source, destination = struct.unpack_from("!HH", octets)
            self._add({f"{prefix}{name}.srcport": [source], f"{prefix}{name}.dstport": [destination]})
        elif first and protocol in {_ICMP, _ICMPV6} and len(octets) >= 8:
            kind, code, ident, sequence = struct.unpack_from("!BB2xHH", octets)
            self._add({f"{prefix}icmp.type": [kind], f"{prefix}icmp.code": [code]})
            self._add({f"{prefix}icmp.ident": [ident], f"{prefix}icmp.seq": [sequence]})

    def _tcp(self, octets: bytes, network: _Network) -> None:
        self.layers.append("tcp")
        size = (octets[12] >> 4) * 4 if len(octets) > 12 else 20
        if size < 20:
            raise MalformedError
        header = self._header("TCP", octets, size)
        payload = octets[size:]
        status = network.checksum_status(_TCP, octets, network.length, header.chksum)
        self._add(tcp_fields(header, network.length - size, status))
        if not payload:
            return
        self._add({"tcp.payload": [payload]})
        if _DNS_PORT in (header.sport, header.dport) and len(payload) > 2:
            (announced,) = struct.unpack_from("!H", payload)
            if _DNS_HEADER_OCTETS <= announced <= len(payload) - 2:
                self._dns(payload[2 : 2 + announced])
                return
        if payload[0] in _TLS_RECORDS:
            name, fields = "tls", tls_fields(payload)
        else:
            name, fields = "http", http_fields(payload)
        if fields is not None:
            self.layers.append(name)
            self._add(fields)
        else:
            self.layers.append("data")

    def _udp(self, octets: bytes, network: _Network) -> None:
        self.layers.append("udp")
        header = self._header("UDP", octets, 8)
        if header.len < 8 or header.len > network.length:
            self._add(udp_fields(header, checksum.UNVERIFIED))
            if network.whole:
                self._sound = False
            return
        datagram = octets[: header.len]
        # Over IPv4 a checksum of 0 means that there is none (RFC 768); over IPv6 it is not allowed.
        none = header.chksum == 0 and len(network.source) == 4
        status = checksum.UNVERIFIED if none else network.checksum_status(_UDP, datagram, header.len, header.chksum)
        self._add(udp_fields(header, status))
        payload = datagram[8:]
        if not payload:
            return
        self._add({"udp.payload": [payload]})
        if _DNS_PORT in (header.sport, header.dport):
            self._dns(payload)
        elif {header.sport, header.dport} <= _DHCP_PORTS:
            self._dhcp(payload)
        else:
            self.layers.append("data")

    def _dns(self, octets: bytes) -> None:
        self.layers.append("dns")
        self._message("DNS", octets, dns_fields)

    def _dhcp(self, octets: bytes) -> None:
        self.layers.append("dhcp")
        if len(octets) < _BOOTP_OCTETS:
            self._sound = False
            return
        self._message("BOOTP", octets, dhcp_fields)

    def _message(self, kind: str, octets: bytes, fields: Callable[[Any], tuple[Fields, bool]]) -> None:
        """Add the fields of an application's message. A wrong message leaves the headers around it as they are."""
        try:
            message, _encoded = self._dissect(kind, octets)
            found, whole = fields(message)
        except MalformedError:
            found, whole = {}, False
        self._add_whole(found, whole)
