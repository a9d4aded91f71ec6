"""Names and data from anywhere: refused where they would be names, and shown escaped where they are text."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from emulator.cli import main
from emulator.commands.lifecycle import _print_table
from emulator.errors import CommandFailed, UsageError, printable, render
from emulator.lab.patterns import matches_anything
from tests.conftest import ROOT

HOSTILE = (
    "-rf", "--all", "a b", "a;reboot", "$(reboot)", "`reboot`", "a|b", "a&b", "a>b", "'a'", 'a"b', "a\\b", "*", "~",
    "..", "../a", "a/b", "/etc/passwd", "a\nb", "a\n", "\na", "a\tb", "a\rb", "\x1b[2J", "\x1b]0;title\x07",
    "\x9b31m", "\u202eb", "\u2028", "", " ", "#a", "!a", "a\0b",
)  # fmt: skip


def _lab(**given: Any) -> dict[str, Any]:
    return {"name": "small", "nodes": {"a": {}, "b": {}}, "links": [["a", "b"]], **given}


PLACES: dict[str, Callable[[str], dict[str, Any]]] = {
    "lab": lambda name: _lab(name=name),
    "node": lambda name: _lab(nodes={"a": {}, "b": {}, name: {}}),
    "node of a range": lambda name: _lab(nodes={"a": {}, "b": {}, f"{name or ' '}1..{name}3": {}}),
    "node with a count": lambda name: _lab(nodes={"a": {}, "b": {}, name or " ": {"count": 2}}),
    "kind": lambda name: _lab(nodes={"a": {"kind": name}, "b": {}}),
    "interface": lambda name: _lab(nodes={"a": {"interfaces": {name: {"address": "10.0.0.1/24"}}}, "b": {}}),
    "end of a link": lambda name: _lab(links=[[f"a:{name}", "b"]]),
    "bridge": lambda name: _lab(nodes={"a": {"kind": "router", "bridges": {name: {"ports": ["eth0"]}}}, "b": {}}),
    "variable": lambda name: _lab(nodes={"a": {"env": {name: "x"}}, "b": {}}),
    "address": lambda name: _lab(nodes={"a": {"interfaces": {"eth0": {"address": name}}}, "b": {}}),
    "route": lambda name: _lab(nodes={"a": {"routes": [{"to": name, "via": "10.0.0.1"}]}, "b": {}}),
    "scene": lambda name: _lab(scenes=[{"name": name, "steps": [{"on": "a", "run": ["true"]}]}]),
    "place of a step": lambda name: _lab(scenes=[{"name": "s", "steps": [{"on": name, "run": ["true"]}]}]),
    "twin": lambda name: _lab(**{"break": {name: {"patch": {"links": []}, "fails": []}}}),
    "file beside the lab": lambda name: _lab(nodes={"a": {"files": {"/run/x": {"from": name}}}, "b": {}}),
}


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("name", HOSTILE, ids=ascii)
def test_names_are_refused(
    place: str, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("lab.yml").write_text(json.dumps(PLACES[place](name)), encoding="utf-8")
    assert main(["validate", "lab.yml"]) == 2
    said = capsys.readouterr()
    assert said.out == "" and said.err.startswith("lab.yml:1:") and said.err.isascii()
    assert all(row.isprintable() for row in said.err.splitlines())


@pytest.mark.parametrize("place", PLACES)
def test_another_name_would_do(place: str, problems: Callable[..., tuple[Any, ...]]) -> None:
    """Form is what is wrong with the names above: of this one it is said at most that there is no such thing."""
    said = " ".join(str(problem) for problem in problems(PLACES[place]("good")))
    assert "characters" not in said and "letters" not in said


TEXTS = {
    "title": lambda text: _lab(title=text),
    "word of a command": lambda text: _lab(nodes={"a": {"exec": [["echo", text]]}, "b": {}}),
    "value of a variable": lambda text: _lab(nodes={"a": {"env": {"A": text}, "exec": [["true"]]}, "b": {}}),
    "content of a file": lambda text: _lab(nodes={"a": {"files": {"/run/x": {"text": text}}}, "b": {}}),
}


@pytest.mark.parametrize("place", TEXTS)
@pytest.mark.parametrize(
    "text", ["a\x1b[2Jb", "a\nEND\nb", "$(touch canary)", "-rf", "'; reboot; '", "\x9b31m", "\u202eb"], ids=ascii
)
def test_text_is_shown_escaped_on_a_terminal(
    place: str, text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "lab.yml"
    file.write_text(json.dumps(TEXTS[place](text)), encoding="utf-8")
    assert main(["plan", str(file), "--as", "sh"]) == 0
    script = capsys.readouterr().out
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    for form in ("text", "sh"):
        assert main(["plan", str(file), "--as", form]) == 0
        shown = capsys.readouterr().out
        assert all(character.isprintable() or character in "\n\t" for character in shown)
        assert (form == "sh" and shown == printable(script)) or "\nEND\n" not in shown


def test_a_table_of_running_labs_shows_escapes(capsys: pytest.CaptureFixture[str]) -> None:
    _print_table([["NAME", "LAB"], ["a\x1b[2J", "b\nnat  all is well"]])
    assert [row.split("  ", 1)[0] for row in capsys.readouterr().out.splitlines()] == ["NAME", "a\\x1b[2J"]


@pytest.mark.parametrize("line", [
    "plan {}", "up {}", "verify {}", "exec {} pc -- true", "ps {}", "{}", "ps --{}", "explain --pcap {}",
    "validate {}", "plan ping --as {}", "down {}", "link {} a:b up", "exec nat --timeout {}",
])  # fmt: skip
@pytest.mark.parametrize("word", ["x\x1b[2J", "x\n  hint: rm -rf /", "\u202ex", "\x9b31m"], ids=ascii)
def test_words_of_the_command_line_are_shown_escaped(
    line: str, word: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    try:
        status = main([part.format(word) for part in line.split()])
    except SystemExit as end:
        status = int(end.code or 0)
    said = capsys.readouterr().err
    assert status == 2
    rows = said.splitlines()
    assert 1 <= len(rows) <= 2 and rows[0].startswith("wirelab: ") and all(row.isprintable() for row in rows)


def test_an_error_of_usage_is_one_line_and_its_hint() -> None:
    assert render(UsageError("no lab a\nb", hint="c\nd")) == "wirelab: no lab a\\nb\n  hint: c\\nd"
    assert render(CommandFailed("it ended", hint="said:\nno")) == "wirelab: it ended\n  hint: said:\nno"


def test_an_error_of_the_system_is_shown_escaped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fails(_: object) -> int:
        raise FileNotFoundError(2, "No such file", "a\x1b[2J\nb")

    monkeypatch.setattr("emulator.commands.files.labs", fails)
    assert main(["labs"]) == 1
    assert capsys.readouterr().err == "wirelab: No such file a\\x1b[2J\\nb\n"


@pytest.mark.parametrize("name", ["x" * 300, "x" * 5000, "lab.yml/x"], ids=["long", "longer", "below a file"])
@pytest.mark.parametrize("command", ["plan", "validate", "up", "verify"])
def test_paths_that_cannot_be(command: str, name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([command, name]) == 2
    assert capsys.readouterr().err.startswith("wirelab: ")


def test_a_capture_larger_than_memory(tmp_path: Path) -> None:
    file = tmp_path / "sparse.pcap"
    with file.open("wb") as stream:
        stream.write(b"\xd4\xc3\xb2\xa1")
        stream.truncate(1 << 40)
    code = "import resource, sys; sys.path.insert(0, sys.argv[1])\n"
    code += "resource.setrlimit(resource.RLIMIT_AS, (1 << 31, 1 << 31))\n"
    code += "from emulator.cli import main; sys.exit(main(['explain', '--pcap', sys.argv[2]]))"
    done = subprocess.run(
        [sys.executable, "-c", code, str(ROOT), str(file)], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (3, "wirelab: this machine has not enough memory for that\n")


def test_a_device_is_no_capture(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["explain", "--pcap", "/dev/zero"]) == 2
    assert capsys.readouterr().err == "wirelab: /dev/zero is a device, no capture\n  hint: give a file\n"


@pytest.mark.parametrize(
    "text", ["((){65535}){65535}", "(?:|x?){60}(?=y)", "(?:(?:x?){99}){9999}", "a" * 1001, "(" * 300]
)
def test_expressions_that_take_for_ever(text: str) -> None:
    with pytest.raises(ValueError, match="regular expression"):
        matches_anything(text)


@pytest.mark.parametrize(
    ("text", "anything"),
    [("", True), ("^", True), ("^.*$", True), ("x*", True), ("(a|b|)?", True), ("x{0,99999}$", True), ("(?!y)", True),
     ("^$", False), ("a+", False), ("(?=a)", False), (r"\b", False), (r"^\s*(\w+\s*)*$", False),
     ("(a|b){1,99}c", False)],
)  # fmt: skip
def test_expressions_that_match_anything(text: str, anything: bool) -> None:
    assert matches_anything(text) is anything
