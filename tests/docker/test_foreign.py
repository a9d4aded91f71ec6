"""Images that are not Wirelab's: whatever they have or lack, cables, addresses and files come from outside."""

from __future__ import annotations

import contextlib
import io
import os
import re
import subprocess
import tarfile
import time
from collections.abc import Iterator

import pytest

from tests.conftest import Person
from tests.docker import engines
from tests.docker.engines import Engine
from tests.docker.test_backend import lab_file, labels

BUSYBOX = "/bin/busybox"


@pytest.fixture
def bare(images: Engine) -> Iterator[str]:
    """An image that has busybox and a user, no other program, no /etc/hosts and no /tmp; it has an ENTRYPOINT."""
    if not os.path.exists(BUSYBOX):
        engines.lacking("there is no busybox")
    listed = subprocess.run(["ldd", BUSYBOX], capture_output=True, text=True, check=False).stdout
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w") as tar:
        for path in (BUSYBOX, *re.findall(r"(/\S+) \(0x", listed)):
            tar.add(os.path.realpath(path), path)
        users = b"root:x:0:0::/:/bin/false\nbroken:x:many:1::/:\nguest:x:4711:4712::/:/bin/false\n"
        for path, text in (("etc/passwd", users), ("etc/real.group", b"wheel:x:10:guest\n")):
            about = tarfile.TarInfo(path)
            about.size = len(text)
            tar.addfile(about, io.BytesIO(text))
        link = tarfile.TarInfo("etc/group")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/real.group"
        tar.addfile(link)
    name = f"foreign-{os.getpid()}-{time.monotonic_ns()}"
    changes = [f'ENTRYPOINT ["{BUSYBOX}", "env"]', f'CMD ["{BUSYBOX}", "sleep", "4711"]', "USER guest", "WORKDIR /etc"]
    with contextlib.closing(images.client()) as client:
        client.api.import_image_from_data(archive.getvalue(), repository=name, tag="latest", changes=changes)
        yield name
        client.images.remove(name, force=True)


def _lab(image: str, more: str = "") -> str:
    return f"""
name: foreign
nodes:
  a: {{image: "{image}", interfaces: {{eth0: 10.0.0.1/24}}{more}}}
  b: {{interfaces: {{eth0: 10.0.0.2/24}}}}
  sw: {{kind: switch}}
links: [[a:eth0, sw], [b:eth0, sw]]
"""


def test_an_image_without_tools_in_a_mixed_lab(docker: Person, lab_name: str, images: Engine, bare: str) -> None:
    file = lab_file(
        docker, lab_name, _lab(bare, ", hosts: {printer: 10.0.0.9}, sysctls: {net.ipv4.ip_default_ttl: 77}")
    )
    docker.wirelab("up", file, "--name", lab_name)
    try:
        assert list(labels(images, lab_name)) == ["a"], "the others are namespaces"
        docker.wirelab("exec", lab_name, "b", "--", "ping", "-c1", "-W5", "10.0.0.1")

        def inside(*words: str) -> str:
            return docker.wirelab("exec", lab_name, "a", "--", BUSYBOX, *words).stdout

        assert "10.0.0.1/24" in inside("ip", "address", "show", "dev", "eth0")
        assert "10.0.0.9 printer" in inside("cat", "/etc/hosts")
        assert inside("cat", "/proc/sys/net/ipv4/ip_default_ttl") == "77\n"
        assert inside("id", "-u") == "0\n", "commands are root's unless the lab file names a user"
        assert inside("pwd") == "/etc\n"
        lacking = docker.wirelab("exec", lab_name, "a", "--", "ping", "-c1", "10.0.0.2", status=3).stderr
        assert "no program ping" in lacking
        with contextlib.closing(images.client()) as client:
            rows = client.api.top(labels(images, lab_name)["a"].id, ps_args="-eo pid,uid,args")["Processes"]
        users = {command: uid for _pid, uid, command in rows}
        assert users[f"{BUSYBOX} sleep 4711"] == "4711", "the image's own user and command, by its ENTRYPOINT"
    finally:
        docker.wirelab("down", lab_name)
    assert labels(images, lab_name) == {}


def test_a_user_of_the_lab_file(docker: Person, lab_name: str, bare: str) -> None:
    """The image's group file is an absolute link, which leads to nothing on the machine."""
    file = lab_file(docker, lab_name, _lab(bare, f', user: guest, cmd: ["{BUSYBOX}", sleep, "1000"]'))
    docker.wirelab("up", file, "--name", lab_name)
    said = docker.wirelab("exec", lab_name, "a", "--", BUSYBOX, "sh", "-c", f"{BUSYBOX} id -u; {BUSYBOX} id -G").stdout
    docker.wirelab("down", lab_name)
    assert [set(line.split()) for line in said.splitlines()] == [{"4711"}, {"4712", "10"}]
    wrong = lab_file(docker, lab_name, _lab(bare, ", user: broken"))
    assert docker.wirelab("up", wrong, "--name", lab_name, status=1).stderr.startswith("wirelab: ")


def test_an_image_that_cannot_be_had(docker: Person, lab_name: str, images: Engine) -> None:
    """Where nobody answers, for several nodes: one error."""
    text = _lab("localhost:1/x").replace("  b: {", '  b: {image: "localhost:1/x", ')
    said = docker.wirelab("up", lab_file(docker, lab_name, text), "--name", lab_name, status=3).stderr
    assert said.startswith("wirelab: the engine has no image localhost:1/x, and cannot get it: ")
    assert said.splitlines()[-1] == "  hint: docker pull localhost:1/x" and said.count("cannot get it") == 1
    assert labels(images, lab_name) == {} and not (docker.runs / lab_name).exists()
