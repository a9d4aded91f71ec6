"""The way of a packet, and its addresses at both ends."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

WAY = ("pc1:eth0", "home:lan", "home:wan", "isp:home", "isp:web", "web:eth0")
TRANSLATED = {"home": {"src": "203.0.113.2"}}
THROUGH = ["pc1:eth0", "sw:pc1", "sw:home", "home:lan"]
ECHO = {"filter": "icmp.type == 8"}


@pytest.fixture
def echo(build: Any) -> Any:
    """An echo request of pc1 to web."""
    return build.Packet("icmp", build.ADDRESS["pc1:eth0"], build.ADDRESS["web:eth0"])


def test_path(wire: Any, echo: Any) -> None:
    for number in (1, 2):
        wire.route(replace(echo, icmp_seq=number), *WAY, after=TRANSLATED)
    result = wire.verdict("path", through=["pc1:eth0", "sw", "home", "isp:web", "web:eth0"], **ECHO)
    assert result.verdict == "pass"
    assert result.reason == (
        "ICMP echo request 192.168.1.100 → 192.0.2.80 was seen at pc1:eth0 (frame 1), sw:pc1 (frame 2), home:lan "
        "(frame 4), isp:web (frame 7) and web:eth0 (frame 8) in this order; so was 1 other packet"
    )


def test_a_layer_2_path_changes_no_octet(wire: Any, echo: Any, build: Any) -> None:
    wire.carry(echo, "pc1:eth0", "home:lan")
    result = wire.verdict("path", through=THROUGH, unchanged=True, **ECHO)
    assert result.verdict == "pass"
    assert "octet for octet the same 42 octets" in result.reason
    ways = (("pc1:eth0", "out"), ("sw:pc1", "in"), ("sw:home", "out"), ("home:lan", "in"))
    wire.arp(1, "pc1:eth0", "home:lan", ways=ways, to=build.BROADCAST)
    assert wire.verdict("path", filter="arp", through=THROUGH, unchanged=True).verdict == "pass"


@pytest.mark.parametrize(("payload", "verdict"), [(b"ping", "pass"), (b"pong", "fail")])
def test_a_translated_echo_of_ipv6_is_known_by_what_it_carries(
    wire: Any, build: Any, payload: bytes, verdict: str
) -> None:
    echo6 = build.Packet6("icmpv6", "2001:db8:3::88", "2001:db8:80::80", payload=b"ping")
    wire.route(echo6, *WAY, after={"home": {"src": "2001:db8:f::2", "ident": 9, "payload": payload}})
    result = wire.verdict("path", filter="icmpv6.type == 128", through=["pc1:eth0", "home:wan", "web:eth0"])
    assert result.verdict == verdict, result.reason


def test_a_router_on_a_layer_2_path_fails(wire: Any, echo: Any) -> None:
    wire.route(echo, *WAY[:4], after=TRANSLATED)
    parameters = {"through": ["pc1:eth0", "home:lan", "isp:home"], **ECHO}
    assert wire.verdict("path", **parameters).verdict == "pass"
    result = wire.verdict("path", unchanged=True, **parameters)
    assert result.verdict == "fail"
    assert (
        "expected the octets of frame 1 at pc1:eth0 unchanged at isp:home; in frame 6 the destination MAC"
        in result.reason
    )
    assert "the TTL 64 became 63" in result.reason


def test_a_changed_octet_that_no_field_shows_fails(wire: Any, echo: Any, build: Any) -> None:
    packet = replace(echo, eth_src=wire.mac("pc1:eth0"), eth_dst=wire.mac("home:lan"))
    first = wire.see_packet("pc1:eth0", "out", packet)
    octets = first.data[:20] + b"\xff" + first.data[21:]
    wire.see("home:lan", "in", packet.decoded(), ("eth", "ip", "icmp"), octets)
    result = wire.verdict("path", through=["pc1:eth0", "home:lan"], unchanged=True, **ECHO)
    assert result.verdict == "fail"
    assert "octet 20 and what follows is not the same" in result.reason


def test_a_place_that_is_not_on_the_way_fails(wire: Any, echo: Any) -> None:
    wire.carry(echo, "pc1:eth0", "home:lan")
    result = wire.verdict("path", through=["pc1:eth0", "sw", "home:wan"], **ECHO)
    assert result.verdict == "fail"
    assert result.reason == (
        "expected frame 1 (ICMP echo request 192.168.1.100 → 192.0.2.80) at pc1:eth0, sw and home:wan; it was seen at "
        "pc1:eth0, sw:pc1, sw:home and home:lan, last in frame 4"
    )


def test_places_in_another_order_fail(wire: Any, echo: Any) -> None:
    wire.carry(echo, "pc1:eth0", "home:lan")
    result = wire.verdict("path", through=["pc1:eth0", "home:lan", "sw:home"], **ECHO)
    assert result.verdict == "fail"
    assert "pc1:eth0, home:lan and sw:home in this order; it was seen at" in result.reason


def test_a_path_needs_a_packet_and_a_record(wire: Any, echo: Any) -> None:
    assert wire.verdict("path", through=THROUGH, **ECHO).verdict == "fail"
    wire.carry(echo, "pc1:eth0", "home:lan")
    assert wire.verdict("path", through=["pc1:eth0", "web:eth9"], **ECHO).verdict == "unknown"
    wire.frames.pop()
    assert wire.verdict("path", through=THROUGH, **ECHO).verdict == "fail"
    wire.dropped["home:lan"] = 1
    assert wire.verdict("path", through=THROUGH, **ECHO).verdict == "unknown"


ENDS = {"from_": "pc1:eth0", "to": "web:eth0"}
PORTS = {"filter": "tcp.dstport == 80", **ENDS}


@pytest.fixture
def segment(build: Any) -> Any:
    """A segment of pc1 to web over IPv6."""
    return build.Packet6("tcp", "2001:db8:1::100", "2001:db8:2::80", 40000, 80, flags="S")


@pytest.fixture
def answer(build: Any) -> Any:
    """The answer to it."""
    return build.Packet6("tcp", "2001:db8:2::80", "2001:db8:1::100", 80, 40000, flags="SA")


def test_end_to_end(wire: Any, segment: Any, answer: Any) -> None:
    wire.route(segment, *WAY)
    assert "web:eth0 sent no answer" in wire.verdict("end-to-end", **PORTS).reason
    wire.route(answer, *WAY[::-1])
    result = wire.verdict("end-to-end", **PORTS)
    assert result.verdict == "pass"
    assert result.reason == (
        "tcp [2001:db8:1::100]:40000 → [2001:db8:2::80]:80 at pc1:eth0 and at web:eth0 alike (frames 1 and 8), "
        "1 packet; 1 answer came back as tcp [2001:db8:2::80]:80 → [2001:db8:1::100]:40000 (frames 9 and 16)"
    )


def test_translation_on_the_way_fails(wire: Any, build: Any, echo: Any) -> None:
    packet = build.Packet("tcp", build.ADDRESS["pc1:eth0"], build.ADDRESS["web:eth0"], 40000, 80)
    wire.route(packet, *WAY, after=TRANSLATED)
    result = wire.verdict("end-to-end", **PORTS)
    assert result.verdict == "fail"
    assert "left as tcp 192.168.1.100:40000 → 192.0.2.80:80 and arrived as tcp 203.0.113.2:40000" in result.reason
    wire.route(echo, *WAY, after=TRANSLATED)
    assert wire.verdict("end-to-end", **{**ENDS, **ECHO}).verdict == "fail"


def test_a_translated_port_fails(wire: Any, segment: Any) -> None:
    wire.route(segment, *WAY, after={"isp": {"sport": 50000}})
    assert wire.verdict("end-to-end", **PORTS).verdict == "fail"


def test_a_translated_answer_fails(wire: Any, segment: Any, answer: Any) -> None:
    wire.route(segment, *WAY)
    wire.route(answer, *WAY[::-1], after={"home": {"src": "2001:db8:9::9"}})
    result = wire.verdict("end-to-end", **PORTS)
    assert result.verdict == "fail"
    assert "arrived as tcp [2001:db8:9::9]:80" in result.reason


def test_packets_and_answers_that_do_not_arrive_fail(wire: Any, segment: Any, answer: Any) -> None:
    assert "expected packets that match tcp.dstport == 80" in wire.verdict("end-to-end", **PORTS).reason
    wire.route(segment, *WAY[:4])
    result = wire.verdict("end-to-end", **PORTS)
    assert result.verdict == "fail"
    assert "to arrive at web:eth0; it was last seen at isp:home (frame 6)" in result.reason
    wire.dropped["web:eth0"] = 1
    assert wire.verdict("end-to-end", **PORTS).verdict == "unknown"
    wire.dropped.clear()
    wire.frames.clear()
    wire.route(segment, *WAY)
    wire.route(answer, *WAY[:1:-1])
    assert "to arrive at pc1:eth0" in wire.verdict("end-to-end", **PORTS).reason


def test_what_is_no_ip_has_no_ends(wire: Any, build: Any) -> None:
    wire.arp(1, "pc1:eth0", "home:lan", ways=(("pc1:eth0", "out"),), to=build.BROADCAST)
    assert "expected IP packets" in wire.verdict("end-to-end", **{**ENDS, "filter": "arp"}).reason
    assert wire.verdict("end-to-end", **{**PORTS, "to": "web:eth9"}).verdict == "unknown"
