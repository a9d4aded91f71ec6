"""docs/write-a-lab.md: what it writes is valid part by part, and its lab proves and breaks what it says."""

from __future__ import annotations

import re

import pytest

from emulator.lab.load import load
from tests.conftest import ROOT, Person

PARTS = re.findall(r"```yaml\n(.*?)```", (ROOT / "docs" / "write-a-lab.md").read_text(encoding="utf-8"), re.DOTALL)


def test_every_part_is_valid_with_those_before_it(user: Person) -> None:
    assert len(PARTS) == 4
    for count in range(1, len(PARTS) + 1):
        file = user.home / f"office-{count}.yml"
        file.write_text("\n".join(PARTS[:count]), encoding="utf-8")
        assert user.wirelab("validate", str(file)).stdout.rstrip().endswith("no problem")


def test_the_lab_proves_what_it_says(person: Person) -> None:
    file = person.home / "office.yml"
    file.write_text("\n".join(PARTS), encoding="utf-8")
    report = person.json("verify", str(file))
    assert (report["pass"], report["fail"], report["unknown"]) == (4, 0, 0), report


@pytest.mark.parametrize("twin", ["no-rule", "too-strict", "out-of-order"])
def test_its_twins(user: Person, twin: str) -> None:
    file = user.home / f"office-{twin}.yml"
    file.write_text("\n".join(PARTS), encoding="utf-8")
    spec = load(file).spec
    assert set(spec.break_) == {"no-rule", "too-strict", "out-of-order"}
    assert {name for each in spec.break_.values() for name in each.fails} == {check.name for check in spec.checks}
    assert user.json("verify", str(file), "--break", twin, status=1)["break"]["as_meant"]
