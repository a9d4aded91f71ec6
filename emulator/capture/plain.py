"""Common headers and messages read by `struct`: much faster than the packet library, and without encoding again.

A `walk.Dissect`: it gives the values of a header as attributes, under the names that the packet library has for them,
so that the fields made of them are the same. What is rare, or looks odd, is left to the other dissector. Pure.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping
from socket import AF_INET6, inet_ntop
from types import SimpleNamespace
from typing import Any, Final

from emulator.capture.walk import Dissect

_ETHERNET: Final = struct.Struct("!6s6sH")
_IP: Final = struct.Struct("!BBHHHBBH4s4s")
_IPV6: Final = struct.Struct("!IHBB16s16s")
_TCP: Final = struct.Struct("!HHIIBBHHH")
_UDP: Final = struct.Struct("!HHHH")
_ARP: Final = struct.Struct("!HHBBH6s4s6s4s")
_ICMP: Final = struct.Struct("!BBHHH")
_DNS: Final = struct.Struct("!HHHHHH")
_RECORD: Final = struct.Struct("!HHIH")

_ECHO: Final = frozenset({0, 8})
_END, _NOP, _MSS, _SCALE, _SACK_PERMITTED, _SACK, _TIMESTAMP = 0, 1, 2, 3, 4, 5, 8
_LABEL_MAX, _POINTER = 63, 0xC0
_NAME_MAX: Final = 255
_A, _NS, _CNAME, _SOA, _PTR, _MX, _TXT, _AAAA, _OPT = 1, 2, 5, 6, 12, 15, 16, 28, 41


class _OddError(Exception):
    """Not read here."""


def plain(rest: Dissect) -> Dissect:
    """A dissector that reads what is common itself, and asks `rest` for everything else."""

    def dissect(name: str, octets: bytes) -> tuple[Any, bytes]:
        reader = _READERS.get(name)
        if reader is not None:
            try:
                return reader(octets), b""
            except (_OddError, struct.error, IndexError, ValueError):
                pass
        return rest(name, octets)[0], b""

    return dissect


def _address(octets: bytes) -> str:
    return f"{octets[0]}.{octets[1]}.{octets[2]}.{octets[3]}"


def _ethernet(octets: bytes) -> Any:
    target, source, kind = _ETHERNET.unpack(octets)
    return SimpleNamespace(dst=target.hex(":"), src=source.hex(":"), type=kind)


def _vlan(octets: bytes) -> Any:
    tag, kind = struct.unpack("!HH", octets)
    return SimpleNamespace(vlan=tag & 0x0FFF, prio=tag >> 13, type=kind)


def _arp(octets: bytes) -> Any:
    hwtype, ptype, hwlen, plen, op, *addresses = _ARP.unpack(octets)
    if (hwtype, ptype, hwlen, plen) != (1, 0x0800, 6, 4):
        raise _OddError
    return SimpleNamespace(
        hwtype=hwtype, ptype=ptype, hwlen=hwlen, plen=plen, op=op, hwsrc=addresses[0].hex(":"),
        psrc=_address(addresses[1]), hwdst=addresses[2].hex(":"), pdst=_address(addresses[3]),
    )  # fmt: skip


def _ip(octets: bytes) -> Any:
    first, tos, length, number, place, ttl, protocol, checksum, source, target = _IP.unpack_from(octets)
    return SimpleNamespace(
        version=first >> 4, ihl=first & 0x0F, tos=tos, len=length, id=number, flags=place >> 13, frag=place & 0x1FFF,
        ttl=ttl, proto=protocol, chksum=checksum, src=_address(source), dst=_address(target),
    )  # fmt: skip


def _ipv6(octets: bytes) -> Any:
    first, length, kind, hops, source, target = _IPV6.unpack(octets)
    return SimpleNamespace(
        version=first >> 28, tc=first >> 20 & 0xFF, fl=first & 0xFFFFF, plen=length, nh=kind, hlim=hops,
        src=inet_ntop(AF_INET6, source), dst=inet_ntop(AF_INET6, target),
    )  # fmt: skip


def _icmp(octets: bytes) -> Any:
    kind, code, checksum, ident, sequence = _ICMP.unpack(octets)
    if kind not in _ECHO:
        raise _OddError
    return SimpleNamespace(
        type=kind, code=code, chksum=checksum, id=ident, seq=sequence, fields={"id": ident, "seq": sequence}
    )


def _udp(octets: bytes) -> Any:
    source, target, length, checksum = _UDP.unpack(octets)
    return SimpleNamespace(sport=source, dport=target, len=length, chksum=checksum)


def _tcp(octets: bytes) -> Any:
    source, target, sequence, ack, size, flags, window, checksum, urgent = _TCP.unpack_from(octets)
    return SimpleNamespace(
        sport=source, dport=target, seq=sequence, ack=ack, dataofs=size >> 4,
        reserved=size >> 1 & 7, flags=flags | (size & 1) << 8, window=window, chksum=checksum, urgptr=urgent,
        options=_options(octets) if len(octets) > _TCP.size else (),
    )  # fmt: skip


def _options(octets: bytes) -> list[tuple[str, Any]]:
    """TCP options (RFC 9293, section 3.2; RFC 7323; RFC 2018). Others are left out, since no field is made of them."""
    found: list[tuple[str, Any]] = []
    place = _TCP.size
    while place < len(octets):
        kind = octets[place]
        if kind == _NOP:
            place += 1
            continue
        if kind == _END:
            break
        size = octets[place + 1]
        value = octets[place + 2 : place + size]
        if size < 2 or place + size > len(octets):
            raise _OddError
        place += size
        if kind == _TIMESTAMP and size == 10:
            found.append(("Timestamp", struct.unpack("!II", value)))
        elif kind == _MSS and size == 4:
            found.append(("MSS", int.from_bytes(value, "big")))
        elif kind == _SCALE and size == 3:
            found.append(("WScale", value[0]))
        elif kind == _SACK_PERMITTED and size == 2:
            found.append(("SAckOK", b""))
        elif kind == _SACK and size % 8 == 2:
            found.append(("SAck", struct.unpack(f"!{(size - 2) // 4}I", value)))
        elif kind in (_TIMESTAMP, _MSS, _SCALE, _SACK_PERMITTED, _SACK):
            raise _OddError
    return found


class _Message:
    """A DNS message (RFC 1035, section 4.1)."""

    def __init__(self, octets: bytes) -> None:
        number, flags, *counts = _DNS.unpack_from(octets)
        self.id = number
        self.qr, self.opcode = flags >> 15, flags >> 11 & 15
        self.aa, self.tc, self.rd, self.ra = (flags >> bit & 1 for bit in (10, 9, 8, 7))
        self.ad, self.cd, self.rcode = flags >> 5 & 1, flags >> 4 & 1, flags & 15
        self.qdcount, self.ancount, self.nscount, self.arcount = counts
        place = _DNS.size
        self._sections: dict[str, list[Any]] = {"qd": []}
        for _ in range(self.qdcount):
            name, place = _name(octets, place)
            kind, _class = struct.unpack_from("!HH", octets, place)
            place += 4
            self._sections["qd"].append(SimpleNamespace(qname=name, qtype=kind))
        for section, count in zip(("an", "ns", "ar"), counts[1:], strict=True):
            records = self._sections[section] = []
            for _ in range(count):
                record, place = _record(octets, place)
                records.append(record)
        if place != len(octets):
            raise _OddError

    def getfieldval(self, name: str) -> list[Any]:
        """The records of a section."""
        return self._sections[name]


def _record(octets: bytes, place: int) -> tuple[Any, int]:
    name, place = _name(octets, place)
    kind, group, ttl, size = _RECORD.unpack_from(octets, place)
    place += _RECORD.size
    end = place + size
    if end > len(octets):
        raise _OddError
    record = SimpleNamespace(rrname=name, type=kind, ttl=ttl, rclass=group)
    if kind == _A and size == 4:
        record.rdata = _address(octets[place:end])
    elif kind == _AAAA and size == 16:
        record.rdata = inet_ntop(AF_INET6, octets[place:end])
    elif kind in (_NS, _CNAME, _PTR):
        record.rdata, after = _name(octets, place)
        if after != end:
            raise _OddError
    elif kind == _OPT and not size:
        record.z = ttl & 0xFFFF
    else:
        raise _OddError
    return record, end


def _name(octets: bytes, place: int) -> tuple[bytes, int]:
    """A name with its final dot, and where it ends; compression points backwards only (RFC 1035, section 4.1.4)."""
    labels: list[bytes] = []
    after, limit, length = -1, place, 0
    while True:
        size = octets[place]
        if size > _LABEL_MAX:
            if size < _POINTER:
                raise _OddError
            target = (size & 0x3F) << 8 | octets[place + 1]
            after = place + 2 if after < 0 else after
            if target >= limit:
                raise _OddError
            place = limit = target
            continue
        place += 1
        if not size:
            break
        length += size + 1
        if length > _NAME_MAX or place + size > len(octets):
            raise _OddError
        labels.append(octets[place : place + size])
        place += size
    return b".".join(labels) + b".", place if after < 0 else after


_READERS: Final[Mapping[str, Callable[[bytes], Any]]] = {
    "Ether": _ethernet,
    "Dot1Q": _vlan,
    "ARP": _arp,
    "IP": _ip,
    "IPv6": _ipv6,
    "ICMP": _icmp,
    "UDP": _udp,
    "TCP": _tcp,
    "DNS": _Message,
}
