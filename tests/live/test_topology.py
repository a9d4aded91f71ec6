"""Labs of a few words, and of counts and ranges: they come up, work, and can be used by their name."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from bench import floor
from tests.conftest import Person

pytestmark = pytest.mark.warm

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize(
    ("words", "last"),
    [("single,12", "10.0.0.12"), ("tree,2,3", "10.0.0.9"), ("linear,6", "10.0.0.6"), ("ring,4", "10.0.0.4"),
     ("fat-tree,4", "10.3.1.3")],
)  # fmt: skip
def test_a_generated_lab(
    person: Person, lab_name: str, nothing_left: Callable[[], None], words: str, last: str
) -> None:
    said = person.json("up", "--topology", words, "--name", lab_name)
    assert (said["name"], said["topology"], said["lab"]) == (lab_name, words, words.replace(",", "-"))
    person.wirelab("exec", lab_name, "h1", "--", "ping", "-n", "-c1", "-w20", last)
    proof = person.json("verify", lab_name)
    hosts = len(proof["nodes"])
    assert proof["lost"] == 0 and proof["pairs"] == hosts * (hosts - 1)
    person.wirelab("link", lab_name, "h1:eth0", "down")
    proof = person.json("verify", lab_name, status=1)
    assert proof["lost"] == 2 * (hosts - 1), "nobody reaches h1, and h1 reaches nobody"
    person.wirelab("link", lab_name, "h1:eth0", "up")
    planned = person.wirelab("plan", lab_name).stdout
    assert planned == person.wirelab("plan", "--topology", words).stdout and "make the" in planned
    done = person.wirelab("verify", lab_name, "--break", "anything", status=2)
    assert "was generated" in done.stderr
    person.wirelab("down", lab_name)
    nothing_left()


def test_a_ring_has_its_tree_when_it_is_up(user: Person, lab_name: str) -> None:
    """The first thing that is asked of it is answered: no port is still listening, and no frame goes round."""
    user.wirelab("up", "--topology", "ring,30", "--name", lab_name)
    try:
        assert user.json("verify", lab_name)["lost"] == 0
        states = user.wirelab("exec", lab_name, "s*", "--", "bridge", "link", "show").stdout
        assert states.count("state blocking") == 1
        assert states.count("state forwarding") == 30 * 3 - 1
    finally:
        user.wirelab("down", lab_name)


def test_its_own_name(person: Person) -> None:
    try:
        assert "single-2 is up: 3 nodes, 2 links" in person.wirelab("up", "--topology", "single,2").stdout
        done = person.wirelab("up", "--topology", "single,2", status=2)
        assert "single-2 is running already" in done.stderr
    finally:
        person.wirelab("down", "single-2")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("up", "--topology", "ring,2"), "'ring,2': SWITCHES is at least 3\n  hint: expected ring,SWITCHES"),
        (("up", "--topology", "torus,3,3"), "no kind of topology 'torus'"),
        (("up", "nat", "--topology", "single,2"), "either a lab or a topology"),
        (("up",), "either a lab or a topology"),
        (("plan",), "either a lab or a topology"),
        (("plan", "--topology", "single,99999"), "a lab has at most 65,535 nodes"),
    ],
)
def test_wrong_words(person: Person, words: tuple[str, ...], said: str) -> None:
    assert said in person.wirelab(*words, status=2).stderr


@pytest.mark.parametrize("words", ["ring,2", "torus,3,3", "single,99999", "single,1x"])
@pytest.mark.parametrize("name", ["", ".hidden"])
def test_wrong_words_leave_nothing(
    person: Person, lab_name: str, nothing_left: Callable[[], None], words: str, name: str
) -> None:
    """The first form starts the lab's first process before it knows; both say the same."""
    name = name or lab_name
    early = person.wirelab("up", "--topology", words, "--name", name, status=2)
    late = person.wirelab("up", f"--topology={words}", "--name", name, status=2)
    assert (early.stderr, early.stdout) == (late.stderr, late.stdout)
    assert words.partition(",")[0] in early.stderr
    nothing_left()


def test_a_name_that_is_taken(person: Person, lab_name: str, nothing_left: Callable[[], None]) -> None:
    person.wirelab("up", "--topology", "single,1", "--name", lab_name)
    assert "running already" in person.wirelab("up", "--topology", "single,2", "--name", lab_name, status=2).stderr
    assert "at least 3" in person.wirelab("up", "--topology", "ring,2", "--name", lab_name, status=2).stderr
    assert len(person.json("ps", lab_name)["nodes"]) == 2, "it runs on as it was"
    person.wirelab("down", lab_name)
    nothing_left()


def test_a_stack_of_switches_is_told(person: Person) -> None:
    """Not brought up here: the plan says the same."""
    plan = person.wirelab("plan", "--topology", "single,1500").stdout
    assert "make the bridge br0 in s3" in plan and "make the bridge br0 in s4" not in plan


def test_the_script_of_a_generated_lab_builds_it(person: Person) -> None:
    script = person.wirelab("plan", "--topology", "tree,2,2", "--as", "sh").stdout
    file = person.home / "tree.sh"
    file.write_text(script)
    inside = "ip netns exec h1 ping -n -c1 -w20 10.0.0.4 && ip netns exec h4 ping -n -c1 -w20 10.0.0.1"
    done = person.run(["unshare", "-Urmn", "--mount-proc", "-pf", "sh", str(file), "sh", "-c", inside])
    assert done.returncode == 0, done.stdout + done.stderr


def test_counts_and_ranges(person: Person, lab_name: str, nothing_left: Callable[[], None]) -> None:
    file = person.home / f"{lab_name}.yml"
    file.write_text("""\
name: ranges
nodes:
  h: {count: 4}
  g08..g10: {env: {PLACE: hall}}
  g10: {env: {PLACE: door}}
  s1..s2: {kind: switch}
links:
  - [h, s1]
  - ["g08..g10:up", s2]
  - [s1, s2]
""")
    person.wirelab("up", str(file), "--name", lab_name)
    place = [
        person.wirelab("exec", lab_name, f"g{number}", "--", "printenv", "PLACE").stdout for number in ("09", "10")
    ]
    assert place == ["hall\n", "door\n"]
    proof = person.json("verify", lab_name)
    assert proof["nodes"] == ["h1", "h2", "h3", "h4", "g08", "g09", "g10"] and proof["lost"] == 0
    person.wirelab("link", lab_name, "s1:s2", "down")
    assert person.json("verify", lab_name, status=1)["lost"] == 2 * 4 * 3


@pytest.mark.skipif(shutil.which("cc") is None, reason="no C compiler")
def test_the_floor_as_anybody(person: Person) -> None:
    program = person.home / "kernel_floor"
    shutil.copy(floor.program(), program)
    program.chmod(0o755)
    done = person.run([str(program), "7", "3"])
    assert done.returncode == 0 and 0 < float(done.stdout) < 60, done.stderr


@pytest.mark.skipif(shutil.which("cc") is None, reason="no C compiler")
def test_a_measurement(tmp_path: Path) -> None:
    """The table and the figures are made; whether bounds hold is not for a machine that runs tests."""
    file = tmp_path / "figures.json"
    argv = [sys.executable, "-m", "bench", "up", "down", "--quick", "--json", str(file)]
    done = subprocess.run(argv, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode in (0, 1), done.stderr
    written = json.loads(file.read_text())
    rows = {row["what"]: row for row in written["rows"]}
    first = rows["up, single, 10 hosts (single,10)"]
    assert first["ratio"] == pytest.approx(first["ours"]["median"] / first["other"]["median"], rel=0.01)
    assert rows["up, tree, 100 hosts (tree,2,10)"]["bound"] == "≤ 1.5× + 0.25 s"
    down = rows.get("down, single, 100 hosts: the kernel has everything back")
    assert down["other"]["median"] > 0 if down else "something else on this machine" in written["skipped"]["down"]
    assert all(what in done.stdout for what in rows)
