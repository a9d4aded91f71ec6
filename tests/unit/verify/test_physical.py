"""Cables, bits, sizes, checksums."""

from __future__ import annotations

from typing import Any

import pytest


@pytest.fixture
def busy(wire: Any, build: Any) -> Any:
    """A wire on which every cable carried a packet both ways."""
    for link in wire.lab.links:
        for sender, receiver in ((link.a, link.b), (link.b, link.a)):
            packet = build.Packet("udp", "10.0.0.1", "10.0.0.2", 1, 2, payload=sender.place.encode())
            wire.see_packet(sender.place, "out", packet)
            wire.see_packet(receiver.place, "in", packet)
    return wire


def test_links_carry_both_ways(busy: Any) -> None:
    result = busy.verdict("links-carry")
    assert result.verdict == "pass"
    assert "12 links carried frames both ways" in result.reason


def test_a_silent_direction_is_named(busy: Any) -> None:
    busy.frames = [frame for frame in busy.frames if (frame.interface, frame.direction) != ("web:eth0", "out")]
    result = busy.verdict("links-carry")
    assert result.verdict == "fail"
    assert "web:eth0 → isp:web carried nothing" in result.reason


def test_frames_that_do_not_arrive_are_told(busy: Any) -> None:
    busy.frames = [frame for frame in busy.frames if (frame.interface, frame.direction) != ("web:eth0", "in")]
    assert "isp:web → web:eth0: frames were sent and none arrived" in busy.verdict("links-carry").reason


def test_unknown_direction_is_missing_evidence(busy: Any, build: Any) -> None:
    busy.see_packet("pc1:eth0", None, build.Packet("udp", "10.0.0.1", "10.0.0.2", 1, 2))
    assert busy.verdict("links-carry").verdict == "unknown"


def test_silence_in_a_capture_with_gaps_proves_nothing(busy: Any) -> None:
    busy.frames = busy.frames[2:]
    assert busy.verdict("links-carry").verdict == "fail"
    busy.dropped["sw:pc1"] = 3
    result = busy.verdict("links-carry")
    assert result.verdict == "unknown"
    assert "the kernel dropped 3 frames at sw:pc1" in result.reason


def test_re_encoded_bits(busy: Any) -> None:
    result = busy.verdict("re-encode")
    assert result.verdict == "pass"
    assert "24 different frames" in result.reason


def test_other_bits_fail(busy: Any, build: Any) -> None:
    frame = busy.see_packet("pc1:eth0", "out", build.Packet("udp", "10.0.0.1", "10.0.0.2", 1, 2), reencoded=False)
    result = busy.verdict("re-encode")
    assert (result.verdict, result.frames) == ("fail", (frame.number,))
    assert f"frame {frame.number} at pc1:eth0" in result.reason


def test_frames_not_taken_apart_are_unknown_and_none_at_all_fail(wire: Any, build: Any) -> None:
    assert wire.verdict("re-encode").verdict == "fail"
    wire.see_packet("pc1:eth0", "out", build.Packet("udp", "10.0.0.1", "10.0.0.2", 1, 2), reencoded=None)
    assert wire.verdict("re-encode").verdict == "unknown"


def test_within_mtu(busy: Any, build: Any) -> None:
    busy.see_packet("pc1:eth0", "out", build.Packet("udp", "10.0.0.1", "10.0.0.2", 1, 2), length=1514)
    result = busy.verdict("within-mtu")
    assert result.verdict == "pass"
    assert "1500 of 1500 octets" in result.reason


def test_one_octet_too_many(busy: Any, build: Any) -> None:
    frame = busy.see_packet("pc1:eth0", "out", build.Packet("udp", "10.0.0.1", "10.0.0.2", 1, 2), length=1515)
    result = busy.verdict("within-mtu")
    assert (result.verdict, result.frames) == ("fail", (frame.number,))
    assert "at most 1500 octets" in result.reason
    assert "carries 1501" in result.reason


def test_a_vlan_tag_is_no_payload(busy: Any, build: Any) -> None:
    tagged = build.Packet("udp", "10.0.0.1", "10.0.0.2", 1, 2, fields={"vlan.id": (7,)})
    busy.see_packet("pc1:eth0", "out", tagged, length=1518)
    assert busy.verdict("within-mtu").verdict == "pass"


def test_checksums(busy: Any, build: Any) -> None:
    assert "96 checksums right (IPv4 48, UDP 48)" in busy.verdict("checksums").reason
    wrong = build.Packet("udp", "10.0.0.1", "10.0.0.2", 1, 2, fields={"udp.checksum.status": (0,)})
    frame = busy.see_packet("pc1:eth0", "out", wrong)
    result = busy.verdict("checksums")
    assert (result.verdict, result.frames) == ("fail", (frame.number,))
    assert "UDP in frame" in result.reason


def test_unverified_checksums_are_not_right(wire: Any, build: Any) -> None:
    status = {"udp.checksum.status": (2,), "ip.checksum.status": (2,)}
    wire.see_packet("pc1:eth0", "out", build.Packet("udp", "10.0.0.1", "10.0.0.2", 1, 2, fields=status))
    assert wire.verdict("checksums").verdict == "fail"


def test_loopback_is_no_link(busy: Any, build: Any) -> None:
    status = {"udp.checksum.status": (0,), "ip.checksum.status": (0,)}
    local = build.Packet("udp", "127.0.0.1", "127.0.0.1", 1, 2, fields=status)
    for direction in ("out", "in"):
        busy.see_packet("pc1:lo", direction, local, length=60_000)
    assert "96 checksums right" in busy.verdict("checksums").reason
    assert busy.verdict("within-mtu").verdict == "pass"
    assert "12 links carried frames" in busy.verdict("links-carry").reason


@pytest.mark.parametrize("kind", ["checksums", "within-mtu"])
def test_frames_on_loopback_alone_prove_nothing(wire: Any, build: Any, kind: str) -> None:
    wire.see_packet("pc1:lo", "out", build.Packet("udp", "127.0.0.1", "127.0.0.1", 1, 2))
    assert wire.verdict(kind).verdict == "fail"
