"""What a user sees, letter by letter: the texts of wrong lab files, and the plan of a shipped lab in its three forms.

`pytest tests/golden --update-golden`, or UPDATE_GOLDEN=1, writes the files anew.
"""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from emulator.errors import LabFileError, printable, render
from emulator.lab.document import MAX_OCTETS, parse
from emulator.lab.load import build
from emulator.lab.resolve import resolve, resolve_file
from emulator.plan.compile import compile_plan
from emulator.plan.ops import Plan
from emulator.plan.script import as_script

HERE = Path(__file__).parent
LABS = HERE.parents[1] / "labs"
WRONG = sorted((HERE / "errors").glob("*.yml"))


def said_about(octets: bytes, name: str) -> str:
    """What a user sees of a wrong lab file: of the lab itself, or of its twins when the lab is right."""
    with pytest.raises(LabFileError) as caught:
        document = parse(octets, name)
        resolve(build(document))
        for twin in document.value["break"]:
            resolve(build(document, twin=twin))
    assert caught.value.exit_status == 2
    return render(caught.value) + "\n"


def check(path: Path, text: str, update: bool) -> None:
    """Compare `text` with the golden file at `path`, or write it."""
    if update:
        path.write_text(text, encoding="utf-8")
    assert text == path.read_text(encoding="utf-8")


@pytest.mark.parametrize("path", WRONG, ids=lambda path: path.stem)
def test_error(path: Path, update: bool) -> None:
    text = said_about(path.read_bytes(), path.name)
    assert all(line.isprintable() for line in text.splitlines())
    check(path.with_suffix(".txt"), text, update)


def test_every_golden_text_has_its_lab_file() -> None:
    assert {path.stem for path in (HERE / "errors").glob("*.txt")} == {path.stem for path in WRONG}


def test_ten_megabytes(tmp_path: Path) -> None:
    path = tmp_path / "lab.yml"
    path.write_bytes(b"# \n" * (10 * 1024 * 1024 // 3))
    with pytest.raises(LabFileError, match=f"the file is too large: a lab file has at most {MAX_OCTETS:,} octets"):
        resolve_file(path)


@pytest.fixture(scope="module")
def plan() -> Plan:
    """The plan of the home router lab."""
    return compile_plan(resolve_file(LABS / "nat"))


def test_plan_as_text(plan: Plan, update: bool) -> None:
    lines = (printable(f"{number:>4}  {step.describe()}\n") for number, step in enumerate(plan.operations, 1))
    check(HERE / "plans" / "nat.txt", "".join(lines), update)


def test_plan_as_json(plan: Plan, update: bool) -> None:
    operations = [{**step.to_json(), "text": step.describe()} for step in plan.operations]
    data = {"lab": plan.lab, "tools": plan.tools, "operations": operations}
    check(HERE / "plans" / "nat.json", json.dumps(data, indent=2) + "\n", update)


def test_plan_as_script(plan: Plan, update: bool) -> None:
    script = as_script(plan)
    subprocess.run(["sh", "-n"], input=script.encode(), check=True)
    check(HERE / "plans" / "nat.sh", script, update)
