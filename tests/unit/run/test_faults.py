"""A fault that was begun and not finished is done whole by the next one who asks for it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from emulator.errors import MachineError
from emulator.lab.document import parse
from emulator.lab.load import build
from emulator.lab.resolve import resolve
from emulator.run import faults
from emulator.run.fault_file import Fault, Ledger
from emulator.run.session import Result

TEXT = "name: l\nnodes: {a: {}, b: {}}\nlinks: [[a, b]]\n"


class Lab:
    """A lab that notes what it is asked for, in the place of its agent and its first process."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    def run_one(self, node: str, argv: list[str], **_: Any) -> Result:
        self.asked.append(f"{argv[0]} on {node}")
        return Result(node, tuple(argv), 0, "", "")

    def __call__(self, _: Path) -> Lab:
        return self

    def __enter__(self) -> Lab:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def ask(self, do: str, node: str) -> None:
        self.asked.append(f"{do} {node}")


@pytest.mark.parametrize("begun", [False, True])
def test_freezing_loads_the_rules_also_where_the_fault_is_on_the_list(
    begun: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lab = Lab()
    monkeypatch.setattr(faults, "Control", lab)
    monkeypatch.setattr(faults.tools, "missing", lambda _: [])
    if begun:  # and killed before the rules were loaded
        Ledger(tmp_path).add(Fault("freeze", "a"))
    found = resolve(build(parse(TEXT.encode(), "l.yml")))
    faults.Faults(found, lab, tmp_path).freeze("a")  # type: ignore[arg-type]
    assert lab.asked == ["nft on a", "freeze a"]
    assert Ledger(tmp_path).read() == (Fault("freeze", "a"),)


@pytest.mark.parametrize("done", [False, True])
def test_a_refusal_leaves_what_was_done_before_on_the_list(
    done: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lab = Lab()
    monkeypatch.setattr(faults, "Control", lab)
    monkeypatch.setattr(faults.tools, "missing", lambda _: ["nft"])
    if done:
        Ledger(tmp_path).add(Fault("freeze", "a"))
    found = resolve(build(parse(TEXT.encode(), "l.yml")))
    with pytest.raises(MachineError, match="nft"):
        faults.Faults(found, lab, tmp_path).freeze("a")  # type: ignore[arg-type]
    assert lab.asked == []
    assert Ledger(tmp_path).read() == ((Fault("freeze", "a"),) if done else ())
