"""Merging: patches of twins, settings of kinds and groups; and that all problems come at once."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from emulator.errors import Problem, UsageError
from emulator.lab.load import load, merge_patch, read_document
from emulator.lab.problems import MAX_PROBLEMS, near
from emulator.lab.resolved import ResolvedLab


@pytest.mark.parametrize(
    ("target", "patch", "result"),
    [
        ({"a": "b"}, {"a": "c"}, {"a": "c"}),
        ({"a": "b"}, {"b": "c"}, {"a": "b", "b": "c"}),
        ({"a": "b"}, {"a": None}, {}),
        ({"a": "b", "b": "c"}, {"a": None}, {"b": "c"}),
        ({"a": ["b"]}, {"a": "c"}, {"a": "c"}),
        ({"a": "c"}, {"a": ["b"]}, {"a": ["b"]}),
        ({"a": {"b": "c"}}, {"a": {"b": "d", "c": None}}, {"a": {"b": "d"}}),
        ({"a": [{"b": "c"}]}, {"a": [1]}, {"a": [1]}),
        (["a", "b"], ["c", "d"], ["c", "d"]),
        ({"a": "b"}, ["c"], ["c"]),
        ({"a": "foo"}, None, None),
        ({"a": "foo"}, "bar", "bar"),
        ({"e": None}, {"a": 1}, {"e": None, "a": 1}),
        ([1, 2], {"a": "b", "c": None}, {"a": "b"}),
        ({}, {"a": {"bb": {"ccc": None}}}, {"a": {"bb": {}}}),
    ],
)
def test_merge_patch_follows_rfc_7396_appendix_a(target: Any, patch: Any, result: Any) -> None:
    assert merge_patch(target, patch) == result


def test_merge_patch_leaves_its_arguments_alone() -> None:
    target, patch = {"a": {"b": 1}}, {"a": {"c": 2}}
    merge_patch(target, patch)
    assert (target, patch) == ({"a": {"b": 1}}, {"a": {"c": 2}})


def test_kind_then_group_then_node(resolved: Callable[..., ResolvedLab]) -> None:
    lab = resolved("""
        name: l
        kinds: {host: {env: {A: kind, B: kind, C: kind}, sysctls: {net.a: 1}}}
        groups: {g: {env: {B: group, C: group}, services: {http: {port: 81}}}}
        nodes:
          a: {group: g, env: {C: node}}
          b: {group: g, env: {A: null}, services: null}
          c:
        links: [[a, b]]
    """)
    assert lab.nodes["a"].env == {"A": "kind", "B": "group", "C": "node"}
    assert lab.nodes["a"].sysctls == {"net.a": "1"}
    assert lab.nodes["a"].services.http and lab.nodes["a"].services.http.port == 81
    assert lab.nodes["b"].env == {"B": "group", "C": "group"} and lab.nodes["b"].services.http is None
    assert lab.nodes["c"].env == {"A": "kind", "B": "kind", "C": "kind"}


def test_a_group_gives_the_kind(resolved: Callable[..., ResolvedLab]) -> None:
    lab = resolved("{name: l, groups: {g: {kind: router}}, nodes: {a: {group: g}, b: }, links: [[a, b]]}")
    assert lab.nodes["a"].kind == "router"


def test_a_wrong_setting_of_a_group_is_shown_where_it_stands(problems: Callable[..., tuple[Problem, ...]]) -> None:
    found = problems("name: l\ngroups:\n  g:\n    gateway: c\nnodes:\n  a: {group: g}\n  b: {group: g}\n")
    assert [(problem.line, problem.column) for problem in found] == [(4, 14)]


def test_nothing_is_said_twice(problems: Callable[..., tuple[Problem, ...]]) -> None:
    found = problems("name: l\nnodes: {a: {dns: x}, b: {gateway: x}}\nlinks: [[a, b]]\n")
    assert len({(problem.line, problem.column) for problem in found}) == len(found) == 2


def test_a_hopeless_file_is_left_early(problems: Callable[..., tuple[Problem, ...]]) -> None:
    links = "".join(f"  - [x{number}, y{number}]\n" for number in range(5000))
    assert len(problems(f"name: l\nnodes: {{a: }}\nlinks:\n{links}")) == MAX_PROBLEMS


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ({"groups": {"g": {"env": {f"A{n}": "x" for n in range(200)}}}}, "more than 1,000,000 settings"),
        ({"kinds": {"host": {"env": {f"A{n}": "x" for n in range(200)}}}}, "more than 1,000,000 settings"),
    ],
)
def test_groups_cannot_make_a_small_file_large(
    problems: Callable[..., tuple[Problem, ...]], source: dict[str, Any], said: str
) -> None:
    nodes = {f"n{number}": {"group": "g"} for number in range(6000)}
    assert said in problems({"name": "l", "nodes": nodes, **source})[0].message


def test_a_twin_is_wrong_where_its_patch_is(problems: Callable[..., tuple[Problem, ...]]) -> None:
    text = (
        "name: l\nnodes:\n  a: {interfaces: {eth0: 10.0.0.1/24}}\n  b:\nlinks: [['a:eth0', b]]\n"
        "checks: [{name: c, layer: network, check: links-carry}]\n"
        "break:\n  t:\n    patch: {nodes: {a: {interfaces: {eth0: 10.0.0.0/24}}}}\n    fails: [c]\n"
    )
    assert problems(text) == ()
    (found,) = problems(text, twin="t")
    assert (found.line, found.column) == (9, 44)
    assert found.message.startswith("with the twin 't': 10.0.0.0/24 is the address of the network itself")


def test_a_folder_stands_for_its_lab_file(labs_folder: Path) -> None:
    assert load(labs_folder / "nat").spec.name == "nat"


def test_a_file_that_is_not_there() -> None:
    with pytest.raises(UsageError, match=r"cannot read the lab file nowhere\.yml: No such file or directory"):
        read_document(Path("nowhere.yml"))


def test_near_names() -> None:
    assert near("rooter", ["router", "host"]) == "did you mean 'router'?"
    assert near("x", ["router", "host"]) == "known: router, host"
    assert near("x", [f"node{number}" for number in range(20)]) is None
    assert near("x", []) is None
    assert near("node77x", [f"node{number}" for number in range(9000)]) == "did you mean 'node77'?"
