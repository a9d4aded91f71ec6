"""The pytest plugin in a pytest of its own, as a user's tests have it: a lab a test, xdist, artefacts on failure."""

from __future__ import annotations

import os

from emulator.capture.pcapng import read
from tests.conftest import Person
from tests.live.conftest import copy_pytest

TESTS = """\
import pytest

@pytest.mark.lab("nat")
def test_page(lab):
    assert "behind a home router" in lab["pc1"].run(["curl", "-s", "http://www.example.com/"], check=True).stdout

@pytest.mark.lab("nat")
def test_fails(lab):
    lab["pc1"].run(["ping", "-c1", "-W1", "192.0.2.80"], check=True)
    assert lab["pc1"].run(["ping", "-c1", "-W1", "192.0.2.99"]).status == 0

@pytest.mark.lab("nat", scope="module")
def test_first_of_module(lab):
    lab["pc1"].run(["touch", "/tmp/mark"], check=True)

@pytest.mark.lab("nat", scope="module")
def test_second_of_module(lab):
    lab["pc1"].run(["test", "-e", "/tmp/mark"], check=True)

def test_context_manager():
    import emulator
    with emulator.up("nat", name="from-python") as lab:
        assert lab["web"].run(["hostname"]).stdout == "web\\n"
        with pytest.raises(KeyError):
            lab["nosuch"]
"""


def test_plugin_under_xdist(user: Person) -> None:
    folder = user.home / "plugin"
    folder.mkdir()
    (folder / "test_labs.py").write_text(TESTS)
    parts = (user.installation, user.installation / "packages", copy_pytest(user))
    path = os.pathsep.join(str(part) for part in parts)
    env = {**user.environment(), "PYTHONPATH": path, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    plugins = ["-p", "emulator.pytest_plugin", "-p", "xdist.plugin", "-p", "no:cacheprovider"]
    argv = [user.python, "-m", "pytest", *plugins, "-n", "2", "--dist", "loadfile", "-W", "error", "test_labs.py"]
    user.run(["chmod", "-R", "a+rX", str(folder)])
    if os.geteuid() == 0:
        os.chown(folder, user.uid, user.uid)
    done = user.run(argv, env=env, cwd=folder, timeout=200)
    assert "1 failed, 4 passed" in done.stdout, done.stdout[-3000:] + done.stderr[-2000:]
    assert "lab tables" in done.stdout
    assert "home conntrack" in done.stdout
    kept = list((folder / "artefacts").glob("*.pcapng"))
    assert [file.name for file in kept] == ["test_labs.py-test_fails.pcapng"]
    capture = read(kept[0])
    assert capture.truncated is None
    assert len(capture.packets) > 10
    assert kept[0].with_suffix(".tables.txt").stat().st_size > 100
    assert not user.runs.exists() or not [path for path in user.runs.iterdir() if "test" in path.name]
