"""A short lab file cannot ask for much: what would take for ever, or all memory, is refused in a moment."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from emulator.cli import main
from emulator.errors import Problem

Problems = Callable[..., tuple[Problem, ...]]
CHECKS = [{"name": "carry", "layer": "physical", "check": "links-carry"}]


@pytest.fixture(autouse=True)
def in_a_moment() -> Iterator[None]:
    began = time.process_time()
    yield
    assert time.process_time() - began < 20, "some of these would take hours"


def said(problems: tuple[Problem, ...]) -> str:
    assert all(problem.line >= 1 for problem in problems)
    return "\n".join(map(str, problems))


def test_a_row_of_ten_thousand_routers(problems: Problems) -> None:
    lab = {"name": "row", "nodes": {"r1..r9999": {"kind": "router"}}, "links": [["r1..r9998", "r2..r9999"]]}
    assert "9,999 routers with 9,998 networks need too many routes" in said(problems(lab))


def test_many_routers_on_few_networks(problems: Problems) -> None:
    links = [[f"r{first}..r{first + 89}", f"s{first // 90 + 1}"] for first in range(1, 2071, 90)]
    links += [[f"s{number}", f"core{number}"] for number in range(1, 24)]
    nodes = {"r1..r2070": {"kind": "router"}, "s1..s23": {"kind": "switch"}, "core1..core23": {"kind": "router"}}
    assert "the ways between 2,093 routers are too many" in said(
        problems({"name": "x", "nodes": nodes, "links": links})
    )


def test_the_same_routers_on_many_networks(problems: Problems) -> None:
    links = [["r1..r300", f"s{number}"] for number in range(1, 100)]
    nodes = {"r1..r300": {"kind": "router"}, "s1..s99": {"kind": "switch"}}
    assert "need too many routes" in said(problems({"name": "x", "nodes": nodes, "links": links}))


def test_steps_on_thousands_of_nodes_again_and_again(problems: Problems) -> None:
    steps = [{"on": "h1..h9999", "run": ["id"]}] * 3000
    lab = {
        "name": "x",
        "nodes": {"h1..h9999": {}, "r": {}},
        "links": [["h1", "r"]],
        "scenes": [{"name": "s", "steps": steps}],
    }
    assert "the nodes of all steps among them" in said(problems(lab))


def test_the_same_mistake_ten_thousand_times(problems: Problems) -> None:
    found = problems(
        {"name": "x", "nodes": {"sw": {"kind": "switch"}, "h": {"count": 10000}}, "links": [["h", "none"]]}
    )
    assert "no node 'none'" in said(found)


def test_many_twins_of_a_large_lab(problems: Problems) -> None:
    twins = {f"t{number}": {"patch": {"links": []}, "fails": ["carry"]} for number in range(600)}
    found = problems(
        {
            "name": "x",
            "nodes": {"h": {"count": 1000}, "r": {}},
            "links": [["h1", "r"]],
            "checks": CHECKS,
            "break": twins,
        }
    )
    assert "too many twins of a lab file as large as this" in said(found)


def test_many_twins_that_make_a_small_lab_large(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("emulator.commands.files._MADE_MAX", 1000)
    patch: dict[str, Any] = {"nodes": {"h": {"count": 300}}}
    twins = {f"t{number}": {"patch": patch, "fails": ["carry"]} for number in range(100)}
    file = tmp_path / "lab.yml"
    file.write_text(
        json.dumps({"name": "x", "nodes": {"a": {}, "b": {}}, "links": [["a", "b"]], "checks": CHECKS, "break": twins})
    )
    assert main(["validate", str(file)]) == 2
    assert f"{file}:1:1: its twins have more than 1,000 nodes and links together" in capsys.readouterr().err


@pytest.mark.parametrize("value", [[1], [], "x", 7, False])
def test_a_range_of_what_is_no_node(value: object, problems: Problems) -> None:
    found = problems({"name": "x", "nodes": {"h1..h3": value, "r": {}}, "links": [["h1..h3", "r"]]})
    assert "expected a mapping" in said(found)


@pytest.mark.parametrize("end", ["\r", "\n", "\r\n"], ids=["CR", "LF", "CR LF"])
def test_lines_end_as_they_do_in_yaml(end: str, problems: Problems) -> None:
    (problem,) = problems(end.join(["name: x", "nodes:", "  a:", "  b: [", ""]))
    assert (problem.line, problem.message) == (5, "not YAML: a value is missing before this")
    (problem,) = problems(end.join(["name: x", "nodes: {a: , b: }", "links: [[a, c]]"]))
    assert (problem.line, problem.column) == (3, 13)
