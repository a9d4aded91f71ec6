"""The Internet checksum (RFC 1071) of captured headers, and what Wireshark calls its status."""

from __future__ import annotations

import struct
from typing import Final

BAD: Final = 0
GOOD: Final = 1
UNVERIFIED: Final = 2


def is_right(octets: bytes) -> bool:
    """Whether `octets`, with the checksum in its place, sum up to minus zero in ones' complement (RFC 1071, section 1).

    A sum of 16-bit words with end-around carry is the remainder of the whole number divided by 2¹⁶ - 1.
    """
    number = int.from_bytes(octets + bytes(len(octets) % 2), "big")
    return number != 0 and number % 0xFFFF == 0


def status(octets: bytes) -> int:
    """GOOD or BAD for `octets` that include their checksum."""
    return GOOD if is_right(octets) else BAD


def pseudo_header(source: bytes, destination: bytes, protocol: int, length: int) -> bytes:
    """What TCP, UDP and ICMPv6 sum before their own octets (RFC 9293, section 3.1; RFC 8200, section 8.1).

    Args:
        source: the IP address, 4 or 16 octets.
        destination: likewise.
        protocol: the number in the IP header.
        length: octets of the transport header and its data.
    """
    if len(source) == 4:
        return source + destination + struct.pack("!HH", protocol, length)
    return source + destination + struct.pack("!II", length, protocol)


def is_unfinished(pseudo: bytes, stored: int) -> bool:
    """Whether the checksum field holds the sum of the pseudo-header alone.

    That is how the kernel hands a segment to a network card that computes the rest (CHECKSUM_PARTIAL in the kernel
    documentation, networking/checksum-offloads); on the loopback interface nobody does.
    """
    return int.from_bytes(pseudo, "big") % 0xFFFF == stored % 0xFFFF
