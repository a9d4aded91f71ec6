"""Strategies and helpers that the unit tests of several rooms share."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st

from emulator.errors import LabFileError, Problem
from emulator.lab.document import parse
from emulator.lab.load import build
from emulator.lab.resolve import resolve
from emulator.lab.resolved import ResolvedLab
from emulator.names import NODE_NAME

settings.register_profile("wirelab", derandomize=True, deadline=None, max_examples=60, database=None)
settings.load_profile("wirelab")


@pytest.fixture(scope="session")
def labs_folder() -> Path:
    """Where the shipped labs are."""
    return Path(__file__).parents[2] / "labs"


@pytest.fixture(scope="session")
def resolved() -> Callable[..., ResolvedLab]:
    """The resolved lab of a lab file's text, or of plain values; `twin` breaks it."""

    def make(source: str | dict[str, Any], twin: str | None = None) -> ResolvedLab:
        text = source if isinstance(source, str) else json.dumps(source)
        return resolve(build(parse(text.encode(), "lab.yml"), twin=twin))

    return make


@pytest.fixture(scope="session")
def problems(resolved: Callable[..., ResolvedLab]) -> Callable[..., tuple[Problem, ...]]:
    """All problems of a lab file's text."""

    def find(source: str | dict[str, Any], twin: str | None = None) -> tuple[Problem, ...]:
        try:
            resolved(source, twin)
        except LabFileError as error:
            return error.problems
        return ()

    return find


@st.composite
def _networks(draw: st.DrawFn) -> dict[str, Any]:
    """A lab as plain values: a random tree of switches, routers and hosts with random names; some routers translate,
    and some pairs of routers on one side of all translation have a second cable."""
    count = draw(st.integers(2, 14))
    names = draw(st.lists(st.from_regex(NODE_NAME, fullmatch=True), min_size=count, max_size=count, unique=True))
    nodes: dict[str, Any] = {names[0]: {"kind": draw(st.sampled_from(["switch", "router"]))}}
    inner: dict[str, tuple[str, ...]] = {names[0]: ()}
    links: list[list[str]] = []
    for name in names[1:]:
        parent = draw(st.sampled_from([other for other in nodes if nodes[other]["kind"] != "host"]))
        kind = draw(st.sampled_from(["host", "host", "switch", "router", "router"]))
        nodes[name] = {"kind": kind}
        inner[name] = inner[parent]
        end = name
        if kind == "router" and draw(st.booleans()):
            nodes[name]["nat"] = {"masquerade": "up"}
            inner[name] = (*inner[parent], name)
            end = f"{name}:up"
        links.append([end, parent] if draw(st.booleans()) else [parent, end])
    for _ in range(draw(st.integers(0, 2))):
        routers = [name for name, node in nodes.items() if node["kind"] == "router" and "nat" not in node]
        if len(routers) > 1:
            a, b = draw(st.lists(st.sampled_from(routers), min_size=2, max_size=2, unique=True))
            if inner[a] == inner[b]:
                links.append([a, b])
    return {"name": "generated", "nodes": nodes, "links": links}


@pytest.fixture(scope="session")
def networks() -> st.SearchStrategy[dict[str, Any]]:
    """Random labs that are right."""
    return _networks()
