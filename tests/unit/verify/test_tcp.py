"""Handshake, acknowledgement and close; sequence numbers wrap around in all of them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from emulator.verify.tcp import distance

AT = {"at": "pc1:eth0", "filter": "tcp.srcport == 40000"}
X, Y = 2**32 - 3, 2**32 - 1
"""Initial sequence numbers: both wrap within the connection."""

SEGMENTS = (
    ("client", 0, 0, "S", b""),
    ("server", 0, 1, "SA", b""),
    ("client", 1, 1, "A", b""),
    ("client", 1, 1, "PA", b"GET /"),
    ("server", 1, 6, "A", b""),
    ("server", 1, 6, "PA", b"a page"),
    ("client", 6, 7, "A", b""),
    ("client", 6, 7, "FA", b""),
    ("server", 7, 7, "FA", b""),
    ("client", 7, 8, "A", b""),
)
"""A whole connection: who, sequence and acknowledgement relative to the initial numbers, flags, data."""


def say(wire: Any, build: Any, segments: Any, port: int = 40000) -> None:
    """Record segments at pc1."""
    pc1, web = build.ADDRESS["pc1:eth0"], build.ADDRESS["web:eth0"]
    for side, seq, ack, flags, data in segments:
        client = side == "client"
        own, other = (X, Y) if client else (Y, X)
        ends = (pc1, web, port, 80) if client else (web, pc1, 80, port)
        numbers = {"seq": (own + seq) % 2**32, "ack": (other + ack) % 2**32 if "A" in flags else 0}
        packet = build.Packet("tcp", *ends, flags=flags, payload=data, **numbers)
        wire.see_packet("pc1:eth0", "out" if client else "in", packet)


def replaced(index: int, *segments: Any) -> tuple[Any, ...]:
    """The connection with the segment at `index` replaced."""
    return (*SEGMENTS[:index], *segments, *SEGMENTS[index + 1 :])


@pytest.mark.parametrize("kind", ["tcp-handshake", "tcp-acknowledged", "tcp-close"])
def test_a_good_connection(wire: Any, build: Any, kind: str) -> None:
    say(wire, build, SEGMENTS)
    result = wire.verdict(kind, **AT)
    assert result.verdict == "pass", result.reason


def test_a_connection_may_end_when_the_next_scene_has_begun(wire: Any, build: Any) -> None:
    wire.scene("page")
    say(wire, build, SEGMENTS[:-1])
    wire.scene("next")
    assert wire.verdict("tcp-close", **AT, scene="page").verdict == "fail"
    say(wire, build, SEGMENTS[-1:])
    assert wire.verdict("tcp-close", **AT, scene="page").verdict == "pass"
    assert wire.verdict("tcp-close", **AT, scene="next").verdict == "fail"


def test_what_a_good_connection_says(wire: Any, build: Any) -> None:
    say(wire, build, SEGMENTS)
    assert "SYN,ACK y=4294967295 ack=x+1 (frame 2)" in wire.verdict("tcp-handshake", **AT).reason
    assert "sent 5 octets, 192.0.2.80:80 6 octets, all acknowledged" in wire.verdict("tcp-acknowledged", **AT).reason
    assert "ACK and FIN in one (frame 9, the three-frame form)" in wire.verdict("tcp-close", **AT).reason


def test_the_four_frame_close(wire: Any, build: Any) -> None:
    say(wire, build, replaced(8, ("server", 7, 7, "A", b""), ("server", 7, 7, "FA", b"")))
    reason = wire.verdict("tcp-close", **AT).reason
    assert "acknowledged (frame 9), FIN of the other side (frame 10)" in reason


@pytest.mark.parametrize(
    ("kind", "segments", "words"),
    [
        ("tcp-handshake", SEGMENTS[:0], "expected a SYN that matches"),
        ("tcp-handshake", SEGMENTS[:1], "expected a SYN,ACK"),
        ("tcp-handshake", (SEGMENTS[0], ("server", 0, 1, "RA", b"")), "refused by RST"),
        ("tcp-handshake", replaced(1, ("server", 0, 2, "SA", b"")), "expected SYN,ACK to acknowledge 4294967294"),
        ("tcp-handshake", SEGMENTS[:2], "expected an ACK of frame 2"),
        ("tcp-handshake", replaced(2, ("client", 1, 2, "A", b"")), "expected ACK with sequence"),
        ("tcp-acknowledged", SEGMENTS[:3], "none was sent"),
        ("tcp-acknowledged", SEGMENTS[:4], "expected 192.0.2.80:80 to acknowledge all 5 octets"),
        ("tcp-acknowledged", SEGMENTS[:6], "expected 192.168.1.100:40000 to acknowledge all 6 octets"),
        ("tcp-acknowledged", SEGMENTS[:1], "expected a SYN,ACK"),
        ("tcp-close", SEGMENTS[:7], "expected a FIN of 192.168.1.100:40000"),
        ("tcp-close", SEGMENTS[:9], "expected an acknowledgement of the FIN in frame 9"),
        ("tcp-close", (*SEGMENTS, ("server", 8, 8, "R", b"")), "is a RST"),
        ("tcp-close", SEGMENTS[:1], "expected a SYN,ACK"),
    ],
)
def test_what_is_wrong_is_told(wire: Any, build: Any, kind: str, segments: Any, words: str) -> None:
    say(wire, build, segments)
    result = wire.verdict(kind, **AT)
    assert result.verdict == "fail"
    assert words in result.reason


def test_a_repeated_syn_is_the_same_connection(wire: Any, build: Any) -> None:
    say(wire, build, (SEGMENTS[0], *SEGMENTS))
    result = wire.verdict("tcp-handshake", **AT)
    assert result.verdict == "pass"
    assert "other connection" not in result.reason


def test_every_matching_connection_is_judged(wire: Any, build: Any) -> None:
    say(wire, build, SEGMENTS)
    say(wire, build, SEGMENTS, port=40001)
    both = {**AT, "filter": "tcp.dstport == 80"}
    assert "so did 1 other connection" in wire.verdict("tcp-close", **both).reason
    say(wire, build, SEGMENTS[:4], port=40002)
    assert wire.verdict("tcp-acknowledged", **both).verdict == "fail"


def test_a_lost_record_of_a_reset_is_possible(wire: Any, build: Any) -> None:
    say(wire, build, SEGMENTS)
    wire.dropped["pc1:eth0"] = 1
    assert wire.verdict("tcp-close", **AT).verdict == "unknown"
    assert wire.verdict("tcp-handshake", **AT).verdict == "pass"


@given(st.integers(0, 2**32 - 1), st.integers(-(2**31), 2**31 - 1))
def test_distance_undoes_addition_modulo_two_to_the_32(start: int, gap: int) -> None:
    assert distance(start, (start + gap) % 2**32) == gap


STREAM = {"at": "pc1:eth0", "filter": "tcp.flags.syn == 1 && tcp.flags.ack == 0", "from": "server"}


def stream(wire: Any, build: Any, *segments: tuple[int, bytes], mss: int | None = 10, server: bool = True) -> None:
    """A connection of pc1 to web in which the server, or else the client, sends `segments`: relative number, data."""
    ends = build.ADDRESS["pc1:eth0"], build.ADDRESS["web:eth0"], 40000, 80
    back = ends[1], ends[0], 80, 40000
    option = {} if mss is None else {"tcp.options.mss_val": (mss,)}
    wire.see_packet("pc1:eth0", "out", build.Packet("tcp", *ends, seq=X, flags="S", fields=option))
    wire.see_packet("pc1:eth0", "in", build.Packet("tcp", *back, seq=Y, ack=X + 1, flags="SA", fields=option))
    for number, data in segments:
        way, own = (back, Y) if server else (ends, X)
        segment = build.Packet("tcp", *way, seq=(own + number) % 2**32, flags="A", payload=data)
        wire.see_packet("pc1:eth0", "in" if server else "out", segment)


def test_a_stream_arrives_in_segments(wire: Any, build: Any) -> None:
    stream(wire, build, (1, b"0123456789"), (21, b"klm"), (11, b"abcdefghij"), (11, b"abcdefghij"))
    result = wire.verdict("tcp-stream", **STREAM, octets=23)
    assert result.verdict == "pass"
    assert result.reason == (
        "192.0.2.80:80 sent 23 octets in 3 segments of at most 10 octets (frames 3, 4, 5 and 6), within the MSS of 10 "
        "octets that frame 1 at pc1:eth0 tells; sequence numbers 0 to 22 without a gap; segments that came again, "
        "and count once: 1"
    )


def test_the_clients_stream(wire: Any, build: Any) -> None:
    stream(wire, build, (1, b"0123"), (5, b"4567"), server=False)
    result = wire.verdict("tcp-stream", **{**STREAM, "from": "client"}, octets=8)
    assert result.verdict == "pass"
    assert "that frame 2 at pc1:eth0 tells" in result.reason
    assert "no data came" in wire.verdict("tcp-stream", **STREAM, octets=8).reason


@pytest.mark.parametrize(
    ("segments", "octets", "words"),
    [
        ([(1, b"0123456789a")], 11, "frame 3 at pc1:eth0 carries 11 octets, 1 such segment in all"),
        ([(1, b"012"), (5, b"4")], 5, "expected sequence number 3 after 3 octets of 192.0.2.80:80 at pc1:eth0; the "
         "next that came is 4 in frame 4 at pc1:eth0: 1 octet missing"),
        ([(2, b"12")], 2, "expected sequence number 0 after 0 octets"),
        ([(1, b"012")], 4, "expected 4 octets of 192.0.2.80:80 at pc1:eth0; 3 came (frame 3)"),
        ([(1, b"012")], 2, "3 came"),
        ([], 2, "no data came"),
    ],
)  # fmt: skip
def test_a_stream_that_does_not_add_up_fails(wire: Any, build: Any, segments: Any, octets: int, words: str) -> None:
    stream(wire, build, *segments)
    result = wire.verdict("tcp-stream", **STREAM, octets=octets)
    assert result.verdict == "fail"
    assert words in result.reason


def test_without_a_told_mss_the_least_one_holds(wire: Any, build: Any) -> None:
    stream(wire, build, (1, bytes(536)), mss=None)
    result = wire.verdict("tcp-stream", **STREAM, octets=536)
    assert result.verdict == "pass"
    assert "within 536 octets, for no MSS was told" in result.reason
    wire.frames.clear()
    stream(wire, build, (1, bytes(537)), mss=None)
    assert wire.verdict("tcp-stream", **STREAM, octets=537).verdict == "fail"


def test_a_stream_needs_a_connection_and_a_record(wire: Any, build: Any) -> None:
    assert "expected a SYN that matches" in wire.verdict("tcp-stream", **STREAM, octets=1).reason
    assert wire.verdict("tcp-stream", **{**STREAM, "at": "pc1:eth9"}, octets=1).verdict == "unknown"
    stream(wire, build, (2, b"1"))
    wire.dropped["pc1:eth0"] = 1
    assert wire.verdict("tcp-stream", **STREAM, octets=2).verdict == "unknown"
    wire.frames.clear()
    say(wire, build, SEGMENTS[:1])
    wire.dropped.clear()
    assert "expected a SYN,ACK" in wire.verdict("tcp-stream", **STREAM, octets=2).reason


def test_a_connection_over_ipv6(wire: Any, build: Any) -> None:
    ends = "2001:db8::1", "2001:db8::2", 40000, 80
    back = ends[1], ends[0], 80, 40000
    for direction, packet in (
        ("out", build.Packet6("tcp", *ends, seq=9, flags="S")),
        ("in", build.Packet6("tcp", *back, seq=99, ack=10, flags="SA")),
        ("out", build.Packet6("tcp", *ends, seq=10, ack=100, flags="A")),
        ("in", build.Packet6("tcp", *back, seq=100, ack=10, flags="A", payload=bytes(1220))),
    ):
        wire.see_packet("pc1:eth0", direction, packet)
    result = wire.verdict("tcp-handshake", **AT)
    assert result.verdict == "pass"
    assert "[2001:db8::1]:40000 → [2001:db8::2]:80: SYN" in result.reason
    assert "1,220 octets, for no MSS was told" in wire.verdict("tcp-stream", **STREAM, octets=1220).reason


WAY = ("pc1:eth0", "home:lan", "home:wan", "isp:home", "isp:web", "web:eth0")
AGAIN = {"from_": "pc1:eth0", "to": "web:eth0", "filter": "tcp.dstport == 80"}


@pytest.fixture
def segment(build: Any) -> Any:
    """A segment of pc1 to web."""
    ends = build.ADDRESS["pc1:eth0"], build.ADDRESS["web:eth0"], 40000, 80
    return build.Packet("tcp", *ends, seq=1000, flags="A", payload=b"data", id=1)


def test_a_lost_segment_is_sent_again(wire: Any, segment: Any) -> None:
    wire.route(segment, *WAY[:4])
    wire.now_ns += 200_000_000
    wire.route(replace(segment, seq=1004, payload=b"more", id=2), *WAY)
    wire.route(replace(segment, id=3, ack=5), *WAY)
    result = wire.verdict("retransmission", **AGAIN)
    assert result.verdict == "pass"
    assert result.reason == (
        "frame 1 at pc1:eth0 (sequence number 1000, 4 octets) did not arrive at web:eth0; it was sent again with the "
        "same sequence number 200.1 ms later (frame 15) and arrived (frame 22)"
    )
    wire.dropped["web:eth0"] = 1
    assert wire.verdict("retransmission", **AGAIN).verdict == "unknown"


def test_a_lost_segment_may_come_with_others_in_one(wire: Any, segment: Any) -> None:
    wire.route(segment, *WAY[:4])
    wire.route(replace(segment, seq=1004, payload=b"more", id=2), *WAY[:4])
    wire.route(replace(segment, payload=b"datamore", id=3), *WAY)
    result = wire.verdict("retransmission", **AGAIN)
    assert result.verdict == "pass"
    assert "so did 1 other lost segment" in result.reason
    result = wire.verdict("retransmission", **{**AGAIN, "filter": "ip.id == 2"})
    assert result.verdict == "fail"
    assert (
        "with its sequence number 1004; its octets came in frame 13 at pc1:eth0, which begins with 1000"
        in result.reason
    )


def test_nothing_lost_is_no_retransmission(wire: Any, segment: Any) -> None:
    wire.route(segment, *WAY)
    result = wire.verdict("retransmission", **AGAIN)
    assert result.verdict == "fail"
    assert "all 1 segment arrived (frame 1)" in result.reason


@pytest.mark.parametrize(
    ("changes", "way", "words"),
    [
        (None, WAY, "to be sent again; it never was"),
        ({}, WAY[:4], "when it was sent again; frame 7 did not arrive either"),
        ({"seq": 1004}, WAY, "it never was"),
        ({"payload": b"diff"}, WAY, "it never was"),
        ({"sport": 40001}, WAY, "it never was"),
    ],
)
def test_a_segment_lost_for_good_fails(wire: Any, segment: Any, changes: Any, way: Any, words: str) -> None:
    wire.route(segment, *WAY[:4])
    if changes is not None:
        wire.route(replace(segment, id=2, **changes), *way)
    result = wire.verdict("retransmission", **AGAIN)
    assert result.verdict == "fail"
    assert words in result.reason


def test_retransmission_needs_data_and_a_record(wire: Any, segment: Any) -> None:
    wire.route(replace(segment, payload=b""), *WAY[:4])
    result = wire.verdict("retransmission", **AGAIN)
    assert result.verdict == "fail"
    assert "expected segments with data that match tcp.dstport == 80" in result.reason
    assert wire.verdict("retransmission", **{**AGAIN, "to": "web:eth9"}).verdict == "unknown"
