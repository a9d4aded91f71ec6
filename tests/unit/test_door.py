"""Which command lines go straight to their work, and that everything else is read by the whole parser."""

from __future__ import annotations

import subprocess
import sys

import pytest

from emulator.door import is_plain_exec
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
