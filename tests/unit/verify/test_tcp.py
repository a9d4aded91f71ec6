"""Handshake, acknowledgement and close; sequence numbers wrap around in all of them."""

from __future__ import annotations

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
