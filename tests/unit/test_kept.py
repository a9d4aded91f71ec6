"""Folders with kept verifications: whole or not there, and judged again only from what was kept."""

from __future__ import annotations

import errno
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from emulator import kept as room
from emulator.capture.decode import decode
from emulator.capture.pcapng import Writer, read
from emulator.cli import main
from emulator.errors import CommandFailed, UsageError
from emulator.kept import Keeping, keep, labs_of, replay
from emulator.lab.document import parse
from emulator.lab.load import build
from emulator.lab.resolve import resolve
from emulator.report.json import as_dict
from emulator.verify import folder as form
from emulator.verify.evidence import Evidence, Output, Window
from emulator.verify.judge import judge
from emulator.verify.verdict import Report, Verdict
from tests.conftest import ROOT

TEXT = """\
name: two
nodes: {a: {}, b: {}, sw: {kind: switch}}
links: [[a, sw], [b, sw]]
scenes: [{name: call, steps: [{on: a, run: "ping -n -c 1 {b.ip}", id: call}]}]
checks:
  - {name: carry, layer: physical, check: links-carry}
  - {name: bits, layer: physical, check: re-encode}
  - {name: learned, layer: data-link, check: mac-table, switch: sw}
  - {name: called, layer: network, check: seen, filter: icmp.type == 8, at: b}
  - {name: quiet, layer: network, check: never-seen, filter: tcp, at: b}
  - {name: said, layer: application, check: output, step: call, status: 0}
break: {deaf: {patch: {}, fails: [called], steps: [{unplug: "b:eth0"}]}}
"""
PACKETS = {"carry", "bits", "called", "quiet"}
OTHERS = {"learned", "said"}
"""Checks that look at a table or an output alone."""
START = 1_700_000_000_000_000_000


def _ping(source: str, target: str, macs: dict[str, str]) -> bytes:
    head = bytes.fromhex((macs[target] + macs[source] + "0800").replace(":", ""))
    ip = bytes.fromhex("4500001c00014000400100000a0000010a000002")
    total = sum(int.from_bytes(ip[n : n + 2], "big") for n in range(0, 20, 2))
    total = (total & 0xFFFF) + (total >> 16)
    ip = ip[:10] + (~total & 0xFFFF).to_bytes(2, "big") + ip[12:]
    return head + ip + bytes.fromhex("0800f7fd00010001")


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A kept verification of two hosts on a switch, whose packets are written by hand."""
    lab = resolve(build(parse(TEXT.encode(), "two/lab.yml")))
    macs = {interface.place: interface.mac for interface in lab.interfaces()}
    place = Keeping(tmp_path_factory.mktemp("kept") / "two")
    with place, open(place.capture, "wb") as stream:
        writer = Writer(stream)
        numbers = {name: writer.interface(name, mac=mac) for name, mac in macs.items()}
        ways = (("a:eth0", "out"), ("sw:a", "in"), ("sw:b", "out"), ("b:eth0", "in"))
        for step, (source, target) in enumerate([("a:eth0", "b:eth0"), ("b:eth0", "a:eth0")]):
            for n, (at, way) in enumerate(ways if step == 0 else reversed(ways)):
                direction: Any = way if step == 0 else {"in": "out", "out": "in"}[way]
                data = _ping(source, target, macs)
                writer.packet(numbers[at], START + 1000 * (10 * step + n), data, direction=direction)
        for number in numbers.values():
            writer.statistics(number, received=2, dropped=0, start_ns=START, end_ns=START + 10**6)
        writer.flush()
        stream.flush()
        recorded = read(place.capture)
        fdb = [{"mac": macs[f"{node}:eth0"], "ifname": node, "master": "br0", "state": ""} for node in "ab"]
        evidence = Evidence(
            decode(recorded.packets, recorded.interfaces),
            recorded.interfaces,
            {"call": Window(START - 1000, START + 10**6)},
            (Output("call", "call", "a", ("ping",), 0, "ok", "", START, START + 1),),
            {"sw": {"fdb": "[]"}},
            {"sw": {"fdb": json.dumps(fdb)}},
            {"run.port": "20000"},
        )
        report = Report("two", judge(lab, evidence), 0.1)
        kept = form.Kept(
            "two/lab.yml", TEXT, {}, None, None, "netns", form.plain(lab), {}, as_dict(report),
            replace(evidence, frames=(), interfaces=()), {"kernel": "6"},
        )  # fmt: skip
        keep(place, kept, report, len(evidence.frames))
    return place.target


@pytest.fixture
def copy(folder: Path, tmp_path: Path) -> Path:
    """A copy of it, to be damaged."""
    return Path(shutil.copytree(folder, tmp_path / "copy"))


def verdicts(folder: Path) -> dict[str, tuple[Verdict, str]]:
    """What a kept verification is judged to be."""
    return {result.name: (result.verdict, result.reason) for result in replay(folder).report.results}


def test_the_same_verdicts(folder: Path) -> None:
    told: list[str] = []
    proof = replay(folder, note=told.append)
    assert {r.name: r.verdict for r in proof.report.results} == dict.fromkeys(PACKETS | OTHERS, Verdict.PASS)
    assert (proof.expected, proof.twin, told) == (None, None, [])
    before = json.loads((folder / "report.json").read_text())
    assert {**as_dict(proof.report), "seconds": 0} == {**before, "seconds": 0}
    assert sorted(entry.name for entry in folder.iterdir()) == sorted([*form.FILES, form.MANIFEST, form.CAPTURE])
    assert not list(folder.parent.glob("*.tmp"))


@given(data=st.data())
def test_altered_packets_are_unknown(folder: Path, tmp_path_factory: pytest.TempPathFactory, data: Any) -> None:
    """One octet is altered, or the file is cut: what needs packets is UNKNOWN, and nothing else differs."""
    octets = (folder / form.CAPTURE).read_bytes()
    whole = verdicts(folder)
    copy = Path(shutil.copytree(folder, tmp_path_factory.mktemp("altered") / "copy"))
    place = data.draw(st.integers(0, len(octets) - 1))
    if data.draw(st.booleans()):
        altered, word = octets[:place], "cut short"
    else:
        value = octets[place] ^ data.draw(st.integers(1, 255))
        altered, word = octets[:place] + bytes([value]) + octets[place + 1 :], "altered"
    (copy / form.CAPTURE).write_bytes(altered)
    told: list[str] = []
    results = replay(copy, note=told.append).report.results
    for result in results:
        if result.name in PACKETS:
            assert result.verdict is Verdict.UNKNOWN
            assert word in result.reason
        else:
            assert (result.verdict, result.reason) == whole[result.name]
    assert len(told) == 1
    assert word in told[0]
    shutil.rmtree(copy)


def test_what_is_wrong_with_a_capture_is_said(copy: Path) -> None:
    capture = copy / form.CAPTURE
    octets = capture.read_bytes()

    def reason() -> str:
        found = {text for verdict, text in verdicts(copy).values() if verdict is Verdict.UNKNOWN}
        assert len(found) == 1
        return found.pop()

    capture.write_bytes(octets[:-1])
    assert reason() == f"the capture is cut short: {len(octets) - 1:,} of {len(octets):,} octets, and 8 of 8 frames " \
        "are there"  # fmt: skip
    capture.write_bytes(b"")
    assert "0 of 8 frames" in reason()
    capture.write_bytes(octets + b"\0")
    assert reason() == f"the capture was altered: it has {len(octets) + 1:,} octets, not {len(octets):,}"
    capture.unlink()
    assert reason() == "the capture is missing: there is no capture.pcapng"
    os.mkfifo(capture)
    assert "it is not a regular file" in reason()
    capture.unlink()
    capture.symlink_to("/dev/zero")
    assert "cannot be read" in reason()


@pytest.mark.parametrize("name", [*form.FILES, form.MANIFEST])
def test_other_files_must_be_as_they_were(copy: Path, name: str, capsys: pytest.CaptureFixture[str]) -> None:
    file = copy / name
    octets = file.read_bytes()
    for content in (octets[:-3], octets[:5] + b"\x80" + octets[6:], b""):
        file.write_bytes(content)
        assert main(["verify", "--replay", str(copy)]) == 2
        said = capsys.readouterr()
        assert said.out == ""
        assert said.err.startswith(f"wirelab: cannot judge what is kept in {copy}: {name} ")
    file.unlink()
    assert main(["verify", "--replay", str(copy)]) == 2
    assert f"{name} is missing" in capsys.readouterr().err
    os.mkfifo(file)
    assert main(["verify", "--replay", str(copy)]) == 2
    assert "it is not a regular file" in capsys.readouterr().err


def _sign_again(folder: Path) -> None:
    """Make the manifest fit whatever the files say now, as somebody would who makes up a folder."""
    manifest = form.read_manifest((folder / form.MANIFEST).read_bytes(), "0")
    seals = {name: form.seal((folder / name).read_bytes(), manifest.files[name].frames) for name in manifest.files}
    octets = form.manifest_octets(replace(manifest, files=seals))
    (folder / form.MANIFEST).write_bytes(octets)


@pytest.mark.parametrize("number", [-3, -1, 10**30, 1 << 62])
def test_a_manifest_with_numbers_that_no_file_has(copy: Path, number: int, capsys: pytest.CaptureFixture[str]) -> None:
    """Somebody made it up: the sums are right."""
    manifest = form.read_manifest((copy / form.MANIFEST).read_bytes(), "0")
    files = {**manifest.files, form.CAPTURE: replace(manifest.files[form.CAPTURE], octets=number)}
    (copy / form.MANIFEST).write_bytes(form.manifest_octets(replace(manifest, files=files)))
    status = main(["verify", "--replay", str(copy)])
    said = capsys.readouterr().err
    assert "fault of Wirelab" not in said
    if number < 0:
        assert status == 2 and "manifest.json does not hold what it should" in said
    else:
        assert status == 1 and f"the capture is cut short: {(copy / form.CAPTURE).stat().st_size:,} of " in said


@pytest.mark.parametrize("told", [True, False])
def test_a_huge_capture_is_not_read(copy: Path, told: bool) -> None:
    """One that takes no room on the disk, whether the manifest tells its size or not."""
    size = 1 << 40
    os.truncate(copy / form.CAPTURE, size)
    if told:
        manifest = form.read_manifest((copy / form.MANIFEST).read_bytes(), "0")
        files = {**manifest.files, form.CAPTURE: replace(manifest.files[form.CAPTURE], octets=size)}
        (copy / form.MANIFEST).write_bytes(form.manifest_octets(replace(manifest, files=files)))
    found = {reason for verdict, reason in verdicts(copy).values() if verdict is Verdict.UNKNOWN}
    assert len(found) == 1
    assert f"the capture is too large to be judged: {size:,} octets" in found.pop()


def test_a_manifest_that_is_deeper_than_can_be_hashed(copy: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for depth in range(100, 1000, 50):
        (copy / form.MANIFEST).write_text('{"format": 1, "sha256": "", "lab": ' + "[" * depth + "]" * depth + "}")
        assert main(["verify", "--replay", str(copy)]) == 2
        assert "fault of Wirelab" not in capsys.readouterr().err


def test_a_folder_of_another_form(copy: Path) -> None:
    file = copy / form.MANIFEST
    file.write_bytes(file.read_bytes().replace(b'"format": 1', b'"format": 2'))
    with pytest.raises(UsageError, match="it has the form 2, kept by Wirelab"):
        replay(copy)


def test_another_lab_than_the_one_that_was_verified(copy: Path) -> None:
    text = copy / "lab.yml"
    text.write_text(text.read_text().replace("links: [[a, sw], [b, sw]]", 'links: [[a, sw], [b, "sw:other"]]'))
    _sign_again(copy)
    with pytest.raises(UsageError, match=r"makes another lab of lab\.yml than Wirelab .* did: nodes"):
        replay(copy)


def test_verdicts_that_differ_from_the_kept_ones_are_told(copy: Path) -> None:
    report = copy / "report.json"
    report.write_text(report.read_text().replace('"verdict": "pass"', '"verdict": "fail"', 1))
    _sign_again(copy)
    told: list[str] = []
    replay(copy, note=told.append)
    assert told == ["the verdicts differ from those that were kept: carry was fail"]
    report.write_text("[]")
    _sign_again(copy)
    replay(copy, note=told.append)
    assert told[1:] == ["the report that was kept cannot be read"]


def test_the_command(folder: Path, copy: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert main(["verify", "--replay", str(folder), "--json", "--junit", str(tmp_path / "x.xml")]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert (answer["pass"], answer["lab"], "capture" in answer) == (6, "two", False)
    assert (tmp_path / "x.xml").read_text().count("<testcase") == 6
    (copy / form.CAPTURE).write_bytes(b"")
    assert main(["verify", "--replay", str(copy)]) == 1
    said = capsys.readouterr()
    assert said.out.splitlines()[-1].startswith("2 passed, 0 failed, 4 unknown in ")
    assert said.err.startswith("wirelab: the capture is cut short: 0 of ")
    for words in (["nat"], ["--all"], ["--break", "x"], ["-w", "x"], ["--keep", "x"]):
        assert main(["verify", *words, "--replay", str(folder)]) == 2
        assert "does not go with it" in capsys.readouterr().err
    assert main(["verify", "--replay", str(tmp_path / "none")]) == 2
    assert "there is no folder" in capsys.readouterr().err


def test_several_labs(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert labs_of(folder) is None
    shutil.copytree(folder, tmp_path / "all" / "one")
    index = tmp_path / "all" / room.INDEX
    index.write_bytes(room.index_octets([("first", "one"), ("second", "two")]))
    assert main(["verify", "--replay", str(tmp_path / "all"), "--json"]) == 1
    answer = json.loads(capsys.readouterr().out)
    assert [lab["lab"] for lab in answer["labs"]] == ["two", "second"]
    assert (answer["total"]["pass"], answer["total"]["errors"]) == (6, 1)
    for content in (b"[", b"{}", b'{"format": 2}', room.index_octets([("x", "../y")]), room.index_octets([("x", "")])):
        index.write_bytes(content)
        with pytest.raises(UsageError, match=r"labs\.json"):
            labs_of(tmp_path / "all")


def test_a_folder_appears_whole_or_not_at_all(tmp_path: Path) -> None:
    target = tmp_path / "new"
    with pytest.raises(KeyboardInterrupt), Keeping(target) as place:
        place.write("x", b"1")
        assert not target.exists()
        with pytest.raises(UsageError, match="another verification is being kept"):
            Keeping(target)
        assert (place.folder / "x").exists()
        raise KeyboardInterrupt
    assert os.listdir(tmp_path) == []
    target.mkdir()
    with Keeping(target) as place:
        place.write("x", b"1")
        place.finish()
    assert os.listdir(target) == ["x"]
    assert os.listdir(tmp_path) == ["new"]
    with pytest.raises(UsageError, match="is not empty"):
        Keeping(target)
    with pytest.raises(UsageError, match="is no folder"):
        Keeping(target / "x")


def test_what_a_killed_verification_left_is_removed_and_nothing_else(tmp_path: Path) -> None:
    target, begun = tmp_path / "new", tmp_path / "new.tmp"
    killed = Keeping(target)
    killed._mine = False
    killed.close()  # its lock is free, and what it wrote is there
    assert (begun / "incomplete").exists()
    with Keeping(target):
        assert begun.exists()
    assert not begun.exists()
    begun.mkdir()
    (begun / "precious").touch()
    with pytest.raises(CommandFailed, match=r"new\.tmp is in the way"):
        Keeping(target)
    assert (begun / "precious").exists()


def test_a_disk_that_is_full(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    files = {name: (folder / name).read_bytes() for name in form.FILES}
    kept, report = form.from_files(files), Report("two", (), 0.0)
    write: Callable[..., None] = Keeping.write
    for failing in (*form.FILES, form.MANIFEST):

        def full(place: Keeping, name: str, octets: bytes, failing: str = failing) -> None:
            if name == failing:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            write(place, name, octets)

        monkeypatch.setattr(Keeping, "write", full)
        with (
            pytest.raises(CommandFailed, match=r"cannot keep the verification in .*: No space left on device"),
            Keeping(tmp_path / "new") as place,
        ):
            place.capture.write_bytes(b"")
            keep(place, kept, report, 0)
        assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("words", ["import emulator; emulator.replay(P)", "from emulator import cli; main(P)"])
def test_judging_again_touches_no_system(folder: Path, words: str) -> None:
    """Neither the API nor the command imports what makes namespaces or starts programs."""
    call = words.replace("main(P)", "cli.main(['verify', '--replay', P])")
    code = f"P = {str(folder)!r}; {call}; import sys; print([m for m in sys.modules if m.startswith('emulator.run')])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout.splitlines()[-1] == "[]"
