"""`binds` of a lab file: their forms, and what is refused before anybody is asked."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from emulator.errors import Problem
from emulator.lab.binds import Bind, resolve_binds
from emulator.lab.resolved import ResolvedLab
from emulator.plan import ops
from emulator.plan.compile import compile_plan


def lab(*binds: str) -> dict[str, Any]:
    """A lab with one node that asks for them."""
    return {"name": "x", "nodes": {"a": {"binds": list(binds)}, "b": {}}, "links": [["a", "b"]]}


@pytest.mark.parametrize(
    ("text", "bind"),
    [
        ("/data:/mnt/data", Bind("/data", "/mnt/data", False)),
        ("/data:/mnt/data:ro", Bind("/data", "/mnt/data", True)),
        ("/data:/mnt/data:rw", Bind("/data", "/mnt/data", False)),
        ("/data", Bind("/data", "/data", False)),
        ("/data:ro", Bind("/data", "/data", True)),
        ("./app:/opt/app:ro", Bind("lab/./app", "/opt/app", True)),
        ("../../x y:/opt/x", Bind("lab/../../x y", "/opt/x", False)),
    ],
)
def test_forms(text: str, bind: Bind) -> None:
    assert resolve_binds([text], "lab") == (bind,)


def test_they_are_in_the_lab_and_in_the_plan(resolved: Callable[..., ResolvedLab]) -> None:
    made = resolved(lab("./app:/opt/app:ro", "/data:/data"))
    assert made.nodes["a"].binds == (Bind("./app", "/opt/app", True), Bind("/data", "/data", False))
    assert made.nodes["b"].binds == ()
    operations = compile_plan(made).operations
    wanted = [ops.BindPath("a", "./app", "/opt/app", True), ops.BindPath("a", "/data", "/data", False)]
    assert [operation for operation in operations if isinstance(operation, ops.BindPath)] == wanted
    first = min(number for number, operation in enumerate(operations) if operation in wanted)
    kinds = {type(operation) for operation in operations[:first]}
    assert kinds == {ops.CreateNode}, "nothing has run in the node by then"
    assert wanted[0].describe() == "show ./app of this machine on a at /opt/app, to read"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("app", "an absolute path"),
        ("app:ro", "an absolute path"),
        ("/a:b", "an absolute path"),
        ("/a:/b:rx", "expected SOURCE[:TARGET][:ro]"),
        ("/a:/b:ro:z", "expected SOURCE[:TARGET][:ro]"),
        ("", "expected SOURCE[:TARGET][:ro]"),
        (":/b", "expected SOURCE[:TARGET][:ro]"),
        ("/a:/", "a plain absolute path"),
        ("/a:/b/../etc", "a plain absolute path"),
        ("/a:/b/", "a plain absolute path"),
        ("/a://b", "a plain absolute path"),
        ("/a:/.lab/b", "a plain absolute path"),
        ("/a:/proc/1", "is Wirelab's"),
        ("/a:/sys", "is Wirelab's"),
        ("/a:/dev/sda", "is Wirelab's"),
        ("/a:/etc/hosts", "is Wirelab's"),
        ("/a:/run/wirelab/x", "is Wirelab's"),
    ],
)
def test_what_is_refused(problems: Callable[..., tuple[Problem, ...]], text: str, said: str) -> None:
    (problem,) = problems(lab(text))
    assert said in problem.message
    assert problems(lab("/a:/b:ro")) == ()


def test_one_place_is_for_one_thing(problems: Callable[..., tuple[Problem, ...]]) -> None:
    (problem,) = problems(lab("/a:/b", "/c:/b:ro"))
    assert "/b is named twice" in problem.message


@given(st.text(max_size=30))
def test_any_text_is_a_bind_or_a_problem(problems: Callable[..., tuple[Problem, ...]], text: str) -> None:
    for problem in problems(lab(text)):
        assert problem.message
