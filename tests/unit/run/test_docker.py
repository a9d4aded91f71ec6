"""The pure parts of containers: which image, who a user is, where control groups are, and what an ended lab left."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from emulator import __version__
from emulator.errors import CommandFailed, MachineError
from emulator.lab.document import parse
from emulator.lab.load import build
from emulator.lab.resolve import resolve
from emulator.plan.compile import compile_plan
from emulator.plan.containers import CAPABILITIES, CreateContainer, image_for
from emulator.run import engine
from emulator.run.backends import docker
from emulator.run.backends.docker import (
    DockerHands,
    Made,
    _cgroup_mounts,
    _check_lives,
    agreed_mounts,
    container_name,
    namespaces,
)
from emulator.run.backends.docker_files import identity
from emulator.run.view import Shared

PASSWD = """root:x:0:0:root:/root:/bin/bash
unbound:x:104:106::/var/lib/unbound:/usr/sbin/nologin
alice:x:1000:1000:Alice,,,:/home/alice:/bin/sh
broken line
"""
GROUP = "root:x:0:\nadm:x:4:alice,unbound\nunbound:x:106:\nalice:x:1000:\nstaff:x:50:alice\n"


@pytest.mark.parametrize(
    ("user", "expected"),
    [
        ("", (0, 0, [0])),
        ("root", (0, 0, [0])),
        ("0", (0, 0, [0])),
        ("alice", (1000, 1000, [4, 50, 1000])),
        ("1000", (1000, 1000, [4, 50, 1000])),
        ("unbound", (104, 106, [4, 106])),
        ("4711", (4711, 0, [0])),
        ("4711:4712", (4711, 4712, [4712])),
        ("alice:adm", (1000, 4, [4])),
        ("alice:50", (1000, 50, [50])),
        (":adm", (0, 4, [4])),
    ],
)
def test_identity(user: str, expected: tuple[int, int, list[int]]) -> None:
    assert identity(user, PASSWD, GROUP) == expected


class _Engine:
    """What `_check_lives` asks an engine: it knows of the end when it is asked for the second time."""

    def __init__(self) -> None:
        self.api = self
        self.running = [False, True]

    def inspect_container(self, _container: str) -> dict[str, Any]:
        return {"State": {"Running": self.running.pop(), "ExitCode": 3}}

    def logs(self, _container: str, tail: int) -> bytes:
        return b"no reason"


def test_a_container_has_ended_before_anybody_waited_for_it() -> None:
    """The id of its process is there until then; its namespaces are not."""
    pid = os.fork()
    if pid == 0:
        os._exit(3)
    os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
    one = Made(CreateContainer("b", image="wirelab/base:0"), "b", pid, (), "/", "", "")
    try:
        with pytest.raises(CommandFailed, match=r"create the node b.*status 3") as raised:
            _check_lives(_Engine(), one)  # type: ignore[arg-type]
    finally:
        os.waitpid(pid, 0)
    assert raised.value.hint == "it said: no reason"


@pytest.fixture
def process() -> Iterator[int]:
    """A process of this machine that lives until the end of the test."""
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE, stderr=subprocess.DEVNULL) as child:
        yield child.pid
        child.communicate()


CONTAINER = "0123456789abcdef" * 4


def made(pid: int) -> Made:
    return Made(CreateContainer("b", image="wirelab/base:0"), CONTAINER, pid, (), "/", "", "")


@pytest.mark.parametrize(
    "path", [f"/wirelab/{CONTAINER}", f"/system.slice/docker-{CONTAINER}.scope", f"/../{CONTAINER}"]
)
@pytest.mark.parametrize("kinds", [("",), ("cpu,cpuacct", "memory", "name=systemd")])
def test_the_process_of_a_container(
    process: int, path: str, kinds: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    """In groups of both versions, made by the engine itself or by systemd, seen from here or from another root."""
    monkeypatch.setattr(docker, "_cgroups", lambda _: dict.fromkeys(kinds, path))
    for descriptor in namespaces(made(process)):
        os.close(descriptor)


def test_a_process_that_is_not_of_the_container(process: int) -> None:
    """What an engine on another machine says is the number of a stranger here; nobody enters it."""
    before = len(os.listdir("/proc/self/fd"))
    with pytest.raises(MachineError, match=f"container of b: process {process} of this machine is not in it"):
        namespaces(made(process))
    assert len(os.listdir("/proc/self/fd")) == before


def test_a_process_that_has_ended() -> None:
    with subprocess.Popen(["true"]) as child:
        child.wait()
    with pytest.raises(CommandFailed, match="it has ended, or runs on another machine"):
        namespaces(made(child.pid))


def test_names_of_containers_are_never_the_same() -> None:
    places = (("/run/a-b", "c"), ("/run/a", "b-c"), ("/elsewhere/a", "b-c"), ("/run/a", "b"))
    assert len({container_name(0, Path(folder), node) for folder, node in places}) == 4
    assert container_name(7, Path("/run/a"), "b-c") == container_name(7, Path("/run/a"), "b-c")
    assert container_name(7, Path("/run/a"), "b-c").startswith("wirelab-7-a-b-c-")


def test_what_is_shared_must_be_what_was_agreed_to(tmp_path: Path) -> None:
    """Also when a container is started again: the engine goes by the path once more."""
    (tmp_path / "shown").mkdir()
    info = os.stat(tmp_path / "shown")
    source = str(tmp_path / "shown")
    operation = CreateContainer("b", image="i", mounts=(f"{source}:/srv:ro",))
    shared = {source: Shared(source, source, info.st_dev, info.st_ino)}
    (mount,) = agreed_mounts(operation, shared)
    assert (mount["Source"], mount["Target"], mount["ReadOnly"]) == (source, "/srv", True)
    with pytest.raises(CommandFailed, match="did not agree"):
        agreed_mounts(operation, {})
    (tmp_path / "shown").rename(tmp_path / "was")
    (tmp_path / "shown").symlink_to("/")
    with pytest.raises(CommandFailed, match="no longer what you agreed to"):
        agreed_mounts(operation, shared)


class _Registry:
    """An engine without images, and what the one who has images says."""

    def __init__(self, lines: list[dict[str, str]]) -> None:
        self.api = self.images = self
        self.lines = lines
        self.asked: list[str] = []

    def get(self, image: str) -> None:
        from docker.errors import ImageNotFound

        raise ImageNotFound(image)

    def pull(self, image: str, *, stream: bool, decode: bool) -> Iterator[dict[str, str]]:
        assert stream and decode
        self.asked.append(image)
        return iter(self.lines)


def test_an_image_that_cannot_be_had_is_asked_for_once(tmp_path: Path) -> None:
    registry = _Registry([{"status": "Pulling"}, {"error": "no space left"}, {"status": "x"}])
    hands = DockerHands(None, tmp_path, tmp_path, "sock", 0)  # type: ignore[arg-type]
    for _ in range(3):
        with pytest.raises(MachineError, match="no image shop/web, and cannot get it: no space left"):
            hands._fetch(registry, "shop/web")  # type: ignore[arg-type]
    assert registry.asked == ["shop/web"]
    with pytest.raises(MachineError, match="no image wirelab/none:0"):
        hands._fetch(registry, "wirelab/none:0")  # type: ignore[arg-type]
    assert registry.asked == ["shop/web"], "what is Wirelab's own is built, not fetched"
    other = _Registry([{"status": "Pulling"}])
    hands._fetch(other, "shop/other")  # type: ignore[arg-type]
    assert other.asked == ["shop/other"]


def test_a_container_that_lives() -> None:
    _check_lives(_Engine(), Made(CreateContainer("b", image="i"), "b", os.getpid(), (), "/", "", ""))  # type: ignore[arg-type]


def test_identity_in_an_image_without_users() -> None:
    assert identity("", "", "") == (0, 0, [0])
    assert identity("65534:65534", "", "") == (65534, 65534, [65534])


def test_identity_with_broken_numbers() -> None:
    """A line whose ids are no numbers is none, as for the engine."""
    broken = (
        "bob:x:many:1::/:/bin/sh\nbob:x:7:\u00b2::/:/bin/sh\nbob:x:99999999999:1::/:/bin/sh\nbob:x:7:8::/:/bin/sh\n"
    )
    assert identity("bob", broken, "staff:x:fifty:bob\nstaff:x:50:bob\n") == (7, 8, [8, 50])
    for user in ("\u00b2", "4294967296", "bob:\u00b2"):
        with pytest.raises(CommandFailed, match=r"no (user|group)"):
            identity(user, broken, "")


@pytest.mark.parametrize(("user", "words"), [("bob", "no user bob"), ("alice:wheel", "no group wheel")])
def test_identity_that_is_not_there(user: str, words: str) -> None:
    with pytest.raises(CommandFailed, match=words):
        identity(user, PASSWD, GROUP)


OTHERS = """22 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw
23 22 0:21 / /proc rw,nosuid shared:2 - proc proc rw
"""
VERSION_1 = """30 25 0:26 / /sys/fs/cgroup ro,nosuid - tmpfs tmpfs ro,mode=755
31 30 0:27 / /sys/fs/cgroup/cpu,cpuacct rw,nosuid shared:9 - cgroup cgroup rw,cpu,cpuacct
32 30 0:28 / /sys/fs/cgroup/memory rw,nosuid shared:10 - cgroup cgroup rw,memory
33 30 0:29 / /sys/fs/cgroup/systemd rw,nosuid shared:11 - cgroup cgroup rw,xattr,name=systemd
"""
VERSION_2 = "30 25 0:26 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate,memory_recursiveprot\n"
UNIFIED = "34 30 0:30 / /sys/fs/cgroup/unified rw,nosuid shared:12 - cgroup2 cgroup2 rw\n"


def test_cgroups_version_1() -> None:
    points = _cgroup_mounts(OTHERS + VERSION_1)
    assert "" not in points
    assert points["cpu,cpuacct"] == points["cpu"] == points["cpuacct"] == "/sys/fs/cgroup/cpu,cpuacct"
    assert points["memory"] == "/sys/fs/cgroup/memory"
    assert points["name=systemd"] == "/sys/fs/cgroup/systemd"


def test_cgroups_version_2() -> None:
    assert _cgroup_mounts(OTHERS + VERSION_2) == {"": "/sys/fs/cgroup"}


def test_cgroups_of_both_versions() -> None:
    points = _cgroup_mounts(OTHERS + VERSION_1 + UNIFIED)
    assert points[""] == "/sys/fs/cgroup/unified" and points["memory"] == "/sys/fs/cgroup/memory"


def test_the_first_mount_counts_and_spaces_are_read() -> None:
    twice = "9 1 0:26 / /mnt/the\\040groups rw - cgroup2 none rw\n" + VERSION_2
    assert _cgroup_mounts(twice) == {"": "/mnt/the groups"}
    assert _cgroup_mounts(OTHERS) == {}


LAB = """
name: l
nodes:
  plain:
  page: {services: {http: {pages: {/: hello}}}}
  leases: {services: {dnsmasq: {dhcp: [{interface: eth0, range: 10.0.0.10-10.0.0.20}]}}}
  asks: {services: {unbound: {}}}
  both: {services: {unbound: {}, http: {pages: {/: hello}}}}
  gate: {kind: router}
  root: {services: {nsd: {}}}
  sw: {kind: switch}
zones: {.: {nameservers: {ns.: root}}}
links: [[root, sw], [plain, sw], [page, sw], [leases, sw], [asks, sw], [both, sw], [gate, sw]]
"""


def test_the_smallest_image_that_has_what_a_node_needs() -> None:
    lab = resolve(build(parse(LAB.encode(), "lab.yml")), backend="docker")
    chosen = {name: image_for(node) for name, node in lab.nodes.items() if node.container}
    images = {
        "root": "nameserver",
        "plain": "host",
        "page": "web",
        "leases": "router",
        "asks": "resolver",
        "both": "full",
        "gate": "router",
    }
    assert chosen == {name: f"wirelab/{image}:{__version__}" for name, image in images.items()}


def test_the_operation_holds_what_the_file_says() -> None:
    text = LAB.replace(
        "  plain:",
        "  plain: {image: debian, cmd: sleep 9, cap-add: [SYS_NICE, NET_RAW], binds: ['./x:/x:ro', '/y:/y']}",
    )
    plan = compile_plan(resolve(build(parse(text.encode(), "/somewhere/lab.yml")), backend="netns"))
    (made,) = (operation for operation in plan.operations if isinstance(operation, CreateContainer))
    assert (made.node, made.image, made.cmd) == ("plain", "debian", ("sleep", "9"))
    assert made.mounts == ("/somewhere/./x:/x:ro", "/y:/y:rw")
    assert made.capabilities == (*CAPABILITIES, "SYS_NICE"), "each once"
    assert made.in_memory == (), "an image that is not ours keeps its folders"
    script = made.shell()
    assert "--cap-drop ALL" in script and "--cap-add SYS_NICE" in script and "privileged" not in script


def entry(number: int, lab: str, node: str, *, owner: int | None = None, run: str = "") -> dict[str, Any]:
    owner = os.geteuid() if owner is None else owner
    labels = {engine.LAB: lab, engine.NODE: node, engine.RUN: run or f"/run/none/{lab}", engine.OWNER: str(owner)}
    return {"Id": f"id{number}", "Labels": labels}


def test_what_is_left_is_told_by_labs(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    socket = tmp_path / "sock"
    socket.touch()
    monkeypatch.setenv("DOCKER_HOST", f"unix://{socket}")
    entries = [
        entry(1, "two", "b"),
        entry(2, "one", "a"),
        entry(3, "two", "a"),
        entry(4, "two", "a", run="/elsewhere/two"),
        entry(5, "one", "a", owner=os.geteuid() + 1),
    ]
    monkeypatch.setattr(engine, "containers", lambda _path, **_: entries)
    found = engine.remains()
    assert [(one.name, one.run, one.ids, one.nodes) for one in found] == [
        ("one", "/run/none/one", ("id2",), ("a",)),
        ("two", "/elsewhere/two", ("id4",), ("a",)),
        ("two", "/run/none/two", ("id1", "id3"), ("a", "b")),
    ]


def test_what_runs_is_not_left(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    socket = tmp_path / "sock"
    socket.touch()
    monkeypatch.setenv("DOCKER_HOST", f"unix://{socket}")
    monkeypatch.setattr(engine, "containers", lambda _path, **_: [entry(1, "one", "a")])
    monkeypatch.setattr(engine, "is_alive", lambda folder: folder == Path("/run/none/one"))
    assert engine.remains() == []


@pytest.mark.parametrize("host", ["tcp://192.0.2.1:2375", "unix:///nowhere/docker.sock"])
def test_nothing_is_left_where_no_engine_is(monkeypatch: pytest.MonkeyPatch, host: str) -> None:
    monkeypatch.setenv("DOCKER_HOST", host)
    assert engine.remains() == []


def test_only_containers_with_our_label_are_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []
    monkeypatch.setattr(engine, "request", lambda _path, _method, what, _timeout_s: asked.append(what) or [])
    engine.containers("sock")
    engine.containers("sock", "/run/x y&z")
    filters = [json.loads(engine_unquote(what)) for what in asked]
    assert filters == [{"label": ["wirelab.run"]}, {"label": ["wirelab.run=/run/x y&z"]}]


def engine_unquote(what: str) -> str:
    from urllib.parse import parse_qs, urlsplit

    return parse_qs(urlsplit(what).query)["filters"][0]
