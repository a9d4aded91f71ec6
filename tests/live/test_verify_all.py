"""`wirelab verify` of several labs at a time, and of all that are shipped."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import termios
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from tests.conftest import Person
from tests.live.conftest import processes, wait_until
from tests.live.traces import NIGHTLY

SMALL = """\
name: {name}
nodes: {{a: {{}}, b: {{}}}}
links: [[a, b]]
scenes: [{{name: call, steps: [{{on: a, run: "{command}", timeout: 60s}}]}}]
checks:
  - {{name: carry, layer: physical, check: links-carry}}
  - {{name: called, layer: network, check: seen, filter: icmp.type == 8, at: b}}
"""
CALL = "ping -n -c 1 -W 1 {b.ip}"


def small(person: Person, name: str, command: str = CALL) -> str:
    """A lab file with two nodes and one cable."""
    file = person.home / f"{name}.yml"
    file.write_text(SMALL.format(name=name, command=command))
    file.chmod(0o644)
    return str(file)


def instances(person: Person, name: str) -> list[Path]:
    """The run directories of the instances that `verify` made of a lab, begun ones too."""
    return list(person.runs.glob(f"*{name}-verify-*"))


@pytest.fixture
def few_labs(user: Person) -> Iterator[Person]:
    """Somebody whose installation has four labs; in the long form all (`test_verify.py` verifies each)."""
    if NIGHTLY:
        yield user
        return
    place = user.home / "few"
    shutil.copytree(user.installation / "emulator", place / "emulator")
    (place / "packages").symlink_to(user.installation / "packages")
    for name in ("ping", "arp", "udp", "ports"):
        shutil.copytree(user.installation / "labs" / name, place / "labs" / name)
    yield replace(user, installation=place)
    shutil.rmtree(place)


def test_all_shipped_labs(few_labs: Person) -> None:
    """They pass, and what is kept of them gives the same verdicts again."""
    user = few_labs
    labs = sorted(folder.name for folder in (user.installation / "labs").iterdir() if folder.is_dir())
    file, folder = user.home / "all.xml", user.home / "all-kept"
    words = ["--all", "--jobs", "2", "--junit", str(file), "--keep", str(folder)]
    done = user.wirelab("verify", *words, timeout=1800)
    head, *rows = done.stdout.split("\n\n")[0].splitlines()
    assert head.split() == ["LAB", "PASSED", "FAILED", "UNKNOWN", "SECONDS"]
    cells = {row.split()[0]: row.split()[1:] for row in rows}
    assert sorted(cells) == labs
    assert all(int(passed) > 0 and (failed, unknown) == ("0", "0") for passed, failed, unknown, _ in cells.values())
    passed = sum(int(row[0]) for row in cells.values())
    assert done.stdout.splitlines()[-1].startswith(f"{len(labs)} labs")
    assert f": {passed} passed in " in done.stdout.splitlines()[-1]
    root = ET.parse(file).getroot()
    assert [suite.get("name") for suite in root] == [row.split()[0] for row in rows]
    assert len(root.findall(".//testcase")) == passed
    assert not root.findall(".//failure") + root.findall(".//error")
    assert not [entry for entry in user.runs.glob("*-verify-*") if (entry / "lab.json").exists()]
    again = user.json("verify", "--replay", str(folder))
    for report in again["labs"]:
        kept = json.loads((folder / report["lab"] / "report.json").read_text())
        assert {**report, "seconds": 0} == {**kept, "seconds": 0}
    assert again["total"]["pass"] == passed
    table = user.wirelab("verify", "--replay", str(folder)).stdout
    assert [row.split()[:4] for row in table.splitlines()] == [row.split()[:4] for row in done.stdout.splitlines()]
    shutil.rmtree(folder)


def test_a_running_lab_is_not_touched(person: Person, lab_name: str) -> None:
    file = small(person, lab_name)
    person.wirelab("up", file, "--name", lab_name)
    try:
        answer = person.json("verify", lab_name, file, "--jobs", "2")
        assert [lab["lab"] for lab in answer["labs"]] == [lab_name, lab_name]
        assert [lab["pass"] for lab in answer["labs"]] == [2, 2]
        assert {key: answer["total"][key] for key in ("labs", "pass", "fail", "unknown", "errors")} == {
            "labs": 2, "pass": 4, "fail": 0, "unknown": 0, "errors": 0,
        }  # fmt: skip
        assert not (person.runs / lab_name / "runs").exists(), "the running lab itself was verified"
        assert lab_name in [row["name"] for row in person.json("ps")]
        assert not instances(person, lab_name)
        alone = person.json("verify", lab_name)
        assert (person.runs / lab_name / "runs").read_text() == "1", "one name is the running lab"
        assert set(alone) == {"lab", "checks", "pass", "fail", "unknown", "seconds"}
    finally:
        person.wirelab("down", lab_name)


def test_the_others_are_verified_whatever_becomes_of_one(user: Person, lab_name: str) -> None:
    good = small(user, f"{lab_name}-good")
    bad = small(user, f"{lab_name}-bad", "true")
    broken = small(user, f"{lab_name}-broken")
    Path(broken).write_text(Path(broken).read_text().replace("links:", "lnks:"))
    file = user.home / f"{lab_name}.xml"
    done = user.wirelab("verify", broken, bad, good, "--jobs", "1", "--junit", str(file), status=1)
    rows = {
        row.split()[0]: row.split()[1:4] for row in done.stdout.split("\n\n")[0].splitlines() if row.startswith("/")
    }
    assert rows[good] == ["2", "0", "0"]
    assert rows[bad][0] != "2"
    assert rows[broken] == ["-", "-", "-"]
    assert f"{broken}:3:1: unknown key 'lnks'" in done.stdout
    assert "  FAIL     called  " in done.stdout
    assert "1 lab not verified" in done.stdout.splitlines()[-1]
    suites = {suite.get("name"): suite for suite in ET.parse(file).getroot()}
    assert {broken, f"{lab_name}-bad", f"{lab_name}-good"} == set(suites)
    assert suites[broken].find("testcase/error") is not None
    lacking = small(user, f"{lab_name}-lacking", "no-such-program")
    answer = json.loads(user.wirelab("verify", lacking, good, "--json", status=3).stdout)
    assert answer["labs"][0]["status"] == 3
    assert "no-such-program" in answer["labs"][0]["error"]
    assert answer["labs"][1]["pass"] == 2
    assert not instances(user, lab_name)


def begun(person: Person, words: list[str], **options: int) -> subprocess.Popen[str]:
    """A verification of several labs."""
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    return person.popen(person.argv("verify", *words), start_new_session=True, **{**pipes, **options})


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_ended_early(user: Person, lab_name: str, number: signal.Signals) -> None:
    """Ctrl-C takes every lab down before it returns; after kill -9 they go by themselves."""
    file = small(user, lab_name, "sleep 50")
    process = begun(user, [file, file, file, "--jobs", "2"])
    wait_until(
        lambda: sum((folder / "capture.pcapng").exists() for folder in instances(user, lab_name)) == 2,
        "two labs are being verified",
    )
    process.send_signal(number)
    out, err = process.communicate(timeout=20)
    assert (process.returncode, out) == ({signal.SIGINT: 130, signal.SIGTERM: 143, signal.SIGKILL: -9}[number], "")
    assert err == ("wirelab: interrupted\n" if number == signal.SIGINT else "")
    if number != signal.SIGKILL:
        assert not instances(user, lab_name)
    wait_until(lambda: not instances(user, lab_name), "the run directories go")
    wait_until(lambda: not processes(f"{lab_name}-verify-") and not processes(file), "no process is left")


def test_progress_on_a_terminal(user: Person, lab_name: str) -> None:
    file = small(user, lab_name, "sleep 1")
    leader, follower = os.openpty()
    os.fchmod(follower, 0o666)
    termios.tcsetwinsize(follower, (24, 200))
    process = begun(user, [file, file, "--jobs", "2", "--json"], stderr=follower)
    os.close(follower)
    out, _ = process.communicate(timeout=60)
    said = b""
    with contextlib.suppress(OSError):  # EIO: nobody has the other end any more
        while part := os.read(leader, 1 << 16):
            said += part
    os.close(leader)
    text = said.decode()
    assert json.loads(out)["total"]["labs"] == 2
    assert "verify 0/2 " in text
    assert "0 passed, 0 failed; " in text
    assert lab_name in text
    assert text.endswith("\r\x1b[K")


def test_usage_errors(user: Person) -> None:
    assert "no LAB goes with it" in user.wirelab("verify", "--all", "nat", status=2).stderr
    assert "`--break` breaks one lab" in user.wirelab("verify", "--all", "--break", "hub", status=2).stderr
    assert "`-w` keeps the capture of one" in user.wirelab("verify", "nat", "nat", "-w", "x", status=2).stderr
    assert "did you mean nat?" in user.wirelab("verify", "nat", "natt", status=2).stderr
    assert "at least 1, not '0'" in user.wirelab("verify", "--all", "--jobs", "0", status=2).stderr
    assert "which lab?" in user.wirelab("verify", status=2).stderr
