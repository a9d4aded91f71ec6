"""What Wireshark is told, without a lab: only the facts of one are there."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from emulator.commands import extcap

FACTS: dict[str, Any] = {
    "nodes": {
        "pc1": {"kind": "host", "about": "a } {value=x}\n\x1b[2J laptop", "interfaces": {"eth0": {"peer": "sw:pc1"}}},
        "sw": {"kind": "switch", "about": "", "interfaces": {"pc1": {"peer": "pc1:eth0"}}, "bridges": ["br0"]},
    }
}


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    runs = tmp_path / "wirelab"
    runs.mkdir(mode=0o700)
    (runs / "nat").mkdir()
    (runs / "nat" / "lab.json").write_text(json.dumps(FACTS))
    (runs / "broken").mkdir()
    (runs / "broken" / "lab.json").write_text("{")
    return runs


def said(capsys: pytest.CaptureFixture[str], *arguments: str, status: int = 0) -> list[str]:
    assert extcap.main(arguments) == status
    captured = capsys.readouterr()
    assert "Traceback" not in captured.err
    return (captured.err if status else captured.out).splitlines()


@pytest.mark.usefixtures("home")
def test_every_interface_of_every_lab(capsys: pytest.CaptureFixture[str]) -> None:
    assert said(capsys, "--extcap-interfaces", "--extcap-version=4.2") == [
        "extcap {version=1.0}{display=Wirelab}",
        "interface {value=wirelab:nat}{display=nat: whole lab}",
        "interface {value=wirelab:nat:pc1:eth0}{display=nat: pc1:eth0}",
        "interface {value=wirelab:nat:sw:pc1}{display=nat: sw:pc1}",
        "interface {value=wirelab:nat:sw:br0}{display=nat: sw:br0}",
    ]


def test_no_lab_no_interface(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    assert len(said(capsys, "--extcap-interfaces")) == 1


@pytest.mark.usefixtures("home")
def test_the_dialog_of_a_whole_lab_asks_for_nodes(capsys: pytest.CaptureFixture[str]) -> None:
    lines = said(capsys, "--extcap-config", "--extcap-interface", "wirelab:nat")
    assert lines[0].startswith("arg {number=0}{call=--nodes}{display=Nodes}{type=multicheck}")
    assert lines[1:] == [
        r"value {arg=0}{value=pc1}{display=pc1 (host, a ) (value=x)\n\x1b[2J laptop)}{default=false}",
        "value {arg=0}{value=sw}{display=sw (switch)}{default=false}",
    ]
    assert said(capsys, "--extcap-config", "--extcap-interface", "wirelab:nat:pc1:eth0") == []


@pytest.mark.usefixtures("home")
def test_the_link_type(capsys: pytest.CaptureFixture[str]) -> None:
    lines = said(capsys, "--extcap-dlts", "--extcap-interface", "wirelab:nat:pc1:eth0")
    assert lines == ["dlt {number=1}{name=EN10MB}{display=Ethernet}"]


@pytest.mark.usefixtures("home")
def test_a_filter_is_checked(capsys: pytest.CaptureFixture[str]) -> None:
    check = ("--extcap-interface", "wirelab:nat", "--extcap-capture-filter")
    assert said(capsys, *check, "icmp or arp") == []
    assert said(capsys, *check, "icmp foo") == ["the capture filter 'icmp foo' is wrong: syntax error"]


@pytest.mark.usefixtures("home")
@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((), "which interface?"),
        (("--extcap-interface", "wirelab:nat"), "what about it?"),
        (("--capture", "--extcap-interface", "wirelab:gone", "--fifo", "/dev/null"), "no lab called gone is running"),
        (("--capture", "--extcap-interface", "wirelab:../x", "--fifo", "/dev/null"), "no lab called ../x is running"),
        (("--capture", "--extcap-interface", "eth0", "--fifo", "/dev/null"), "'eth0' is no interface of a lab"),
        (("--capture", "--extcap-interface", "wirelab:", "--fifo", "/dev/null"), "is no interface of a lab"),
        (("--capture", "--extcap-interface", "wirelab:nat"), "--fifo is missing"),
        (("--capture", "--extcap-interface", "wirelab:broken", "--fifo", "/dev/null"), "is being taken down"),
        (("--extcap-config", "--extcap-interface", "wirelab:gone"), "no lab called gone is running"),
    ],
)
def test_wrong_questions(capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...], words: str) -> None:
    assert words in " ".join(said(capsys, *arguments, status=2))


@pytest.mark.usefixtures("home")
def test_a_pipe_that_is_not_there(capsys: pytest.CaptureFixture[str]) -> None:
    lines = said(capsys, "--capture", "--extcap-interface", "wirelab:nat", "--fifo", "/absent/pipe", status=1)
    assert lines == ["wirelab: No such file or directory"]


@pytest.mark.parametrize(
    ("words", "found"),
    [
        (["--capture", "--fifo", "x"], {"capture": "", "fifo": "x"}),
        (["--fifo=x", "--extcap-capture-filter", "tcp port 80"], {"fifo": "x", "extcap-capture-filter": "tcp port 80"}),
        (["--nodes", "a", "--nodes", "b,c"], {"nodes": "a,b,c"}),
        (["--later", "--extcap-version=9.9", "stray"], {"later": "", "extcap-version": "9.9"}),
        (["--extcap-config", "--extcap-interface"], {"extcap-config": "", "extcap-interface": ""}),
        (["--extcap-capture-filter", "", "--fifo", "x"], {"extcap-capture-filter": "", "fifo": "x"}),
    ],
)
def test_arguments(words: list[str], found: dict[str, str]) -> None:
    assert extcap.read_arguments(words) == found
