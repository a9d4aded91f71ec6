"""The container images: what is in them, how they are built, and what happens when they cannot be."""

from __future__ import annotations

import contextlib
import importlib.util
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from docker.errors import NotFound

from emulator import __version__
from emulator.errors import CommandFailed, UsageError
from emulator.run.tools import PACKAGES
from tests.docker.conftest import NODE_IMAGES
from tests.docker.engines import ROOT, Engine

SERVERS = {
    "router": ("root", "dnsmasq --no-daemon --conf-file=/run/wirelab/dnsmasq.conf"),
    "resolver": ("unbound", "unbound -d -p -c /run/wirelab/unbound.conf"),
    "nameserver": ("nsd", "nsd -d -c /run/wirelab/nsd.conf"),
    "web": ("www-data", "busybox httpd -f -p 80 -h /run/wirelab/www"),
}
"""Image → the user of its daemon, and how a lab starts that."""
SET_UP = {
    "router": ("dnsmasq.conf", "no-resolv\n"),
    "resolver": (
        "unbound.conf",
        'server:\n  username: ""\n  chroot: ""\n  pidfile: ""\n  use-syslog: no\n  directory: "/run/wirelab"\n'
        '  interface: 127.0.0.1\n  module-config: "iterator"\n'
        "remote-control:\n  control-enable: yes\n  control-interface: /run/wirelab/unbound.ctl\n"
        "  control-use-cert: no\n",
    ),
    "nameserver": (
        "nsd.conf",
        'server:\n  username: ""\n  pidfile: ""\n  database: ""\n  zonesdir: "/run/wirelab"\n  xfrdir: "/run/wirelab"\n'
        '  xfrdfile: "/run/wirelab/x"\n  zonelistfile: "/run/wirelab/z"\n  logfile: "/dev/stderr"\n'
        "remote-control:\n  control-enable: no\n",
    ),
    "web": ("www/index.html", "hello\n"),
}
"""Image → the daemon's configuration: its file in /run/wirelab, and what that says."""
ASK = {
    "router": "dig +time=1 +tries=1 @127.0.0.1 version.bind CH TXT",
    "resolver": "dig +time=1 +tries=1 @127.0.0.1 version.bind CH TXT",
    "nameserver": "dig +time=1 +tries=1 @127.0.0.1 version.bind CH TXT",
    "web": "curl -sf http://127.0.0.1/",
}


def _tool() -> Any:
    spec = importlib.util.spec_from_file_location("images_tool", ROOT / "tools" / "images.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules["images_tool"] = module
    spec.loader.exec_module(module)
    return module


tool = _tool()


@contextlib.contextmanager
def container(engine: Engine, image: str, **options: Any) -> Iterator[Any]:
    """A container without a network, as a lab's node has it."""
    with contextlib.closing(engine.client()) as client:
        made = client.containers.run(image, detach=True, network_mode="none", **options)
        try:
            yield made
        finally:
            made.remove(force=True)


def run(made: Any, script: str, user: str = "root") -> tuple[int, str]:
    """Run a shell script in a container; its status and what it said."""
    done = made.exec_run(["sh", "-c", script], user=user)
    return done.exit_code, done.output.decode()


# What is written in images/


def test_every_package_is_pinned_and_nothing_is_an_entrypoint() -> None:
    for dockerfile in (ROOT / "images").glob("*/Dockerfile"):
        text = dockerfile.read_text()
        assert "ENTRYPOINT" not in text or dockerfile.parent.name == "wirelab"
        for version in re.findall(r"^ARG VERSION=(.*)$", text, re.MULTILINE):
            assert version == __version__, dockerfile
        for command in re.findall(r"--no-install-recommends(.*?)(?:&&|\n(?! ))", text, re.DOTALL):
            packages = command.replace("\\\n", " ").split()
            assert packages
            assert all(re.fullmatch(r'"[a-z0-9.+-]+=[\w:.~-]+\*"', package) for package in packages), packages


def test_the_order_of_building() -> None:
    known = tool.recipes()
    assert set(NODE_IMAGES) <= set(known)
    for name, below in {
        "host": "base",
        "router": "host",
        "resolver": "host",
        "nameserver": "host",
        "web": "host",
    }.items():
        assert known[name].parent == below
    assert [recipe.name for recipe in tool.needed(["router"], known)] == ["base", "host", "router"]
    with pytest.raises(UsageError, match="there is no image nobody"):
        tool.needed(["nobody"], known)


def test_all_that_labs_need_is_in_some_image() -> None:
    known = tool.recipes()
    everywhere = {program for name in NODE_IMAGES for program in known[name].adds}
    for_the_machine = {"ldns-keygen", "ldns-signzone", "nft", "tshark", "wireshark"}
    assert set(PACKAGES) - everywhere == for_the_machine
    whole = (ROOT / "images" / "wirelab" / "Dockerfile").read_text()
    for program, package in PACKAGES.items():
        assert f'"{package}=' in whole or program in ("tshark", "wireshark"), package


def test_what_an_image_is_made_of_decides(tmp_path: Path) -> None:
    recipe = _recipe(tmp_path, "one", "FROM ${BASE}\n")
    first = recipe.hash("below")
    assert first == _recipe(tmp_path, "one", "FROM ${BASE}\n").hash("below")
    assert first != recipe.hash("another")
    assert first != _recipe(tmp_path, "one", "FROM ${BASE}\nUSER nobody\n").hash("below")
    (tmp_path / "one" / "Dockerfile").write_text("FROM ${BASE}\n")
    (tmp_path / "one" / "more").write_text("")
    assert first != tool.recipes(tmp_path)["one"].hash("below")


def _recipe(folder: Path, name: str, text: str) -> Any:
    (folder / name).mkdir(exist_ok=True)
    (folder / name / "Dockerfile").write_text(text)
    return tool.recipes(folder)[name]


def test_images_that_stand_on_each_other(tmp_path: Path) -> None:
    for name, below in (("one", "two"), ("two", "one")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "Dockerfile").write_text(f"FROM wirelab/{below}:${{VERSION}}\n")
    with pytest.raises(CommandFailed, match="stand on each other"):
        tool.recipes(tmp_path)


def test_mirrors_are_those_of_the_machine() -> None:
    chosen = tool.debian_base.chosen_mirrors(
        "Debian|http://mirror.example/debian/|bookworm|main\n"
        "Debian|http://mirror.example/debian/|bookworm|contrib\n"
        "Debian|http://mirror.example/debian/|bookworm-updates|main\n"
        "Debian|http://mirror.example/security/|bookworm-security|main\n"
        "Somebody|http://somebody.example/|bookworm|main\n"
    )
    assert chosen.archive == "http://mirror.example/debian"
    assert chosen.lines == (
        "deb http://mirror.example/debian bookworm main",
        "deb http://mirror.example/debian bookworm-updates main",
        "deb http://mirror.example/security bookworm-security main",
    )
    assert tool.debian_base.chosen_mirrors("Ubuntu|http://ubuntu.example/|noble|main\n") is None
    assert tool.debian_base.chosen_mirrors("Somebody|http://somebody.example/|bookworm|main\n") is None


# What is in the images


def test_labels_sizes_and_programs(images: Engine) -> None:
    known = tool.recipes()
    with contextlib.closing(images.client()) as client:
        for name in NODE_IMAGES:
            image = client.images.get(known[name].tag)
            provides = image.labels["wirelab.provides"].split()
            assert image.labels["wirelab.image"] == name
            assert set(known[name].adds) <= set(provides)
            with container(images, known[name].tag) as made:
                missing = run(made, f"for p in {' '.join(provides)}; do command -v $p >/dev/null || echo $p; done")
                assert missing == (0, ""), name
                left = run(made, "ls /var/lib/apt/lists /usr/share/man /usr/share/locale 2>/dev/null | grep -v :$")
                assert left[1].strip() == "", name


def test_readme_tells_the_sizes(images: Engine) -> None:
    told = dict(re.findall(r"^\| `(\w+)` \|.*\| (\d+) MB \|$", (ROOT / "README.md").read_text(), re.MULTILINE))
    with contextlib.closing(images.client()) as client:
        for name in NODE_IMAGES:
            megabytes = client.images.get(f"wirelab/{name}:{__version__}").attrs["Size"] / 1e6
            assert abs(int(told[name]) - megabytes) <= 0.1 * megabytes, (name, megabytes)


@pytest.mark.parametrize("init", [False, True])
@pytest.mark.parametrize("name", ["host", "resolver"])
def test_the_main_process_ends_when_told(images: Engine, name: str, init: bool) -> None:
    with container(images, f"wirelab/{name}:{__version__}", init=init) as made:
        made.stop(timeout=60)
        made.reload()
        assert made.attrs["State"]["ExitCode"] in ((0, 143) if init else (0,)), "it was not killed"


@pytest.mark.parametrize("name", list(SERVERS))
def test_daemons_run_as_their_own_user_and_health_is_true(images: Engine, name: str) -> None:
    user, command = SERVERS[name]
    with container(images, f"wirelab/{name}:{__version__}") as made:
        assert (made.client.images.get(made.image.id).attrs["Config"]["User"] or "root") == user
        assert run(made, "wirelab-health", user) == (0, ""), "an idle node is healthy"
        assert run(made, f"mkdir /run/wirelab && chown {user} /run/wirelab")[0] == 0
        file, text = SET_UP[name]
        assert run(made, f"cd /run/wirelab; mkdir -p $(dirname {file}); printf %s '{text}' >{file}", user) == (0, "")
        status, said = run(made, "wirelab-health", user)
        assert status == 1
        assert "not listen" in said, "it is set up and does not run"
        made.exec_run(["sh", "-c", f"exec {command}"], user=user, detach=True)
        _until(lambda: run(made, ASK[name], user)[0] == 0, f"{command} answers")
        assert run(made, "wirelab-health", user) == (0, "")
        assert run(made, f"pkill -9 -x '{command.split()[0]}.*'")[0] == 0
        _until(lambda: run(made, "wirelab-health", user)[0] == 1, "its end is seen")


def test_the_engine_asks_for_the_health(images: Engine) -> None:
    health = {"test": ["CMD", "wirelab-health"], "interval": 200_000_000, "retries": 1, "timeout": 5_000_000_000}
    with contextlib.closing(images.client()) as client:
        for name in NODE_IMAGES:
            config = client.images.get(f"wirelab/{name}:{__version__}").attrs["Config"]
            assert config["Healthcheck"]["Test"] == ["CMD", "wirelab-health"]
    with container(images, f"wirelab/router:{__version__}", healthcheck=health) as made:

        def is_now(word: str) -> bool:
            made.reload()
            return bool(made.attrs["State"]["Health"]["Status"] == word)

        _until(lambda: is_now("healthy"), "healthy")
        assert run(made, "mkdir /run/wirelab; echo no-resolv >/run/wirelab/dnsmasq.conf")[0] == 0
        _until(lambda: is_now("unhealthy"), "unhealthy")


def _until(condition: Any, what: str, timeout_s: float = 20.0) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, what
        time.sleep(0.05)


# Building


def test_nothing_is_built_when_nothing_has_changed(images: Engine) -> None:
    before = _ids(images)
    done = images.tool(*NODE_IMAGES)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("up to date") == len(NODE_IMAGES)
    assert "built in" not in done.stdout + done.stderr
    assert _ids(images) == before


def test_only_what_changed_is_built(images: Engine, tmp_path: Path) -> None:
    mark = _mark()
    _write(tmp_path, "changelow", f"FROM ${{BASE}}\nRUN : {mark}\nRUN echo 1 >/one\n")
    _write(tmp_path, "changeleft", "ARG VERSION\nFROM wirelab/changelow:${VERSION}\nRUN echo 2 >/two\n")
    _write(tmp_path, "changeright", "ARG VERSION\nFROM wirelab/changelow:${VERSION}\nRUN echo 3 >/three\n")
    with _gone_afterwards(images, "changelow", "changeleft", "changeright"):
        assert _built(images, tmp_path) == {"changelow", "changeleft", "changeright"}
        assert _built(images, tmp_path) == set()
        nameless = _marked(images, mark, dangling=True)
        _write(tmp_path, "changeright", "ARG VERSION\nFROM wirelab/changelow:${VERSION}\nRUN echo 4 >/three\n")
        assert _built(images, tmp_path) == {"changeright"}
        with container(images, f"wirelab/changeright:{__version__}", command=["sleep", "60"]) as made:
            assert run(made, "cat /one /three") == (0, "1\n4\n")
        _write(tmp_path, "changelow", f"FROM ${{BASE}}\nRUN : {mark}\nRUN echo 5 >/one\n")
        assert _built(images, tmp_path) == {"changelow", "changeleft", "changeright"}
        assert _marked(images, mark, dangling=True) <= nameless, "images without a name are left"
        assert _marked(images, mark), "those with a name are there"


def test_a_build_that_fails_says_why_and_leaves_nothing(images: Engine, tmp_path: Path) -> None:
    mark = _mark()
    _write(tmp_path, "failing", f"FROM ${{BASE}}\nRUN echo {mark}\nRUN echo no space left {mark} >&2; exit 100\n")
    _write(tmp_path, "above", "ARG VERSION\nFROM wirelab/failing:${VERSION}\n")
    done = images.tool("--folder", str(tmp_path))
    assert done.returncode == 1
    assert "the image failing cannot be built" in done.stderr
    assert "no space left" in done.stderr
    assert "Traceback" not in done.stderr
    assert _marked(images, mark) == set()
    assert not _building(images, mark)


def test_an_interrupted_build_leaves_nothing(images: Engine, tmp_path: Path) -> None:
    mark = _mark()
    _write(tmp_path, "slow", f"FROM ${{BASE}}\nRUN echo {mark}\nRUN while sleep 0.2; do echo waiting {mark}; done\n")
    argv = [sys.executable, str(ROOT / "tools" / "images.py"), "--folder", str(tmp_path)]
    env = {**images.env, "PYTHONPATH": str(ROOT)}
    with subprocess.Popen(argv, env=env, stderr=subprocess.PIPE, text=True) as build:
        _until(lambda: _building(images, f"waiting {mark}"), "the build is on its way")
        assert _marked(images, mark), "what it has made until now"
        build.send_signal(signal.SIGINT)
        assert build.wait(60) == 130
        assert build.stderr is not None
        assert "Traceback" not in build.stderr.read()
        _until(lambda: not _building(images, mark), "its container is gone")
        _until(lambda: not _marked(images, mark), "its images are gone")


def test_no_engine(tmp_path: Path) -> None:
    nowhere = Engine(str(tmp_path / "nobody"), 0)
    done = nowhere.tool("host")
    assert done.returncode == 3
    assert "no Docker Engine answers" in done.stderr
    assert "hint:" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("wrong", ["no version", "goes away"])
def test_an_engine_that_goes_away(
    images: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], wrong: str
) -> None:
    """In the middle, or before anything was asked: one error, whatever package tells it."""
    from docker.errors import DockerException
    from requests import ConnectionError as GoneError

    def gone(*_: Any, **__: Any) -> Any:
        raise DockerException("no version") if wrong == "no version" else GoneError("goes away")

    monkeypatch.setenv("DOCKER_HOST", images.host)
    assert tool.main(["base"]) == 0
    monkeypatch.setattr(tool.Builder, "client" if wrong == "no version" else "_there", gone)
    assert tool.main(["base"]) == 3
    said = capsys.readouterr().err.splitlines()[-2:]
    assert said[0] == f"wirelab: the engine does not answer as it should: {wrong}" and "hint:" in said[1]


def _write(folder: Path, name: str, text: str) -> None:
    (folder / name).mkdir(exist_ok=True)
    (folder / name / "Dockerfile").write_text(f"ARG BASE=debian:bookworm-slim\n{text}" if "BASE" in text else text)


def _built(engine: Engine, folder: Path) -> set[str]:
    done = engine.tool("--folder", str(folder), "--json")
    assert done.returncode == 0, done.stderr
    return {image["name"] for image in json.loads(done.stdout)["images"] if image["seconds"] is not None}


@contextlib.contextmanager
def _gone_afterwards(engine: Engine, *names: str) -> Iterator[None]:
    try:
        yield
    finally:
        with contextlib.closing(engine.client()) as client:
            for name in reversed(names):
                client.images.remove(f"wirelab/{name}:{__version__}", force=True)


def _ids(engine: Engine) -> dict[str, str]:
    """The images of nodes."""
    with contextlib.closing(engine.client()) as client:
        return {name: client.images.get(f"wirelab/{name}:{__version__}").id for name in NODE_IMAGES}


def _mark() -> str:
    """A word that no other test has in a command of an image: all workers build on one engine at the same time."""
    return f"mark-{os.getpid()}-{time.monotonic_ns()}"


def _marked(engine: Engine, mark: str, **filters: bool) -> set[str]:
    """The images with `mark` in a command that they were made by; also those on the way to others."""
    found = set()
    with contextlib.closing(engine.client()) as client:
        for image in client.api.images(all=True, quiet=True, filters=filters):
            with contextlib.suppress(NotFound):  # of another worker, and gone meanwhile
                if any(mark in str(layer["CreatedBy"]) for layer in client.api.history(image)):
                    found.add(str(image))
    return found


def _building(engine: Engine, mark: str) -> list[str]:
    """The containers with `mark` in their command."""
    with contextlib.closing(engine.client()) as client:
        return [one["Id"] for one in client.api.containers(all=True) if mark in str(one["Command"])]
