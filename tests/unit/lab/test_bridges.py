"""Bridges inside nodes, switches that are hubs or run a spanning tree, loopback interfaces, and rates."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from emulator.errors import Problem
from emulator.lab.resolved import ResolvedLab
from emulator.plan import ops
from emulator.plan.compile import compile_plan

Resolved = Callable[..., ResolvedLab]
Problems = Callable[..., tuple[Problem, ...]]

HOME = """
name: l
nodes:
  a: {interfaces: {eth0: 192.168.1.2/24, lo: 10.255.0.1/32}}
  b:
  home:
    kind: router
    bridges: {lan: {ports: [lan1, lan2], address: 192.168.1.1/24}}
    interfaces: {wan: 192.0.2.1/24}
  far: {interfaces: {eth0: 192.0.2.2/24}}
links: [["a:eth0", "home:lan1"], [b, "home:lan2"], {endpoints: ["home:wan", "far:eth0"], rate: 2mbit}]
"""


def test_ports_of_a_bridge_are_one_network(resolved: Resolved) -> None:
    lab = resolved(HOME)
    lan = lab.interface("home:lan")
    assert (lan.peer, lan.bridge, [str(address) for address in lan.addresses]) == (None, "", ["192.168.1.1/24"])
    segment = lab.segments[lan.segment]
    assert segment.name == "home-lan" and set(segment.members) == {("home", "lan"), ("a", "eth0"), ("b", "eth0")}
    assert [str(address) for address in lab.interface("b:eth0").addresses] == ["192.168.1.3/24"]
    assert [port.bridge for port in lab.nodes["home"].interfaces] == ["", "lan", "lan", ""]
    assert lab.interface("home:lan1").addresses == ()
    assert [str(route.via) for route in lab.nodes["b"].routes] == ["192.168.1.1"]
    macs = [interface.mac for interface in lab.interfaces() if not interface.is_loopback]
    assert len(set(macs)) == len(macs)


def test_a_port_leads_through_bridges_to_whoever_is_behind(resolved: Resolved) -> None:
    lab = resolved(HOME)
    assert lab.port_towards("home", lab.interface("b:eth0")) == "lan2"
    assert lab.port_towards("home", lab.interface("far:eth0")) == "wan"


def test_loopback_is_named_to_be_seen(resolved: Resolved) -> None:
    lab = resolved(HOME)
    loopback = lab.interface("a:lo")
    assert loopback.is_loopback and [str(address) for address in loopback.addresses] == ["10.255.0.1/32"]
    assert "00:00:00:00:00:00" not in lab.by_mac
    with pytest.raises(KeyError):
        lab.interface("b:lo")


def test_what_the_plan_does_about_them(resolved: Resolved) -> None:
    operations = compile_plan(resolved(HOME)).operations
    (bridge,) = [operation for operation in operations if isinstance(operation, ops.CreateBridge)]
    assert (bridge.node, bridge.name, bridge.stp, bridge.ageing_s) == ("home", "lan", False, 300)
    rates = [operation for operation in operations if isinstance(operation, ops.LimitRate)]
    assert {(rate.node, rate.interface, rate.rate_bits_s) for rate in rates} == {
        ("home", "wan", 2_000_000),
        ("far", "eth0", 2_000_000),
    }
    ups = {(step.node, step.interface) for step in operations if isinstance(step, ops.SetUp)}
    assert ("home", "lan") not in ups and ("a", "lo") not in ups and ("home", "lan1") in ups


def test_a_switch_can_be_a_hub_or_run_a_spanning_tree(resolved: Resolved) -> None:
    lab = resolved("""
        name: l
        nodes:
          hub: {kind: switch, bridges: {br0: {ageing: 0}}}
          tree: {kind: switch, bridges: {br0: {stp: true, priority: 4096}}}
          a:
        links: [[a, hub], [hub, tree], [hub, tree]]
    """)
    assert [node.bridges[0].ageing_s for node in lab.nodes.values() if node.bridges] == [0, 300]
    plan = compile_plan(lab)
    (waiting,) = [step for step in plan.operations if isinstance(step, ops.WaitUntil)]
    assert (waiting.node, waiting.service, waiting.condition.kind) == ("tree", "", "stp")
    tree = next(step for step in plan.operations if isinstance(step, ops.CreateBridge) and step.node == "tree")
    assert "stp_state 1 priority 4096 hello_time 100 forward_delay 200 max_age 600" in tree.shell()


def test_a_switch_runs_commands_and_has_files(resolved: Resolved) -> None:
    lab = resolved("""
        name: l
        nodes:
          sw: {kind: switch, exec: [ip link set dev b down], files: {/run/note: "hello\\n"}}
          a:
          b:
        links: [[a, sw], [b, sw]]
    """)
    plan = compile_plan(lab)
    done = [step for step in plan.operations if step.node == "sw" and isinstance(step, ops.RunCommand | ops.WriteFile)]
    written, run = done
    assert isinstance(written, ops.WriteFile) and (written.path, written.content) == ("/run/note", "hello\n")
    assert isinstance(run, ops.RunCommand) and run.argv == ("ip", "link", "set", "dev", "b", "down")


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("lan: {ports: [lan1, lan2], address", "wan: {ports: [lan1, lan2], address", "'wan' is an interface of home"),
        ("ports: [lan1, lan2]", "ports: []", "a bridge needs `ports`"),
        ("ports: [lan1, lan2]", "ports: [lan1, lan2, lan1]", "lan1 is a port of lan already"),
        ("ports: [lan1, lan2]", "ports: [lan1, lan2, lan3]", "home:lan3 has no cable"),
        ('"home:lan2"]', '"home:lan"]', "home:lan is a bridge; a cable goes into one of its ports"),
        (
            "interfaces: {wan: 192.0.2.1/24}",
            "interfaces: {wan: 192.0.2.1/24, lan1: 192.168.1.9/24}",
            "is a port of lan",
        ),
        ("lo: 10.255.0.1/32", "lo: dhcp", "`lo` can have addresses, and nothing else"),
        ("[b, ", '["b:lo", ', "'lo' cannot be an interface's name"),
        ("kind: router", "kind: switch", "a switch is one bridge, called br0"),
        ("rate: 2mbit", "rate: 2mb", "expected a rate such as 512kbit, 10mbit or 1gbit, not '2mb'"),
        ("address: 192.168.1.1/24", "address: 192.168.1.2/24", "duplicate address 192.168.1.2"),
    ],
)
def test_what_cannot_be(problems: Problems, old: str, new: str, message: str) -> None:
    assert old in HOME
    found = problems(HOME.replace(old, new, 1))
    assert any(message in problem.message for problem in found), found
    assert all(problem.line for problem in found)
