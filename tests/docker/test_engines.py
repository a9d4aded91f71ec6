"""The engines of these tests: they end with their owner, however it ends, and leave nothing on the machine."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.docker import engines
from tests.docker.engines import Engine
from tests.live.conftest import processes, wait_until


@pytest.fixture
def owner() -> Iterator[subprocess.Popen[bytes]]:
    """A process that owns an engine."""
    if reason := engines.why_not():
        engines.lacking(reason)
    with subprocess.Popen(["sleep", "600"]) as process:
        yield process
        process.kill()


def _forwarding(engine: Engine) -> str:
    argv = ["nsenter", "--target", str(engine.guard), "--net", "iptables", "--list-rules", "FORWARD"]
    return subprocess.run(argv, capture_output=True, text=True, check=True).stdout


def _machine() -> dict[str, Any]:
    filter_rules = subprocess.run(["iptables-save"], capture_output=True, text=True, check=False).stdout
    return {
        "interfaces": sorted(name for name in os.listdir("/sys/class/net") if name.startswith("docker")),
        "rules": [line for line in filter_rules.splitlines() if "DOCKER" in line],
        "keys": Path("/proc/sys/kernel/keys/root_maxkeys").read_text(),
        "forwarding": Path("/proc/sys/net/ipv4/ip_forward").read_text(),
    }


@pytest.mark.parametrize("own_network", [False, True])
def test_an_engine_ends_with_its_owner(owner: subprocess.Popen[bytes], own_network: bool) -> None:
    before = _machine()
    engine = engines.start(owner.pid, own_network=own_network)
    folder = Path(engine.socket).parent
    try:
        if own_network:
            assert "-P FORWARD DROP" in _forwarding(engine), "Docker's own rules are there"
        assert _machine() == before
        with contextlib.closing(engine.client()) as client:
            assert client.info()["Driver"] == "overlay2"
        assert str(folder) not in Path("/proc/self/mountinfo").read_text()
        owner.send_signal(signal.SIGKILL)
        wait_until(lambda: not folder.exists(), "the folder is gone", 30)
        wait_until(lambda: not processes(str(folder)), "no process of it", 30)
        assert not list(Path("/sys/fs/cgroup").glob(f"**/{folder.name}"))
        assert _machine() == before
    finally:
        engines.stop(engine)


def test_containers_end_with_their_engine(images: Engine, owner: subprocess.Popen[bytes]) -> None:
    engine = engines.start(owner.pid)
    folder = Path(engine.socket).parent
    try:
        engines.copy_images(images, engine, ["wirelab/base:" + _version()])
        with contextlib.closing(engine.client()) as client:
            made = client.containers.run(
                "wirelab/base:" + _version(), ["sleep", "4711"], detach=True, network_mode="none"
            )
            made.reload()
            pid = made.attrs["State"]["Pid"]
            assert f"/{folder.name}/" in Path(f"/proc/{pid}/cgroup").read_text()
        engines.stop(engine)
        assert not Path(f"/proc/{pid}").exists()
        assert not folder.exists()
        assert not list(Path("/sys/fs/cgroup").glob(f"**/{folder.name}"))
        assert not processes(str(folder))
    finally:
        engines.stop(engine)


def test_a_lacking_engine_is_a_skip_or_a_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the tests are to prove everything, nothing is skipped in silence."""
    monkeypatch.delenv("WIRELAB_TESTS_NEED_ENGINE", raising=False)
    with pytest.raises(pytest.skip.Exception, match="no dockerd"):
        engines.lacking("no dockerd")
    monkeypatch.setenv("WIRELAB_TESTS_NEED_ENGINE", "1")
    with pytest.raises(pytest.fail.Exception, match="no dockerd"):
        engines.lacking("no dockerd")


def test_one_failure_is_everybodys(tmp_path: Path) -> None:
    tries = []

    def work() -> None:
        tries.append(1)
        raise OSError("no space left")

    for _ in range(2):
        with pytest.raises(RuntimeError, match="no space left"):
            engines.done_once(tmp_path, "thing", work)
    assert len(tries) == 1
    assert engines.done_once(tmp_path, "other", lambda: [1]) == [1]
    assert engines.done_once(tmp_path, "other", lambda: [2]) == [1]


def _version() -> str:
    from emulator import __version__

    return __version__
