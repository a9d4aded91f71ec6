"""The list of labs and its order."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from emulator.cli import parser
from emulator.commands import files
from emulator.run import runs


@pytest.fixture
def shipped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder for labs that are taken for the shipped ones."""
    monkeypatch.setattr(runs, "__file__", str(tmp_path / "emulator" / "run" / "runs.py"))
    (tmp_path / "labs").mkdir()
    return tmp_path / "labs"


def add(labs: Path, name: str, text: str) -> None:
    (labs / name).mkdir()
    (labs / name / "lab.yml").write_text(text)


def test_every_shipped_lab_is_in_the_order_exactly_once(labs_folder: Path) -> None:
    lines = (labs_folder / "order.txt").read_text().splitlines()
    names = [line for line in lines if line and not line.startswith("#")]
    assert len(names) == len(set(names))
    assert {file.parent.name for file in labs_folder.glob("*/lab.yml")} <= set(names)
    assert runs.reading_order(labs_folder) == names


def test_labs_stand_in_the_order_and_others_after_them(shipped: Path) -> None:
    for name in ("zebra", "arp", "ping", "mine"):
        add(shipped, name, "name: x\n")
    (shipped / "notes").mkdir()
    (shipped / "order.txt").write_text("# first things first\nping\n\n arp  # then this\nping\nnot-here\n")
    assert [folder.name for folder in runs.sources()] == ["ping", "arp", "mine", "zebra"]


def test_without_an_order_labs_stand_by_name(shipped: Path) -> None:
    for name in ("b", "a"):
        add(shipped, name, "name: x\n")
    assert [folder.name for folder in runs.sources()] == ["a", "b"]


def test_one_line_a_lab_whatever_is_in_its_file(shipped: Path, capsys: pytest.CaptureFixture[str]) -> None:
    add(shipped, "good", 'name: good\ntitle: "A lab\\nof two lines"\n')
    add(shipped, "list", "[1]\n")
    add(shipped, "bare", "name: bare\n")
    add(shipped, "wrong", "a: {\n")
    assert files.labs(parser().parse_args(["labs"])) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == ["bare", "good", "list", "wrong"]
    assert lines[1] == "good   A lab\\nof two lines"
    assert f"{shipped}/wrong/lab.yml:" in lines[3]
    files.labs(parser().parse_args(["labs", "--json"]))
    rows = json.loads(capsys.readouterr().out)
    assert [row["name"] for row in rows] == ["bare", "good", "list", "wrong"]
    assert set(rows[0]) == {"name", "title", "file"}
