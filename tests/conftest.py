"""Fixtures of all tests: labs as an ordinary user and as root, through the command line as a user types it."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[1]
RUNTIME_PACKAGES = (
    "annotated_types", "argcomplete", "pydantic", "pydantic_core", "scapy", "typing_inspection",
    "typing_extensions.py", "yaml", "_yaml", "docker", "requests", "urllib3", "idna", "certifi", "charset_normalizer",
)  # fmt: skip

ORDINARY_ID = 47_110
"""User and group of the ordinary user when the tests run as root. It needs no account."""


@dataclass(frozen=True)
class Person:
    """Somebody who uses Wirelab, with an installation and a home of their own; `before` are words that come before the
    command line, such as those that lead into another network namespace."""

    name: str
    uid: int
    installation: Path
    home: Path
    python: str
    env: Mapping[str, str] = field(default_factory=dict)
    groups: tuple[int, ...] = ()
    before: tuple[str, ...] = ()

    @property
    def runs(self) -> Path:
        """Where this person's run directories are."""
        return self.home / "runtime" / "wirelab"

    def environment(self) -> dict[str, str]:
        """The environment of this person's commands, which do not know of an engine that the machine may have."""
        return {
            "PATH": os.environ.get("PATH", "") + ":/usr/sbin:/sbin",
            "HOME": str(self.home),
            "XDG_RUNTIME_DIR": str(self.home / "runtime"),
            "LANG": "C.UTF-8",
            "DOCKER_HOST": "unix:///nonexistent",
            "PYTHONPATH": os.pathsep.join(str(p) for p in (self.installation, self.installation / "packages")),
            **self.env,
        }

    def popen(self, argv: Sequence[str], **options: Any) -> subprocess.Popen[str]:
        """Start a command as this person."""
        if os.geteuid() == 0 and self.uid != 0:
            options |= {"user": self.uid, "group": self.uid, "extra_groups": list(self.groups)}
        options.setdefault("cwd", self.home)
        options.setdefault("env", self.environment())
        return subprocess.Popen(list(argv), text=True, **options)

    def run(self, argv: Sequence[str], *, timeout: float = 120, **options: Any) -> subprocess.CompletedProcess[str]:
        """Run a command as this person and wait for its end."""
        pipes = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        with self.popen(argv, **{**pipes, **options}) as process:
            try:
                out, err = process.communicate(timeout=timeout)
            except BaseException:
                process.kill()
                raise
        return subprocess.CompletedProcess(list(argv), process.returncode, out, err)

    def argv(self, *words: str) -> list[str]:
        """The command line `wirelab WORDS…`."""
        return [*self.before, self.python, "-m", "emulator", *words]

    def wirelab(self, *words: str, status: int | None = 0, **options: Any) -> subprocess.CompletedProcess[str]:
        """Run `wirelab WORDS…`, and require its exit status unless `status` is None."""
        done = self.run(self.argv(*words), **options)
        assert "Traceback" not in done.stderr + (done.stdout or ""), done.stderr
        if status is not None:
            said = f"exit status {done.returncode} of: {' '.join(words)}\n{done.stdout}\n{done.stderr}"
            assert done.returncode == status, said
        return done

    def json(self, *words: str, status: int | None = 0) -> Any:
        """What `wirelab WORDS… --json` prints."""
        return json.loads(self.wirelab(*words, "--json", status=status).stdout)


def _install(folder: Path) -> None:
    """A copy of the package, the labs and what it needs, readable for everyone, as a checkout in a home would be."""
    for part in ("emulator", "labs"):
        shutil.copytree(ROOT / part, folder / part, ignore=shutil.ignore_patterns("__pycache__"))
    site = Path(sysconfig.get_path("purelib"))
    (folder / "packages").mkdir()
    for name in RUNTIME_PACKAGES:
        source = site / name
        if source.is_dir():
            shutil.copytree(source, folder / "packages" / name)
        elif source.exists():
            shutil.copy(source, folder / "packages" / name)
    shutil.copy(ROOT / "pyproject.toml", folder)


def _python() -> str:
    """An interpreter that every user can run, of this version."""
    for candidate in ("/usr/bin/python3", os.path.realpath(sys.executable)):
        version = f"import sys; sys.exit(sys.version_info[:2] != {sys.version_info[:2]})"
        if os.path.exists(candidate) and subprocess.run([candidate, "-c", version], check=False).returncode == 0:
            return candidate
    return sys.executable


def pytest_configure() -> None:
    """Commands of the tests can be interrupted, also where the tests run in the background of a shell, which ignores it
    and hands that on."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_sessionfinish(session: pytest.Session) -> None:
    """The engines of tests/docker, which all workers share, end with the whole run."""
    if not hasattr(session.config, "workerinput"):
        from tests.docker import engines

        engines.stop_all(session.config._tmp_path_factory.getbasetemp())


@pytest.fixture(scope="session")
def people() -> Iterator[dict[str, Person]]:
    """An ordinary user, and root where the tests run as root; each with an installation."""
    base = Path(tempfile.mkdtemp(prefix="wirelab-tests-"))
    base.chmod(0o755)
    installation = base / "installation"
    installation.mkdir()
    _install(installation)
    everyone = {"user": os.geteuid() or ORDINARY_ID}
    if os.geteuid() == 0:
        everyone["root"] = 0
    result = {}
    for name, uid in everyone.items():
        home = base / name
        (home / "runtime").mkdir(parents=True)
        for folder in (home, home / "runtime"):
            folder.chmod(0o700)
            if os.geteuid() == 0:
                os.chown(folder, uid, uid)
        result[name] = Person(name, uid, installation, home, _python())
    subprocess.run([result["user"].python, "-m", "compileall", "-q", str(installation)], check=False)
    subprocess.run(["chmod", "-R", "a+rX", str(installation)], check=True)
    yield result
    for person in result.values():
        person.wirelab("down", "--all", status=None)
    shutil.rmtree(base, ignore_errors=True)


@pytest.fixture(params=["user", "root"])
def person(request: pytest.FixtureRequest, people: dict[str, Person]) -> Person:
    """Each who uses Wirelab: an ordinary user, and root."""
    if request.param not in people:
        pytest.skip("the tests do not run as root")
    return _as_marked(people[request.param], request)


@pytest.fixture
def user(request: pytest.FixtureRequest, people: dict[str, Person]) -> Person:
    """The ordinary user."""
    return _as_marked(people["user"], request)


def _as_marked(person: Person, request: pytest.FixtureRequest) -> Person:
    """With commands that begin at once, where a test is marked `warm` (`tests.live.warm`)."""
    if request.node.get_closest_marker("warm") is None:
        return person
    found: Person = request.getfixturevalue("warm_people")(person.name)
    return found
