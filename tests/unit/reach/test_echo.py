"""Echo requests and replies: what counts as the reply of a pair, and what does not."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from emulator.reach import echo

NONCE = bytes(range(8))
ADDRESSES = [bytes([10, 0, place >> 8, place & 255]) for place in range(300)]


def reply(sender: int, endpoint: int, **changed: bytes | int) -> tuple[bytes, int]:
    """A slot with the reply of `endpoint` to `sender` as the kernel gives it, and its length."""
    nonce, source = changed.get("nonce", NONCE), changed.get("source", ADDRESSES[endpoint % len(ADDRESSES)])
    assert isinstance(nonce, bytes)
    head = struct.pack("!BBHH", changed.get("type", 0), changed.get("code", 0), 0, changed.get("id", sender & 0xFFFF))
    packet = struct.pack("!12s4s4s", b"\x45", source, bytes(4)) + head
    packet += echo.body(endpoint, nonce) + echo.tail(int(changed.get("asker", sender)))
    slot = bytes(echo.NAME_OCTETS) + packet
    return slot.ljust(echo.SLOT_OCTETS, b"\0"), int(changed.get("length", len(packet)))


def answered(sender: int, *slots: tuple[bytes, int]) -> list[int]:
    octets = b"".join(slot for slot, _ in slots)
    return echo.answered(4, sender, NONCE, ADDRESSES, octets, [length for _, length in slots])


@given(st.integers(0, 0xFFFFFFFF), st.integers(0, 0xFFFFFFFF), st.binary(min_size=8, max_size=8))
def test_one_head_is_right_for_every_body(sender: int, endpoint: int, nonce: bytes) -> None:
    """The checksum of the whole request is right though the head was made without looking at the body."""
    request = echo.head(4, sender, nonce) + echo.body(endpoint, nonce) + echo.tail(sender)
    assert echo.checksum(request) == 0
    assert request[:2] == b"\x08\x00"


def test_checksum_is_that_of_the_standard() -> None:
    """The example of RFC 1071, section 3."""
    assert echo.checksum(bytes.fromhex("0001f203f4f5f6f7")) == 0xFFFF - 0xDDF2


def test_replies_are_found() -> None:
    assert answered(7, reply(7, 0), reply(7, 299), reply(7, 5)) == [0, 299, 5]


@pytest.mark.parametrize(
    "changed",
    [
        {"nonce": b"another."},
        {"source": ADDRESSES[6]},
        {"type": 8},
        {"code": 1},
        {"id": 8},
        {"asker": 8},
        {"length": 45},
    ],
)
def test_other_messages_are_not(changed: dict[str, bytes | int]) -> None:
    assert answered(7, reply(7, 5, **changed), reply(7, 9)) == [9]


def test_an_endpoint_that_does_not_exist() -> None:
    assert answered(7, reply(7, 300), reply(7, 70_000)) == []


def test_requests_say_who_asks_whom() -> None:
    slots = [reply(3, 5, type=8), reply(4, 6, type=8), reply(3, 5), reply(3, 5, type=8, nonce=b"another.")]
    octets = b"".join(slot for slot, _ in slots)
    assert echo.asked(4, NONCE, octets, [length for _, length in slots]) == [(3, 5), (4, 6)]


def test_ipv6_has_its_address_beside_the_message() -> None:
    address = bytes.fromhex("20010db8000000000000000000000001")
    name = struct.pack("=H6x16s4x", 10, address).ljust(echo.NAME_OCTETS, b"\0")
    message = struct.pack("!BBHH", 129, 0, 0, 7) + echo.body(0, NONCE) + echo.tail(7)
    slot = (name + message).ljust(echo.SLOT_OCTETS, b"\0")
    assert echo.answered(6, 7, NONCE, [address], slot, [echo.LENGTH[6]]) == [0]
    assert echo.answered(6, 7, NONCE, [bytes(16)], slot, [echo.LENGTH[6]]) == []
    assert echo.head(6, 7, NONCE) == bytes([128, 0, 0, 0, 0, 7])
