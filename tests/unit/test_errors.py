"""How errors are worded, and that nothing in them drives a terminal."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from emulator.errors import (
    CommandFailed,
    LabFileError,
    MachineError,
    Problem,
    UsageError,
    WirelabError,
    is_shown,
    one_line,
    printable,
    render,
)


@pytest.mark.parametrize(
    ("kind", "status"), [(WirelabError, 1), (CommandFailed, 1), (UsageError, 2), (MachineError, 3)]
)
def test_exit_status_and_hint(kind: type[WirelabError], status: int) -> None:
    error = kind("it is so", hint="do this")
    assert error.exit_status == status
    assert render(error) == "wirelab: it is so\n  hint: do this"
    assert render(kind("it is so")) == "wirelab: it is so"


def test_problems_are_sorted_and_said_once() -> None:
    late, early = Problem("lab.yml", 10, 2, "late"), Problem("lab.yml", 9, 30, "early", "hint")
    error = LabFileError([late, early, late, Problem("lab.yml", 9, 30, "early")])
    assert error.exit_status == 2
    assert render(error).splitlines() == [
        "lab.yml:9:30: early",
        "lab.yml:9:30: early (hint)",
        "lab.yml:10:2: late",
        "3 problems; nothing was built",
    ]
    assert render(LabFileError([late])).endswith("\n1 problem; nothing was built")


def test_a_name_cannot_pretend_to_be_a_line() -> None:
    problem = Problem("lab.yml", 1, 1, "no node 'a\nlab.yml:2:1: b\t\x1b[31m'")
    assert str(problem) == r"lab.yml:1:1: no node 'a\nlab.yml:2:1: b\t\x1b[31m'"


def test_text_of_every_script_is_shown() -> None:
    assert printable("网络　实验\u00a0ü\n") == "网络　实验\u00a0ü\n"
    assert printable("\x1b[2J\u202eab\x00\x9b") == r"\x1b[2J\u202eab\x00\x9b"


@given(st.text())
def test_only_shown_characters_are_left(text: str) -> None:
    assert all(is_shown(character) for character in one_line(text))
    assert all(is_shown(character) or character in "\n\t" for character in printable(text))
