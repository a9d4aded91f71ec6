"""docker-compose.yml: the whole emulator in one container, through Debian's Compose and a real engine."""

from __future__ import annotations

import contextlib
import os
import pty
import re
import select
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from emulator import __version__
from tests.docker import engines
from tests.docker.engines import ROOT, Engine
from tests.live.conftest import wait_until

IMAGE = f"wirelab/wirelab:{__version__}"
RIGHTS = ("SYS_ADMIN", "SETUID", "SETGID")


@dataclass(frozen=True)
class Project:
    """A Compose project of a test's own."""

    name: str
    engine: Engine

    def argv(self, *words: str) -> list[str]:
        """The command line `docker-compose WORDS…`."""
        return ["docker-compose", "--project-name", self.name, "--file", str(ROOT / "docker-compose.yml"), *words]

    @property
    def env(self) -> dict[str, str]:
        """The environment of Compose: it runs with the system's Python and packages."""
        return {"PATH": os.environ["PATH"], "HOME": "/root", "LANG": "C.UTF-8", **self.engine.env}

    def run(self, *words: str, timeout: float = 300) -> subprocess.CompletedProcess[str]:
        """Run Compose."""
        return subprocess.run(
            self.argv(*words), capture_output=True, text=True, env=self.env, timeout=timeout, check=False
        )

    def containers(self) -> list[Any]:
        """The project's containers."""
        with contextlib.closing(self.engine.client()) as client:
            label = f"com.docker.compose.project={self.name}"
            return list(client.containers.list(all=True, filters={"label": label}))

    def fetch(self, timeout_s: int = 3) -> str:
        """What somebody on the engine's machine sees at http://localhost:8080/, or nothing."""
        argv = ["nsenter", "--target", str(self.engine.guard), "--net", "curl", "--silent", "--fail"]
        argv += ["--max-time", str(timeout_s), "http://127.0.0.1:8080/"]
        return subprocess.run(argv, capture_output=True, text=True, check=False).stdout


@pytest.fixture(scope="session")
def engine_with_emulator(engine: Engine, empty_engine_with_default_rules: Engine, run_folder: Path) -> Engine:
    """The engine with Docker's own rules, and the image of the whole emulator."""
    if shutil.which("docker-compose") is None:
        engines.lacking("there is no docker-compose (Debian's package of that name)")
    target = empty_engine_with_default_rules

    def build() -> None:
        done = engine.tool("wirelab")
        if done.returncode != 0:
            raise RuntimeError(f"make images: {done.stderr}")
        engines.copy_images(engine, target, [IMAGE])

    engines.done_once(run_folder, "image-wirelab", build)
    return target


@pytest.fixture
def project(engine_with_emulator: Engine) -> Iterator[Project]:
    """A project; afterwards nothing of it is there."""
    made = Project(f"t{os.getpid()}{time.monotonic_ns()}", engine_with_emulator)
    yield made
    made.run("down", "--timeout", "1")
    assert made.containers() == []


def test_the_file_is_sound_and_grants_what_the_manual_says() -> None:
    text = (ROOT / "docker-compose.yml").read_text()
    assert f"image: {IMAGE}" in text
    assert "privileged" not in text
    assert re.findall(r"cap_add: \[(.*)\]", text) == [", ".join(RIGHTS)]
    assert "cap_drop: [ALL]" in text
    if shutil.which("docker-compose") is not None:
        argv = ["docker-compose", "--file", str(ROOT / "docker-compose.yml"), "config", "--quiet"]
        done = subprocess.run(argv, capture_output=True, text=True, env={"PATH": os.environ["PATH"]}, check=False)
        assert done.returncode == 0, done.stderr


def test_a_lab_is_proved(project: Project) -> None:
    done = project.run("run", "--rm", "-T", "wirelab", "lab", "nat")
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.search(r"^25 passed in", done.stdout, re.MULTILINE)


def test_exit_statuses_pass_through(project: Project) -> None:
    no_lab = project.run("run", "--rm", "-T", "wirelab", "lab")
    assert (no_lab.returncode, "usage: lab NAME" in no_lab.stdout + no_lab.stderr) == (2, True)
    broken = project.run("run", "--rm", "-T", "wirelab", "verify", "nat", "--break", "no-dnat")
    unknown = project.run("run", "--rm", "-T", "wirelab", "verify", "nobody")
    assert (broken.returncode, unknown.returncode) == (1, 2), broken.stdout + broken.stderr + unknown.stderr
    assert "exactly the checks" in broken.stdout


def test_a_terminal_gets_a_shell(project: Project) -> None:
    leader, follower = pty.openpty()
    argv = project.argv("run", "--rm", "wirelab", "lab", "two-lans")
    with subprocess.Popen(argv, stdin=follower, stdout=follower, stderr=follower, env=project.env) as compose:
        os.close(follower)
        said = _read(leader, "exit takes it down", 120)
        os.write(leader, b"wirelab exec two-lans pc-a -- hostname; id -un; exit\n")
        said += _read(leader, None, 60)
        assert compose.wait(60) == 0
    os.close(leader)
    assert re.search(r"\rpc-a\r?\n", said)
    assert re.search(r"\nlearner\r?\n", said)


def _read(terminal: int, wanted: str | None, timeout_s: float) -> str:
    said = ""
    deadline = time.monotonic() + timeout_s
    while wanted is None or wanted not in said:
        assert time.monotonic() < deadline, said
        if select.select([terminal], [], [], 1)[0]:
            try:
                part = os.read(terminal, 65536)
            except OSError:
                part = b""
            if not part:
                assert wanted is None, said
                return said
            said += part.decode(errors="replace")
    return said


def test_a_published_port_leads_through_the_lab(project: Project) -> None:
    done = project.run("up", "--detach", "web")
    assert done.returncode == 0, done.stderr
    wait_until(lambda: project.fetch() == "This is the server at home.\n", "the page of the lab's server", 120)
    (container,) = project.containers()

    def wirelab(*words: str) -> str:
        result = container.exec_run(["wirelab", *words], user="learner")
        assert result.exit_code == 0, result.output
        return str(result.output.decode())

    # The router at home has translated the way of that connection.
    tracked = wirelab("exec", "nat", "home", "--", "conntrack", "-L")
    assert re.search(r"src=198\.18\.0\.99 dst=203\.0\.113\.2 .*dport=8080 src=192\.168\.1\.10 ", tracked)
    wirelab("link", "nat", "server:eth0", "down")
    assert project.fetch() == "", "with the cable of the server pulled there is no page"
    wirelab("link", "nat", "server:eth0", "up")
    wait_until(lambda: project.fetch() != "", "the page is back", 60)
    _nobody_has_rights(container)
    assert project.run("stop", "--timeout", "60").returncode == 0
    container.reload()
    assert container.attrs["State"]["ExitCode"] != 128 + signal.SIGKILL, "it ends when told, not when killed"


def _nobody_has_rights(container: Any) -> None:
    """No process of the container has another user, or a capability outside the user namespaces of labs."""
    container.reload()
    first = int(container.attrs["State"]["Pid"])
    own = os.readlink(f"/proc/{first}/ns/user")
    pids = [int(row[1]) for row in container.top()["Processes"]]
    assert first in pids
    assert len(pids) > 10
    for pid in pids:
        with contextlib.suppress(FileNotFoundError):
            status = Path(f"/proc/{pid}/status").read_text()
            assert re.search(r"^Uid:\t1000\t1000\t1000\t1000$", status, re.MULTILINE), status
            assert "NoNewPrivs:\t1" in status
            if os.readlink(f"/proc/{pid}/ns/user") == own:
                assert "CapEff:\t0000000000000000" in status, status


@pytest.mark.parametrize("without", RIGHTS)
def test_no_right_is_too_many(engine_with_emulator: Engine, without: str) -> None:
    options: dict[str, Any] = {
        "cap_drop": ["ALL"], "cap_add": [right for right in RIGHTS if right != without], "network_mode": "none",
        "security_opt": ["no-new-privileges:true", "apparmor=unconfined"], "detach": True,
    }  # fmt: skip
    with contextlib.closing(engine_with_emulator.client()) as client:
        made = client.containers.run(IMAGE, ["verify", "ping"], **options)
        try:
            assert made.wait(timeout=120)["StatusCode"] == (3 if without == "SYS_ADMIN" else 127)
            assert "ermission denied" in made.logs().decode() or "not permitted" in made.logs().decode()
        finally:
            made.remove(force=True)
