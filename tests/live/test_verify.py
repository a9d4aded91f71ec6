"""`wirelab verify`: every check of every lab passes, again and again; each twin breaks exactly what it names."""

from __future__ import annotations

import shutil
import subprocess
import xml.etree.ElementTree as ET
from collections.abc import Callable

import pytest

from emulator.lab.load import load
from tests.conftest import ROOT, Person
from tests.live.conftest import LABS, kept_twins, labs_with_all_kinds

ALL_KINDS = labs_with_all_kinds()
KEPT = kept_twins()
TWINS = [(lab, twin) for lab in LABS for twin in load(ROOT / "labs" / lab).spec.break_ if (lab, twin) not in KEPT]


@pytest.mark.warm
@pytest.mark.parametrize(
    ("person", "lab", "times"),
    [*(("user", lab, 1 + (lab in ALL_KINDS)) for lab in LABS), *(("root", lab, 1) for lab in ALL_KINDS)],
    indirect=["person"],
)
def test_a_running_lab_is_proved_any_number_of_times(
    person: Person, lab: str, times: int, lab_name: str, nothing_left: Callable[[], None]
) -> None:
    person.wirelab("up", lab, "--name", lab_name)
    shared = person.home / f"{lab_name}.pcapng"
    for _ in range(times):
        report = person.json("verify", lab_name, "-w", str(shared))
        assert (report["fail"], report["unknown"]) == (0, 0), [c for c in report["checks"] if c["verdict"] != "pass"]
        assert report["pass"] == len(report["checks"]) > 0
        assert all(check["reason"] and check["layer"] for check in report["checks"])
    if capinfos := shutil.which("capinfos"):
        known = subprocess.run([capinfos, "-c", str(shared)], capture_output=True, text=True, check=True).stdout
        assert "Number of packets" in known
    shared.unlink()


@pytest.mark.warm
@pytest.mark.parametrize(("lab", "twin"), TWINS)
def test_a_twin_breaks_exactly_what_it_names(user: Person, lab: str, twin: str) -> None:
    report = user.json("verify", lab, "--break", twin, status=1)
    wrong = [
        check
        for check in report["checks"]
        if (check["verdict"] == "pass") == (check["name"] in report["break"]["expected"])
    ]
    assert report["break"]["as_meant"], wrong
    assert report["unknown"] == 0


def test_every_check_has_a_twin() -> None:
    """A check that no twin breaks proves little."""
    for lab in LABS:
        spec = load(ROOT / "labs" / lab).spec
        broken = {name for twin in spec.break_.values() for name in twin.fails}
        assert {check.name for check in spec.checks} == broken, lab


def test_junit_and_own_instance(user: Person) -> None:
    file = user.home / "junit.xml"
    done = user.wirelab("verify", "nat", "--junit", str(file))
    assert done.stdout.rstrip().splitlines()[-1].startswith("25 passed")
    suite = ET.parse(file).getroot()
    assert len(suite.findall(".//testcase")) == 25
    assert not suite.findall(".//failure")


def test_verify_of_what_is_not_there(user: Person) -> None:
    assert "did you mean nat?" in user.wirelab("verify", "natt", status=2).stderr
    assert "its twins:" in user.wirelab("verify", "nat", "--break", "nosuch", status=2).stderr


def test_the_lab_file_of_the_readme(user: Person, lab_name: str) -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    file = user.home / f"{lab_name}.yml"
    file.write_text(readme.partition("```yaml\n")[2].partition("```")[0], encoding="utf-8")
    report = user.json("verify", str(file))
    assert (report["pass"], report["fail"], report["unknown"]) == (4, 0, 0), report
    assert user.json("verify", str(file), "--break", "no-forwarding", status=1)["break"]["as_meant"]
