"""How long until a lab of containers is up? `wirelab up nat --backend docker` beside what the engine needs for as
many containers of the same images with the same settings, eight side by side: by `docker run`, and by the engine's
interface (create and start, in a process that runs already).

    make bench PART=docker        (with an engine, and Wirelab's images on it: make images)

Where no engine answers, root has one started for it, as the tests do, with all that belongs to it in a folder of its
own; the images are built first then, which takes minutes.

Asked: at most 1.5 × as long as `docker run`, all of the lab's cables, addresses, rules and services included.
"""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from functools import partial
from typing import Any

from bench.common import Bench, Lacking, Row, run, timed, wirelab
from emulator.errors import MachineError
from emulator.run import engine as access
from tests.docker import engines

LAB = "nat"
AT_ONCE = 8
AT_MOST = 1.5
LABEL = "wirelab-bench"


def measure(bench: Bench) -> Iterator[Row]:
    """The rows of containers."""
    wanted = _containers()
    with _engine(wanted), closing(_client(wanted)) as client:
        ways: dict[str, Callable[[], float]] = {
            "wirelab": partial(_up_s, bench),
            "engine": partial(_engine_s, bench, client, wanted),
        }
        if shutil.which("docker"):
            ways["docker run"] = partial(_run_s, bench, client, wanted)
        found = bench.rounds(ways)
    note = f"{len(wanted)} containers of the images and with the rights of the lab's, {AT_ONCE} side by side"
    names = {"docker run": "docker run", "engine": "create and start by the engine's interface"}
    for way, against in names.items():
        if way in found:
            yield Row(
                "docker", f"up, {LAB}, {len(wanted)} containers", "s", found["wirelab"], against, found[way],
                at_most=AT_MOST if way == "docker run" else None, note=note,
            )  # fmt: skip


def _containers() -> Sequence[Mapping[str, Any]]:
    """What the plan says of each container."""
    operations = json.loads(run(wirelab("plan", LAB, "--backend", "docker", "--as", "json")))["operations"]
    return [operation for operation in operations if operation.get("image")]


@contextmanager
def _engine(wanted: Sequence[Mapping[str, Any]]) -> Iterator[None]:
    """See that an engine answers where all that is measured looks for it.

    Raises:
        Lacking: none does, and none can be started.
    """
    try:
        access.usable()
    except MachineError as error:
        lacking = error.message
    else:
        yield
        return
    if os.environ.get("DOCKER_HOST"):
        raise Lacking(lacking)
    if reason := engines.why_not():
        raise Lacking(f"{lacking}, and none can be started here: {reason}")
    own = engines.start(os.getpid())
    try:
        os.environ["DOCKER_HOST"] = own.host
        built = own.tool(*sorted({one["image"].removeprefix("wirelab/").partition(":")[0] for one in wanted}))
        if built.returncode:
            raise Lacking(f"the images of nodes cannot be built: {built.stderr.strip()[-2000:]}")
        yield
    finally:
        del os.environ["DOCKER_HOST"]
        engines.stop(own)


def _client(wanted: Sequence[Mapping[str, Any]]) -> Any:
    """A client of the engine that the commands use, too, once it is known to have the images."""
    import docker
    from docker.errors import DockerException, ImageNotFound

    try:
        client = docker.DockerClient.from_env(timeout=120, max_pool_size=AT_ONCE)
        for image in {one["image"] for one in wanted}:
            client.images.get(image)
    except ImageNotFound as error:
        raise Lacking(f"the engine has not all images of nodes (make images): {error.explanation}") from None
    except DockerException as error:
        raise Lacking(f"no Docker Engine answers: {error}") from None
    return client


def _up_s(bench: Bench) -> float:
    """Seconds of `wirelab up`; the lab is down again when this returns."""
    name = bench.name()
    seconds = timed(wirelab("up", LAB, "--backend", "docker", "--name", name))  # one that fails leaves nothing
    run(wirelab("down", name))
    return seconds


def _side_by_side(client: Any, name: str, works: Sequence[Callable[[], object]]) -> float:
    """Seconds until all of `works` are done; the containers that they made are gone when this returns."""
    try:
        began = time.perf_counter()
        with ThreadPoolExecutor(AT_ONCE) as pool:
            for future in [pool.submit(work) for work in works]:
                future.result()
        return time.perf_counter() - began
    finally:
        found = client.api.containers(all=True, filters={"label": [f"{LABEL}={name}"]}, quiet=True)
        with ThreadPoolExecutor(AT_ONCE) as pool:
            list(pool.map(lambda one: client.api.remove_container(one["Id"], force=True, v=True), found))


def _engine_s(bench: Bench, client: Any, wanted: Sequence[Mapping[str, Any]]) -> float:
    name = bench.name()
    return _side_by_side(client, name, [partial(_create_and_start, client.api, name, one) for one in wanted])


def _create_and_start(api: Any, name: str, wanted: Mapping[str, Any]) -> None:
    config = api.create_host_config(
        network_mode="none",
        init=True,
        cap_drop=["ALL"],
        cap_add=wanted["capabilities"],
        tmpfs=dict(folder.split(":", 1) for folder in wanted["in_memory"]),
    )
    created = api.create_container(
        wanted["image"],
        name=f"{name}-{wanted['node']}",
        hostname=wanted["node"],
        labels={LABEL: name},
        host_config=config,
    )
    api.start(created["Id"])


def _run_s(bench: Bench, client: Any, wanted: Sequence[Mapping[str, Any]]) -> float:
    name = bench.name()
    return _side_by_side(client, name, [partial(run, _docker_run(name, one)) for one in wanted])


def _docker_run(name: str, wanted: Mapping[str, Any]) -> list[str]:
    """The command line that makes such a container."""
    words = ["docker", "run", "--detach", "--init", "--network", "none", "--cap-drop", "ALL"]
    words += [f"--cap-add={capability}" for capability in wanted["capabilities"]]
    words += [f"--tmpfs={folder}" for folder in wanted["in_memory"]]
    words += ["--name", f"{name}-{wanted['node']}", "--hostname", wanted["node"], "--label", f"{LABEL}={name}"]
    return [*words, wanted["image"]]
