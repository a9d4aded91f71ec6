"""Verifications that are kept and judged again: the same verdicts, whoever asks, and none from altered packets."""

from __future__ import annotations

import json
import random
import shutil
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from emulator.lab.load import load
from tests.conftest import ROOT, Person
from tests.live.conftest import kept_twins, wait_until

pytestmark = pytest.mark.warm

NEEDED = {"capture.pcapng", "lab.yml", "manifest.json", "plan.json", "resolved.json", "outputs.json", "tables.json",
          "marks.json", "report.json", "versions.json", "lab.json"}  # fmt: skip


def without_seconds(text: str) -> str:
    """What `verify` printed, without how long it took."""
    *lines, last = text.splitlines()
    if not last.startswith("broken by "):
        return "\n".join([*lines, last.rpartition(" in ")[0]])
    return "\n".join([*lines[:-1], lines[-1].rpartition(" in ")[0], last])


def timeless(report: dict[str, Any]) -> dict[str, Any]:
    """A report without how long it took."""
    return {key: value for key, value in report.items() if key != "seconds"}


@pytest.fixture
def folder(person: Person, lab_name: str) -> Path:
    """A folder that is not there yet."""
    return person.home / f"{lab_name}-kept"


@pytest.mark.parametrize("person", ["user"], indirect=True)
def test_text_and_json_are_the_same(person: Person, folder: Path) -> None:
    first = person.wirelab("verify", "nat", "--keep", str(folder))
    assert {entry.name for entry in folder.iterdir()} == NEEDED
    assert folder.stat().st_mode & 0o777 == 0o700
    assert not folder.with_name(f"{folder.name}.tmp").exists()
    again = person.wirelab("verify", "--replay", str(folder))
    assert without_seconds(again.stdout) == without_seconds(first.stdout)
    assert again.stderr == ""
    kept = json.loads((folder / "report.json").read_text())
    assert timeless(person.json("verify", "--replay", str(folder))) == timeless(kept)
    versions = json.loads((folder / "versions.json").read_text())
    assert versions["kernel"].startswith("Linux ")
    assert versions["dnsmasq"].startswith("Dnsmasq version")
    assert not {"unknown", "not there"} & set(versions.values()), versions
    shutil.rmtree(folder)


@pytest.mark.parametrize(("lab", "twin"), kept_twins())
def test_a_broken_lab_is_as_meant_again(user: Person, lab: str, twin: str, lab_name: str) -> None:
    folder = user.home / f"{lab_name}-kept"
    first = user.json("verify", lab, "--break", twin, "--keep", str(folder), status=1)
    again = user.json("verify", "--replay", str(folder), status=1)
    assert timeless(again) == timeless(first)
    assert again["break"]["as_meant"], again
    assert again["unknown"] == 0
    assert "broken by" in user.wirelab("verify", "--replay", str(folder), status=1).stdout
    shutil.rmtree(folder)


def test_a_running_lab(person: Person, lab_name: str, folder: Path, nothing_left: Callable[[], None]) -> None:
    """One that is running, with files of its folder; its folder may be gone when it is judged again."""
    source = person.home / f"{lab_name}-source"
    shutil.copytree(ROOT / "labs" / "ports", source)
    subprocess.run(["chmod", "-R", "a+rX", str(source)], check=True)
    person.wirelab("up", str(source), "--name", lab_name)
    shutil.rmtree(source)
    first = person.json("verify", lab_name, "--keep", str(folder), "-w", str(person.home / f"{lab_name}.pcapng"))
    assert {entry.stat().st_mode & 0o777 for entry in folder.iterdir()} == {0o600}
    assert (folder / "capture.pcapng").read_bytes() == (person.home / f"{lab_name}.pcapng").read_bytes()
    person.wirelab("down", lab_name)
    again = person.json("verify", "--replay", str(folder))
    del first["capture"]
    assert timeless(again) == timeless(first)
    shutil.rmtree(folder)


@pytest.mark.parametrize(("lab", "attempts"), [("nat", 40), ("ipv6", 8), ("tcp", 8)])
def test_no_verdict_from_altered_packets(user: Person, lab: str, attempts: int, lab_name: str) -> None:
    """The file is cut or one octet altered at many places: every verdict is UNKNOWN, or rests on no packet at all."""
    from emulator import kept

    folder = user.home / f"{lab_name}-kept"
    user.wirelab("verify", lab, "--keep", str(folder))
    whole = {result.name: result for result in kept.replay(folder).report.results}
    capture = folder / "capture.pcapng"
    octets = capture.read_bytes()
    chance = random.Random(lab)
    unknown = set()
    for attempt in range(attempts):
        place = chance.randrange(len(octets))
        if attempt % 2:
            capture.write_bytes(octets[:place])
        else:
            capture.write_bytes(
                octets[:place] + bytes([octets[place] ^ chance.randrange(1, 256)]) + octets[place + 1 :]
            )
        results = kept.replay(folder).report.results
        assert [result.name for result in results] == list(whole)
        for result in results:
            assert result.verdict == "unknown" or result == whole[result.name], (result, place)
        unknown = {result.name for result in results if result.verdict == "unknown"}
        assert len(unknown) > len(whole) / 2
    done = user.wirelab("verify", "--replay", str(folder), status=1)
    assert "wirelab: the capture was altered" in done.stderr or "wirelab: the capture is cut short" in done.stderr
    capture.write_bytes(octets)
    assert user.json("verify", "--replay", str(folder))["pass"] == len(whole)
    needs_none = {kind for name in set(whole) - unknown for kind in [_kind(lab, name)]}
    assert needs_none <= {"output", "mac-table", "subnet-arithmetic", "spanning-tree"}, needs_none
    shutil.rmtree(folder)


def _kind(lab: str, name: str) -> str:
    return next(str(check.check) for check in load(ROOT / "labs" / lab).spec.checks if check.name == name)


def test_killed_while_keeping(person: Person, lab_name: str, folder: Path) -> None:
    """What a killed verification began is not taken for a whole one, and the next one has the place."""
    begun = folder.with_name(f"{folder.name}.tmp")
    marks: set[int] = set()

    def begins() -> bool:
        """A verification has begun to keep that was not seen yet."""
        try:
            mark = (begun / "incomplete").stat().st_mtime_ns
        except OSError:
            return False
        known = mark in marks
        marks.add(mark)
        return not known

    for point in ("incomplete", "capture.pcapng", "plan.json"):
        process = person.popen(
            person.argv("verify", "ping", "--keep", str(folder)),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        wait_until(begins, "it keeps")
        wait_until(lambda: (begun / point).exists() or folder.exists(), f"it has written {point}", 90)  # noqa: B023
        process.send_signal(signal.SIGKILL)
        process.wait(20)
        if point == "plan.json" and folder.exists():  # it was a little faster
            person.wirelab("verify", "--replay", str(folder))
            shutil.rmtree(folder)
        assert begun.exists() or point == "plan.json"
        person.wirelab("verify", "--replay", str(folder), status=2)
    process = person.popen(person.argv("verify", "ping", "--keep", str(folder)), stdout=subprocess.DEVNULL,
                           stderr=subprocess.PIPE, start_new_session=True)  # fmt: skip
    wait_until(begins, "it keeps")
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=30)
    assert (process.returncode, said) == (130, "wirelab: interrupted\n")
    assert not begun.exists()
    person.wirelab("verify", "ping", "--keep", str(folder))
    person.wirelab("verify", "--replay", str(folder))
    again = person.wirelab("verify", "ping", "--keep", str(folder), status=2)
    assert "is not empty" in again.stderr
    shutil.rmtree(folder)


@pytest.mark.parametrize("kibibytes", [16, 96, 200])
def test_a_full_disk(person: Person, lab_name: str, kibibytes: int) -> None:
    """A disk of so many KiB, in a mount namespace of its own."""
    place = person.home / f"{lab_name}-disk"
    place.mkdir()
    place.chmod(0o777)
    line = " ".join(person.argv("verify", "nat", "--keep", f"{place}/kept"))
    script = f"mount -t tmpfs -o size={kibibytes}k none {place} && {line}; echo status=$?; ls -A {place}"
    unshare = ["unshare", "--mount", *(["--user", "--map-root-user"] if person.name == "user" else [])]
    done = person.run([*unshare, "sh", "-c", script])
    assert done.stdout == "status=1\n", (done.stdout, done.stderr)
    assert done.stderr in (
        f"wirelab: cannot keep the verification in {place}/kept: No space left on device\n",
        "wirelab: cannot write the capture: No space left on device\n",
    )
    place.rmdir()
