"""Headers read by `struct` give the fields that the packet library gives, for good and for spoilt octets."""

from __future__ import annotations

import random
from dataclasses import replace
from pathlib import Path

import pytest

from emulator.capture.decode import decode
from emulator.capture.pcapng import Packet, read

REAL = read(Path(__file__).with_name("real.pcap"))


def _spoilt(packet: Packet, source: random.Random) -> Packet:
    octets = bytearray(packet.data)
    for _ in range(source.randint(1, 3)):
        octets[source.randrange(min(len(octets), 120))] = source.choice((0, 1, 255, source.randrange(256)))
    if source.random() < 0.3:
        octets = octets[: source.randrange(len(octets) + 1)]
    return replace(packet, data=bytes(octets), length=max(packet.length, len(octets)))


def _same(packets: tuple[Packet, ...]) -> None:
    whole = decode(packets, REAL.interfaces)
    fast = decode(packets, REAL.interfaces, encode=False)
    for one, other in zip(whole, fast, strict=True):
        assert (dict(one.fields), one.layers) == (dict(other.fields), other.layers), one.data.hex()
        assert other.reencoded is None


def test_the_same_fields() -> None:
    _same(REAL.packets)


@pytest.mark.parametrize("seed", range(4))
def test_the_same_fields_of_spoilt_frames(seed: int) -> None:
    source = random.Random(seed)
    _same(tuple(_spoilt(packet, source) for packet in REAL.packets for _ in range(20)))
