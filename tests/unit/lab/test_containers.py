"""What a lab file says of containers, and what it gets wrong."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from emulator.errors import Problem
from emulator.lab.document import parse
from emulator.lab.load import build
from emulator.lab.resolve import resolve
from emulator.lab.resolved import Bind, ResolvedLab

Problems = Callable[..., tuple[Problem, ...]]

LAB = """name: l
nodes:
  a: {SETTINGS}
  b:
  sw: {kind: switch}
links: [[a, sw], [b, sw]]
"""


def lab(settings: str, backend: str = "netns", file: str = "/labs/l/lab.yml") -> ResolvedLab:
    text = LAB.replace("SETTINGS", settings).encode()
    return resolve(build(parse(text, file)), backend="docker" if backend == "docker" else "netns")


@pytest.mark.parametrize(
    ("settings", "backend", "containers"),
    [
        ("", "netns", []),
        ("", "docker", ["a", "b"]),
        ("backend: docker", "netns", ["a"]),
        ("backend: netns", "docker", ["b"]),
        ("image: debian", "netns", ["a"]),
        ("image: debian", "docker", ["a", "b"]),
        ("cpus: 1", "netns", []),
    ],
)
def test_which_nodes_are_containers(settings: str, backend: str, containers: list[str]) -> None:
    found = lab(settings, backend)
    assert [name for name, node in found.nodes.items() if node.container] == containers


def test_all_settings() -> None:
    node = lab(
        "image: 'nginx:1.27', cmd: 'sh -c \"sleep 1\"', user: 'www-data:33', cpus: 0.5, memory: 64M, "
        "cap-add: [SYS_PTRACE], binds: ['pages:/srv/pages:ro', '../x:/x', '/y:/y:rw']"
    ).nodes["a"]  # fmt: skip
    container = node.container
    assert container is not None
    assert (container.image, container.cmd, container.user) == ("nginx:1.27", ("sh", "-c", "sleep 1"), "www-data:33")
    assert (container.cpus, container.memory_bytes, container.capabilities) == (0.5, 64 << 20, ("SYS_PTRACE",))
    assert node.binds == (
        Bind("/labs/l/pages", "/srv/pages", True),
        Bind("/labs/l/../x", "/x", False),
        Bind("/y", "/y", False),
    )


def test_no_settings() -> None:
    container = lab("backend: docker").nodes["a"].container
    assert container is not None
    assert (container.image, container.cmd, container.user, container.cpus) == (None, None, "", None)
    assert (container.memory_bytes, container.capabilities) == (None, ())


@pytest.mark.parametrize(
    ("written", "octets"),
    [
        ("6291456", 6 << 20),
        ("16m", 16 << 20),
        ("16M", 16 << 20),
        ("16MiB", 16 << 20),
        ("8192k", 8 << 20),
        ("1G", 1 << 30),
        ("1gb", 1 << 30),
        ("'8388608'", 8 << 20),
    ],
)
def test_memory(written: str, octets: int) -> None:
    container = lab(f"backend: docker, memory: {written}").nodes["a"].container
    assert container is not None and container.memory_bytes == octets


def test_the_command_may_name_nodes() -> None:
    container = lab("backend: docker, cmd: 'ping {b.ip}'").nodes["a"].container
    address = lab("").interface("b:eth0").addresses[0].ip
    assert container is not None and container.cmd == ("ping", str(address))


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ("backend: ^podman", "netns"),
        ("image: ^'two words'", "image"),
        ("image: ^-rf", "image"),
        ("backend: docker, memory: ^lots", "256M"),
        ("backend: docker, memory: ^1M", "6291456"),
        ("backend: docker, memory: ^1.5G", "256M"),
        ("backend: docker, cpus: ^0", "0"),
        ("backend: docker, cpus: ^4096", "1024"),
        ("backend: docker, cap-add: [^CAP_SYS_ADMIN]", "SYS_PTRACE"),
        ("backend: docker, cap-add: [NET_RAW, ^ALL]", "SYS_PTRACE"),
        ("backend: docker, cap-add: [^sys_admin]", "SYS_PTRACE"),
        ("backend: docker, ^cap-ad: [SYS_NICE]", "did you mean 'cap-add'?"),
        ("backend: docker, user: ^'a b'", "user"),
        ("backend: docker, user: ^-x", "user"),
        ("backend: docker, binds: [^only]", "an absolute path"),
        ("backend: docker, binds: [^'/x:y']", "an absolute path"),
        ("backend: docker, binds: [^'/x:/']", "a plain absolute path"),
        ("backend: docker, binds: [^'/x:/y:z']", "SOURCE[:TARGET][:ro]"),
        ("backend: docker, cmd: ^''", "empty command"),
        ("backend: docker, cmd: ^'ping {c.ip}'", "c"),
        ("backend: netns, image: ^debian", "the node is no container"),
        ("backend: netns, cpus: ^2", "the node is no container"),
        ("backend: netns, cap-add: ^[SYS_NICE]", "the node is no container"),
        ("kind: switch, backend: ^docker", "a switch is never a container"),
        ("kind: switch, image: ^debian", "a switch is never a container"),
    ],
)
def test_what_is_wrong_is_told_with_its_place(problems: Problems, settings: str, words: str) -> None:
    """The place is where the ^ stands."""
    found = problems(LAB.replace("SETTINGS", settings.replace("^", "")))
    about = [problem for problem in found if words in str(problem)]
    assert about, found
    assert (about[0].file, about[0].line) == ("lab.yml", 3)
    assert about[0].column == len("  a: {") + settings.index("^") + 1, about[0]


def test_all_at_once(problems: Problems) -> None:
    found = problems(LAB.replace("SETTINGS", "backend: netns, image: debian, cpus: 1, memory: 64M"))
    assert [problem.message.split(":")[0] for problem in found] == ["`image`", "`cpus`", "`memory`"]
