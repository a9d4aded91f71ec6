"""Neighbour discovery, addresses that hosts make by themselves, and the question whether they are taken."""

from __future__ import annotations

import json
from dataclasses import replace
from ipaddress import IPv6Address, IPv6Interface
from typing import Any

import pytest

from emulator.verify.ipv6 import group_mac, solicited_node
from emulator.verify.slaac import interface_identifier

PC1, HOME = "2001:db8:1::100", "2001:db8:1::1"
LIFETIMES = {"valid_life_time": 4294967295, "preferred_life_time": 4294967295}
FOREVER = 0xFFFFFFFF


def test_group_and_identifier() -> None:
    group = solicited_node(IPv6Address("2001:db8:1::9c8b:22ff:fefe:a733"))
    assert group == IPv6Address("ff02::1:fffe:a733")
    assert group_mac(group) == "33:33:ff:fe:a7:33"
    assert f"{interface_identifier('9e:8b:22:fe:a7:33'):x}" == "9c8b22fffefea733"


def say(
    wire: Any, build: Any, place: str, way: Any, kind: int, src: str, dst: str, *, macs: tuple[str, str], **fields: Any
) -> None:
    """An ICMPv6 message at one interface; `fields` are below icmpv6, `__` stands for a dot."""
    named = {f"icmpv6.{name.replace('__', '.')}": value for name, value in fields.items() if name != "ttl"}
    values = {name: value if isinstance(value, tuple) else (value,) for name, value in named.items()}
    packet = build.Packet6(
        "icmpv6", src, dst, icmp_type=kind, eth_src=macs[0], eth_dst=macs[1], ttl=fields.get("ttl", 255), fields=values
    )
    wire.see_packet(place, way, packet)


def configure6(wire: Any, place: str, *infos: dict[str, Any], routes: list[dict[str, Any]] | None = None) -> None:
    """Say which IPv6 addresses and routes the kernel has."""
    node, _, name = place.partition(":")
    entries = [{"family": "inet6", "prefixlen": 64, **LIFETIMES, **info} for info in infos]
    wire.after[node] = {
        "address": json.dumps([{"ifname": name, "addr_info": entries}]), "route6": json.dumps(routes or []),
    }  # fmt: skip


def solicit(wire: Any, build: Any, **changes: Any) -> None:
    """pc1 asks for the MAC of home."""
    group = solicited_node(IPv6Address(HOME))
    message = {
        "src": PC1, "dst": str(group), "macs": (wire.mac("pc1:eth0"), group_mac(group)),
        "nd__ns__target_address": HOME, "opt__linkaddr": wire.mac("pc1:eth0"), **changes,
    }  # fmt: skip
    say(wire, build, "pc1:eth0", "out", 135, **message)


def advertise(wire: Any, build: Any, **changes: Any) -> None:
    """Home answers."""
    message = {
        "src": HOME, "dst": PC1, "macs": (wire.mac("home:lan"), wire.mac("pc1:eth0")),
        "nd__na__target_address": HOME, "opt__linkaddr": wire.mac("home:lan"), **changes,
    }  # fmt: skip
    say(wire, build, "pc1:eth0", "in", 136, **message)


def ping6(wire: Any, build: Any, count: int = 2) -> None:
    """pc1 sends echo requests to home."""
    for number in range(count):
        packet = build.Packet6("icmpv6", PC1, HOME, icmp_seq=number)
        wire.carry(packet, "pc1:eth0", "home:lan")


@pytest.fixture
def lan6(wire: Any) -> Any:
    """home:lan has an IPv6 address, and its kernel knows it."""
    configure6(wire, "home:lan", {"local": HOME}, {"local": "fe80::1"})
    return wire


ND = {"asker": "pc1:eth0", "target": "home:lan"}


def test_neighbour_discovery(lan6: Any, build: Any) -> None:
    solicit(lan6, build)
    advertise(lan6, build)
    ping6(lan6, build)
    result = lan6.verdict("neighbour-discovery", **ND)
    assert result.verdict == "pass", result.reason
    assert "asked of the group ff02::1:ff00:1 (frame 1), answered to pc1:eth0 alone" in result.reason
    assert "2 packets then went there" in result.reason


def test_each_address_that_is_asked_for_is_judged(lan6: Any, build: Any) -> None:
    solicit(lan6, build)
    advertise(lan6, build)
    group = solicited_node(IPv6Address("fe80::1"))
    local = {"dst": str(group), "macs": (lan6.mac("pc1:eth0"), group_mac(group)), "nd__ns__target_address": "fe80::1"}
    solicit(lan6, build, **local)
    advertise(lan6, build, nd__na__target_address="fe80::1")
    ping6(lan6, build)
    assert "likewise fe80::1" in lan6.verdict("neighbour-discovery", **ND).reason
    solicit(lan6, build, **local)
    assert lan6.verdict("neighbour-discovery", **ND).verdict == "fail"


def test_questions_that_are_none_do_not_count(lan6: Any, build: Any) -> None:
    unicast = {"dst": HOME, "macs": (lan6.mac("pc1:eth0"), lan6.mac("home:lan"))}
    solicit(lan6, build, **unicast)
    result = lan6.verdict("neighbour-discovery", **ND)
    assert result.verdict == "fail"
    assert "which only confirms a MAC that was known before" in result.reason
    solicit(lan6, build, src="::")
    solicit(lan6, build)
    advertise(lan6, build)
    ping6(lan6, build)
    assert lan6.verdict("neighbour-discovery", **ND).verdict == "pass"


@pytest.mark.parametrize(
    ("question", "answer", "words"),
    [
        ({"dst": "ff02::1"}, {}, "to go to its solicited-node group ff02::1:ff00:1 (33:33:ff:00:00:01)"),
        ({"nd__ns__target_address": "2001:db8:1::2"}, {}, "expected a neighbour solicitation of pc1:eth0"),
        ({}, None, "none came"),
        ({}, {"nd__na__target_address": "2001:db8:1::2"}, "none came"),
        ({}, {"dst": "ff02::1", "macs": ("02:00:00:00:00:01", "33:33:00:00:00:01")}, "to go to pc1:eth0 alone"),
        ({}, {"opt__linkaddr": "02:00:00:00:00:99"}, "tells 02:00:00:00:00:99"),
        ({}, {"opt__linkaddr": ()}, "tells none"),
        ({}, {"ttl": 64}, "expected hop limit 255"),
        ({"ttl": 254}, {}, "has 254"),
    ],
)
def test_wrong_discovery_fails(lan6: Any, build: Any, question: Any, answer: Any, words: str) -> None:
    solicit(lan6, build, **question)
    if answer is not None:
        advertise(lan6, build, **answer)
    ping6(lan6, build)
    result = lan6.verdict("neighbour-discovery", **ND)
    assert result.verdict == "fail"
    assert words in result.reason


def test_a_second_question_and_an_unused_answer_fail(lan6: Any, build: Any) -> None:
    solicit(lan6, build)
    advertise(lan6, build)
    ping6(lan6, build, 1)
    assert "saw 1 packet at pc1:eth0" in lan6.verdict("neighbour-discovery", **ND).reason
    ping6(lan6, build)
    solicit(lan6, build)
    assert "saw questions in frames 1 and" in lan6.verdict("neighbour-discovery", **ND).reason


def test_discovery_without_evidence(wire: Any, build: Any) -> None:
    assert wire.verdict("neighbour-discovery", **ND).verdict == "unknown"
    configure6(wire, "home:lan")
    result = wire.verdict("neighbour-discovery", **ND)
    assert result.verdict == "fail"
    assert "expected home:lan to have an IPv6 address" in result.reason
    configure6(wire, "home:lan", {"local": HOME})
    solicit(wire, build)
    advertise(wire, build)
    ping6(wire, build)
    wire.dropped["pc1:eth0"] = 1
    assert wire.verdict("neighbour-discovery", **ND).verdict == "unknown"


def test_fixed_addresses_count_as_well(wire: Any, build: Any) -> None:
    home = wire.lab.nodes["home"]
    lan = replace(home.interface("lan"), addresses=(IPv6Interface(f"{HOME}/64"),))
    interfaces = tuple(lan if each.name == "lan" else each for each in home.interfaces)
    wire.lab = replace(wire.lab, nodes={**wire.lab.nodes, "home": replace(home, interfaces=interfaces)})
    configure6(wire, "home:lan")
    solicit(wire, build)
    advertise(wire, build)
    ping6(wire, build)
    assert wire.verdict("neighbour-discovery", **ND).verdict == "pass"


SLAAC = {"client": "pc1:eth0", "router": "home:lan"}
ROUTER = "fe80::1"


def own_address(wire: Any) -> str:
    """What pc1 makes of the prefix."""
    return str(IPv6Address(int(IPv6Address("2001:db8:1::")) | _identifier(wire)))


def _identifier(wire: Any) -> int:
    return interface_identifier(wire.mac("pc1:eth0"))


def announce(wire: Any, build: Any, **changes: Any) -> None:
    """Home's router advertisement."""
    prefix = {"": "2001:db8:1::", "__length": 64, "__flag__a": True, "__valid_lifetime": 3600}
    message = {
        "src": ROUTER, "dst": "ff02::1", "macs": (wire.mac("home:lan"), "33:33:00:00:00:01"),
        "nd__ra__router_lifetime": 1800, "opt__prefix__preferred_lifetime": 1800,
        **{f"opt__prefix{name}": value for name, value in prefix.items()}, **changes,
    }  # fmt: skip
    say(wire, build, "pc1:eth0", "in", 134, **message)


def route_to(gateway: str, dev: str = "eth0") -> dict[str, Any]:
    """A default route as ip(8) prints it."""
    return {"dst": "default", "gateway": gateway, "dev": dev, "protocol": "ra", "metric": 1024}


def settle(wire: Any, *, routes: Any = None, **changes: Any) -> None:
    """pc1 has its address and route."""
    info = {
        "local": own_address(wire), "dynamic": True, "mngtmpaddr": True, "valid_life_time": 3598,
        "preferred_life_time": 1798, **changes,
    }  # fmt: skip
    local = {"local": "fe80::ff:fe00:9"}
    configure6(wire, "pc1:eth0", local, info, routes=[route_to(ROUTER)] if routes is None else routes)


def test_slaac(wire: Any, build: Any) -> None:
    announce(wire, build)
    settle(wire)
    result = wire.verdict("slaac", **SLAAC)
    assert result.verdict == "pass", result.reason
    assert "frame 1 at pc1:eth0 tells 2001:db8:1::/64 for 3,600 seconds" in result.reason
    assert f"made {own_address(wire)} of it, and its default route goes to fe80::1 (home:lan)" in result.reason


def test_lifetimes_without_end_and_after_a_while(wire: Any, build: Any) -> None:
    announce(wire, build, opt__prefix__valid_lifetime=FOREVER, opt__prefix__preferred_lifetime=FOREVER)
    settle(wire, valid_life_time=FOREVER, preferred_life_time=FOREVER)
    assert wire.verdict("slaac", **SLAAC).verdict == "pass"
    settle(wire)
    assert wire.verdict("slaac", **SLAAC).verdict == "fail"
    wire.frames.clear()
    announce(wire, build)
    wire.now_ns += 100_000_000_000
    ping6(wire, build, 1)
    settle(wire, valid_life_time=3499, preferred_life_time=1699)
    assert wire.verdict("slaac", **SLAAC).verdict == "pass"


def test_a_route_option_is_no_prefix(wire: Any, build: Any) -> None:
    options = {
        "opt__type": (1, 24, 3),
        "opt__prefix": ("2001:db8:9::", "2001:db8:1::"),
        "opt__prefix__length": (48, 64),
    }
    announce(wire, build, **options)
    settle(wire)
    assert wire.verdict("slaac", **SLAAC).verdict == "pass"


def test_an_early_advertisement_that_hosts_ignore_does_no_harm(wire: Any, build: Any) -> None:
    announce(wire, build, src=HOME)
    settle(wire)
    result = wire.verdict("slaac", **SLAAC)
    assert result.verdict == "fail"
    assert "comes from 2001:db8:1::1 with 255, and hosts ignore it" in result.reason
    announce(wire, build)
    assert wire.verdict("slaac", **SLAAC).verdict == "pass"


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"ttl": 64}, "with 64, and hosts ignore it"),
        ({"macs": ("02:00:00:00:00:99", "33:33:00:00:00:01")}, "is one of 02:00:00:00:00:99"),
        ({"opt__prefix__flag__a": False}, "tells 2001:db8:1:: without that flag"),
        ({"opt__prefix__length": 48}, "not with 64 bits"),
        ({"opt__prefix": ()}, "tells no prefix"),
    ],
)
def test_a_wrong_advertisement_fails(wire: Any, build: Any, changes: dict[str, Any], words: str) -> None:
    settle(wire)
    assert "expected a router advertisement of home:lan" in wire.verdict("slaac", **SLAAC).reason
    announce(wire, build, **changes)
    result = wire.verdict("slaac", **SLAAC)
    assert result.verdict == "fail"
    assert words in result.reason


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"local": "2001:db8:1::9"}, "it has fe80::ff:fe00:9/64 and 2001:db8:1::9/64"),
        ({"tentative": True}, "not yet found to be nobody else's"),
        ({"dadfailed": True, "tentative": True}, "another node has that address"),
        ({"prefixlen": 128}, "has it as /128"),
        ({"dynamic": False}, "set by hand without lifetimes"),
        ({"valid_life_time": 7200}, "the kernel has 7,200 left"),
        ({"preferred_life_time": 60}, "to stay preferred for at most the 1,800 seconds"),
        ({"routes": []}, "it has no default route"),
        ({"routes": [route_to("fe80::66")]}, "it has fe80::66"),
        ({"routes": [route_to(ROUTER, "eth1")]}, "it has no default route"),
        ({"routes": [{"dst": "default", "nexthops": [route_to(ROUTER), route_to("fe80::2")]}]}, "fe80::1 and fe80::2"),
    ],
)
def test_a_client_that_does_otherwise_fails(wire: Any, build: Any, changes: dict[str, Any], words: str) -> None:
    announce(wire, build)
    settle(wire, **changes)
    result = wire.verdict("slaac", **SLAAC)
    assert result.verdict == "fail"
    assert words in result.reason


def test_slaac_without_tables_is_unknown(wire: Any, build: Any) -> None:
    announce(wire, build)
    settle(wire)
    del wire.after["pc1"]["route6"]
    assert wire.verdict("slaac", **SLAAC).verdict == "unknown"
    del wire.after["pc1"]
    assert wire.verdict("slaac", **SLAAC).verdict == "unknown"
    settle(wire)
    wire.frames.clear()
    wire.dropped["pc1:eth0"] = 1
    assert wire.verdict("slaac", **SLAAC).verdict == "unknown"


DAD = {"at": "pc1:eth0"}


def probe(wire: Any, build: Any, **changes: Any) -> None:
    """pc1 asks whether anybody has its address."""
    group = solicited_node(IPv6Address(PC1))
    message = {
        "src": "::", "dst": str(group), "macs": (wire.mac("pc1:eth0"), group_mac(group)),
        "nd__ns__target_address": PC1, **changes,
    }  # fmt: skip
    say(wire, build, "pc1:eth0", "in" if message["macs"][0] != wire.mac("pc1:eth0") else "out", 135, **message)


@pytest.fixture
def probed(wire: Any, build: Any) -> Any:
    """pc1 asked for its address and has it now."""
    configure6(wire, "pc1:eth0", {"local": PC1})
    probe(wire, build)
    return wire


def test_duplicate_address_detection(probed: Any, build: Any) -> None:
    result = probed.verdict("duplicate-address-detection", **DAD)
    assert result.verdict == "pass", result.reason
    assert "2001:db8:1::100 asked for from :: (frame 1), nobody answered, the kernel has it since" in result.reason
    probed.now_ns += 1_000_000_000
    ping6(probed, build, 1)
    assert "first used 1.0 s later (frame 2)" in probed.verdict("duplicate-address-detection", **DAD).reason
    configure6(probed, "pc1:eth0")
    assert probed.verdict("duplicate-address-detection", **DAD).verdict == "pass"


def test_what_others_say_of_other_addresses_does_not_count(probed: Any, build: Any) -> None:
    advertise(probed, build)
    probe(probed, build, nd__ns__target_address=HOME, macs=(probed.mac("home:lan"), "33:33:ff:00:00:01"))
    assert probed.verdict("duplicate-address-detection", **DAD).verdict == "pass"


def test_an_address_that_somebody_has_fails(probed: Any, build: Any) -> None:
    everybody = (probed.mac("home:lan"), "33:33:00:00:00:01")
    advertise(probed, build, nd__na__target_address=PC1, dst="ff02::1", macs=everybody)
    result = probed.verdict("duplicate-address-detection", **DAD)
    assert result.verdict == "fail"
    assert f"frame 2 at pc1:eth0 does: {probed.mac('home:lan')} has that address" in result.reason


def test_an_address_that_somebody_else_wants_fails(probed: Any, build: Any) -> None:
    probe(probed, build, macs=(probed.mac("pc2:eth0"), "33:33:ff:00:01:00"))
    assert "asks for it from :: too" in probed.verdict("duplicate-address-detection", **DAD).reason


def test_an_address_in_use_before_the_question_fails(wire: Any, build: Any) -> None:
    configure6(wire, "pc1:eth0", {"local": PC1})
    ping6(wire, build, 1)
    probe(wire, build)
    result = wire.verdict("duplicate-address-detection", **DAD)
    assert result.verdict == "fail"
    assert "frame 1 at pc1:eth0 came from that address before" in result.reason


@pytest.mark.parametrize(
    ("info", "words"),
    [
        (None, "in the kernel it is not configured"),
        ({"tentative": True}, "in the kernel it is still tentative"),
        ({"tentative": True, "dadfailed": True}, "its kernel says that another node has it"),
    ],
)
def test_an_address_that_is_not_used_afterwards_fails(probed: Any, info: Any, words: str) -> None:
    configure6(probed, "pc1:eth0", *([{"local": PC1, **info}] if info else []))
    result = probed.verdict("duplicate-address-detection", **DAD)
    assert result.verdict == "fail"
    assert words in result.reason


def test_no_probe_and_a_probe_to_the_wrong_group_fail(wire: Any, build: Any) -> None:
    configure6(wire, "pc1:eth0", {"local": PC1})
    assert (
        "expected a neighbour solicitation of pc1:eth0 from ::"
        in wire.verdict("duplicate-address-detection", **DAD).reason
    )
    probe(wire, build, dst="ff02::1")
    assert "goes to ff02::1" in wire.verdict("duplicate-address-detection", **DAD).reason


def test_silence_needs_a_whole_record_and_the_kernels_word(probed: Any) -> None:
    probed.dropped["pc1:eth0"] = 1
    assert probed.verdict("duplicate-address-detection", **DAD).verdict == "unknown"
    probed.dropped.clear()
    del probed.after["pc1"]
    assert probed.verdict("duplicate-address-detection", **DAD).verdict == "unknown"
