"""Engines of the tests' own, and Wirelab's images on them. TEST_DOCKER_HOST=unix://… names an engine of yours to be
used instead, which saves building all images at each run; without it nothing but the tests' own is touched."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path

import pytest

from emulator import __version__
from tests.conftest import Person
from tests.docker import engines
from tests.docker.engines import Engine
from tests.live.conftest import lab_name  # noqa: F401

NODE_IMAGES = ("base", "host", "router", "resolver", "nameserver", "web", "full")


@pytest.fixture(scope="session")
def run_folder(tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> Path:
    """The folder that all workers of this run share."""
    base = tmp_path_factory.getbasetemp()
    return base.parent if hasattr(request.config, "workerinput") else base


@pytest.fixture(scope="session")
def run_owner(request: pytest.FixtureRequest) -> int:
    """The process that the run belongs to: the one whose end is the end of its engines."""
    return os.getppid() if hasattr(request.config, "workerinput") else os.getpid()


def _engine(folder: Path, name: str, owner: int, *, own_network: bool = False) -> Engine:
    try:
        return engines.shared(folder, name, owner, own_network=own_network)
    except engines.UnavailableError as error:
        engines.lacking(str(error))


@pytest.fixture(scope="session")
def engine(run_folder: Path, run_owner: int) -> Engine:
    """An engine without a bridge of its own, in the machine's network namespace, so that images can be built."""
    if given := os.environ.get("TEST_DOCKER_HOST"):
        return Engine(given.removeprefix("unix://"), 0)
    return _engine(run_folder, "plain", run_owner)


@pytest.fixture(scope="session")
def images(engine: Engine, run_folder: Path) -> Engine:
    """The same engine with the images of nodes, built once a run."""

    def build() -> object:
        done = engine.tool(*NODE_IMAGES, "--json")
        if done.returncode != 0:
            raise RuntimeError(f"make images: {done.stderr}")
        return json.loads(done.stdout)

    engines.done_once(run_folder, "images", build)
    return engine


@pytest.fixture(scope="session")
def empty_engine_with_default_rules(run_folder: Path, run_owner: int) -> Engine:
    """An engine as Docker comes: its bridge, and its rules, which drop what is forwarded (FORWARD policy DROP). It has
    a network namespace of its own, so the machine's rules are not touched."""
    return _engine(run_folder, "default-rules", run_owner, own_network=True)


@pytest.fixture(scope="session")
def engine_with_default_rules(images: Engine, empty_engine_with_default_rules: Engine, run_folder: Path) -> Engine:
    """The engine with Docker's own rules, and the images of nodes."""
    target = empty_engine_with_default_rules
    tags = [f"wirelab/{name}:{__version__}" for name in NODE_IMAGES]
    engines.done_once(run_folder, "images-default-rules", lambda: engines.copy_images(images, target, tags))
    return target


@pytest.fixture
def root(people: dict[str, Person]) -> Person:
    """Root, with the installation and the home of this worker."""
    if "root" not in people:
        engines.lacking("the tests do not run as root")
    return people["root"]


@pytest.fixture
def docker(root: Person, images: Engine) -> Person:
    """Root, whose commands use the engine of this run."""
    return replace(root, env={**root.env, **images.env})
