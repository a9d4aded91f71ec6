"""Files of images are whatever somebody put there: to read or write them neither waits nor eats memory."""

from __future__ import annotations

import contextlib
import os
import signal
import stat
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

from emulator.errors import CommandFailed
from emulator.run import kernel
from emulator.run.backends import docker_files
from emulator.run.backends.docker_files import in_files, read_file, write_files


def test_reading(tmp_path: Path) -> None:
    (tmp_path / "passwd").write_bytes(b"root:x:0:0:\xff\n")
    (tmp_path / "link").symlink_to("passwd")
    assert read_file(f"{tmp_path}/passwd") == read_file(f"{tmp_path}/link") == "root:x:0:0:\ufffd\n"
    assert read_file(f"{tmp_path}/none") == ""


def test_reading_what_is_no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "zero").symlink_to("/dev/zero")
    (tmp_path / "loop").symlink_to("loop")
    for name in ("pipe", "zero", "loop", "."):
        assert read_file(f"{tmp_path}/{name}") == ""
    monkeypatch.setattr(docker_files, "_AT_MOST", 1 << 20)
    with (tmp_path / "endless").open("wb") as file:
        file.truncate(1 << 40)
    with pytest.raises(OSError, match="more than 1 MiB"):
        read_file(f"{tmp_path}/endless")
    with (tmp_path / "endless").open("wb") as file:
        file.truncate(1 << 20)
    assert len(read_file(f"{tmp_path}/endless")) == 1 << 20


def test_writing(tmp_path: Path) -> None:
    (tmp_path / "hosts").write_text("a long line that was there before")
    (tmp_path / "hosts").chmod(0o600)
    entries = [(f"{tmp_path}/hosts", b"short", 0o644), (f"{tmp_path}/new/folder/file", b"fresh", 0o640)]
    write_files(entries, os.getuid(), os.getgid())
    assert (tmp_path / "hosts").read_text() == "short" and (tmp_path / "hosts").stat().st_mode & 0o777 == 0o600
    made = tmp_path / "new/folder/file"
    assert made.read_text() == "fresh" and made.stat().st_mode & 0o777 == 0o640


def test_writing_to_what_is_no_file(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    names = ["pipe", "."]
    with contextlib.suppress(PermissionError):  # a device of our own, since the machine's would be the one that suffers
        os.mknod(tmp_path / "null", 0o666 | stat.S_IFCHR, os.makedev(1, 3))
        names.append("null")
    for name in names:
        with pytest.raises(OSError, match=r"No such device|no regular file|Is a directory"):
            write_files([(f"{tmp_path}/{name}", b"x", 0o644)], os.getuid(), os.getgid())
    reader = os.open(tmp_path / "pipe", os.O_RDONLY | os.O_NONBLOCK)
    try:
        with pytest.raises(OSError, match="no regular file"):
            write_files([(f"{tmp_path}/pipe", b"x", 0o644)], os.getuid(), os.getgid())
    finally:
        os.close(reader)


@pytest.fixture
def here(monkeypatch: pytest.MonkeyPatch) -> Iterator[int]:
    """A descriptor for `in_files`, which stays where it is."""
    monkeypatch.setattr(kernel, "setns", lambda *_: None)
    descriptor = os.open("/", os.O_RDONLY)
    yield descriptor
    os.close(descriptor)


def test_what_is_done_there_comes_back(here: int) -> None:
    own = os.getpid()
    works: list[tuple[str, int, Callable[[], Sequence[str]]]] = [
        ("a", here, lambda: ["\ufffd\n", ""]),
        ("b", here, lambda: [str(os.getpid() != own)]),
        ("c", here, lambda: ()),
    ]
    assert in_files(works) == [["\ufffd\n", ""], ["True"], []]


def test_what_goes_wrong_there_is_told(here: int) -> None:
    def denied() -> Sequence[str]:
        raise PermissionError(13, "Permission denied", "/x")

    def killed() -> Sequence[str]:
        os.kill(os.getpid(), signal.SIGKILL)
        return ()

    def wrong() -> Sequence[str]:
        raise KeyError("x")

    for action, said in (
        (denied, "container of a: /x: Permission denied"),
        (wrong, "container of a: KeyError"),
        (killed, "was killed by signal 9"),
    ):
        with pytest.raises(CommandFailed, match=said):
            in_files([("a", here, action)])
