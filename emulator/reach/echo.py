"""Echo requests and replies (RFC 792, RFC 4443 section 4). Pure, standard library only.

A request is a head and a tail, which are the sender's, and between them a body, which is the endpoint's that is asked.
So it says who asks whom, wherever it is met, and whatever became of its addresses on the way. Each word of a body that
differs from one endpoint to another stands there twice, once as its complement, so that all bodies of a test have the
same checksum (RFC 1071): a head is made once a sender, a body once an endpoint, and nothing once a pair.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Sequence
from typing import Final

HEAD: Final = struct.Struct("!BBHH")
"""Type, code, checksum, identifier."""

BODY: Final = struct.Struct("!H8sHII")
"""Sequence number; nonce of the test, complement of the sequence number, endpoint, its complement."""

TAIL: Final = struct.Struct("!I")
"""The sender."""

NONCE_OCTETS: Final = 8
SLOT_OCTETS: Final = 96
"""What one received message takes in memory: its sender's address in 32 octets, then the message."""

NAME_OCTETS: Final = 32

_REQUEST: Final = {4: 8, 6: 128}
_REPLY: Final = {4: 0, 6: 129}
_SLOT: Final = {
    # IPv4 raw sockets give the packet from its IP header on (raw(7)), those for IPv6 the message alone (RFC 3542).
    4: struct.Struct("!32x12x4s4xBBHHH8sHIII14x"),
    6: struct.Struct("!8x16s8xBBHHH8sHIII34x"),
}
_OCTETS: Final = HEAD.size + BODY.size + TAIL.size
LENGTH: Final = {4: 20 + _OCTETS, 6: _OCTETS}
"""Octets of a request or reply as a raw socket gives it."""


def checksum(octets: bytes) -> int:
    """The Internet checksum of an even number of octets (RFC 1071)."""
    total: int = sum(struct.unpack(f"!{len(octets) // 2}H", octets))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def head(version: int, sender: int, nonce: bytes) -> bytes:
    """The first six octets of a request from `sender`. The kernel fills in the checksum of ICMPv6 (RFC 3542)."""
    bare = HEAD.pack(_REQUEST[version], 0, 0, sender & 0xFFFF)
    return HEAD.pack(
        _REQUEST[version], 0, checksum(bare + body(0, nonce) + tail(sender)) if version == 4 else 0, sender & 0xFFFF
    )


def tail(sender: int) -> bytes:
    """The last octets of a request from `sender`."""
    return TAIL.pack(sender)


def body(endpoint: int, nonce: bytes) -> bytes:
    """What is between head and tail of a request to `endpoint`."""
    sequence = endpoint & 0xFFFF
    return BODY.pack(sequence, nonce, sequence ^ 0xFFFF, endpoint, endpoint ^ 0xFFFFFFFF)


def answered(
    version: int,
    sender: int,
    nonce: bytes,
    addresses: Sequence[bytes],
    slots: memoryview | bytes,
    lengths: Iterable[int],
) -> list[int]:
    """The endpoints whose replies to `sender` the slots hold.

    A message counts when it is an echo reply of the right length, to this sender and of this test (nonce), for an
    endpoint that exists, and from the address of that endpoint.
    """
    kind, right, wanted = _REPLY[version], LENGTH[version], sender & 0xFFFF
    count = len(addresses)
    return [
        endpoint
        for length, (source, what, code, _, identifier, sequence, mark, twin, endpoint, mirror, asker) in zip(
            lengths, _SLOT[version].iter_unpack(slots), strict=True
        )
        if what == kind
        and length == right
        and mark == nonce
        and identifier == wanted
        and endpoint < count
        and source == addresses[endpoint]
        and asker == sender
        and code == 0
        and sequence == endpoint & 0xFFFF
        and twin == sequence ^ 0xFFFF
        and mirror == endpoint ^ 0xFFFFFFFF
    ]


def asked(version: int, nonce: bytes, slots: memoryview | bytes, lengths: Iterable[int]) -> list[tuple[int, int]]:
    """The senders and endpoints of the requests of this test that the slots hold."""
    return [
        (asker, endpoint)
        for length, (_, what, code, _, _, _, mark, _, endpoint, mirror, asker) in zip(
            lengths, _SLOT[version].iter_unpack(slots), strict=True
        )
        if what == _REQUEST[version]
        and length == LENGTH[version]
        and mark == nonce
        and code == 0
        and mirror == endpoint ^ 0xFFFFFFFF
    ]
