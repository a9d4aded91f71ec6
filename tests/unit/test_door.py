"""Which command lines go straight to their work, and that everything else is read by the whole parser."""

from __future__ import annotations

import subprocess
import sys

import pytest

from emulator import cli
from emulator.door import is_plain_exec, plain_up
from tests.conftest import ROOT


@pytest.mark.parametrize(
    ("line", "plain"),
    [
        ("exec nat pc1 -- true", True),
        ("exec nat pc-1 -- curl -s --json x", True),
        ("exec nat pc1 -- sh -c x -- y", True),
        ("exec nat pc1 --", False),
        ("exec nat pc1 true", False),
        ("exec nat pc1,pc2 -- true", False),
        ("exec nat pc* -- true", False),
        ("exec nat --all -- true", False),
        ("exec nat pc1 --json -- true", False),
        ("exec --json nat -- true", False),
        ("exec -h pc1 -- true", False),
        ("explain nat pc1 -- true", False),
        ("exec", False),
        ("", False),
    ],
)
def test_what_goes_straight_to_its_work(line: str, plain: bool) -> None:
    assert is_plain_exec(line.split()) is plain


@pytest.mark.parametrize(
    ("line", "asked"),
    [
        ("up --topology single,10", ("single,10", None)),
        ("up --topology fat-tree,4", ("fat-tree,4", None)),
        ("up --topology tree,2,10 --name x", ("tree,2,10", "x")),
        ("up --topology star,3", ("star,3", None)),
        ("up --topology single,010", None),
        ("up --topology single,0", None),
        ("up --topology single", None),
        ("up --topology single,²", None),
        ("up --topology -x,1", None),
        ("up --topology ,1", None),
        ("up --topology=single,10", None),
        ("up --topology single,10 --name", None),
        ("up --topology single,10 --name -x", None),
        ("up --topology single,10 --nam x", None),
        ("up --topology single,10 --json", None),
        ("up --name x --topology single,10", None),
        ("up nat --topology single,10", None),
        ("plan --topology single,10", None),
        ("up", None),
        ("", None),
    ],
)
def test_which_topologies_come_up_at_once(line: str, asked: tuple[str, str | None] | None) -> None:
    assert plain_up(line.split()) == asked
    if asked is not None:  # the whole parser finds in it nothing else
        options = vars(cli.parser("up").parse_args(line.split()))
        usual = {"command": "up", "function": "up:up", "lab": None, "json": False}
        usual |= {"backend": "netns", "allow_binds": False, "allow_caps": False}
        assert options == {**usual, "topology": asked[0], "name": asked[1]}


def test_an_empty_name_is_read_by_the_whole_parser() -> None:
    assert plain_up(["up", "--topology", "single,10", "--name", ""]) is None


def test_exec_imports_nothing_heavy() -> None:
    """What an `exec` imports up to the moment when it asks for the lab: the standard library, and little of it."""
    code = (
        "import sys\nsys.argv = ['wirelab', 'exec', 'nosuch', 'a', '--', 'true']\n"
        "import atexit, os\nleave = os._exit\n"
        "def told(status):\n    print(status, *sorted(sys.modules))\n    sys.stdout.flush()\n    leave(0)\n"
        "os._exit = told\nfrom emulator.door import main\nmain()\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    status, *modules = done.stdout.split()
    assert status == "2"
    assert "no lab called nosuch" in done.stderr
    heavy = {"argparse", "pathlib", "shutil", "subprocess", "dataclasses", "inspect", "pydantic", "pyroute2", "scapy"}
    assert heavy.isdisjoint(modules)
    ours = {name for name in modules if name.startswith("emulator")}
    assert ours <= {
        "emulator", "emulator.commands", "emulator.commands.inside", "emulator.door", "emulator.errors",
        "emulator.guard", "emulator.names", "emulator.run", "emulator.run.control", "emulator.run.kernel",
        "emulator.run.running", "emulator.run.seccomp", "emulator.run.spawn", "emulator.version",
    }  # fmt: skip


def test_up_of_a_topology_imports_nothing_heavy() -> None:
    """What there is before a generated lab is built, and when it is announced; and before its first process starts."""
    code = (
        "import sys\nimport emulator.door, emulator.guard, emulator.commands.up\n"
        "import emulator.run.starting\nprint(*sys.modules)\nfrom emulator import controller\n"
        "from emulator.lab.generate import generate\nfrom emulator.plan.compile import compile_plan\n"
        "from emulator.reach.capacity import warnings\nimport emulator.run.building\n"
        "lab = generate('tree,2,3')\ncompile_plan(lab)\nwarnings(lab)\nprint(*sys.modules)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    first, all_of_it = (set(line.split()) for line in done.stdout.splitlines())
    heavy = {"argparse", "shutil", "subprocess", "pydantic", "pyroute2", "scapy", "yaml", "docker"}
    heavy |= {"emulator.cli", "dataclasses", "inspect"}
    assert heavy.isdisjoint(all_of_it)
    rare = {"emulator.lab.model", "emulator.plan.daemons", "emulator.run.execute", "emulator.verify.verdict"}
    assert rare.isdisjoint(all_of_it)
    later = {"emulator.frozen", "pathlib", "ctypes", "socket", "ipaddress", "emulator.controller"}
    assert later.isdisjoint(first)
    assert later <= all_of_it  # so it is the whole of it that was looked at
