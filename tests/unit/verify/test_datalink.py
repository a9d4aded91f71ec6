"""ARP, next hops, and what a switch learns."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

ARP = {"scene": "ask", "asker": "pc1:eth0", "target": "home:lan"}


@pytest.fixture
def asked(wire: Any, build: Any) -> Any:
    """pc1 asked for home's MAC, got it, and sent two packets."""
    wire.scene("ask")
    wire.arp(1, "pc1:eth0", "home:lan", ways=(("pc1:eth0", "out"), ("home:lan", "in")), to=build.BROADCAST)
    wire.arp(2, "home:lan", "pc1:eth0", ways=(("pc1:eth0", "in"),), to=wire.mac("pc1:eth0"))
    for number in (1, 2):
        packet = build.Packet("icmp", build.ADDRESS["pc1:eth0"], build.ADDRESS["home:lan"], icmp_seq=number)
        wire.carry(packet, "pc1:eth0", "home:lan")
    return wire


def test_arp_resolution(asked: Any) -> None:
    result = asked.verdict("arp-resolution", **ARP)
    assert result.verdict == "pass"
    assert "asked by broadcast (frame 1)" in result.reason
    assert "2 packets then went there" in result.reason


def test_the_other_side_may_confirm_its_own_entry(asked: Any) -> None:
    asked.arp(1, "home:lan", "pc1:eth0", ways=(("pc1:eth0", "in"),), to=asked.mac("pc1:eth0"))
    asked.arp(2, "pc1:eth0", "home:lan", ways=(("pc1:eth0", "out"),), to=asked.mac("home:lan"))
    assert asked.verdict("arp-resolution", **ARP).verdict == "pass"


def test_a_second_question_fails(asked: Any, build: Any) -> None:
    asked.arp(1, "pc1:eth0", "home:lan", ways=(("pc1:eth0", "out"),), to=build.BROADCAST)
    result = asked.verdict("arp-resolution", **ARP)
    assert result.verdict == "fail"
    assert "expected one question and one answer" in result.reason


def test_an_answer_with_another_mac_fails(asked: Any) -> None:
    wrong = {**asked.frames[2].fields, "arp.src.hw_mac": ("02:00:00:00:00:99",)}
    asked.frames[2] = replace(asked.frames[2], fields=wrong)
    assert "says 02:00:00:00:00:99" in asked.verdict("arp-resolution", **ARP).reason


@pytest.mark.parametrize(("keep", "words"), [(0, "ARP question"), (2, "none came"), (3, "saw 0 packets")])
def test_what_lacks_is_named(asked: Any, keep: int, words: str) -> None:
    asked.frames = asked.frames[:keep]
    result = asked.verdict("arp-resolution", **ARP)
    assert result.verdict == "fail"
    assert words in result.reason


def test_a_question_to_one_alone_fails(asked: Any) -> None:
    fields = {**asked.frames[0].fields, "eth.dst": (asked.mac("home:lan"),)}
    asked.frames[0] = replace(asked.frames[0], fields=fields)
    assert "expected the question to be broadcast" in asked.verdict("arp-resolution", **ARP).reason


HOP = {"from_": "pc1:eth0", "to": "web:eth0", "router": "home:lan"}
WAY = ("pc1:eth0", "home:lan", "home:wan", "isp:home", "isp:web", "web:eth0")


def test_next_hop_mac(wire: Any, build: Any) -> None:
    packet = build.Packet("icmp", build.ADDRESS["pc1:eth0"], build.ADDRESS["web:eth0"])
    wire.route(packet, *WAY, after={"home": {"src": "203.0.113.2"}})
    result = wire.verdict("next-hop-mac", **HOP)
    assert result.verdict == "pass"
    assert "to the MAC of home:lan" in result.reason
    assert "from the MAC of isp:web" in result.reason


def test_a_packet_to_the_wrong_mac_fails(wire: Any, build: Any) -> None:
    packet = build.Packet("icmp", build.ADDRESS["pc1:eth0"], build.ADDRESS["web:eth0"])
    wire.see_packet("pc1:eth0", "out", replace(packet, eth_dst=wire.mac("pc2:eth0")))
    result = wire.verdict("next-hop-mac", **HOP)
    assert result.verdict == "fail"
    assert wire.mac("pc2:eth0") in result.reason


def test_a_packet_that_does_not_arrive_or_comes_from_the_sender_itself_fails(wire: Any, build: Any) -> None:
    packet = build.Packet("icmp", build.ADDRESS["pc1:eth0"], build.ADDRESS["web:eth0"])
    assert wire.verdict("next-hop-mac", **HOP).verdict == "fail"
    wire.carry(packet, "pc1:eth0", "home:lan")
    assert "none arrived there" in wire.verdict("next-hop-mac", **HOP).reason
    wire.see_packet("web:eth0", "in", replace(packet, eth_src=wire.mac("pc1:eth0")))
    assert "expected packets to reach web:eth0 from its own router" in wire.verdict("next-hop-mac", **HOP).reason


@pytest.fixture
def table(wire: Any) -> list[dict[str, Any]]:
    """The right MAC table of sw, with the entries of its own ports."""
    hosts = {"pc1:eth0": "pc1", "pc2:eth0": "pc2", "server:eth0": "server", "home:lan": "home"}
    learned = [{"mac": wire.mac(p), "ifname": port, "flags": [], "master": "br"} for p, port in hosts.items()]
    own = {"mac": wire.mac("sw:pc1"), "ifname": "pc1", "flags": [], "master": "br", "state": "permanent"}
    group = {"mac": "33:33:00:00:00:01", "ifname": "pc1", "flags": ["self"], "state": "permanent"}
    return [*learned, own, group]


def test_mac_table(wire: Any, table: list[dict[str, Any]]) -> None:
    wire.after["sw"] = {"fdb": json.dumps(table)}
    result = wire.verdict("mac-table", switch="sw")
    assert result.verdict == "pass"
    assert "learned 4 MACs" in result.reason
    assert "pc1 on port pc1" in result.reason


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"ifname": "pc2"}, "on port pc2, expected on"),
        ({"mac": "02:00:00:00:00:99"}, "not learned"),
        ({"state": "permanent"}, "not learned"),
    ],
)
def test_a_wrong_mac_table_fails(wire: Any, table: list[dict[str, Any]], change: dict[str, str], words: str) -> None:
    wire.after["sw"] = {"fdb": json.dumps([{**table[0], **change}, *table[1:]])}
    result = wire.verdict("mac-table", switch="sw")
    assert result.verdict == "fail"
    assert words in result.reason


def test_a_strange_mac_fails(wire: Any, table: list[dict[str, Any]]) -> None:
    wire.after["sw"] = {"fdb": json.dumps([*table, {**table[0], "mac": "02:00:00:00:00:99"}])}
    assert "expected no such MAC" in wire.verdict("mac-table", switch="sw").reason


@pytest.mark.parametrize("text", [None, "{", "3"])
def test_a_missing_or_unreadable_table_is_unknown(wire: Any, text: str | None) -> None:
    wire.after["sw"] = {} if text is None else {"fdb": text}
    assert wire.verdict("mac-table", switch="sw").verdict == "unknown"


@pytest.fixture
def learned(wire: Any, build: Any) -> Any:
    """sw heard home and pc1, and forwarded a frame for each."""
    ends = build.ADDRESS["pc1:eth0"], build.ADDRESS["home:lan"]
    wire.carry(build.Packet("icmp", *ends), "pc1:eth0", "home:lan")
    wire.carry(build.Packet("icmp", *ends[::-1], icmp_type=0), "home:lan", "pc1:eth0")
    wire.carry(build.Packet("icmp", *ends, icmp_seq=2), "pc1:eth0", "home:lan")
    return wire


def test_no_flooding(learned: Any) -> None:
    result = learned.verdict("no-flooding", switch="sw")
    assert result.verdict == "pass"
    assert "2 unicast frames through sw" in result.reason


def test_what_the_bridge_itself_hears_teaches_nothing(learned: Any, build: Any) -> None:
    packet = build.Packet("icmp", "192.168.1.100", "192.168.1.1", eth_src=learned.mac("pc1:eth0"), icmp_seq=9)
    learned.see_packet("sw:br0", "in", packet)
    ends = build.ADDRESS["home:lan"], build.ADDRESS["pc1:eth0"]
    learned.carry(build.Packet("icmp", *ends, icmp_type=0, icmp_seq=2), "home:lan", "pc1:eth0")
    assert "3 unicast frames" in learned.verdict("no-flooding", switch="sw").reason


def test_a_flooded_frame_fails(learned: Any) -> None:
    learned.frames.append(replace(learned.frames[-1], number=99, interface="sw:pc2", direction="out"))
    result = learned.verdict("no-flooding", switch="sw")
    assert result.verdict == "fail"
    assert "it left by home and pc2" in result.reason


def test_a_frame_that_is_kept_back_fails(learned: Any) -> None:
    learned.frames = [frame for frame in learned.frames if frame.number != learned.frames[-2].number]
    assert "it left by none" in learned.verdict("no-flooding", switch="sw").reason


def test_without_a_learned_target_nothing_is_proved(learned: Any) -> None:
    learned.frames = learned.frames[:4]
    assert learned.verdict("no-flooding", switch="sw").verdict == "fail"


def test_a_lossy_record_cannot_show_that_nothing_was_flooded(learned: Any) -> None:
    learned.dropped["sw:pc2"] = 1
    assert learned.verdict("no-flooding", switch="sw").verdict == "unknown"
    learned.dropped = {"web:eth0": 1}
    assert learned.verdict("no-flooding", switch="sw").verdict == "pass"


CONFLICT = {"at": ["pc1:eth0", "pc2"], "address": "192.168.1.100"}


def probe(wire: Any, build: Any, sender: str, *places: str) -> None:
    """An interface asks whether 192.168.1.100 is in use."""
    fields = {
        "eth.src": (wire.mac(sender),), "eth.dst": (build.BROADCAST,), "arp.opcode": (1,), "arp.isprobe": (True,),
        "arp.src.hw_mac": (wire.mac(sender),), "arp.src.proto_ipv4": ("0.0.0.0",),
        "arp.dst.proto_ipv4": ("192.168.1.100",),
    }  # fmt: skip
    for place in places:
        wire.see(place, "out" if place == sender else "in", fields, ("eth", "arp"), f"probe {sender}".encode())


BOTH = (("pc1:eth0", "out"), ("pc2:eth0", "in"))


def test_address_conflict(wire: Any, build: Any) -> None:
    probe(wire, build, "pc2:eth0", "pc2:eth0", "pc1:eth0")
    wire.arp(2, "pc1:eth0", "pc2:eth0", ways=BOTH, to=wire.mac("pc2:eth0"))
    result = wire.verdict("address-conflict", **CONFLICT)
    assert result.verdict == "pass"
    assert result.reason == (
        f"{wire.mac('pc2:eth0')} (pc2:eth0) probed 192.168.1.100 (frame 2) and {wire.mac('pc1:eth0')} (pc1:eth0) "
        "answered that it has it (frame 3) at pc1:eth0: two MACs for one address; seen at pc2 too"
    )
    assert result.frames == (2, 3, 1, 4)
    for own in ("pc1", "pc1:eth0"):
        assert wire.verdict("address-conflict", **{**CONFLICT, "address": own}).verdict == "pass"
    assert wire.verdict("address-conflict", **{**CONFLICT, "address": "web"}).verdict == "fail"


def test_a_probe_that_nobody_answers_fails(wire: Any, build: Any) -> None:
    probe(wire, build, "pc2:eth0", "pc2:eth0", "pc1:eth0")
    result = wire.verdict("address-conflict", **CONFLICT)
    assert result.verdict == "fail"
    assert "nobody did at pc1:eth0, so the address was free" in result.reason
    wire.dropped["pc1:eth0"] = 1
    assert wire.verdict("address-conflict", **CONFLICT).verdict == "unknown"


def test_an_answer_seen_at_one_place_only_fails(wire: Any, build: Any) -> None:
    probe(wire, build, "pc2:eth0", "pc2:eth0", "pc1:eth0")
    wire.arp(2, "pc1:eth0", "pc2:eth0", ways=BOTH[:1], to=wire.mac("pc2:eth0"))
    assert "nobody did at pc2" in wire.verdict("address-conflict", **CONFLICT).reason


def test_ones_own_answer_and_an_answer_to_somebody_else_are_no_conflict(wire: Any, build: Any) -> None:
    probe(wire, build, "pc1:eth0", "pc2:eth0", "pc1:eth0")
    wire.arp(2, "pc1:eth0", "pc2:eth0", ways=BOTH, to=wire.mac("pc2:eth0"))
    result = wire.verdict("address-conflict", **CONFLICT)
    assert result.verdict == "fail"
    assert f"is an answer of {wire.mac('pc1:eth0')}" in result.reason


def test_an_answer_before_the_probe_is_no_conflict(wire: Any, build: Any) -> None:
    wire.arp(2, "pc1:eth0", "pc2:eth0", ways=BOTH, to=wire.mac("pc2:eth0"))
    probe(wire, build, "pc2:eth0", "pc2:eth0", "pc1:eth0")
    assert wire.verdict("address-conflict", **CONFLICT).verdict == "fail"


def test_a_question_is_no_probe(wire: Any, build: Any) -> None:
    wire.arp(1, "pc2:eth0", "pc1:eth0", ways=BOTH, to=build.BROADCAST)
    wire.arp(2, "pc1:eth0", "pc2:eth0", ways=BOTH, to=wire.mac("pc2:eth0"))
    result = wire.verdict("address-conflict", **CONFLICT)
    assert result.verdict == "fail"
    assert "expected an ARP probe for 192.168.1.100" in result.reason
    assert wire.verdict("address-conflict", **{**CONFLICT, "at": "pc1:eth9"}).verdict == "unknown"
