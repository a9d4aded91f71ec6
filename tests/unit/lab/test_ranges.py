"""Counts and ranges of nodes: what they stand for, and what is said of wrong ones."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from emulator.errors import Problem
from emulator.lab import ranges
from emulator.lab.resolved import ResolvedLab

Resolved = Callable[..., ResolvedLab]
Problems = Callable[..., tuple[Problem, ...]]


@given(
    beginning=st.from_regex(r"[a-z]([a-z-]{0,5}[a-z])?", fullmatch=True),
    low=st.integers(0, 999),
    more=st.integers(0, 50),
)
def test_a_range_is_its_names_in_order(beginning: str, low: int, more: int) -> None:
    names = ranges.names(f"{beginning}{low}..{beginning}{low + more}")
    assert names == [f"{beginning}{number}" for number in range(low, low + more + 1)]


def test_zeros_are_kept() -> None:
    assert ranges.names("pc08..pc11") == ["pc08", "pc09", "pc10", "pc11"]
    assert ranges.names("pc0..pc2") == ["pc0", "pc1", "pc2"]
    assert ranges.names("10..12") == ["10", "11", "12"]
    assert ranges.names("pc1-1..pc1-3") == ["pc1-1", "pc1-2", "pc1-3"]
    assert ranges.names("pc1") is None


@pytest.mark.parametrize(
    "text",
    ["a1..b3", "a..c", "a1..", "..a3", "a3..a1", "a01..a100", "a1..a10001", ".."],
)
def test_what_is_not_a_range(text: str) -> None:
    with pytest.raises(ranges.RangeError):
        ranges.names(text)


@pytest.mark.parametrize("text", ["pc1", "../etc", "a1..a2..a3", "a..b c", "1..²", "a1.a2", ""])
def test_what_is_left_to_be_judged_as_a_name(text: str) -> None:
    assert ranges.names(text) is None


def written_by_hand(count: int, **settings: Any) -> dict[str, Any]:
    nodes: dict[str, Any] = {f"h{number}": dict(settings) for number in range(1, count + 1)}
    links = [[f"h{number}", "sw"] for number in range(1, count + 1)]
    return {"name": "l", "nodes": {**nodes, "sw": {"kind": "switch"}}, "links": links}


@given(count=st.integers(1, 40), ttl=st.integers(1, 255))
def test_count_range_and_hand_make_the_same_lab(count: int, ttl: int, resolved: Resolved) -> None:
    settings: dict[str, Any] = {"sysctls": {"net.ipv4.ip_default_ttl": ttl}, "kind": "router"}
    rest = {"sw": {"kind": "switch"}}
    by_count = {"name": "l", "nodes": {"h": {"count": count, **settings}, **rest}, "links": [["h", "sw"]]}
    name = f"h1..h{count}"
    by_range = {"name": "l", "nodes": {name: settings, **rest}, "links": [[name, "sw"]]}
    by_hand = resolved(written_by_hand(count, **settings))
    assert resolved(by_count) == resolved(by_range) == by_hand
    assert len(by_hand.nodes) == count + 1


def test_links_between_ranges(resolved: Resolved) -> None:
    lab = resolved(
        """
        name: l
        nodes: {a1..a4: {kind: switch}, b: {count: 4}}
        links: [[a1..a3, a2..a4], ["b:eth5", a], {endpoints: [a2, b2..b3], mtu: 1400}]
    """.replace('["b:eth5", a]', '["b:eth5", a1..a4]')
    )
    cables = [(f"{link.a.node}:{link.a.name}", f"{link.b.node}:{link.b.name}", link.a.mtu_bytes) for link in lab.links]
    assert cables == [
        ("a1:a2", "a2:a1", 1500), ("a2:a3", "a3:a2", 1500), ("a3:a4", "a4:a3", 1500),
        ("b1:eth5", "a1:b1", 1500), ("b2:eth5", "a2:b2", 1500), ("b3:eth5", "a3:b3", 1500), ("b4:eth5", "a4:b4", 1500),
        ("a2:b2-2", "b2:eth0", 1400), ("a2:b3", "b3:eth0", 1400),
    ]  # fmt: skip


def test_ranges_of_nodes_that_are_named_one_by_one(resolved: Resolved) -> None:
    lab = resolved("{name: l, nodes: {a1: , a2: , sw: {kind: switch}}, links: [[a1..a2, sw]]}")
    assert len(lab.links) == 2


def test_one_of_a_range_has_its_own_settings_over_those_of_the_range(resolved: Resolved) -> None:
    lab = resolved("""
        name: l
        groups: {office: {env: {TZ: UTC}}}
        nodes:
          h1..h3: {group: office, about: one of three, env: {A: "1"}}
          h2: {about: the second, env: {B: "2"}}
          h3:
          sw: {kind: switch}
        links: [[h1..h3, sw]]
    """)
    assert [node.about for node in lab.nodes.values()] == ["one of three", "the second", "one of three", ""]
    assert lab.nodes["h2"].env == {"TZ": "UTC", "A": "1", "B": "2"}
    assert lab.nodes["h1"].env == {"TZ": "UTC", "A": "1"}


def test_steps_and_twins_take_ranges(resolved: Resolved) -> None:
    text = """
        name: l
        nodes: {h: {count: 3}, sw: {kind: switch}}
        links: [[h, sw]]
        scenes: [{name: s, steps: [{on: h, run: "true", id: a}, {on: [h1, h2..h3], run: "true"}]}]
        checks: [{name: c, layer: physical, check: links-carry}]
        break:
          changed: {patch: {nodes: {h2: {about: broken}}}, steps: [{on: h1..h2, run: "true"}], fails: [c]}
    """
    lab = resolved(text)
    assert [step.nodes for step in lab.scenes[0].steps] == [("h1", "h2", "h3")] * 2
    assert lab.twins["changed"].steps[0].nodes == ("h1", "h2")
    assert [node.about for node in resolved(text, "changed").nodes.values()] == ["", "broken", "", ""]


def told(found: tuple[Problem, ...]) -> list[tuple[int, int, str]]:
    return [(problem.line, problem.column, problem.message) for problem in found]


def test_wrong_ranges_have_a_place(problems: Problems) -> None:
    found = problems("""\
name: l
nodes:
  h1..x3: {}
  a5..a1: {}
  a1..a3: {}
  a3..a4: {}
  b1..b2: {count: 2}
  c: {count: 2}
  sw: {kind: switch}
links:
  - [c1..c5x, sw]
  - [a1..a3, b1..b2]
  - endpoints: [sw, c2..c1]
""")
    assert told(found) == [
        (3, 3, "'h1..x3' is not a range of names"),
        (4, 3, "'a5..a1': a range begins with its lowest number"),
        (6, 3, "'a3..a4' has a3, which 'a1..a3' has already"),
        (7, 12, "either a range of names or `count`, not both"),
        (11, 6, "'c1..c5x' is not a range of names"),
        (12, 5, "3 nodes at one end and 2 at the other"),
        (13, 21, "'c2..c1': a range begins with its lowest number"),
    ]


def test_what_is_wrong_with_all_of_a_range_is_said_once_and_where_it_stands(problems: Problems) -> None:
    found = problems("""\
name: l
nodes:
  h1..h100: {knd: host}
  sw: {kind: switch}
links:
  - [sw, h1..h3]
  - [h1..h100, swx]
""")
    assert told(found) == [(3, 14, "unknown key 'knd'")]
    found = problems("""\
name: l
nodes:
  h1..h100: {kind: router}
  sw: {kind: switch}
links:
  - [h1..h100, sw]
  - [h1..h9, swx]
  - [h99..h101, sw]
""")
    assert told(found) == [(7, 14, "no node 'swx'"), (8, 6, "no node 'h101'")]
    found = problems("""\
name: l
nodes:
  h1..h3: {interfaces: {eth0: 10.0.0.1/24}}
  sw: {kind: switch}
links:
  - [h1..h3, sw]
""")
    assert told(found) == [(3, 31, "duplicate address 10.0.0.1: h1:eth0 has it")]


@pytest.mark.parametrize("count", ["0", "-1", "10001", "999999999999", "x", "1.5", "true", "[1]"])
def test_counts_that_cannot_be(count: str, problems: Problems) -> None:
    found = problems(f"{{name: l, nodes: {{h: {{count: {count}}}, sw: }}, links: [[h, sw]]}}")
    assert any(problem.column == 30 and "count" in problem.message for problem in found), found


def test_huge_files_are_refused_quickly(problems: Problems) -> None:
    began = time.perf_counter()
    many = "\n".join(f"  n{number}-1..n{number}-9999: {{}}" for number in range(1000))
    (found,) = problems(f"name: l\nnodes:\n{many}\n")
    assert found.message == "counts and ranges make more than 10,000 nodes" and found.line == 4
    links = "\n".join("  - [h1..h9999, sw]" for _ in range(1000))
    (found,) = problems(f"name: l\nnodes:\n  h1..h9999: {{}}\n  sw: {{kind: switch}}\nlinks:\n{links}\n")
    assert found.message == "ranges make more than 100,000 links"
    settings = ", ".join(f"v{number}: x" for number in range(200))
    (found,) = problems(f"name: l\nnodes:\n  h1..h9999: {{env: {{{settings}}}}}\n")
    assert found.message.startswith("more than 1,000,000 settings")
    assert time.perf_counter() - began < 20


def test_count_is_said_of_nodes_only(problems: Problems) -> None:
    found = problems("{name: l, kinds: {host: {count: 3}}, nodes: {a: , b: }, links: [[a, b]]}")
    assert [problem.message for problem in found] == ["`count` can be said of a node only"]
