"""TTL, silence, private addresses."""

from __future__ import annotations

import struct
from dataclasses import replace
from typing import Any

import pytest

from emulator.verify.paths import quoted_flow

HOPS = {"from_": "pc1:eth0", "to": "web:eth0", "routers": ["home", "isp"], "filter": "icmp.type == 8"}
WAY = ("pc1:eth0", "home:lan", "home:wan", "isp:home", "isp:web", "web:eth0")
TRANSLATED = {"home": {"src": "203.0.113.2"}}


@pytest.fixture
def echo(build: Any) -> Any:
    """An echo request of pc1 to web."""
    return build.Packet("icmp", build.ADDRESS["pc1:eth0"], build.ADDRESS["web:eth0"])


def test_hop_count(wire: Any, echo: Any) -> None:
    for number in (1, 2):
        wire.route(replace(echo, icmp_seq=number), *WAY, after=TRANSLATED)
    result = wire.verdict("hop-count", **HOPS)
    assert result.verdict == "pass"
    assert result.reason.startswith("TTL 64 → 63 (home) → 62 (isp), 2 packets from pc1:eth0 to web:eth0")


def test_a_packet_that_gets_lost_fails_where_it_was_last_seen(wire: Any, echo: Any) -> None:
    wire.route(echo, *WAY[:4], after=TRANSLATED)
    result = wire.verdict("hop-count", **HOPS)
    assert result.verdict == "fail"
    assert result.reason == (
        "frame 1 left pc1:eth0 with TTL 64 and was last seen at isp:home (in) with TTL 63; "
        "expected web:eth0 with TTL 62"
    )


def test_a_router_that_does_not_count_fails(wire: Any, echo: Any) -> None:
    wire.route(echo, *WAY, after={"home": {**TRANSLATED["home"], "ttl": 64}})
    result = wire.verdict("hop-count", **HOPS)
    assert result.verdict == "fail"
    assert "at home:wan has TTL 64; expected 63" in result.reason


def test_a_router_that_is_not_on_the_list_fails(wire: Any, echo: Any) -> None:
    wire.route(echo, *WAY, after=TRANSLATED)
    result = wire.verdict("hop-count", **{**HOPS, "routers": ["home"]})
    assert result.verdict == "fail"


def test_a_router_that_the_packet_is_for_is_not_crossed(wire: Any, build: Any) -> None:
    ping = build.Packet("icmp", build.ADDRESS["pc1:eth0"], build.ADDRESS["isp:home"])
    wire.route(ping, *WAY[:4], after=TRANSLATED)
    result = wire.verdict("hop-count", **{**HOPS, "to": "isp:home", "routers": ["home"]})
    assert result.verdict == "pass"
    assert result.reason.startswith("TTL 64 → 63 (home), 1 packet")


def test_a_router_that_only_bridges_a_frame_is_not_crossed(wire: Any, echo: Any) -> None:
    bridged = replace(echo, eth_src=wire.mac("pc1:eth0"), eth_dst=wire.mac("isp:home"))
    for place, way in (("pc1:eth0", "out"), ("home:lan", "in"), ("home:wan", "out"), ("isp:home", "in")):
        wire.see_packet(place, way, bridged)
    wire.carry(replace(echo, ttl=63), "isp:web", "web:eth0")
    assert wire.verdict("hop-count", **{**HOPS, "routers": ["isp"]}).verdict == "pass"
    result = wire.verdict("hop-count", **HOPS)
    assert result.verdict == "fail"
    assert "at home:wan has TTL 64; expected 63" in result.reason


def test_nothing_sent_fails(wire: Any) -> None:
    assert "expected packets that match icmp.type == 8" in wire.verdict("hop-count", **HOPS).reason


CLOSED = {"filter": "tcp.dstport == 8081", "at": "outside:eth0"}


@pytest.fixture
def knock(build: Any) -> Any:
    """A SYN of outside to an unpublished port."""
    return build.Packet("tcp", "198.18.0.99", "203.0.113.2", 5000, 8081, seq=1, flags="S")


def test_unanswered(wire: Any, knock: Any) -> None:
    wire.carry(knock, "outside:eth0", "isp:out")
    result = wire.verdict("unanswered", **CLOSED)
    assert result.verdict == "pass"
    assert "no answer" in result.reason


def test_any_answer_fails(wire: Any, knock: Any, build: Any) -> None:
    wire.carry(knock, "outside:eth0", "isp:out")
    wire.carry(build.Packet("tcp", knock.dst, knock.src, 8081, 5000, flags="RA"), "isp:out", "outside:eth0")
    result = wire.verdict("unanswered", **CLOSED)
    assert result.verdict == "fail"
    assert "RESET,ACK" in result.reason


def test_an_icmp_error_is_an_answer(wire: Any, knock: Any, build: Any) -> None:
    wire.carry(knock, "outside:eth0", "isp:out")
    error = build.Packet("icmp", "203.0.113.2", knock.src, icmp_type=3, ident=0, payload=knock.octets()[14:42])
    wire.carry(error, "isp:out", "outside:eth0")
    assert wire.verdict("unanswered", **CLOSED).verdict == "fail"


def test_silence_needs_a_question_and_a_whole_record(wire: Any, knock: Any) -> None:
    assert wire.verdict("unanswered", **CLOSED).verdict == "fail"
    wire.carry(knock, "outside:eth0", "isp:out")
    wire.truncated = "the disk was full"
    result = wire.verdict("unanswered", **CLOSED)
    assert result.verdict == "unknown"
    assert "the disk was full" in result.reason


def counters(*packets: int) -> str:
    """What iptables-save -c prints for private rules that dropped so many packets."""
    rules = [
        f"[{n}:{n * 84}] -A PREROUTING {side} 192.168.0.0/16 -m comment --comment private -j DROP"
        for n, side in zip(packets, ("-s", "-d"), strict=False)
    ]
    return "\n".join(["*raw", ":PREROUTING ACCEPT [9:9]", *rules, "COMMIT"])


def test_no_private_packet(wire: Any, echo: Any) -> None:
    wire.carry(replace(echo, src="203.0.113.2"), "home:wan", "isp:home")
    wire.before["isp"], wire.after["isp"] = {"counters": counters(2, 1)}, {"counters": counters(2, 1)}
    result = wire.verdict("private-dropped", router="isp")
    assert result.verdict == "pass"
    assert result.reason == "no packet with a private address reached isp; its counter stayed at 3"


def test_private_packets_dropped_and_counted(wire: Any, echo: Any) -> None:
    wire.carry(echo, "home:wan", "isp:home")
    wire.before["isp"], wire.after["isp"] = {"counters": counters(2, 1)}, {"counters": counters(3, 1)}
    result = wire.verdict("private-dropped", router="isp")
    assert result.verdict == "pass"
    assert "counter grew from 3 to 4" in result.reason


def test_a_private_packet_that_goes_on_fails(wire: Any, echo: Any) -> None:
    wire.route(echo, "home:wan", "isp:home", "isp:web", "web:eth0")
    wire.before["isp"], wire.after["isp"] = {"counters": counters(0)}, {"counters": counters(0)}
    result = wire.verdict("private-dropped", router="isp")
    assert result.verdict == "fail"
    assert "went on in frame 3 at isp:web" in result.reason


@pytest.mark.parametrize(
    ("after", "words"), [(counters(0), "expected the drop counter of isp to grow by 1"), ("*raw", "it has none")]
)
def test_a_counter_that_disagrees_or_lacks_fails(wire: Any, echo: Any, after: str, words: str) -> None:
    wire.carry(echo, "home:wan", "isp:home")
    wire.before["isp"], wire.after["isp"] = {"counters": counters(0)}, {"counters": after}
    result = wire.verdict("private-dropped", router="isp")
    assert result.verdict == "fail"
    assert words in result.reason


def test_unread_counters_are_unknown(wire: Any) -> None:
    assert wire.verdict("private-dropped", router="isp").verdict == "unknown"


def test_a_quoted_packet_cut_short_is_not_understood(wire: Any, build: Any) -> None:
    for octets in (b"", b"\x45", struct.pack("!20s", b"\x4f"), b"\x4f" * 30):
        error = build.Packet("icmp", "203.0.113.2", "198.18.0.99", icmp_type=3, payload=octets)
        assert quoted_flow(wire.see_packet("isp:out", "in", error)) is None


HOPS6 = {**HOPS, "filter": "icmpv6.type == 128"}


@pytest.fixture
def echo6(build: Any) -> Any:
    """The same over IPv6."""
    return build.Packet6("icmpv6", "2001:db8:1::100", "2001:db8:2::80", payload=b"ping")


def test_hop_limit(wire: Any, echo6: Any) -> None:
    wire.route(echo6, *WAY)
    result = wire.verdict("hop-count", **HOPS6)
    assert result.verdict == "pass"
    assert result.reason == (
        "hop limit 64 → 63 (home) → 62 (isp), 1 packet from pc1:eth0 to web:eth0: frame 1 became frame 8"
    )


def test_a_hop_limit_that_stays_fails(wire: Any, echo6: Any) -> None:
    wire.route(echo6, *WAY, after={"isp": {"ttl": 63}})
    result = wire.verdict("hop-count", **HOPS6)
    assert result.verdict == "fail"
    assert "at isp:web has hop limit 63; expected 62, and at web:eth0 with hop limit 62" in result.reason
    wire.frames.clear()
    wire.route(echo6, *WAY[:4])
    assert "was last seen at isp:home (in) with hop limit 63" in wire.verdict("hop-count", **HOPS6).reason


def test_what_has_no_ttl_fails(wire: Any, build: Any) -> None:
    wire.arp(1, "pc1:eth0", "home:lan", ways=(("pc1:eth0", "out"),), to=build.BROADCAST)
    result = wire.verdict("hop-count", **{**HOPS, "filter": "arp"})
    assert result.verdict == "fail"
    assert "expected IP packets; frame 1 at pc1:eth0 is none" in result.reason


def test_silence_over_ipv6(wire: Any, build: Any) -> None:
    knock = build.Packet6("tcp", "2001:db8::9", "2001:db8::2", 5000, 8081, flags="S")
    wire.carry(knock, "outside:eth0", "isp:out")
    assert wire.verdict("unanswered", **CLOSED).verdict == "pass"
    quoted = {"ipv6.src": knock.src, "ipv6.dst": knock.dst, "tcp.srcport": 5000, "tcp.dstport": 8081}
    fields = {f"wirelab.icmpv6.{name}": (value,) for name, value in quoted.items()}
    error = build.Packet6("icmpv6", "2001:db8::2", knock.src, icmp_type=1, fields=fields)
    wire.carry(error, "isp:out", "outside:eth0")
    result = wire.verdict("unanswered", **CLOSED)
    assert result.verdict == "fail"
    assert "2001:db8::2 → 2001:db8::9" in result.reason


def test_an_echo_over_ipv6_is_answered(wire: Any, build: Any, echo6: Any) -> None:
    asked = {"filter": "icmpv6.type == 128", "at": "outside:eth0"}
    wire.carry(echo6, "outside:eth0", "isp:out")
    assert wire.verdict("unanswered", **asked).verdict == "pass"
    quoted = {"ipv6.src": echo6.src, "ipv6.dst": echo6.dst, "icmp.type": 128, "icmp.ident": 7}
    fields = {f"wirelab.icmpv6.{name}": (value,) for name, value in quoted.items()}
    wire.carry(build.Packet6("icmpv6", "2001:db8::2", echo6.src, icmp_type=3, fields=fields), "isp:out", "outside:eth0")
    assert wire.verdict("unanswered", **asked).verdict == "fail"


def test_what_cannot_be_answered_proves_nothing(wire: Any, build: Any) -> None:
    wire.arp(1, "pc1:eth0", "home:lan", ways=(("pc1:eth0", "out"),), to=build.BROADCAST)
    result = wire.verdict("unanswered", filter="arp", at="pc1:eth0")
    assert result.verdict == "fail"
    assert "to which there can be an answer" in result.reason
