"""The README's first command, typed by an ordinary user in a fresh clone."""

from __future__ import annotations

import os
import shutil
import subprocess

import pytest

from tests.conftest import ROOT, Person


@pytest.mark.slow
def test_make_lab_nat_in_a_fresh_clone(user: Person) -> None:
    clone = user.home / "clone"
    tracked = subprocess.run(
        ["git", "-C", str(ROOT), "-c", f"safe.directory={ROOT}", "ls-files", "-z"], capture_output=True, check=False
    ).stdout.decode()
    if not tracked:
        pytest.skip("this is not a git checkout")
    for name in tracked.split("\0"):
        if name and (ROOT / name).exists():
            (clone / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, clone / name)
    if os.geteuid() == 0:
        subprocess.run(["chown", "-R", f"{user.uid}:{user.uid}", str(clone)], check=True)
    keep = ("PIP_", "SSL_", "REQUESTS_", "CURL_", "HTTP", "http", "https", "no_proxy", "NO_PROXY", "ALL_PROXY")
    network = {name: value for name, value in os.environ.items() if name.startswith(keep)}
    env = {**network, **user.environment(), "PYTHONPATH": "", "PIP_NO_CACHE_DIR": "1"}
    first = user.run(["make", "lab-nat"], cwd=clone, env=env, timeout=400)
    assert first.returncode == 0, first.stdout + first.stderr
    assert "25 passed" in first.stdout
    assert "nat is running. Try next" in first.stdout
    again = user.run(["make", "lab-nat"], cwd=clone, env=env, timeout=100)
    assert again.returncode == 0, again.stdout + again.stderr
    assert "setup:" not in again.stderr
    assert "nat is running already" in again.stdout
    labs = user.run(["make", "labs"], cwd=clone, env=env)
    assert "nat  " in labs.stdout
    down = user.run(["make", "down-nat"], cwd=clone, env=env)
    assert "nat is down" in down.stdout
    shutil.rmtree(clone)
