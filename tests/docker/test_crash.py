"""Labs of containers that are killed: what an engine keeps of them is shown by `ps` and removed by `down`, and nothing
of anybody else's is touched.

All workers share one engine, and who asks for what is left is told of all that is left of this user's labs. So whoever
leaves something, or removes all that is left, holds the lock `remains` meanwhile.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import Person
from tests.docker import engines
from tests.docker.engines import Engine
from tests.live.conftest import processes, wait_until

PAIR = """
name: pair
nodes:
  a: {interfaces: {eth0: 10.0.0.1/24}, services: {http: {pages: {/: "still here\\n"}}}}
  b: {interfaces: {eth0: 10.0.0.2/24}}
links: [["a:eth0", "b:eth0"]]
"""
MOMENTS = (0.1, 0.3, 0.45, 0.6, 0.7, 0.8, 0.9)
"""When `up` is killed, as parts of the time that it takes."""


@dataclass(frozen=True)
class Pair:
    """A lab of two containers, and the engine in which they are."""

    person: Person
    engine: Engine
    name: str
    file: str

    @property
    def folder(self) -> Path:
        """Its run directory."""
        return self.person.runs / self.name

    def up(self) -> None:
        """Bring it up."""
        self.person.wirelab("up", self.file, "--name", self.name, "--backend", "docker")

    def start(self) -> subprocess.Popen[str]:
        """Begin to bring it up."""
        argv = self.person.argv("up", self.file, "--name", self.name, "--backend", "docker")
        return self.person.popen(argv, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def containers(self, **filters: Any) -> dict[str, Any]:
        """Its containers, running or not, by node."""
        with closing(self.engine.client()) as client:
            found = client.api.containers(all=True, filters={"label": [f"wirelab.lab={self.name}"], **filters})
        return {one["Labels"]["wirelab.node"]: one for one in found}

    def first_processes(self) -> list[int]:
        """The keeper and then the init, while they live: both are `init.py RUN_DIRECTORY NAME …`."""
        pids = [pid for pid, line in processes(f"init.py {self.folder} {self.name} ").items() if _comm(pid) in _FIRST]
        return sorted(pids, key=lambda pid: _FIRST.index(_comm(pid)))

    def kill_first_processes(self) -> None:
        """Kill the keeper, so that it cannot clear up, and then the init."""
        keeper, init = self.first_processes()
        os.kill(keeper, signal.SIGKILL)
        os.kill(init, signal.SIGKILL)
        self.wait_ended()

    def wait_ended(self) -> None:
        """Wait until no process outside the containers has anything to do with it."""
        wait_until(lambda: not processes(f" {self.folder} "), f"the end of the processes of {self.name}")

    def row(self) -> dict[str, Any] | None:
        """What `wirelab ps --json` says of it."""
        return next((row for row in self.person.json("ps") if row["name"] == self.name), None)

    def left(self) -> tuple[int, dict[str, Any] | None]:
        """How many containers of it there are, and what `wirelab ps` says of it, while none came or went: the engine
        may still be at work on what somebody asked of it who was killed."""
        while True:
            before = self.containers()
            row = self.row()
            if self.containers().keys() == before.keys():
                return len(before), row

    def works(self) -> None:
        """What one container serves, the other gets."""
        page = self.person.wirelab("exec", self.name, "b", "--", "curl", "-s", "-m", "5", "http://10.0.0.1/").stdout
        assert page == "still here\n"


_FIRST = ("wirelab-keeper", "wirelab-init")


def _comm(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/comm").read_text().strip()
    except OSError:
        return ""


def make_pair(person: Person, engine: Engine, name: str) -> Pair:
    file = person.home / f"{name}.yml"
    file.write_text(PAIR)
    return Pair(person, engine, name, str(file))


def clean(pair: Pair) -> None:
    """Take the lab down, and see that nothing is left."""
    pair.person.wirelab("down", pair.name, status=None)
    pair.wait_ended()
    assert pair.containers() == {}
    assert not list(pair.person.runs.glob(f"*{pair.name}*"))


@pytest.fixture
def pair(docker: Person, images: Engine, lab_name: str) -> Iterator[Pair]:
    """A lab that is not up yet; afterwards nothing of it may be there."""
    pair = make_pair(docker, images, lab_name)
    yield pair
    clean(pair)


@pytest.fixture
def remains(run_folder: Path, pair: Pair) -> Iterator[None]:
    """This test may leave things in the engine, or remove all that is left there."""
    with engines.once(run_folder, "remains"):
        yield
        clean(pair)


def test_up_killed_at_any_moment(pair: Pair, remains: None) -> None:
    began = time.monotonic()
    pair.up()
    whole_s = time.monotonic() - began
    pair.person.wirelab("down", pair.name)
    waiting = list(MOMENTS)
    while waiting:
        process = pair.start()
        time.sleep(waiting[0] * whole_s)  # the moment is what is tested
        process.kill()
        killed = process.wait() == -signal.SIGKILL
        if killed:
            pair.wait_ended()
            waiting.pop(0)
        else:  # it was quicker than the first one, as on a machine that was busy then
            whole_s *= 0.7
        left, row = pair.left()
        assert (row is not None) == bool(left), "ps shows what is there, and nothing else"
        if killed and row:
            assert row["left_behind"] == left
        if left:
            pair.person.wirelab("down", pair.name)
        assert pair.containers() == {}
        assert not list(pair.person.runs.glob(f"*{pair.name}*"))
    pair.up()
    pair.works()


def test_init_killed(pair: Pair) -> None:
    """The keeper, which is left, clears up by itself."""
    pair.up()
    _keeper, init = pair.first_processes()
    os.kill(init, signal.SIGKILL)
    pair.wait_ended()
    assert pair.containers() == {}
    assert pair.row() is None
    gone = pair.person.wirelab("exec", pair.name, "a", "--", "true", status=2)
    assert f"no lab called {pair.name}" in gone.stderr
    pair.up()
    pair.works()


def test_all_killed(pair: Pair, remains: None) -> None:
    pair.up()
    with closing(pair.engine.client()) as client:
        inside = {node: client.api.inspect_container(one["Id"])["State"]["Pid"]
                  for node, one in pair.containers().items()}  # fmt: skip
    pair.kill_first_processes()
    assert sorted(pair.containers(status="running")) == ["a", "b"], "nobody was left to stop them"
    row = pair.row()
    assert row is not None and (row["left_behind"], row["nodes"], row["services"], row["lab"]) == (2, 2, 0, None)
    assert f"left 2 containers: wirelab down {pair.name}" in pair.person.wirelab("ps").stdout
    pair.person.wirelab("exec", pair.name, "a", "--", "true", status=2)
    said = pair.person.wirelab("down", pair.name).stdout
    assert said == f"{pair.name}: 2 containers that it left behind removed\n"
    assert pair.containers() == {} and pair.row() is None
    wait_until(lambda: not any(_comm(pid) for pid in inside.values()), "the end of the containers' processes")
    pair.person.wirelab("down", pair.name, status=2)


def test_up_and_the_first_processes_killed(pair: Pair, remains: None) -> None:
    """In the middle of building, when only a part is there: `down --all` removes what is left, if the last of them had
    not done it yet."""
    process = pair.start()
    wait_until(lambda: bool(pair.containers()), "the first container")
    process.kill()
    for pid in pair.first_processes():
        with contextlib.suppress(ProcessLookupError):  # it saw the command's end, and has ended too
            os.kill(pid, signal.SIGKILL)
    process.wait()
    pair.wait_ended()
    wait_until(lambda: bool(pair.row()) or not pair.containers(), "a line in ps, or nothing left")
    pair.person.wirelab("down", "--all")
    assert pair.containers() == {} and pair.row() is None


def test_the_next_up_removes_what_is_left(pair: Pair, remains: None) -> None:
    pair.up()
    before = pair.containers()
    pair.kill_first_processes()
    pair.up()
    after = pair.containers()
    assert sorted(after) == ["a", "b"]
    assert not {one["Id"] for one in before.values()} & {one["Id"] for one in after.values()}
    row = pair.row()
    assert row is not None and (row["left_behind"], row["lab"]) == (0, "pair")
    pair.works()


def test_container_killed(pair: Pair) -> None:
    """It is as a machine that was switched off: the others go on, and who asks is told."""
    pair.up()
    with closing(pair.engine.client()) as client:
        client.api.kill(pair.containers()["a"]["Id"])
    wait_until(lambda: not pair.containers(status="running").keys() & {"a"}, "the end of the container")
    said = pair.person.wirelab("exec", pair.name, "a", "--", "true", status=1).stderr
    assert "its container has ended" in said
    pair.person.wirelab("exec", pair.name, "b", "--", "true")
    assert "http was killed by signal 9" in pair.person.wirelab("ps", pair.name).stdout


def test_keeper_killed(pair: Pair, remains: None) -> None:
    """The lab goes on without it, and `down` does what the keeper would have done."""
    pair.up()
    keeper, _init = pair.first_processes()
    os.kill(keeper, signal.SIGKILL)
    wait_until(lambda: not _comm(keeper), "the end of the keeper")
    pair.works()
    pair.person.wirelab("down", pair.name)
    assert pair.containers() == {}


@dataclass(frozen=True)
class Stranger:
    """What somebody else has in the engine, and the bridge that belongs to it."""

    engine: Engine
    containers: tuple[str, ...]
    network: str

    def state(self) -> dict[str, Any]:
        """All that the engine and the kernel know of it, but for the counters."""
        argv = ["nsenter", "--target", str(self.engine.guard), "--net"]
        with closing(self.engine.client()) as client:
            found = {name: client.api.inspect_container(name) for name in self.containers}
            network = client.api.inspect_network(self.network)
        run = lambda *words: subprocess.run([*argv, *words], capture_output=True, text=True, check=True)  # noqa: E731
        links = run("ip", "-o", "link", "show", "type", "bridge").stdout
        return {**found, "network": network, "bridges": links, "rules": run("iptables", "-S").stdout}


@pytest.fixture
def stranger(engine_with_default_rules: Engine, lab_name: str) -> Iterator[Stranger]:
    """Containers with names and labels like ours, in a network with a bridge of its own."""
    own = engine_with_default_rules
    names = {f"wirelab-0-{lab_name}-ax": {}, f"{lab_name}-a": {"wirelab": lab_name}, f"{lab_name}-b": {"lab": lab_name}}
    network = f"{lab_name}-net"
    with closing(own.client()) as client:
        image = next(tag for one in client.images.list() for tag in one.tags if tag.startswith("wirelab/host:"))
        made = client.networks.create(network, driver="bridge", labels={"wirelab": lab_name})
        started = [
            client.containers.run(image, ["sleep", "600"], name=name, labels=labels, network=network, detach=True)
            for name, labels in names.items()
        ]
        try:
            yield Stranger(own, tuple(names), network)
        finally:
            for container in started:
                container.remove(force=True)
            made.remove()


def test_a_stranger_is_untouched(root: Person, stranger: Stranger, lab_name: str, run_folder: Path) -> None:
    there = ("nsenter", "--target", str(stranger.engine.guard), "--net")  # where the stranger's bridge and rules are
    person = replace(root, env={**root.env, **stranger.engine.env}, before=there)
    pair = make_pair(person, stranger.engine, lab_name)
    before = stranger.state()
    assert before["bridges"].count("\n") == 2 and before[stranger.containers[0]]["State"]["Running"]
    with engines.once(run_folder, "remains-default-rules"):
        pair.up()
        pair.works()
        person.wirelab("down", lab_name)
        assert stranger.state() == before
        pair.up()
        pair.kill_first_processes()
        row = pair.row()
        assert row is not None and row["left_behind"] == 2
        person.wirelab("down", lab_name)
        pair.up()
        pair.kill_first_processes()
        person.wirelab("down", "--all")
        clean(pair)
    assert stranger.state() == before
