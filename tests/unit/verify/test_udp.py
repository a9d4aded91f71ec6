"""What gets lost, and stays lost."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

WAY = ("pc1:eth0", "home:lan", "home:wan", "isp:home", "isp:web", "web:eth0")
TWO = {"from_": "pc1:eth0", "to": "web:eth0", "filter": 'udp.payload contains "two"'}


@pytest.fixture
def datagram(build: Any) -> Any:
    """A datagram of pc1 to web."""
    return build.Packet("udp", build.ADDRESS["pc1:eth0"], build.ADDRESS["web:eth0"], 40000, 9999, payload=b"one", id=1)


@pytest.fixture
def numbered(wire: Any, datagram: Any) -> Any:
    """Of three datagrams the second gets lost behind home."""
    for number, word in enumerate((b"one", b"two", b"three"), start=1):
        way = WAY[:4] if word == b"two" else WAY
        wire.route(replace(datagram, payload=word, id=number), *way)
    return wire


def test_lost(numbered: Any) -> None:
    result = numbered.verdict("lost", **TWO)
    assert result.verdict == "pass"
    assert result.reason == (
        "UDP 192.168.1.100:40000 → 192.0.2.80:9999 left pc1:eth0 (frame 9, 1 packet), did not arrive at web:eth0, "
        "where 2 other frames came in, and was not sent again"
    )


def test_one_that_arrives_fails(numbered: Any) -> None:
    result = numbered.verdict("lost", **{**TWO, "filter": "udp"})
    assert result.verdict == "fail"
    assert "to get lost; it arrived in frame 8 at web:eth0" in result.reason


@pytest.mark.parametrize("way", [WAY, WAY[:4]])
def test_one_that_is_sent_again_fails(numbered: Any, datagram: Any, way: Any) -> None:
    numbered.route(replace(datagram, payload=b"two", id=4), *way)
    result = numbered.verdict("lost", **TWO)
    assert result.verdict == "fail"
    assert "expected frame 9 at pc1:eth0" in result.reason
    assert "never to be sent again; frame 23 at pc1:eth0 says the same" in result.reason


def test_the_same_octets_from_another_port_are_something_else(numbered: Any, datagram: Any) -> None:
    numbered.route(replace(datagram, payload=b"two", id=4, sport=40001), *WAY)
    assert numbered.verdict("lost", **{**TWO, "filter": TWO["filter"] + " && udp.srcport == 40000"}).verdict == "pass"


def test_a_segment_that_is_sent_again_is_not_lost_for_good(wire: Any, build: Any) -> None:
    segment = build.Packet("tcp", "192.168.1.100", "192.0.2.80", 1, 2, payload=b"two", seq=5)
    wire.route(segment, *WAY[:4])
    wire.route(replace(segment, id=2, ack=9), *WAY)
    result = wire.verdict("lost", **{**TWO, "filter": "ip.id == 1"})
    assert result.verdict == "fail"
    assert "says the same" in result.reason


def test_nothing_that_gets_lost_fails(wire: Any) -> None:
    assert "expected packets that match" in wire.verdict("lost", **TWO).reason


def test_loss_needs_a_place_that_hears_something_and_a_whole_record(numbered: Any, wire: Any) -> None:
    numbered.dropped["web:eth0"] = 1
    assert numbered.verdict("lost", **TWO).verdict == "unknown"
    numbered.dropped.clear()
    assert numbered.verdict("lost", **{**TWO, "to": "web:eth9"}).verdict == "unknown"
    numbered.frames = [frame for frame in numbered.frames if frame.interface != "web:eth0"]
    result = numbered.verdict("lost", **TWO)
    assert result.verdict == "unknown"
    assert "web:eth0 got no frame at all" in result.reason
