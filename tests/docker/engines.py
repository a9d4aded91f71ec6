"""Docker Engines of the tests' own: one for all workers of a run, started by the first that needs it, stopped at the
end of the run by whoever started the run, and by their guard when that one ends in another way."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from emulator.run import engine as access

ROOT = Path(__file__).resolve().parents[2]
START_S = 60.0
STOP_S = 60.0


class UnavailableError(Exception):
    """No engine can run here; the text says why."""


@dataclass(frozen=True)
class Engine:
    """A running engine.

    Attributes:
        socket: the path of its socket, which belongs to root alone.
        guard: the process that holds it.
    """

    socket: str
    guard: int

    @property
    def host(self) -> str:
        """What DOCKER_HOST must be."""
        return f"unix://{self.socket}"

    @property
    def env(self) -> Mapping[str, str]:
        """What leads a command to this engine, and to no other."""
        return {"DOCKER_HOST": self.host}

    def client(self) -> Any:
        """A client of the package `docker`; close it."""
        import docker

        return docker.DockerClient(base_url=self.host, timeout=300)

    def tool(self, *words: str, **options: Any) -> subprocess.CompletedProcess[str]:
        """Run `tools/images.py WORDS…` on this engine."""
        env = {**os.environ, **self.env, "PYTHONPATH": str(ROOT)}
        argv = [sys.executable, str(ROOT / "tools" / "images.py"), *words]
        return subprocess.run(argv, capture_output=True, text=True, env=env, cwd=ROOT, check=False, **options)


def lacking(reason: str) -> NoReturn:
    """Skip the test for want of an engine or of what goes with it; with WIRELAB_TESTS_NEED_ENGINE it fails instead."""
    import pytest  # here, since `make bench` has none

    if os.environ.get("WIRELAB_TESTS_NEED_ENGINE"):
        pytest.fail(f"{reason}, and WIRELAB_TESTS_NEED_ENGINE is set")
    pytest.skip(reason)


def why_not() -> str | None:
    """Why no engine can run on this machine, or None when one can."""
    if os.geteuid() != 0:
        return "an engine of the tests' own needs root"
    if shutil.which("dockerd", path=os.environ.get("PATH", "") + ":/usr/sbin:/sbin") is None:
        return "there is no dockerd (Debian's package docker.io)"
    subprocess.run(["sh", "-c", "modprobe -q overlay"], check=False, stderr=subprocess.DEVNULL)
    if "overlay" not in Path("/proc/filesystems").read_text().split():
        return "the kernel lacks overlay file systems (CONFIG_OVERLAY_FS)"
    if " cgroup" not in Path("/proc/self/mountinfo").read_text():
        return "no control groups are mounted at /sys/fs/cgroup"
    return None


@contextlib.contextmanager
def once(folder: Path, name: str) -> Iterator[Path]:
    """Hold the lock for `name` among all workers of the run; yields the file that is to be there when it is done."""
    with (folder / f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield folder / f"{name}.json"


def done_once(folder: Path, name: str, work: Callable[[], Any]) -> Any:
    """The result of `work`, which the first worker does and all others read; a failure is remembered too.

    Raises:
        RuntimeError: it failed, here or in the worker that tried it.
    """
    with once(folder, name) as file:
        if not file.exists():
            try:
                answer = {"result": work()}
            except Exception as error:
                answer = {"error": f"{type(error).__name__}: {error}"}
            file.write_text(json.dumps(answer))
        answer = json.loads(file.read_text())
    if "error" in answer:
        raise RuntimeError(answer["error"])
    return answer["result"]


def start(owner: int, *, own_network: bool = False) -> Engine:
    """Start an engine that lives as long as the process `owner`.

    Raises:
        RuntimeError: it does not come up; with the end of what it said.
    """
    folder = Path(tempfile.mkdtemp(prefix="wirelab-engine-"))
    folder.chmod(0o755)
    argv = [sys.executable, str(ROOT / "tests" / "docker" / "guard.py"), str(folder), str(owner)]
    log = folder / "log"
    env = {**os.environ, "PATH": os.environ.get("PATH", "") + ":/usr/sbin:/sbin"}
    flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND
    streams = [(os.POSIX_SPAWN_OPEN, 0, "/dev/null", os.O_RDONLY, 0)]
    streams += [(os.POSIX_SPAWN_OPEN, number, str(log), flags, 0o600) for number in (1, 2)]
    guard = os.posix_spawn(
        sys.executable, [*argv, *(["own-network"] if own_network else [])], env, file_actions=streams, setsid=True
    )
    engine = Engine(f"{folder}/sock", guard)
    deadline = time.monotonic() + START_S
    said = ""
    while time.monotonic() < deadline and os.waitpid(guard, os.WNOHANG) == (0, 0):
        with contextlib.suppress(OSError):
            said = log.read_text()
        try:
            access.request(engine.socket, "GET", "/_ping")
        except OSError:
            time.sleep(0.05)
        else:
            return engine
    with contextlib.suppress(OSError):
        said = log.read_text()
    stop(engine)
    shutil.rmtree(folder, ignore_errors=True)
    raise RuntimeError("dockerd did not come up:\n" + "\n".join(said.splitlines()[-20:]))


def stop(engine: Engine) -> None:
    """End an engine and wait until everything of it has gone."""
    try:
        descriptor = os.pidfd_open(engine.guard)
    except ProcessLookupError:
        return
    try:
        with contextlib.suppress(OSError):
            if str(Path(engine.socket).parent).encode() in Path(f"/proc/{engine.guard}/cmdline").read_bytes():
                os.kill(engine.guard, signal.SIGTERM)
                select.select([descriptor], [], [], STOP_S)
        with contextlib.suppress(ChildProcessError):  # another process has started it
            os.waitpid(engine.guard, os.WNOHANG)
    finally:
        os.close(descriptor)


def shared(folder: Path, name: str, owner: int, *, own_network: bool = False) -> Engine:
    """The engine `name` of this run; started by the first who asks.

    Raises:
        UnavailableError: no engine can run here.
        RuntimeError: it could run, but does not come up.
    """
    if reason := why_not():
        raise UnavailableError(reason)

    def work() -> tuple[str, int]:
        engine = start(owner, own_network=own_network)
        return engine.socket, engine.guard

    socket, guard = done_once(folder, f"engine-{name}", work)
    return Engine(socket, guard)


def stop_all(folder: Path) -> None:
    """Stop all engines of the run whose common folder is `folder`."""
    for file in folder.glob("engine-*.json"):
        answer = json.loads(file.read_text())
        if "result" in answer:
            stop(Engine(*answer["result"]))
        file.unlink()


def copy_images(source: Engine, target: Engine, tags: Sequence[str]) -> None:
    """Bring images from one engine to another, each layer once."""
    here, there = source.client(), target.client()
    with contextlib.closing(here), contextlib.closing(there):
        url = here.api._url("/images/get")
        with here.api._get(url, params={"names": list(tags)}, stream=True) as answer:
            answer.raise_for_status()
            for message in there.api.load_image(answer.iter_content(1 << 20)):
                assert "error" not in message, message
