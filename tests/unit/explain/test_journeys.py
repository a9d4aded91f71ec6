"""One packet's way: across switches, routers and a translator; what is no journey of one packet is none."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from emulator.explain.journeys import Journeys
from emulator.explain.story import Story
from emulator.explain.surroundings import of_lab
from tests.unit.explain.talk import OUT, PC1, SNAT, WEB, Connection, kinds, only, rest

WAY = ("pc1:eth0", "sw:pc1", "sw:home", "home:lan", "home:wan", "isp:home", "isp:web", "web:eth0")


def journeys(wire: Any) -> Any:
    evidence = wire.evidence()
    found = Journeys(of_lab(wire.lab, wire.after, evidence.interfaces))
    for frame in wire.frames:
        found.add(frame)
    return found.all


def test_a_packet_is_followed_through_switch_routers_and_translator(wire: Any, build: Any) -> None:
    Connection(wire, build).send("S", client=True)
    (journey,) = journeys(wire)
    assert journey.way == WAY
    switched, home, isp = journey.passages()
    assert (switched.node, switched.changes) == ("sw", ())
    assert (home.node, home.translated) == ("home", True)
    assert [(c.what, c.before, c.after) for c in home.changes if "MAC" not in c.what] == [
        ("source", PC1, "203.0.113.2"), ("TTL", "64", "63"),
    ]  # fmt: skip
    assert not isp.translated
    assert {c.what for c in isp.changes} == {"source MAC", "destination MAC", "TTL"}


def test_hops_are_the_cables_in_order(wire: Any, build: Any) -> None:
    Connection(wire, build).send("S", client=True)
    (journey,) = journeys(wire)
    hops = [(h.sent.node, h.arrived.node) for h in journey.hops(of_lab(wire.lab, {}).peers) if h.sent and h.arrived]
    assert hops == [("pc1", "sw"), ("sw", "home"), ("home", "isp"), ("isp", "web")]


def test_the_same_octets_sent_again_are_another_packet(wire: Any, build: Any) -> None:
    packet = build.Packet("tcp", PC1, WEB, 40000, 80, seq=5, flags="PA", payload=b"x", id=0)
    wire.route(packet, *OUT[:2], after=SNAT)
    wire.now_ns += 200_000_000
    wire.route(packet, *OUT, after=SNAT)
    first, second = journeys(wire)
    assert first.way == WAY[:4]
    assert second.way == WAY


def test_packets_of_two_hosts_do_not_mix(wire: Any, build: Any) -> None:
    """Same ports, same identification: only what they carry differs."""
    for host, octets in (("pc1:eth0", b"one"), ("pc2:eth0", b"two")):
        packet = build.Packet("udp", build.ADDRESS[host], WEB, 5000, 7, payload=octets, id=9)
        wire.route(packet, host, *OUT[1:], after=SNAT)
    assert [journey.first.node for journey in journeys(wire)] == ["pc1", "pc2"]
    assert all(len(journey.sightings) == 8 for journey in journeys(wire))


def test_a_frame_that_goes_round_is_a_loop(wire: Any, build: Any, told: Callable[..., Story]) -> None:
    ways = (("pc1:eth0", "out"), ("sw:pc1", "in"), ("sw:pc2", "out"), ("sw:home", "in"), ("sw:pc2", "out"))
    wire.arp(1, "pc1:eth0", "home:lan", ways=(*ways, ("sw:home", "in")), to=build.BROADCAST)
    assert "loop" in kinds(told(wire))


def test_a_repeated_question_is_no_loop(wire: Any, build: Any, told: Callable[..., Story]) -> None:
    for _ in range(2):
        wire.arp(1, "pc1:eth0", "home:lan", ways=(("pc1:eth0", "out"), ("sw:pc1", "in")), to=build.BROADCAST)
        wire.now_ns += 1_000_000_000
    assert "loop" not in kinds(told(wire))


def test_a_packet_that_a_router_keeps(wire: Any, build: Any, told: Callable[..., Story]) -> None:
    packet = build.Packet("icmp", "198.18.0.99", "192.168.1.10", id=3)
    wire.route(packet, "outside:eth0", "isp:out")
    rest(wire)
    story = told(wire)
    assert "lost" in kinds(story)
    assert "came to isp:out (frame 2) and went no further" in only(story, "ping").remarks[-1].text


def test_a_packet_that_a_cable_loses(wire: Any, build: Any, told: Callable[..., Story]) -> None:
    frames = Connection(wire, build).send("S", client=True)
    del wire.frames[frames[4].number :]
    rest(wire)
    (lost,) = [r for r in only(told(wire), "tcp").remarks if r.kind == "lost"]
    assert "left home:wan (frame 5) and did not arrive at isp:home" in lost.text


def test_a_packet_that_arrives_is_not_lost(wire: Any, build: Any, told: Callable[..., Story]) -> None:
    Connection(wire, build).send("S", client=True)
    rest(wire)
    assert "lost" not in kinds(told(wire))


def test_of_a_packet_at_the_very_end_nothing_is_said(wire: Any, build: Any, told: Callable[..., Story]) -> None:
    Connection(wire, build).send("S", client=True, hops=2)
    assert "lost" not in kinds(told(wire))


def test_vlan_tags_do_not_hide_a_packet(wire: Any, build: Any) -> None:
    packet = build.Packet("udp", PC1, WEB, 5000, 7, payload=b"x", id=4, fields={"vlan.id": (10,)})
    wire.carry(packet, "pc1:eth0", "home:lan")
    wire.route(replace(packet, fields={}, ttl=63), "home:wan", "isp:home")
    (journey,) = journeys(wire)
    assert ("VLAN", "10", "none") in [(c.what, c.before, c.after) for p in journey.passages() for c in p.changes]
