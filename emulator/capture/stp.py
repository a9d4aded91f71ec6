"""Bridge protocol data units of the spanning tree protocol (IEEE 802.1D-2004, clause 9). Pure."""

from __future__ import annotations

import struct
from typing import Final

from emulator.capture.application import Fields

PROTOCOL: Final = b"\0\0"
"""The protocol identifier that a BPDU begins with. Other protocols (GARP) have the same LLC address."""

CONFIGURATION, RAPID, TOPOLOGY_CHANGE = 0x00, 0x02, 0x80
"""BPDU types (sections 9.3.1 to 9.3.3)."""

_CONFIGURATION: Final = struct.Struct("!HBBB8sI8sHHHHH")
_RAPID_FLAGS: Final = {
    "stp.flags.agreement": 0x40,
    "stp.flags.forwarding": 0x20,
    "stp.flags.learning": 0x10,
    "stp.flags.proposal": 0x02,
}
_TICKS_A_SECOND: Final = 256


def stp_fields(octets: bytes) -> tuple[Fields, bool]:
    """The fields of a BPDU (IEEE 802.1D-2004, section 9.3), and whether it is whole.

    Times are in seconds, as fractions of 1/256 s. A bridge identifier is `prio`, a multiple of 4096, `ext`, the system
    ID extension, and `hw` (section 9.2.5). Of versions after RSTP only protocol, version and type are read.

    Args:
        octets: what follows the LLC header, without padding.
    """
    if len(octets) < 4:
        return {}, False
    protocol, version, kind = struct.unpack_from("!HBB", octets)
    fields: Fields = {"stp.protocol": [protocol], "stp.version": [version], "stp.type": [kind]}
    if kind not in {CONFIGURATION, RAPID} or version > RAPID:
        return fields, True
    if len(octets) < _CONFIGURATION.size:
        return fields, False
    _protocol, _version, _kind, flags, root, cost, bridge, port, age, max_age, hello, forward = (
        _CONFIGURATION.unpack_from(octets)
    )
    fields |= {
        "stp.flags": [flags],
        "stp.flags.tcack": [bool(flags & 0x80)],
        "stp.flags.tc": [bool(flags & 0x01)],
        **_identifier("stp.root", root),
        "stp.root.cost": [cost],
        **_identifier("stp.bridge", bridge),
        "stp.port": [port],
        "stp.msg_age": [age / _TICKS_A_SECOND],
        "stp.max_age": [max_age / _TICKS_A_SECOND],
        "stp.hello": [hello / _TICKS_A_SECOND],
        "stp.forward": [forward / _TICKS_A_SECOND],
    }
    if kind == RAPID:
        fields |= {name: [bool(flags & bit)] for name, bit in _RAPID_FLAGS.items()}
        fields["stp.flags.port_role"] = [flags >> 2 & 3]
    return fields, True


def _identifier(name: str, octets: bytes) -> Fields:
    (number,) = struct.unpack_from("!H", octets)
    return {f"{name}.prio": [number & 0xF000], f"{name}.ext": [number & 0x0FFF], f"{name}.hw": [octets[2:].hex(":")]}
