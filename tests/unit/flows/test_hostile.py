"""Whatever the octets are, nothing raises, and memory does not grow beyond what the octets themselves take."""

from __future__ import annotations

import random
import struct

from hypothesis import given
from hypothesis import strategies as st

from emulator.flows import fragments
from emulator.flows.endpoint import Stream
from emulator.flows.fragments import Fragments
from emulator.flows.packets import read
from emulator.flows.table import connections

from .test_links import FRAMES, TUNNELS
from .wire import CLIENT, CLIENT6, SERVER, SERVER6, START, Wire, ipv4, ipv6, tcp

LINKS = st.sampled_from([0, 1, 9, 10, 12, 50, 51, 101, 105, 108, 113, 127, 147, 228, 239, 276])
SAMPLES = [frame for _, frame in FRAMES.values()] + list(TUNNELS.values())


@given(
    st.lists(st.tuples(st.integers(0, 1 << 62), LINKS, st.binary(max_size=200), st.integers(0, 1 << 32)), max_size=8)
)
def test_random_octets(frames: list[tuple[int, int, bytes, int]]) -> None:
    for row in connections(frames):
        assert row.orig_packets + row.resp_packets <= len(frames) * 3
        row.to_json()


@given(st.sampled_from(SAMPLES), st.data())
def test_samples_with_a_few_octets_changed(sample: bytes, data: st.DataObject) -> None:
    octets = bytearray(sample)
    for _ in range(data.draw(st.integers(1, 6))):
        octets[data.draw(st.integers(0, len(octets) - 1))] = data.draw(st.integers(0, 255))
    cut = bytes(octets[: data.draw(st.integers(0, len(octets)))])
    link = data.draw(LINKS)
    connections([(START, link, cut, len(octets)), (START + 1, link, bytes(octets), len(octets))])


STATES = {"S0", "S1", "SF", "REJ", "S2", "S3", "RSTO", "RSTR", "RSTOS0", "RSTRH", "SH", "SHR", "OTH"}
SEGMENTS = st.tuples(
    st.booleans(),
    st.sampled_from(["", "S", "SA", "A", "PA", "F", "FA", "R", "RA", "SF", "FR", "SR", "SFRA"]),
    st.sampled_from([0, 1, 2, 100, 101, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFE, 0xFFFFFFFF]),
    st.sampled_from([0, 1, 2, 100, 101, 0x80000000, 0xFFFFFFFF]),
    st.sampled_from([b"", b"x", b"y" * 99]),
    st.sampled_from([0.001, 3.0, 6.0, 400.0, -10.0]),
)


@given(st.lists(SEGMENTS, max_size=25), st.sampled_from([80, 41_000]))
def test_any_sequence_of_segments(segments: list[tuple[bool, str, int, int, bytes, float]], port: int) -> None:
    wire = Wire()
    for from_client, flags, seq, ack, data, later in segments:
        ends = (CLIENT, 40_000, SERVER, port) if from_client else (SERVER, port, CLIENT, 40_000)
        wire.send(tcp(*ends, flags, seq, ack, data), later=later)
    rows = wire.rows()
    assert sum(row.orig_packets + row.resp_packets for row in rows) == len(segments)
    for row in rows:
        assert (row.orig_bytes or 0) >= 0 and (row.resp_bytes or 0) >= 0
        assert row.state in STATES


@given(st.lists(st.tuples(st.integers(1, 60), st.integers(1, 20)), max_size=30))
def test_a_stream_is_contiguous_as_far_as_its_pieces_are(pieces: list[tuple[int, int]]) -> None:
    stream, seen = Stream(), set[int]()
    for first, length in pieces:
        stream.add(first, first + length)
        seen.update(range(first, first + length))
    expected = 1
    while expected in seen:
        expected += 1
    assert stream.contiguous == expected
    assert {octet for first, end in stream.held for octet in range(first, end)} == seen
    assert all(a[1] < b[0] for a, b in zip(stream.held, stream.held[1:], strict=False))


def test_fragments_that_are_never_completed_do_not_stay() -> None:
    waiting = Fragments()
    for number in range(3 * fragments.PENDING_MAX):
        packet = ipv4(CLIENT, SERVER, 17, bytes(64), identification=number & 0xFFFF, flags=0x2000)
        packet = packet[:12] + struct.pack("!I", number) + packet[16:]
        found = read(packet, 0, len(packet), len(packet))
        assert found is not None
        assert waiting.add(START, found) is None
    assert len(waiting) == fragments.PENDING_MAX


def test_fragments_within_fragments() -> None:
    header = struct.pack("!BBHI", 44, 0, 0, 1)
    packet = ipv6(CLIENT6, SERVER6, 44, header * 8000 + struct.pack("!BBHI", 17, 0, 0, 1))
    assert Wire().send(packet).rows() == []


def test_a_datagram_in_eight_thousand_pieces() -> None:
    wire = Wire()
    for offset in range(8000, 0, -1):
        wire.send(ipv4(CLIENT, SERVER, 132, bytes(8), flags=offset | (0x2000 if offset < 8000 else 0)))
    assert wire.rows() == []
    wire.send(ipv4(CLIENT, SERVER, 132, bytes(8), flags=0x2000))
    assert wire.row().orig_packets == 1


def test_holes_in_a_stream_do_not_stay_for_ever() -> None:
    wire = Wire().handshake()
    numbers = [2 * number for number in range(1, 5000)]
    random.Random(1).shuffle(numbers)
    for number in numbers:
        wire.c("A", number, 1, b"x")
    assert wire.row().orig_packets == len(numbers) + 2


def test_a_scan_of_many_ports() -> None:
    wire = Wire()
    for port in range(1, 5001):
        wire.sport = port
        wire.c("S", 0)
    rows = wire.rows()
    assert len(rows) == 5000
    assert {row.state for row in rows} == {"S0"}
