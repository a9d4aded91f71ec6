"""Options of neighbour discovery messages, named as Wireshark names them (RFC 4861, section 4.6; RFC 8106). Pure."""

from __future__ import annotations

import struct
from ipaddress import IPv6Address
from typing import Final

from emulator.capture.application import Fields, text
from emulator.capture.frame import Value

_SOURCE_LINK, _TARGET_LINK, _PREFIX, _MTU, _NONCE, _ROUTE, _RDNSS, _DNSSL = 1, 2, 3, 5, 14, 24, 25, 31
_UNIT_OCTETS: Final = 8
_PREFIX_OPTION: Final = struct.Struct("!BBBBII4x16s")
_LINK_NAMES: Final = {_SOURCE_LINK: "icmpv6.opt.src_linkaddr", _TARGET_LINK: "icmpv6.opt.target_linkaddr"}


def option_fields(octets: bytes) -> tuple[Fields, bool]:
    """The fields of the options that `octets` are, and whether all were whole.

    Link-layer addresses only where they are MACs; lifetimes in seconds.
    """
    fields: Fields = {}
    while len(octets) >= 2:
        size = octets[1] * _UNIT_OCTETS
        if size == 0 or size > len(octets):
            return fields, False
        fields.setdefault("icmpv6.opt.type", []).append(octets[0])
        for name, values in _option(octets[0], octets[:size]).items():
            fields.setdefault(name, []).extend(values)
        octets = octets[size:]
    return fields, not octets


def _option(kind: int, option: bytes) -> Fields:
    """The fields of one option but its type; none of one that is unknown or of another length than it should be."""
    size = len(option)
    if kind in _LINK_NAMES and size == 8:
        address = option[2:].hex(":")
        return {"icmpv6.opt.linkaddr": [address], _LINK_NAMES[kind]: [address]}
    if kind == _PREFIX and size == _PREFIX_OPTION.size:
        _kind, _size, length, flags, valid, preferred, prefix = _PREFIX_OPTION.unpack(option)
        return {
            "icmpv6.opt.prefix.length": [length],
            "icmpv6.opt.prefix.flag.l": [bool(flags & 0x80)],
            "icmpv6.opt.prefix.flag.a": [bool(flags & 0x40)],
            "icmpv6.opt.prefix.valid_lifetime": [valid],
            "icmpv6.opt.prefix.preferred_lifetime": [preferred],
            "icmpv6.opt.prefix": [str(IPv6Address(prefix))],
        }
    if kind == _MTU and size == 8:
        return {"icmpv6.opt.mtu": [int.from_bytes(option[4:], "big")]}
    if kind == _NONCE:
        return {"icmpv6.opt.nonce": [option[2:]]}
    if kind == _ROUTE and size in {8, 16, 24}:
        # RFC 4191, section 2.3: the octets of the prefix that are left out are zero.
        prefix = option[8:].ljust(16, b"\0")
        return {
            "icmpv6.opt.prefix.length": [option[2]],
            "icmpv6.opt.route_lifetime": [int.from_bytes(option[4:8], "big")],
            "icmpv6.opt.prefix": [str(IPv6Address(prefix))],
        }
    if kind == _RDNSS and size >= 24 and size % 16 == 8:
        return {
            "icmpv6.opt.rdnss.lifetime": [int.from_bytes(option[4:8], "big")],
            "icmpv6.opt.rdnss": [str(IPv6Address(option[place : place + 16])) for place in range(8, size, 16)],
        }
    if kind == _DNSSL and size >= 16:
        return {
            "icmpv6.opt.dnssl.lifetime": [int.from_bytes(option[4:8], "big")],
            "icmpv6.opt.dnssl": _names(option[8:]),
        }
    return {}


def _names(octets: bytes) -> list[Value]:
    """Domain names without compression, zeros after the last (RFC 8106, section 5.2); those before a wrong one."""
    found: list[Value] = []
    labels: list[str] = []
    while octets:
        length = octets[0]
        if length > 63 or length >= len(octets) or (not length and not labels):
            break
        if length:
            labels.append(text(octets[1 : 1 + length]))
        else:
            found.append(".".join(labels))
            labels = []
        octets = octets[1 + length :]
    return found
