"""Capture files: what is written is read again; foreign, damaged and wrong files give packets and a reason."""

from __future__ import annotations

import io
import struct
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from emulator.capture.frame import Direction
from emulator.capture.pcapng import Capture, Packet, Writer, read
from emulator.errors import UsageError

NOW = 1_800_000_000_123_456_789
ORDERS = pytest.mark.parametrize("order", ["<", ">"])


class Drops(io.RawIOBase):
    """A raw stream that takes only some octets of each write, and remembers the sizes asked for."""

    def __init__(self, at_once: int) -> None:
        self.taken = b""
        self.asked: list[int] = []
        self._at_once = at_once

    def writable(self) -> bool:
        return True

    def write(self, octets: memoryview) -> int:  # type: ignore[override]
        self.asked.append(len(octets))
        self.taken += bytes(octets[: self._at_once])
        return min(len(octets), self._at_once)


def block(order: str, kind: int, body: bytes) -> bytes:
    body += bytes(-len(body) % 4)
    return struct.pack(order + "II", kind, len(body) + 12) + body + struct.pack(order + "I", len(body) + 12)


def option(order: str, code: int, value: bytes) -> bytes:
    return struct.pack(order + "HH", code, len(value)) + value + bytes(-len(value) % 4)


def section(order: str) -> bytes:
    return block(order, 0x0A0D0D0A, struct.pack(order + "IHHq", 0x1A2B3C4D, 1, 0, -1))


def interface(order: str, *options: bytes, link_type: int = 1, snaplen: int = 0) -> bytes:
    return block(order, 1, struct.pack(order + "HHI", link_type, 0, snaplen) + b"".join(options))


def enhanced(order: str, number: int, time: int, data: bytes, length: int | None = None) -> bytes:
    fixed = struct.pack(order + "IIIII", number, time >> 32, time & 0xFFFFFFFF, len(data), length or len(data))
    return block(order, 6, fixed + data)


def reading(octets: bytes) -> Capture:
    return read(io.BytesIO(octets))


def sample() -> bytes:
    """A file with two interfaces, the second described late, three packets and statistics."""
    stream = io.BytesIO()
    writer = Writer(stream, hardware="none", system="some")
    first = writer.interface("pc1:eth0", mac="02:57:4c:00:01:00")
    writer.packet(first, NOW, b"\x01" * 61, direction="out")
    second = writer.interface("sw1:pc1", link_type=101, snaplen=64)
    writer.packet(second, NOW + 1, b"\x02" * 64, 1500, "in")
    writer.packet(first, NOW + 2, b"")
    writer.statistics(first, received=3, dropped=1, start_ns=NOW, end_ns=NOW + 9)
    writer.flush()
    return stream.getvalue()


def test_what_is_written_is_read_again() -> None:
    capture = reading(sample())
    assert capture.truncated is None
    assert [(each.name, each.mac, each.link_type) for each in capture.interfaces] == [
        ("pc1:eth0", "02:57:4c:00:01:00", 1),
        ("sw1:pc1", "", 101),
    ]
    assert [(each.received, each.dropped) for each in capture.interfaces] == [(3, 1), (None, None)]
    assert capture.packets == (
        Packet(0, NOW, b"\x01" * 61, 61, "out"),
        Packet(1, NOW + 1, b"\x02" * 64, 1500, "in"),
        Packet(0, NOW + 2, b"", 0, None),
    )


@given(
    st.lists(
        st.tuples(
            st.integers(0, 2),
            st.integers(0, 2**64 - 1),
            st.binary(max_size=70),
            st.integers(0, 70),
            st.sampled_from([None, "in", "out"]),
        )
    )
)
def test_any_packets_come_back(packets: list[tuple[int, int, bytes, int, Direction | None]]) -> None:
    stream = io.BytesIO()
    writer = Writer(stream)
    names = [writer.interface(f"node{number}:eth0") for number in range(3)]
    expected = tuple(
        Packet(names[number], time, data, len(data) + more, direction)
        for number, time, data, more, direction in packets
    )
    for packet in expected:
        writer.packet(packet.interface, packet.time_ns, packet.data, packet.length, packet.direction)
    writer.flush()
    assert reading(stream.getvalue()).packets == expected


def test_only_whole_blocks_are_handed_over_in_one_write() -> None:
    stream = Drops(1 << 30)
    writer = Writer(stream)  # type: ignore[arg-type]
    number = writer.interface("pc1:eth0")
    writer.flush()
    assert reading(stream.taken).truncated is None
    for _ in range(3):
        writer.packet(number, NOW, b"abc")
    assert len(stream.asked) == 1
    writer.flush()
    assert len(stream.asked) == 2
    assert len(reading(stream.taken).packets) == 3


def test_a_long_capture_does_not_wait_for_flush() -> None:
    stream = io.BytesIO()
    writer = Writer(stream)
    number = writer.interface("pc1:eth0")
    for _ in range(20):
        writer.packet(number, NOW, bytes(60_000))
    assert 1 <= len(reading(stream.getvalue()).packets) < 20


def test_short_writes_are_continued() -> None:
    stream = Drops(7)
    writer = Writer(stream)  # type: ignore[arg-type]
    writer.packet(writer.interface("pc1:eth0"), NOW, b"abc")
    writer.flush()
    assert reading(stream.taken).packets[0].data == b"abc"


def test_a_stream_that_would_block_is_an_error() -> None:
    class Full(Drops):
        def write(self, octets: memoryview) -> None:  # type: ignore[override]
            return None

    writer = Writer(Full(0))  # type: ignore[arg-type]
    with pytest.raises(BlockingIOError):
        writer.flush()


def test_an_interface_comes_before_its_packets() -> None:
    writer = Writer(io.BytesIO())
    with pytest.raises(ValueError, match="interface 0"):
        writer.packet(0, NOW, b"")
    with pytest.raises(ValueError, match="interface 1"):
        writer.statistics(1, received=0, dropped=0, start_ns=0, end_ns=0)


@ORDERS
@pytest.mark.parametrize(
    ("resolution", "ticks", "nanoseconds"),
    [
        (None, 1_500_000, 1_500_000_000),
        (0, 3, 3_000_000_000),
        (3, 1_500, 1_500_000_000),
        (9, 1_500_000_001, 1_500_000_001),
        (12, 1_500_000_001_999, 1_500_000_001),
        (0x80 | 1, 3, 1_500_000_000),
        (0x80 | 32, 3 << 31, 1_500_000_000),
    ],
)
def test_every_time_resolution(order: str, resolution: int | None, ticks: int, nanoseconds: int) -> None:
    options = [] if resolution is None else [option(order, 9, bytes([resolution]))]
    octets = section(order) + interface(order, *options) + enhanced(order, 0, ticks, b"x")
    assert reading(octets).packets[0].time_ns == nanoseconds


@ORDERS
def test_time_offset(order: str) -> None:
    offset = option(order, 14, struct.pack(order + "q", -2))
    octets = section(order) + interface(order, offset) + enhanced(order, 0, 5_000_000, b"x")
    assert reading(octets).packets[0].time_ns == 3_000_000_000


@ORDERS
def test_simple_and_obsolete_packets_and_unknown_blocks(order: str) -> None:
    obsolete = (
        struct.pack(order + "HHIIII", 0, 0, 0, 7, 3, 9) + b"old\0" + option(order, 2, struct.pack(order + "I", 2))
    )
    octets = (
        section(order)
        + interface(order, snaplen=4)
        + block(order, 3, struct.pack(order + "I", 10) + b"simp")
        + block(order, 0x0BAD, b"whatever")
        + block(order, 2, obsolete)
    )
    capture = reading(octets)
    assert capture.truncated is None
    assert capture.packets == (Packet(0, 0, b"simp", 10), Packet(0, 7_000, b"old", 9, "out"))
    assert capture.interfaces[0].name == "interface0"


def test_sections_number_their_interfaces_anew_and_may_differ_in_byte_order() -> None:
    octets = b"".join(
        section(order)
        + interface(order, option(order, 2, name), option(order, 9, b"\x09"))
        + enhanced(order, 0, time, name)
        for order, name, time in (("<", b"a:eth0", 5), (">", b"b:eth0", 6))
    )
    capture = reading(octets)
    assert [each.name for each in capture.interfaces] == ["a:eth0", "b:eth0"]
    assert [(each.interface, each.time_ns) for each in capture.packets] == [(0, 5), (1, 6)]


@ORDERS
@pytest.mark.parametrize(("magic", "unit"), [(0xA1B2C3D4, 1_000), (0xA1B23C4D, 1)])
def test_classic_pcap(order: str, magic: int, unit: int) -> None:
    octets = struct.pack(order + "IHHiIII", magic, 2, 4, 0, 0, 65_535, 101)
    octets += struct.pack(order + "IIII", 1_700_000_000, 42, 3, 60) + b"abc"
    capture = reading(octets)
    assert capture.packets == (Packet(0, 1_700_000_000 * 10**9 + 42 * unit, b"abc", 60),)
    assert capture.interfaces[0].link_type == 101
    cut = reading(octets[:-1])
    assert cut.packets == ()
    assert cut.truncated == "octet 24: the file ends within a packet (2 of 3 octets are there)"
    assert reading(octets[:30]).truncated == "octet 24: the file ends within a packet header (6 octets are left)"


def test_a_file_cut_anywhere_gives_the_packets_before_the_cut() -> None:
    whole = sample()
    packets = reading(whole).packets
    blocks, offset = [], 0
    while offset < len(whole):
        offset += struct.unpack_from("=I", whole, offset + 4)[0]
        blocks.append(offset)
    for end in range(12, len(whole)):
        capture = reading(whole[:end])
        assert capture.packets == packets[: len(capture.packets)]
        assert (capture.truncated is None) == (end in blocks)


@pytest.mark.parametrize(
    ("tail", "reason"),
    [
        (struct.pack("<II", 6, 13) + bytes(32), "a block cannot be 13 octets long"),
        (struct.pack("<III", 6, 12, 16), "the two lengths of a block differ"),
        (block("<", 6, bytes(8)), "a block of type 6 that is too short for its own fields"),
        (enhanced("<", 7, 0, b"x"), "a packet of interface 7, which its section does not describe"),
        (block("<", 6, struct.pack("<IIIII", 0, 0, 0, 99, 99)), "a packet of 99 octets in a block that holds 0"),
        (block("<", 3, struct.pack("<I", 99)), "a packet of 99 octets in a block that holds 0"),
        (block("<", 5, struct.pack("<III", 3, 0, 0)), "statistics of interface 3, which its section does not describe"),
        (interface("<", struct.pack("<HH", 2, 400)), "option 2 is longer than its block"),
        (section("<")[:8] + bytes(20), "a section header without its byte-order magic"),
        (section("<") + block("<", 3, struct.pack("<I", 0)), "a simple packet in a section without interfaces"),
    ],
)
def test_damage_is_named(tail: bytes, reason: str) -> None:
    whole = section("<") + interface("<") + enhanced("<", 0, 1, b"good")
    capture = reading(whole + tail)
    assert [packet.data for packet in capture.packets] == [b"good"]
    assert capture.truncated is not None
    place, _, words = capture.truncated.partition(": ")
    assert words == reason
    assert int(place.removeprefix("octet ")) >= len(whole)


def test_a_file_that_is_no_capture_is_an_error(tmp_path: Path) -> None:
    text = tmp_path / "lab.yml"
    text.write_text("name: nat\nnodes: {}\n# not a capture\n")
    with pytest.raises(UsageError, match=r"lab\.yml is no capture"):
        read(text)
    with pytest.raises(UsageError, match="is empty"):
        reading(b"")
    with pytest.raises(UsageError, match=r"cannot read .*: No such file or directory"):
        read(str(tmp_path / "absent"))
    with pytest.raises(UsageError, match=r"cannot read .*: Is a directory"):
        read(tmp_path)
    with pytest.raises(UsageError, match="cannot read"):
        read("a\0b")


@given(st.binary(max_size=400))
def test_any_octets_are_a_capture_or_a_clear_error(octets: bytes) -> None:
    for head in (
        b"",
        section("<"),
        section(">") + interface(">"),
        struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 0, 1),
    ):
        try:
            capture = reading(head + octets)
        except UsageError:
            continue
        assert all(packet.interface < len(capture.interfaces) for packet in capture.packets)
        assert sum(len(packet.data) for packet in capture.packets) <= len(octets)


@given(st.lists(st.tuples(st.integers(0, len(sample()) - 1), st.integers(0, 255)), min_size=1, max_size=4))
def test_a_damaged_file_is_a_capture_or_a_clear_error(changes: list[tuple[int, int]]) -> None:
    octets = bytearray(sample())
    for place, value in changes:
        octets[place] = value
    try:
        capture = reading(bytes(octets))
    except UsageError:
        return
    assert all(packet.interface < len(capture.interfaces) for packet in capture.packets)


def test_names_are_read_again() -> None:
    stream = io.BytesIO()
    writer = Writer(stream)
    writer.names({"10.0.0.1": "pc1", "2001:db8::1": "röuter", "10.0.0.2": "a|b"})
    writer.names({})
    writer.names({"10.0.0.1": "pc1|pc2"})
    writer.flush()
    capture = reading(stream.getvalue())
    assert capture.truncated is None
    assert capture.names == {"10.0.0.1": "pc1|pc2", "2001:db8::1": "röuter", "10.0.0.2": "a|b"}


@ORDERS
def test_names_of_others(order: str) -> None:
    """Several names of one address, as the format allows: the first; what is no address is passed over."""
    records = option(order, 1, b"\x0a\x00\x00\x01first\0second\0") + option(order, 9, b"what") + option(order, 0, b"")
    assert reading(section(order) + block(order, 4, records)).names == {"10.0.0.1": "first"}


@ORDERS
@pytest.mark.parametrize("record", [b"\x0a\x00\x00\x01endless", b"\x0a", b""])
def test_a_damaged_name_ends_the_reading(order: str, record: bytes) -> None:
    octets = section(order) + interface(order) + block(order, 4, option(order, 1, record)) + enhanced(order, 0, 1, b"x")
    capture = reading(octets)
    assert "name resolution record" in (capture.truncated or "")
    assert capture.packets == ()
