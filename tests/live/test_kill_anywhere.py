"""kill -9 of everything that there is, at points spread over the whole run of each command: once the next command has
run nothing of ours is left, and the next `up` works.

The points are random ones of equal parts of the time that the command takes (SEED changes them), and after single
operations of the plan. 60 kills in `make test`, some 800 in `make nightly`.
"""

from __future__ import annotations

import json
import os
import random
import re
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.conftest import Person
from tests.live.conftest import wait_until
from tests.live.traces import SEED, Process, Watch, often, watching, write_figures

LAB = """
name: four
nodes:
  pc: {interfaces: {eth0: dhcp}}
  gw:
    interfaces: {eth0: 10.0.0.1/24}
    services: {dnsmasq: {dhcp: [{interface: eth0, range: 10.0.0.100-10.0.0.150}], dns: {forward: res}}}
  res: {interfaces: {eth0: 10.0.0.53/24}, services: {unbound: {}}}
  root: {interfaces: {eth0: 10.0.0.2/24}, services: {nsd: {}}}
  web: {interfaces: {eth0: 10.0.0.80/24}, services: {http: {pages: {/: "still here\\n"}}}}
  sw: {kind: switch}
links: [["pc:eth0", sw], ["gw:eth0", sw], ["res:eth0", sw], ["root:eth0", sw], ["web:eth0", sw]]
zones:
  .: {nameservers: {a.root-servers.net.: root}}
  example.: {nameservers: root, records: {www: web}}
scenes:
  - name: page
    steps:
      - {on: [gw, res, root], run: ping -n -c 3 -i 0.1 10.0.0.80}
      - {on: pc, run: "curl -sS --max-time 5 http://www.example/", id: page}
checks:
  - {name: page, layer: application, check: output, step: page, status: 0, matches: "^still here$"}
"""
DAEMONS = ("dnsmasq", "unbound", "nsd", "busybox httpd")
HOLDERS = ("wirelab-keeper", "wirelab-init")


@dataclass
class Scene:
    """A person, a lab of their own, and who watches over what is left of it."""

    person: Person
    watch: Watch
    name: str
    file: str
    random: random.Random
    known_s: dict[tuple[str, str], float]
    """How long a command of a person takes, as far as it was measured."""
    kills: list[float] = field(default_factory=list)
    """When each kill came, as a part of the time that its command takes."""

    def up(self) -> None:
        self.person.wirelab("up", self.file, "--name", self.name)

    def start(self, *words: str) -> subprocess.Popen[str]:
        """Begin a command."""
        return self.person.popen(
            self.person.argv(*words),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )

    def parts(self, count: int) -> list[float]:
        """A random point in each of `count` equal parts of 0 to 1."""
        return [(part + self.random.random()) / count for part in range(count)]

    def gone(self) -> None:
        """After the next command nothing is left."""
        if self.random.random() < 0.5:
            assert self.name not in [row["name"] for row in self.person.json("ps")]
        else:
            self.person.wirelab("down", self.name, status=None)
        self.watch.check()

    def works(self) -> None:
        """The next `up` works, and nothing is left of that either."""
        self.up()
        page = self.person.wirelab("exec", self.name, "pc", "--", "curl", "-s", "-m", "5", "http://www.example/")
        assert page.stdout == "still here\n"
        self.person.wirelab("down", self.name)
        self.watch.check()


@pytest.fixture(scope="session")
def known_s() -> dict[tuple[str, str], float]:
    """What all tests of a worker have measured."""
    return {}


@pytest.fixture
def scene(
    person: Person, lab_name: str, known_s: dict[tuple[str, str], float], request: pytest.FixtureRequest
) -> Iterator[Scene]:
    """A scene before anything runs; at its end nothing may be left."""
    file = person.home / f"{lab_name}.yml"
    file.write_text(LAB)
    with watching(person) as watch:
        found = Scene(watch.person, watch, lab_name, str(file), random.Random(f"{SEED} {request.node.name}"), known_s)
        try:
            yield found
        finally:
            watch.person.wirelab("down", "--all", status=None)
        watch.check()
    write_figures(request.node.name, kills=len(found.kills), points=[round(point, 3) for point in found.kills])


Finder = Callable[[Scene, int], list[int]]
"""Finds what can be killed while the command of process N runs."""


def the_command(_: Scene, pid: int) -> list[int]:
    """The process that the user started."""
    return [pid]


def its_helpers(scene: Scene, pid: int) -> list[int]:
    """What the command has started to do its work: the builder of `up`, the agent and the recorder of `verify`."""
    return [one.pid for one in scene.watch.ours().values() if one.parent == pid and "init.py" not in one.line]


def the_builder(scene: Scene, pid: int) -> list[int]:
    """A fork of `up`, so its command line is the same."""
    return [one.pid for one in scene.watch.ours().values() if one.parent == pid and " emulator up " in one.line]


def a_holder(scene: Scene, _: int) -> list[int]:
    """The keeper, the init, or what will become one of these."""
    return [one.pid for one in scene.watch.ours().values() if f"init.py {scene.person.runs}/" in one.line]


def the_init(scene: Scene, _: int) -> list[int]:
    """The first process of the lab, with which all ends."""
    return [pid for pid in scene.watch.ours() if _comm(pid) == "wirelab-init"]


def a_daemon(scene: Scene, _: int) -> list[int]:
    """A daemon of the lab."""
    return [one.pid for one in scene.watch.ours().values() if one.line.startswith(DAEMONS)]


def kill_during(
    scene: Scene, words: Sequence[str], whole_s: float, part: float, find: Finder
) -> tuple[int, str] | None:
    """Start a command, and kill what `find` finds when `part` of `whole_s` has passed, or as soon as there is anything.

    Returns:
        The exit status of the command and what it said; None when there was nothing to kill any more: then the command
        has ended by itself, and well.
    """
    process = scene.start(*words)
    try:
        time.sleep(part * whole_s)  # the moment is what is tested
        victims: list[int] = []
        while not victims and process.poll() is None:
            scene.watch.look()
            victims = find(scene, process.pid)
        victim = scene.random.choice(sorted(victims)) if victims else 0
        killed = process.poll() is None and _kill(victim)
        _, said = process.communicate(timeout=60)
    finally:
        process.kill()
        process.communicate()
    assert "Traceback" not in said, said
    if not killed or (victim == process.pid and process.returncode == 0):
        assert process.returncode == 0, said
        return None
    scene.kills.append(part)
    return process.returncode, said


def _kill(pid: int) -> bool:
    """Whether there was still such a process to kill."""
    if not pid:
        return False
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        return False
    return True


def takes(scene: Scene, what: str, *words: str) -> float:
    """How many seconds a command takes, which is run when that is not known yet."""
    key = (scene.person.name, what)
    if key not in scene.known_s:
        began = time.monotonic()
        scene.person.wirelab(*words)
        scene.known_s[key] = time.monotonic() - began
    return scene.known_s[key]


def told_well(status: int, said: str) -> None:
    """A command whose helper was killed says so in a line of ours."""
    assert status == 1, said
    assert re.search(r"^wirelab: [^\n]+\n(  hint: [^\n]+\n(    [^\n]+\n)*)?\Z", said, re.MULTILINE), said


@pytest.mark.parametrize("find", [the_command, the_builder, a_holder, a_daemon])
def test_up(scene: Scene, find: Finder) -> None:
    words = ("up", scene.file, "--name", scene.name)
    whole_s = takes(scene, "up", *words)
    scene.person.wirelab("down", scene.name, status=None)
    for part in scene.parts(often(1, 16)):
        ended = kill_during(scene, words, whole_s, part, find)
        while ended is None or (find is the_builder and ended[0] == 0):  # it was quicker this time
            scene.person.wirelab("down", scene.name)
            part *= 0.8
            ended = kill_during(scene, words, whole_s, part, find)
        status, said = ended
        if find is the_command:
            assert status == -signal.SIGKILL
        elif status == 0:  # what was killed had done its work already
            scene.person.wirelab("down", scene.name, status=None)
        else:
            told_well(status, said)
        scene.gone()
        scene.works()


AT_OPERATION = """
import os, signal, sys
from emulator.cli import main
from emulator.run.backends import netns
who, at = sys.argv[1], int(sys.argv[2])
execute = netns.NetnsHands.execute
def counted(hands, operation):
    global at
    at -= 1
    if at < 0:
        os.kill(os.getppid() if who == "up" else os.getpid(), signal.SIGKILL)
        signal.pause()
    execute(hands, operation)
netns.NetnsHands.execute = counted
sys.argv[1:] = sys.argv[3:]
sys.exit(main())
"""


@pytest.mark.parametrize("who", ["up", "builder"])
def test_up_before_an_operation(scene: Scene, who: str) -> None:
    """The builder kills `up` or itself before the n-th operation."""
    count = len(json.loads(scene.person.wirelab("plan", scene.file, "--as", "json").stdout)["operations"])
    for part in scene.parts(often(2, count)):
        words = ("up", scene.file, "--name", scene.name)
        done = scene.person.run([scene.person.python, "-c", AT_OPERATION, who, str(int(part * count)), *words])
        scene.kills.append(part)
        if who == "up":
            assert done.returncode == -signal.SIGKILL
        else:
            told_well(done.returncode, done.stderr)
            assert done.stderr == "wirelab: the builder ended with status -9\n"
        scene.gone()
    scene.works()


@pytest.mark.parametrize("find", [the_command, its_helpers, a_holder])
def test_verify_of_an_instance_of_its_own(scene: Scene, find: Finder) -> None:
    words = ("verify", scene.file)
    whole_s = takes(scene, "up and verify", *words)
    for part in scene.parts(often(1, 8)):
        ended = kill_during(scene, words, whole_s, part, find)
        while ended is None:
            part *= 0.8
            ended = kill_during(scene, words, whole_s, part, find)
        status, said = ended
        assert status == -signal.SIGKILL if find is the_command else status in (0, 1), (status, said)
        scene.gone()
    scene.works()


@pytest.mark.parametrize("find", [the_command, its_helpers])
def test_verify_of_a_running_lab(scene: Scene, find: Finder) -> None:
    """The lab itself goes on, and can be verified again."""
    scene.up()
    standing = scene.watch.standing()
    words = ("verify", scene.name)
    whole_s = takes(scene, "verify", *words)
    for part in scene.parts(often(1, 10)):
        ended = kill_during(scene, words, whole_s, part, find)
        while ended is None:
            part *= 0.8
            ended = kill_during(scene, words, whole_s, part, find)
        assert scene.name in [row["name"] for row in scene.person.json("ps")]
        scene.watch.wait_only(standing)
    scene.person.wirelab("verify", scene.name)
    scene.watch.wait_only(standing)
    scene.person.wirelab("down", scene.name)
    scene.watch.check()


@pytest.mark.parametrize("find", [the_command, its_helpers, the_init])
def test_capture(scene: Scene, find: Finder) -> None:
    """What was recorded until then can be read, unless it was killed before it began."""
    whole_s = 0.8
    file = scene.person.home / f"{scene.name}.pcapng"
    scene.watch.kept.add(file.name)
    standing: dict[int, Process] = {}
    for part in scene.parts(often(1, 10)):
        if not standing:
            scene.up()
            standing = scene.watch.standing()
        ended = kill_during(scene, ("capture", scene.name, "-w", str(file)), whole_s, part, find)
        assert ended is not None, "a recording goes on until it is stopped"
        if find is the_init:
            scene.gone()
            standing = {}
            continue
        if find is its_helpers:
            told_well(*ended)
        assert scene.name in [row["name"] for row in scene.person.json("ps")]
        scene.watch.wait_only(standing)
    if find is the_init:
        scene.works()
    else:
        scene.person.wirelab("exec", scene.name, "pc", "--", "true")
        scene.person.wirelab("down", scene.name)
        scene.watch.check()


def test_down(scene: Scene) -> None:
    scene.up()
    whole_s = takes(scene, "down", "down", scene.name)
    scene.person.wirelab("down", scene.name, status=None)
    for part in scene.parts(often(2, 16)):
        scene.up()
        if kill_during(scene, ("down", scene.name), whole_s, part, the_command) is None:
            scene.up()
            while kill_during(scene, ("down", scene.name), whole_s, part := part * 0.8, the_command) is None:
                scene.up()
        scene.person.wirelab("down", scene.name, status=None)
        scene.watch.check()
    scene.works()


@pytest.mark.parametrize("who", [HOLDERS[:1], HOLDERS[1:], HOLDERS], ids=["keeper", "init", "both"])
def test_holders_of_a_running_lab(scene: Scene, who: tuple[str, ...]) -> None:
    """While commands go in and out."""
    for part in scene.parts(often(1, 10)):
        scene.up()
        work = scene.start("exec", scene.name, "pc", "--", "ping", "-n", "-i", "0.05", "10.0.0.80")
        time.sleep(part * 0.4)  # the moment is what is tested
        victims = [one for one in scene.watch.look() if _comm(one) in who]
        assert len(victims) == len(who), "each is there to be killed"
        for pid in victims:
            os.kill(pid, signal.SIGKILL)
        scene.kills.append(part)
        if "wirelab-init" in who:
            work.communicate(timeout=20)
            scene.gone()
        else:  # the init goes on without its keeper
            scene.person.wirelab("exec", scene.name, "pc", "--", "true")
            scene.person.wirelab("down", scene.name)
            work.communicate(timeout=20)
            scene.watch.check()
    scene.works()


def test_up_of_another_lab_removes_what_is_left(scene: Scene) -> None:
    """Any command that begins or ends labs does, not only `ps` and `down`."""
    scene.up()
    for pid in [one for one in scene.watch.look() if _comm(one) in HOLDERS]:
        os.kill(pid, signal.SIGKILL)
    scene.kills += [0.5, 0.5]
    wait_until(lambda: not scene.watch.ours(), "all its processes have ended")
    assert (scene.person.runs / scene.name).exists(), "else there is nothing to remove"
    other = f"{scene.name}-2"
    scene.person.wirelab("up", scene.file, "--name", other)
    assert os.listdir(scene.person.runs) == [other]
    scene.person.wirelab("down", other)


def _comm(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/comm").read_text().strip()
    except OSError:
        return ""


def test_daemons_of_a_running_lab(scene: Scene) -> None:
    """Each in its turn; the others go on, and `ps` tells."""
    turns = list(enumerate(scene.parts(often(1, 16)), scene.random.randrange(len(DAEMONS))))
    for number, part in turns:
        scene.up()
        name = DAEMONS[number % len(DAEMONS)]
        work = scene.start("verify", scene.name)
        time.sleep(part * 0.5)  # the moment is what is tested
        pids = [one.pid for one in scene.watch.look().values() if one.line.startswith(name)]
        os.kill(min(pids), signal.SIGKILL)
        scene.kills.append(part)
        shown = {"busybox httpd": "http"}.get(name, name)
        wait_until(lambda shown=shown: f"{shown} on " in scene.person.wirelab("ps").stdout, f"ps tells of {shown}")  # type: ignore[misc]
        _, said = work.communicate(timeout=60)
        assert work.returncode in (0, 1), said
        scene.person.wirelab("down", scene.name)
        scene.watch.check()
    scene.works()


KILLS = """
import random, signal, subprocess, sys, time
seed, count, *up = sys.argv[1:]
chance = random.Random(seed)
for point in range(int(count)):
    process = subprocess.Popen(up, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    time.sleep(0.2 + 0.8 * (point + chance.random()) / int(count))
    process.kill()
    process.wait()
    down = [*up[:3], "down", up[-1]]
    subprocess.run(down, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
for _ in range(60):  # the kernel gives namespaces back when it has time
    if not (status := subprocess.run(up).returncode):
        sys.exit(subprocess.run(down).returncode)
    time.sleep(0.5)
sys.exit(status)
"""


def test_the_kernel_counts_no_namespace(scene: Scene) -> None:
    """A user namespace may have so many network namespaces as three labs: those of killed ones are not among them."""
    count = often(6, 100)
    limit = 'echo 21 >/proc/sys/user/max_net_namespaces && exec "$@"'
    up = scene.person.argv("up", scene.file, "--name", scene.name)
    argv = ["unshare", "-Ur", "sh", "-c", limit, "sh", scene.person.python, "-c", KILLS, SEED, str(count), *up]
    done = scene.person.run(argv, timeout=600)
    assert done.returncode == 0, done.stderr
    scene.kills += [number / count for number in range(count)]


def test_remains_are_seen(scene: Scene) -> None:
    """The twin of all the others: a process that left its parents, in namespaces of its own, and a file."""
    left = "import os,time; os.fork() and os._exit(0); os.setsid(); os.fork() and os._exit(0); time.sleep(60)"
    script = 'touch "$TMPDIR/remains"; exec unshare -Urmn "$@"'
    argv = ["sh", "-c", script, "sh", scene.person.python, "-c", left]
    scene.person.run(argv, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    wait_until(lambda: len(scene.watch.look()) == 1, "it is alone")
    found = scene.watch.left()
    assert [line.split()[0] for line in found] == ["process", "namespaces", "file"], found
    with pytest.raises(AssertionError, match="time"):
        scene.watch.check(0.1)
    (scene.person.home / "temporary" / "remains").unlink()
    for pid in scene.watch.ours():
        os.kill(pid, signal.SIGKILL)
    scene.watch.check()
