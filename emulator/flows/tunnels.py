"""Tunnels: what lies inside GRE and inside UDP. Pure; which connection carries a tunnel is `table.py`'s business.

Sources: RFC 2784 and 2890 (GRE), RFC 2637 (PPTP), ERSPAN (draft-foschiano-erspan), RFC 4380 (Teredo), RFC 7348 (VXLAN),
RFC 8926 (Geneve), 3GPP TS 29.281 (GTP-U), draft-massar-v6ops-ayiya.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from emulator.flows import links, packets, ports
from emulator.flows.links import NOWHERE, Place

DEPTH_MAX: Final = 2
"""Tunnels within tunnels that are looked into."""

_ETHERNET_BRIDGING: Final = 0x6558
_ERSPAN: Final = 0x88BE
_ERSPAN_3: Final = 0x22EB
_PPTP: Final = 0x880B
_TEREDO_PREFIX: Final = b"\x20\x01\0\0"
_GTP_USER_DATA: Final = 255


def gre(data: bytes, at: int, end: int, wire: int) -> tuple[Place, ...]:
    """What a GRE packet carries: IP, or frames of Ethernet, IEEE 802.11 or ERSPAN."""
    if end - at < 4:
        return NOWHERE
    flags, kind = data[at] << 8 | data[at + 1], data[at + 2] << 8 | data[at + 3]
    version = flags & 7
    if version > 1 or flags & 0x4078:
        return NOWHERE  # an unknown version, source routing (deprecated), or reserved bits
    header = 4 + 4 * ((flags >> 15 & 1) + (flags >> 13 & 1) + (flags >> 12 & 1) + (flags >> 7 & 1))
    inner = at + header
    if version == 1:
        if kind != _PPTP or end - inner < 4:
            return NOWHERE
        carried = data[inner + 2] << 8 | data[inner + 3]
        protocol = {0x0021: packets.IPV4, 0x0057: packets.IPV6}.get(carried, 0)
        return exactly(data, inner + 4, end, wire, protocol)
    if kind == _ETHERNET_BRIDGING:
        return links.ethernet(data, inner, end, wire)
    if kind == _ERSPAN:
        return links.ethernet(data, inner + (8 if flags & 0x1000 else 0), end, wire)
    if kind == _ERSPAN_3:
        if end - inner <= 12 + 14:
            return NOWHERE
        return links.ethernet(data, inner + (20 if data[inner + 11] & 1 else 12), end, wire)
    if _is_wireless(kind):
        return links.wireless(data, inner, end, wire)
    return ((inner, end, wire),) if end > inner else NOWHERE


def _is_wireless(kind: int) -> bool:
    """Aruba's access points send IEEE 802.11 frames under these numbers, one a queue."""
    return kind == 0x9000 or (kind & 0x0F == 0 and (kind & 0x8200 == 0x8200 or 0x8300 <= kind <= 0x8370))


def exactly(data: bytes, at: int, end: int, wire: int, protocol: int) -> tuple[Place, ...]:
    """A datagram of that IP version which fills what is there to the last octet, as one in a tunnel does."""
    size = end - at
    if protocol == packets.IPV6:
        if size < 40 or data[at] >> 4 != 6:
            return NOWHERE
        total = 40 + (data[at + 4] << 8 | data[at + 5])
    elif protocol == packets.IPV4:
        if size < 20 or data[at] >> 4 != 4:
            return NOWHERE
        total = data[at + 2] << 8 | data[at + 3]
    else:
        return NOWHERE
    return ((at, end, wire),) if total == size else NOWHERE


class NotThisTunnelError(Exception):
    """The payload is not of the protocol that its port promises; further packets are not tried."""


def find(port: int, data: bytes, at: int, end: int) -> str | None:
    """The tunnel that a UDP payload belongs to: by the responder's port, else by its look."""
    name = _BY_PORT.get(port)
    if name is not None:
        return name
    if end - at >= 3 and data[at + 1] == 0x52 and data[at + 2] == 0x11:
        return "ayiya"
    return "teredo" if end - at >= 40 and _looks_like_teredo(data, at, end) else None


def open_udp(name: str, data: bytes, at: int, end: int, wire: int, outer: tuple[str, ...]) -> tuple[Place, ...]:
    """What a UDP tunnel carries.

    Args:
        name: as `find` gave it.
        data: the octets; the payload is from `at` to `end`, and ended at `wire` before it was cut.
        outer: the tunnels around this one.

    Raises:
        NotThisTunnelError: it is no such tunnel.
    """
    return _OPEN[name](data, at, end, wire, outer)


def _vxlan(data: bytes, at: int, end: int, wire: int, _outer: tuple[str, ...]) -> tuple[Place, ...]:
    if end - at < 8 or not data[at] & 0x08:
        raise NotThisTunnelError
    return links.ethernet(data, at + 8, end, wire)


def _geneve(data: bytes, at: int, end: int, wire: int, _outer: tuple[str, ...]) -> tuple[Place, ...]:
    if end - at < 8:
        raise NotThisTunnelError
    if data[at] >> 6:
        return NOWHERE
    inner = at + 8 + (data[at] & 0x3F) * 4
    if inner > end:
        raise NotThisTunnelError
    kind = data[at + 2] << 8 | data[at + 3]
    if kind == _ETHERNET_BRIDGING:
        return links.ethernet(data, inner, end, wire)
    return links.by_ethertype(kind, data, inner, end, wire) if end > inner else NOWHERE


def _gtp(data: bytes, at: int, end: int, wire: int, outer: tuple[str, ...]) -> tuple[Place, ...]:
    if end - at < 8 or (outer and outer[-1] == "gtp"):
        return NOWHERE
    flags = data[at]
    if flags >> 5 != 1 or not flags & 0x10 or data[at + 1] != _GTP_USER_DATA:
        return NOWHERE
    inner = at + 8
    if flags & 7:
        inner += 4
        if inner > end:
            return NOWHERE
        following = data[inner - 1] if flags & 4 else 0
        while following:
            if inner >= end or not data[inner]:
                return NOWHERE
            inner += data[inner] * 4
            if inner > end:
                return NOWHERE
            following = data[inner - 1]
    if end - inner < 20:
        return NOWHERE
    return exactly(data, inner, end, wire, packets.IPV6 if data[inner] >> 4 == 6 else packets.IPV4)


def _ayiya(data: bytes, at: int, end: int, wire: int, _outer: tuple[str, ...]) -> tuple[Place, ...]:
    if end - at < 8:
        raise NotThisTunnelError
    inner = at + 8 + (1 << (data[at] >> 4)) + (data[at + 1] >> 4) * 4
    if inner > end:
        raise NotThisTunnelError
    forward = data[at + 2] & 0x0F == 1 and data[at + 3] in (packets.IPV4, packets.IPV6)
    return ((inner, end, wire),) if forward and end > inner else NOWHERE


def _teredo(data: bytes, at: int, end: int, wire: int, _outer: tuple[str, ...]) -> tuple[Place, ...]:
    authenticated = originated = False
    while True:
        if end - at < 2:
            raise NotThisTunnelError
        kind = data[at] << 8 | data[at + 1]
        if kind == 1 and not authenticated and not originated and end - at >= 4:
            at += 13 + data[at + 2] + data[at + 3]
            authenticated = True
        elif kind == 0 and not originated:
            at += 8
            originated = True
        else:
            break
    if end - at < 40 or kind >> 12 != 6:
        raise NotThisTunnelError
    length, following = data[at + 4] << 8 | data[at + 5], data[at + 6]
    bubble = following == packets.NO_NEXT and length == 0
    if length + 40 > end - at or (length + 40 < end - at and not bubble):
        raise NotThisTunnelError
    return NOWHERE if bubble else ((at, end, wire),)


def _looks_like_teredo(data: bytes, at: int, end: int) -> bool:
    """IPv6 with a Teredo address at one end, or with an origin indication before it (RFC 4380 5.1.1)."""
    if data[at] >> 4 == 6:
        return _TEREDO_PREFIX in (data[at + 8 : at + 12], data[at + 24 : at + 28])
    if data[at] or data[at + 1] > 1:
        return False
    if data[at + 1] == 1:
        at += 13 + data[at + 2] + data[at + 3]
        if end - at < 40 or data[at] or data[at + 1]:
            return False
    at += 8
    return end - at >= 40 and data[at] >> 4 == 6


_BY_PORT: Final = {
    ports.TEREDO: "teredo",
    **dict.fromkeys(ports.GTP, "gtp"),
    ports.VXLAN: "vxlan",
    ports.GENEVE: "geneve",
    ports.AYIYA: "ayiya",
}
_OPEN: Final[dict[str, Callable[[bytes, int, int, int, tuple[str, ...]], tuple[Place, ...]]]] = {
    "teredo": _teredo,
    "gtp": _gtp,
    "vxlan": _vxlan,
    "geneve": _geneve,
    "ayiya": _ayiya,
}
