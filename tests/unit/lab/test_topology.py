"""Cables, segments, and the addresses, MACs and names that the file leaves open."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from emulator.errors import Problem
from emulator.lab.resolved import ResolvedLab
from emulator.names import INTERFACE_NAME, INTERFACE_NAME_MAX

Resolved = Callable[..., ResolvedLab]
Problems = Callable[..., tuple[Problem, ...]]


@given(data=st.data())
def test_generated_labs(data: st.DataObject, networks: st.SearchStrategy[dict[str, Any]], resolved: Resolved) -> None:
    source = data.draw(networks)
    lab = resolved(source)
    interfaces = list(lab.interfaces())
    addresses = [address.ip for interface in interfaces for address in interface.addresses]
    assert len(addresses) == len(set(addresses))
    assert len({interface.mac for interface in interfaces}) == len(interfaces) == 2 * len(lab.links)
    assert len({interface.place for interface in interfaces}) == len(interfaces)
    for interface in interfaces:
        assert len(interface.name) <= INTERFACE_NAME_MAX and INTERFACE_NAME.fullmatch(interface.name)
        assert lab.interface(":".join(interface.peer)).peer == (interface.node, interface.name)
        if lab.nodes[interface.node].kind == "switch":
            assert interface.addresses == ()
        else:
            (address,) = interface.addresses
            assert lab.segments[interface.segment].networks == (address.network,)
            assert (interface.node, interface.name) in lab.segments[interface.segment].members
    networks_of = [network for segment in lab.segments.values() for network in segment.networks]
    assert len(networks_of) == len(set(networks_of)) == len(lab.segments)
    assert resolved(source) == lab


def test_ports_are_named_after_what_they_lead_to(resolved: Resolved) -> None:
    lab = resolved("""
        name: l
        nodes: {pc: , sw1: {kind: switch}, sw2: {kind: switch}, br0: }
        links: [[pc, sw1], [pc, sw1], [sw1, sw2], [sw1, sw2], [br0, sw1], ["pc:eth1", "sw2:up"]]
    """)
    assert [interface.name for interface in lab.nodes["sw1"].interfaces] == ["pc", "pc-2", "sw2", "sw2-2", "br0-2"]
    assert [interface.name for interface in lab.nodes["sw2"].interfaces] == ["sw1", "sw1-2", "up"]
    assert [interface.name for interface in lab.nodes["pc"].interfaces] == ["eth0", "eth2", "eth1"]
    assert set(lab.segments) == {"sw1"}


def test_described_interfaces_come_first_and_take_open_links_in_order(resolved: Resolved) -> None:
    lab = resolved("""
        name: l
        nodes: {r: {kind: router, interfaces: {lan: 10.1.0.1/24, wan: 10.2.0.1/24}}, a: , b: , c: }
        links: [[a, r], [b, "r:lan"], [c, r]]
    """)
    assert [(i.name, i.peer[0]) for i in lab.nodes["r"].interfaces] == [("lan", "b"), ("wan", "a"), ("eth0", "c")]
    assert str(lab.nodes["b"].addresses[0]) == "10.1.0.2/24" and str(lab.nodes["a"].addresses[0]) == "10.2.0.2/24"


def test_a_node_without_a_cable(resolved: Resolved) -> None:
    lab = resolved("{name: l, nodes: {a: }}")
    assert lab.nodes["a"].interfaces == () and lab.segments == {} and lab.links == ()


def test_mtu_and_offload_of_one_link(resolved: Resolved) -> None:
    lab = resolved("""
        {name: l, defaults: {mtu: 1400}, nodes: {a: , b: , c: },
         links: [[a, b], {endpoints: [b, c], mtu: 9000, offload: true}]}
    """)
    first, second = lab.links
    assert (first.a.mtu_bytes, first.b.mtu_bytes, first.a.offload) == (1400, 1400, False)
    assert (second.a.mtu_bytes, second.b.mtu_bytes, second.b.offload) == (9000, 9000, True)


def test_a_cable_between_two_interfaces_of_one_node(resolved: Resolved) -> None:
    lab = resolved("{name: l, nodes: {a: }, links: [[a, a]]}")
    assert [i.peer for i in lab.nodes["a"].interfaces] == [("a", "eth1"), ("a", "eth0")]


def test_chosen_addresses_keep_clear_of_dhcp(resolved: Resolved) -> None:
    lab = resolved("""
        name: l
        nodes:
          r:
            kind: router
            interfaces: {lan: 10.9.0.1/24}
            services: {dnsmasq: {dhcp: [{interface: lan, range: 10.9.0.2-10.9.0.99, reservations: {c: 10.9.0.100}}]}}
          a:
          b:
          c: {interfaces: {eth0: dhcp}}
          sw: {kind: switch}
        links: [["r:lan", sw], [a, sw], [b, sw], ["c:eth0", sw]]
    """)
    assert [str(lab.nodes[name].addresses[0]) for name in "ab"] == ["10.9.0.101/24", "10.9.0.102/24"]
    assert lab.nodes["c"].addresses == ()


def test_chosen_networks_keep_clear_of_given_ones(resolved: Resolved) -> None:
    lab = resolved("""
        {name: l, nodes: {a: {interfaces: {x: 10.0.0.1/15}}, b: , c: , d: }, links: [["a:x", b], [c, d]]}
    """)
    assert str(lab.nodes["c"].addresses[0]) == "10.2.0.1/24"
    everything = "{name: l, nodes: {a: {interfaces: {x: 10.0.0.1/8}}, b: , c: , d: }, links: [['a:x', b], [c, d]]}"
    assert str(resolved(everything).nodes["c"].addresses[0]) == "172.16.0.1/24"


def test_private_networks_run_out(problems: Problems) -> None:
    (found,) = problems("""
        name: l
        nodes: {a: {interfaces: {x: 10.0.0.1/8, y: 172.16.0.1/12, z: 192.168.0.1/16}}, b: , c: }
        links: [["a:x", b], ["a:y", b], ["a:z", b], [b, c]]
    """)
    assert found.message == "no private network is left for this cable"


def test_a_full_network(problems: Problems) -> None:
    (found,) = problems("{name: l, nodes: {a: {interfaces: {x: 10.0.0.1/32}}, b: }, links: [['a:x', b]]}")
    assert found.message == "no free address left in 10.0.0.1/32 for b:eth0"


def test_a_large_network_gets_room(resolved: Resolved) -> None:
    nodes: dict[str, Any] = {f"h{number}": None for number in range(300)} | {"sw": {"kind": "switch"}}
    lab = resolved({"name": "l", "nodes": nodes, "links": [[name, "sw"] for name in nodes if name != "sw"]})
    assert str(lab.segments["sw"].networks[0]) == "10.0.0.0/23"


@pytest.mark.parametrize(("kind", "most"), [("switch", 1023), ("router", 4096)])
def test_too_many_cables(problems: Problems, kind: str, most: int) -> None:
    links = [["a", "b"], ["b", "a"]] * (most // 2 + 1)
    found = problems({"name": "l", "nodes": {"a": {"kind": kind}, "b": {"kind": kind}}, "links": links})
    assert [problem.message[0] for problem in found] == ["a", "b"] and f"at most {most:,}" in found[0].message


HOMES = """
name: l
nodes:
  isp: {{kind: router, interfaces: {{a: 192.0.2.1/24, b: 198.51.100.1/24}}}}
  ra: {{kind: router, interfaces: {{lan: 192.168.1.1/24, wan: 192.0.2.2/24}}{nat}}}
  rb: {{kind: router, interfaces: {{lan: 192.168.1.1/24, wan: 198.51.100.2/24}}{nat}}}
  pa: {{interfaces: {{eth0: 192.168.1.2/24}}}}
  pb: {{interfaces: {{eth0: 192.168.1.2/24}}}}
links: [["isp:a", "ra:wan"], ["isp:b", "rb:wan"], ["ra:lan", "pa:eth0"], ["rb:lan", "pb:eth0"]]
"""


def test_two_homes_behind_translation_use_the_same_addresses(resolved: Resolved) -> None:
    lab = resolved(HOMES.format(nat=", nat: {masquerade: wan}"))
    assert all(route.to is None for name in ("pa", "pb", "ra", "rb") for route in lab.nodes[name].routes)
    assert lab.nodes["isp"].routes == ()


def test_without_translation_they_may_not(problems: Problems) -> None:
    found = [problem.message for problem in problems(HOMES.format(nat=""))]
    assert found == ["duplicate address 192.168.1.1: ra:lan has it", "duplicate address 192.168.1.2: pa:eth0 has it"]


def test_two_networks_on_one_cable_are_no_mistake(problems: Problems) -> None:
    text = """
        name: l
        nodes:
          a: {{interfaces: {{x: 10.0.0.1/24}}}}
          b: {{interfaces: {{x: {b}}}}}
          c: {{interfaces: {{x: {c}}}}}
          sw: {{kind: switch}}
        links: [["a:x", sw], ["b:x", sw], ["c:x", sw]]
    """
    assert problems(text.format(b="[10.0.0.2/24, 10.0.1.2/24]", c="10.0.1.3/24")) == ()
    assert problems(text.format(b="10.0.0.2/25", c="10.0.0.3/24")) == ()
    (found,) = problems(text.format(b="10.0.0.2/24", c="10.0.1.3/24"))
    assert found.message == "10.0.1.3/24 is outside the network of its cable"


def test_macs(problems: Problems) -> None:
    text = """
        name: l
        nodes: {{a: {{interfaces: {{x: {{mac: '{a}'}}}}}}, b: {{interfaces: {{x: {{mac: '{b}'}}}}}}}}
        links: [['a:x', 'b:x']]
    """
    assert problems(text.format(a="02:00:00:00:00:01", b="02:00:00:00:00:02")) == ()
    (found,) = problems(text.format(a="02:00:00:00:00:01", b="02:00:00:00:00:01"))
    assert found.message == "duplicate MAC 02:00:00:00:00:01: a:x has it"
    (found,) = problems(
        "{name: l, nodes: {a: {interfaces: {x: {mac: '02:57:4c:00:02:00'}}}, b: }, links: [['a:x', b]]}"
    )
    assert found.message == "the MAC 02:57:4c:00:02:00 is one that Wirelab gives, to b:eth0"


def test_a_cable_that_is_wrong_causes_no_other_problem(problems: Problems, labs_folder: Any) -> None:
    text = (labs_folder / "nat" / "lab.yml").read_text(encoding="utf-8")
    for wrong in ("- [home:lan, swich]", "- [hom:lan, sw]", "- [home:lan, swi:x]"):
        assert len(problems(text.replace("- [home:lan, sw]", wrong))) == 1
