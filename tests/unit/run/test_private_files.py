"""Files of nodes, reached from outside: whatever links are there, nothing outside the node's folder is touched."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from emulator.run.private_files import create, exists


def write(folder: Path, path: str, text: str, mode: int = 0o644) -> None:
    """What the builder does for a file of the plan."""
    with open(create(folder, path, mode), "w", encoding="utf-8") as stream:
        stream.write(text)


def test_a_file_is_made_and_made_again(tmp_path: Path) -> None:
    node = tmp_path / "pc1"
    write(node, "/run/lab/a", "long text", 0o755)
    write(node, "/run/lab/a", "short", 0o600)
    file = node / "run" / "lab" / "a"
    assert (file.read_text(), file.stat().st_mode & 0o777) == ("short", 0o600)
    assert exists(node, "/run/lab/a")
    assert exists(node, "/run/lab")
    assert not exists(node, "/run/lab/b")
    assert not exists(node, "/run/lab/a/b")
    assert not exists(tmp_path / "pc2", "/run")


@pytest.mark.parametrize("place", ["", "var", "var/tmp", "var/tmp/d", "var/tmp/d/f"])
@pytest.mark.parametrize("absolute", [True, False])
def test_links_lead_nowhere(tmp_path: Path, place: str, absolute: bool) -> None:
    outside, node = tmp_path / "outside", tmp_path / "labs" / "pc1"
    (outside / "var" / "tmp" / "d").mkdir(parents=True)
    for folder in (outside, outside / "var", outside / "var" / "tmp", outside / "var" / "tmp" / "d"):
        (folder / "f").write_text("precious")
    link = node / place
    link.parent.mkdir(parents=True)
    target = outside / place
    link.symlink_to(target if absolute else os.path.relpath(target, link.parent))
    with pytest.raises(OSError):
        write(node, "/var/tmp/d/f", "overwritten")
    assert {file.read_text() for file in outside.rglob("f")} == {"precious"}
    assert exists(node, "/var/tmp/d/f") == (place == "var/tmp/d/f"), "a link itself is there; none is followed"


@pytest.mark.parametrize("kind", ["pipe", "folder"])
def test_what_is_no_file(tmp_path: Path, kind: str) -> None:
    place = tmp_path / "pc1" / "run" / "x"
    place.parent.mkdir(parents=True)
    os.mkfifo(place) if kind == "pipe" else place.mkdir()
    with pytest.raises(OSError):
        write(tmp_path / "pc1", "/run/x", "text")


@given(st.lists(st.from_regex(r"[a-z.]{1,4}", fullmatch=True).filter(lambda word: word not in (".", "..")), min_size=1))
def test_any_path(tmp_path_factory: pytest.TempPathFactory, words: list[str]) -> None:
    node = tmp_path_factory.mktemp("any") / "pc1"
    path = "/" + "/".join(words)
    write(node, path, "text")
    assert exists(node, path)
    assert [file for file in node.rglob("*") if file.is_file()] == [node.joinpath(*words)]


def test_links_inside_are_followed_when_it_is_looked_for(tmp_path: Path) -> None:
    """As `/var/run` of most images: `/proc/PID/root` is the kernel's link to a container's files."""
    node = tmp_path / "pc1"
    write(node, "/run/app/ready", "")
    (node / "var").mkdir()
    (node / "var" / "run").symlink_to("/run")
    (node / "var" / "near").symlink_to("run/app")
    (node / "var" / "loop").symlink_to("loop")
    assert exists(node, "/var/run/app/ready") and exists(node, "/var/near/ready")
    assert not exists(node, "/var/loop/x") and not exists(node, "/var/run/other")
    assert exists(Path(f"/proc/{os.getpid()}/root"), "/proc/self/stat")
