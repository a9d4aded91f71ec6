"""IPv4 and IPv6 headers, addresses and checksums. Pure.

Sources: RFC 791, RFC 8200, RFC 4302 (authentication header), RFC 6275 (mobility), RFC 1071 (checksum).
"""

from __future__ import annotations

import struct
from ipaddress import IPv6Address
from typing import Final

ICMP: Final = 1
IGMP: Final = 2
IPV4: Final = 4
TCP: Final = 6
UDP: Final = 17
IPV6: Final = 41
ROUTING: Final = 43
FRAGMENT: Final = 44
GRE: Final = 47
ESP: Final = 50
AUTHENTICATION: Final = 51
ICMPV6: Final = 58
NO_NEXT: Final = 59
DESTINATION_OPTIONS: Final = 60
MOBILITY: Final = 135

_EXTENSIONS: Final = frozenset({0, ROUTING, FRAGMENT, ESP, AUTHENTICATION, DESTINATION_OPTIONS, MOBILITY})
_ENDS_CHAIN: Final = frozenset({FRAGMENT, ESP, MOBILITY})
_HOME_ADDRESS: Final = 201

_V4: Final = struct.Struct("!BxHHHxB2x4s4s")
_V6: Final = struct.Struct("!4xHB1x16s16s")
_MAPPED: Final = bytes(10) + b"\xff\xff"


class Datagram:
    """One IP datagram: where its parts lie in `data`.

    Attributes:
        data: the octets that hold it; `start` is its first.
        end: end of what was captured behind `start`: less than the datagram when the frame was cut, more when padded.
        source: the address, 4 or 16 octets.
        destination: the address; of a source route, the last one.
        protocol: that of `payload`, behind IPv6 extension headers.
        total: octets of the datagram by its own word, header included.
        payload: where the payload begins.
        size: octets of the payload by the datagram's own word.
        identification: of a fragment.
        offset: of a fragment, in octets.
        more: whether further fragments follow.
        fragment: whether this is a fragment of a datagram.
        carried_by: IPv6: where the number of the header behind the fragment header is given.
        encrypted: whether an IPv6 ESP header hides the rest.
    """

    __slots__ = (
        "carried_by", "data", "destination", "encrypted", "end", "fragment", "identification", "more", "offset",
        "payload", "protocol", "size", "source", "start", "total", "version",
    )  # fmt: skip

    data: bytes
    version: int
    source: bytes
    destination: bytes
    protocol: int
    start: int
    end: int
    total: int
    payload: int
    size: int
    fragment: bool
    identification: int
    offset: int
    more: bool
    carried_by: int
    encrypted: bool


def read(data: bytes, start: int, end: int, wire: int) -> Datagram | None:
    """The datagram at `start`, or None when there is none.

    Args:
        data: the octets.
        start: where the IP header begins.
        end: end of the captured octets.
        wire: where the frame ended on the wire, counted like `end`; at least `end`.
    """
    if end - start < 20:
        return None
    version = data[start] >> 4
    if version == 4:
        return _read_v4(data, start, end, wire)
    if version == 6 and end - start >= 40:
        return _read_v6(data, start, end, wire)
    return None


def _read_v4(data: bytes, start: int, end: int, wire: int) -> Datagram | None:
    first, total, identification, flags, protocol, source, destination = _V4.unpack_from(data, start)
    header = (first & 0x0F) * 4
    if not total:
        total = end - start  # a sender that leaves segmentation to its network card leaves this field empty
    if header < 20 or header > total or header > end - start or wire - start < total:
        return None
    found = Datagram()
    found.data, found.version, found.start, found.end = data, 4, start, end
    found.source, found.destination, found.protocol = source, destination, protocol
    found.total, found.payload, found.size = total, start + header, total - header
    found.encrypted = False
    found.fragment = flags & 0x3FFF != 0
    if found.fragment:
        found.identification, found.offset, found.more = identification, (flags & 0x1FFF) * 8, flags & 0x2000 != 0
    return found


def _read_v6(data: bytes, start: int, end: int, wire: int) -> Datagram | None:
    length, protocol, source, destination = _V6.unpack_from(data, start)
    total = length + 40
    if wire - start < total:
        return None
    found = Datagram()
    found.data, found.version, found.start, found.end = data, 6, start, end
    found.source, found.destination, found.total = source, destination, total
    found.fragment = found.encrypted = False
    at = start + 40
    if protocol in _EXTENSIONS:
        protocol, at = _extensions(found, protocol, at)
    if at - start > total:
        return None
    found.protocol, found.payload, found.size = protocol, at, total - (at - start)
    return found


def _extensions(found: Datagram, kind: int, at: int) -> tuple[int, int]:
    """Walk the extension headers from `at`; returns the protocol behind them and where it begins."""
    data, end = found.data, found.end
    number_at = found.start + 6
    while kind in _EXTENSIONS:
        if end - at < 2:
            return kind, at
        if kind in (FRAGMENT, ESP):
            length = 8
        elif kind == AUTHENTICATION:
            length = (data[at + 1] + 2) * 4
        else:
            length = (data[at + 1] + 1) * 8
        if length > end - at:
            return kind, at
        behind = data[at]
        if kind == FRAGMENT:
            offset, found.identification = struct.unpack_from("!HI", data, at + 2)
            found.fragment, found.offset, found.more = True, offset & 0xFFF8, offset & 1 != 0
            found.carried_by = number_at
        elif kind == ESP:
            found.encrypted = True
        elif kind == ROUTING:
            _source_route(found, at, length)
        elif kind == DESTINATION_OPTIONS:
            _home_address(found, at + 2, at + length)
        number_at, at = at, at + length
        if kind in _ENDS_CHAIN:
            return (MOBILITY if kind == MOBILITY else behind), at
        kind = behind
    return kind, at


def _source_route(found: Datagram, at: int, length: int) -> None:
    """A routing header of type 0 or 2 that is not used up names the last address (RFC 2460 4.4, RFC 6275 6.4)."""
    _, units, kind, left = found.data[at : at + 4]
    if left and ((kind == 0 and units >= 2 and units % 2 == 0) or (kind == 2 and units == 2)):
        found.destination = found.data[at + length - 16 : at + length]


def _home_address(found: Datagram, at: int, end: int) -> None:
    """The home address option names the source (RFC 6275 6.3)."""
    data = found.data
    while at < end:
        if data[at] == 0:
            at += 1
            continue
        if end - at < 2 or end - at < 2 + data[at + 1]:
            return
        if data[at] == _HOME_ADDRESS and data[at + 1] == 16:
            found.source = data[at + 2 : at + 18]
        at += 2 + data[at + 1]


def ones_complement(octets: bytes) -> int:
    """The ones' complement sum of 16-bit words (RFC 1071), not inverted; 0 and 0xFFFF are one number, given as 0."""
    if len(octets) % 2:
        octets += b"\0"
    # 2**16 is 1 modulo 0xFFFF, so the whole as one number is the sum of its words: one step in C, not one a word.
    return int.from_bytes(octets) % 0xFFFF


def pseudo_header(datagram: Datagram, protocol: int, length: int) -> int:
    """The ones' complement sum of the pseudo header of TCP, UDP and ICMPv6 (RFC 793 3.1, RFC 8200 8.1)."""
    addresses = int.from_bytes(datagram.source) + int.from_bytes(datagram.destination)
    return (addresses + protocol + length) % 0xFFFF


def is_multicast(address: bytes) -> bool:
    """Whether `address` is a group (RFC 1112 4, RFC 4291 2.7)."""
    return address[0] == 0xFF if len(address) == 16 else address[0] >> 4 == 0xE


def address_text(address: bytes) -> str:
    """`address` as text: dotted decimal, or as RFC 5952 writes IPv6; an IPv4-mapped one as the IPv4 address."""
    if len(address) == 4 or address.startswith(_MAPPED):
        return ".".join(map(str, address[-4:]))
    if not any(address[:12]) and any(address[12:14]):
        return "::" + ".".join(map(str, address[12:]))
    return str(IPv6Address(address))
