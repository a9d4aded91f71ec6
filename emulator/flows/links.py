"""Where in a frame IP begins: link layers, and what lies between them and IP. Pure.

Sources: IEEE 802.3, 802.1Q, 802.1ad, 802.1ah, 802.1BR, 802.2, 802.11; RFC 3032 (MPLS), RFC 2516 (PPPoE), RFC 1661
(PPP); the tcpdump group's list of link-layer header types (the LINKTYPE numbers below); radiotap.org.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

Place = tuple[int, int, int]
"""Where an IP datagram begins, where its captured octets end, and where its frame ended on the wire."""

NOWHERE: Final[tuple[Place, ...]] = ()
ETHERNET: Final = 1
IEEE802_11: Final = 105
RAW: Final = 101

_IP_TYPES: Final = frozenset((0x0800, 0x86DD))
_VLAN_TYPES: Final = frozenset((0x8100, 0x88A8, 0x9100))
_MPLS_TYPES: Final = frozenset((0x8847, 0x8848))
_PBB_TYPE: Final = 0x88E7
_PPPOE_TYPE: Final = 0x8864
_VNTAG_TYPE: Final = 0x8926
_FABRIC_PATH_TYPE: Final = 0x8903
_PPP_IP: Final = frozenset((0x0021, 0x0057))
_PPP_MPLS: Final = 0x0281
_ADDRESS_FAMILIES: Final = frozenset((2, 10, 24, 28, 30))
"""AF_INET; AF_INET6 as Linux, NetBSD, FreeBSD and macOS number it."""
_NFLOG_PAYLOAD: Final = 9


def datagrams(link_type: int, data: bytes, end: int, wire: int) -> tuple[Place, ...]:
    """The IP datagrams of a frame: none, one, or several (IEEE 802.11 aggregates).

    Args:
        link_type: LINKTYPE number; of an unknown one the frame is taken for IP without a header.
        data: the captured octets.
        end: how many of them there are.
        wire: how many there were on the wire.
    """
    if link_type == ETHERNET:
        return ethernet(data, 0, end, wire)
    reader = _READERS.get(link_type)
    return reader(data, 0, end, wire) if reader else ((0, end, wire),)


def ethernet(data: bytes, start: int, end: int, wire: int) -> tuple[Place, ...]:
    """IP in an Ethernet frame."""
    if end - start <= 16:
        return NOWHERE
    kind = data[start + 12] << 8 | data[start + 13]
    if kind in _IP_TYPES:
        return ((start + 14, end, wire),)
    if kind == _FABRIC_PATH_TYPE:
        start += 16
        if end - start <= 14:
            return NOWHERE
        kind = data[start + 12] << 8 | data[start + 13]
    at = start + 14
    if kind <= 1500:
        return _llc(data, at, end, wire) if end - at >= kind else NOWHERE
    return by_ethertype(kind, data, at, end, wire)


def by_ethertype(kind: int, data: bytes, at: int, end: int, wire: int) -> tuple[Place, ...]:
    """IP behind an EtherType: itself, or behind tags, labels and PPPoE."""
    while kind not in _IP_TYPES:
        if kind in _VLAN_TYPES:
            length = 4
        elif kind == _VNTAG_TYPE:
            length = 6
        elif kind in _MPLS_TYPES:
            return mpls(data, at, end, wire)
        elif kind == _PBB_TYPE:
            return ethernet(data, at + 4, end, wire) if end - at > 18 else NOWHERE
        elif kind == _PPPOE_TYPE:
            return _ppp_protocol(data, at + 6, end, wire) if end - at > 8 else NOWHERE
        else:
            return NOWHERE
        if end - at <= length:
            return NOWHERE
        at += length
        kind = data[at - 2] << 8 | data[at - 1]
        if kind <= 1500:
            return _llc(data, at, min(end, at + kind), wire)
    return ((at, end, wire),)


def _llc(data: bytes, at: int, end: int, wire: int) -> tuple[Place, ...]:
    """IEEE 802.2 with SNAP, the one form of it that carries IP."""
    if end - at < 8 or data[at] != 0xAA or data[at + 1] != 0xAA:
        return NOWHERE
    at += 3 if data[at + 2] & 3 == 3 else 4
    if end - at < 5 or data[at : at + 3] != b"\0\0\0":
        return NOWHERE
    kind = data[at + 3] << 8 | data[at + 4]
    return ((at + 5, end, wire),) if kind in _IP_TYPES else NOWHERE


def mpls(data: bytes, at: int, end: int, wire: int) -> tuple[Place, ...]:
    """IP below a stack of MPLS labels, which does not say what it carries (RFC 3032 2.2)."""
    while end - at > 4:
        at += 4
        if data[at - 2] & 1:
            return ((at, end, wire),)
    return NOWHERE


def _ppp_protocol(data: bytes, at: int, end: int, wire: int) -> tuple[Place, ...]:
    if end - at <= 2:
        return NOWHERE
    kind = data[at] << 8 | data[at + 1]
    if kind in _PPP_IP:
        return ((at + 2, end, wire),)
    return mpls(data, at + 2, end, wire) if kind == _PPP_MPLS else NOWHERE


def _ppp(data: bytes, at: int, end: int, wire: int) -> tuple[Place, ...]:
    return _ppp_protocol(data, at + 2 if data[at : at + 2] == b"\xff\x03" else at, end, wire)


def _ppp_serial(data: bytes, at: int, end: int, wire: int) -> tuple[Place, ...]:
    return _ppp_protocol(data, at + 2, end, wire)


def _loopback(data: bytes, at: int, end: int, wire: int) -> tuple[Place, ...]:
    """BSD loopback: the address family, in the byte order of the machine that captured."""
    family = data[at : at + 4]
    known = int.from_bytes(family, "little") in _ADDRESS_FAMILIES or int.from_bytes(family) in _ADDRESS_FAMILIES
    return ((at + 4, end, wire),) if end - at > 4 and known else NOWHERE


def _linux_cooked(data: bytes, at: int, end: int, wire: int) -> tuple[Place, ...]:
    return by_ethertype(data[at + 14] << 8 | data[at + 15], data, at + 16, end, wire) if end - at > 16 else NOWHERE


def _linux_cooked_2(data: bytes, at: int, end: int, wire: int) -> tuple[Place, ...]:
    return by_ethertype(data[at] << 8 | data[at + 1], data, at + 20, end, wire) if end - at > 20 else NOWHERE


def _nflog(data: bytes, at: int, end: int, wire: int) -> tuple[Place, ...]:
    """Linux netfilter log: type-length-values in the byte order of the machine that captured; one is the packet."""
    if end - at <= 4 or data[at] not in _ADDRESS_FAMILIES or data[at + 1]:
        return NOWHERE
    at += 4
    while end - at > 4:
        length = int.from_bytes(data[at : at + 2], "little")
        if int.from_bytes(data[at + 2 : at + 4], "little") == _NFLOG_PAYLOAD:
            return ((at + 4, end, wire),)
        if length < 4:
            return NOWHERE
        at += length + -length % 4
    return NOWHERE


def _fddi(data: bytes, at: int, end: int, wire: int) -> tuple[Place, ...]:
    return ((at + 21, end, wire),) if end - at > 21 else NOWHERE


def wireless(data: bytes, at: int, end: int, wire: int) -> tuple[Place, ...]:
    """IP in IEEE 802.11 data frames that are not encrypted, aggregates (A-MSDU) included."""
    header = 24
    if end - at <= header:
        return NOWHERE
    control, flags = data[at], data[at + 1]
    if not control & 0x08 or control & 0x40 or flags & 0x40:
        return NOWHERE  # no data frame, one without data, or an encrypted one
    if flags & 3 == 3:
        header += 6
    aggregate = False
    if control & 0x80:
        if end - at <= header:
            return NOWHERE
        aggregate = data[at + header] & 0x80 != 0
        header += 2
    at += header
    if not aggregate:
        return _wireless_payload(data, at, end, wire)
    places: list[Place] = []
    while end - at >= 14:
        length = data[at + 12] << 8 | data[at + 13]
        at += 14
        if length > end - at:
            break
        places += _wireless_payload(data, at, at + length, at + length)
        at += length
        at += min(-(length + 14) % 4, end - at)
    return tuple(places)


def _wireless_payload(data: bytes, at: int, end: int, wire: int) -> tuple[Place, ...]:
    if end - at < 8 or data[at : at + 6] != b"\xaa\xaa\x03\0\0\0":
        return NOWHERE
    return ((at + 8, end, wire),) if data[at + 6] << 8 | data[at + 7] in _IP_TYPES else NOWHERE


def _radiotap(data: bytes, at: int, end: int, wire: int) -> tuple[Place, ...]:
    if end - at <= 4:
        return NOWHERE
    length = data[at + 2] | data[at + 3] << 8
    return wireless(data, at + length, end, wire) if end - at > length else NOWHERE


_READERS: Final[dict[int, Callable[[bytes, int, int, int], tuple[Place, ...]]]] = {
    0: _loopback,
    ETHERNET: ethernet,
    9: _ppp,
    10: _fddi,
    50: _ppp_serial,
    51: lambda data, at, end, wire: _ppp_protocol(data, at + 6, end, wire) if end - at > 8 else NOWHERE,
    IEEE802_11: wireless,
    108: _loopback,
    113: _linux_cooked,
    127: _radiotap,
    239: _nflog,
    276: _linux_cooked_2,
}
