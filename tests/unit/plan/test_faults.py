"""Where a partition cuts, and what boots a node again."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from emulator.lab.resolved import ResolvedLab
from emulator.plan import ops
from emulator.plan.compile import compile_plan
from emulator.plan.partition import cut, silence
from emulator.plan.restart import restart_plan

Resolved = Callable[..., ResolvedLab]
LAB = """
name: cut
nodes:
  a: {interfaces: {eth0: 10.0.0.1/24}}
  b: {interfaces: {eth0: 10.0.0.2/24}}
  c: {interfaces: {eth0: 10.0.0.3/24}, services: {http: {}}}
  r: {kind: router}
  d: {}
  one: {kind: switch}
  two: {kind: switch}
links: [["a:eth0", one], ["b:eth0", one], [one, two], ["c:eth0", two], ["r:lan", two], ["r:out", "d:eth0"]]
"""


@pytest.fixture(scope="module")
def lab(resolved: Resolved) -> ResolvedLab:
    return resolved(LAB)


def test_cables_between_groups_are_pulled(lab: ResolvedLab) -> None:
    assert cut(lab, [["d"]]).cables == ("r:out",)
    assert cut(lab, [["d", "r"]]).cables == ()
    assert cut(lab, [["a", "b", "one"], ["c", "r", "d", "two"]]).cables == ("one:two",)
    assert cut(lab, [["a", "b", "one"], ["c", "r", "d", "two"]]).rules == {}


def test_a_switch_of_no_group_tells_them_apart(lab: ResolvedLab) -> None:
    found = cut(lab, [["a", "c"]])
    assert set(found.rules) == {"one", "two"}
    one = found.rules["one"]
    assert 'iifname { "b" } oifname { "a" } drop' in one and 'iifname { "a" } oifname { "b" } drop' in one
    across = next(line for line in one.splitlines() if 'iifname { "two" } oifname { "a" } ether saddr != {' in line)
    macs = {name: lab.nodes[name].interface("eth0").mac for name in "abcd"}
    assert macs["a"] in across and macs["c"] in across
    assert macs["b"] not in across and lab.nodes["r"].interface("lan").mac not in across
    assert lab.nodes["two"].interface("one").mac in across  # a switch speaks for itself
    assert one.startswith("add table bridge wirelab_partition\ndelete table bridge wirelab_partition\n")


@given(data=st.data())
def test_no_frame_has_a_way_between_groups(
    data: st.DataObject, networks: st.SearchStrategy[object], resolved: Resolved
) -> None:
    """Whatever the lab and the groups: each cable is pulled, or both its ends are of one group, or a switch of no group
    is at one of them; and such a switch drops between any two of its ports of different groups."""
    lab = resolved(data.draw(networks))
    nodes = list(lab.nodes)
    group = data.draw(st.lists(st.sampled_from(nodes), min_size=1, unique=True))
    found = cut(lab, [group])
    side = {name: name in group for name in nodes if name in group or lab.nodes[name].kind != "switch"}
    for link in lab.links:
        ends = {side.get(link.a.node), side.get(link.b.node)}
        assert (link.a.place in found.cables) == (None not in ends and len(ends) == 2)
    for switch in (node for node in lab.nodes.values() if node.name not in side):
        sides = {side.get(port.peer[0]) for port in switch.interfaces if port.peer} - {None}
        assert len(sides) < 2 or switch.name in found.rules


def test_silence_is_at_both_ways_of_each_cable() -> None:
    text = silence(["lan", "wan"])
    assert text.count("policy drop;") == 4
    for device in ("lan", "wan"):
        assert f'hook ingress device "{device}"' in text and f'hook egress device "{device}"' in text


def test_a_restart_is_the_plan_of_the_node(lab: ResolvedLab, resolved: Resolved, labs_folder: Path) -> None:
    whole = compile_plan(lab).operations
    again = restart_plan(lab, ["c"]).operations
    assert [op for op in whole if op in again] == list(again)  # in the same order
    assert {op.node for op in again} <= {"c"}
    assert [type(op) for op in again if isinstance(op, ops.StartProcess | ops.WaitUntil)] == [
        ops.StartProcess,
        ops.WaitUntil,
    ]
    assert all(op in again for op in whole if op.node == "c")
    switch = restart_plan(lab, ["two"]).operations
    assert len([op for op in switch if isinstance(op, ops.CreateLink)]) == 3
    nat = resolved((labs_folder / "url" / "lab.yml").read_text(encoding="utf-8"))
    assert not [op for op in restart_plan(nat, nat.nodes).operations if isinstance(op, ops.Prepare)]


def test_a_pulled_cable_stays_out(lab: ResolvedLab) -> None:
    again = restart_plan(lab, ["a"], pulled=["a:eth0"]).operations
    assert not [op for op in again if isinstance(op, ops.SetUp | ops.AddRoute)]
    assert [op for op in again if isinstance(op, ops.AddAddress)]
    assert [op for op in restart_plan(lab, ["a"]).operations if isinstance(op, ops.SetUp)]


def test_healing_waits_for_leases(resolved: Resolved, labs_folder: Path) -> None:
    nat = resolved((labs_folder / "nat" / "lab.yml").read_text(encoding="utf-8"))
    assert not restart_plan(nat, [], settle=True).operations
    (wait,) = restart_plan(nat, [], settle=True, running=["pc1:udhcpc", "home:dnsmasq"]).operations
    assert wait.describe() == "wait until udhcpc on pc1 has written /run/wirelab/lease-eth0"


def test_one_service_alone(lab: ResolvedLab) -> None:
    assert [op.describe() for op in restart_plan(lab, [], ["c:http"]).operations] == [
        "start http on c",
        "wait until http on c takes connections at 127.0.0.1 port 80",
    ]
    assert restart_plan(lab, []).operations == ()


def test_steps_that_are_faults(resolved: Resolved, problems: Callable[..., tuple[object, ...]]) -> None:
    steps = (
        "[{freeze: a}, {continue: a}, {kill: a}, {restart: a}, {kill: 'c:http'}, {restart: 'c:http'}, "
        "{partition: [[a, b], c]}, {partition: a}, {heal: true}]"
    )
    lab = resolved(f"{LAB}scenes: [{{name: s, steps: {steps}}}]\n")
    found = [(step.action, step.target or step.groups) for step in lab.scenes[0].steps]
    assert found == [
        ("freeze", "a"),
        ("continue", "a"),
        ("kill", "a"),
        ("restart", "a"),
        ("kill", "c:http"),
        ("restart", "c:http"),
        ("partition", (("a", "b"), ("c",))),
        ("partition", (("a",),)),
        ("heal", ()),
    ]
    assert "nft" in compile_plan(lab).tools

    def said(step: str) -> str:
        return " ".join(str(problem) for problem in problems(f"{LAB}scenes: [{{name: s, steps: [{step}]}}]\n"))

    assert "no node 'aa'" in said("{freeze: aa}")
    assert "no node 'cc'" in said("{kill: cc}")
    assert "no service 'c:htp'" in said("{restart: 'c:htp'}")
    assert "no node 'x'" in said("{partition: [[a, x]]}")
    assert "a node is in one group" in said("{partition: [a, a]}")
    assert "at least" in said("{partition: [[]]}")
    assert said("{heal: false}")
    assert "exactly one of" in said("{freeze: a, kill: a}")
