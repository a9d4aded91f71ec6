"""What the user is asked is what is really there: links and `..` resolved, names unable to pretend."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import pytest

from emulator.errors import UsageError, render
from emulator.lab.binds import Bind
from emulator.plan.containers import CAPABILITIES
from emulator.run.consent import agree, agree_to_capabilities, look


def test_links_and_dots_are_shown_as_they_resolve(tmp_path: Path) -> None:
    (tmp_path / "lab").mkdir()
    (tmp_path / "secret").mkdir()
    (tmp_path / "lab" / "harmless").symlink_to("../secret")
    asked: list[str] = []

    def ask(wishes: Sequence[str]) -> bool:
        asked.extend(wishes)
        return True

    binds = [
        ("a", Bind(f"{tmp_path}/lab/harmless", "/x", True)),
        ("b", Bind(f"{tmp_path}/lab/../secret", "/y", False)),
        ("b", Bind(f"{tmp_path}/secret", "/z", False)),
    ]
    shared = agree(binds, ask)
    real = os.path.realpath(tmp_path / "secret")
    assert asked == [
        f"a gets the folder {real} (written {tmp_path}/lab/harmless) at /x, to read",
        f"b gets the folder {real} at /y, to read AND CHANGE",
        f"b gets the folder {real} at /z, to read AND CHANGE",
    ]
    info = os.stat(real)
    assert {(entry.path, entry.device, entry.inode) for entry in shared} == {(real, info.st_dev, info.st_ino)}


def test_without_agreement_each_is_named(tmp_path: Path) -> None:
    binds = [("a", Bind(str(tmp_path), "/x", True)), ("b", Bind("/etc/passwd", "/y", False))]
    for agreement in (False, lambda _: False):
        with pytest.raises(UsageError) as caught:
            agree(binds, agreement)
        listed = [
            f"a gets the folder {tmp_path} at /x, to read",
            "b gets the file /etc/passwd at /y, to read AND CHANGE",
        ]
        assert list(caught.value.listed) == listed
        assert render(caught.value).splitlines()[1:3] == [f"    {line}" for line in listed]
        assert caught.value.exit_status == 2
        assert caught.value.hint is not None
    assert len(agree(binds, True)) == 2
    assert agree([], False) == []


def test_names_cannot_pretend_to_be_other_lines(tmp_path: Path) -> None:
    evil = tmp_path / "a\n    b gets nothing\x1b[2J"
    evil.mkdir()
    (wish,) = look([("a", Bind(str(evil), "/x", True))])
    assert "\n" not in wish.text
    assert "\x1b" not in wish.text


def test_what_is_not_there_or_no_file(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "loop").symlink_to("loop")
    for name, said in (("none", "No such file"), ("pipe", "neither a file nor a folder"), ("loop", "symbolic links"),
                       ("a\0b", "not a path")):  # fmt: skip
        with pytest.raises(UsageError, match=said):
            agree([("a", Bind(f"{tmp_path}/{name}", "/x", True))], True)
    with pytest.raises(UsageError, match="neither a file nor a folder"):
        agree([("a", Bind("/dev/zero", "/x", True))], True)


def test_capabilities_over_the_machine() -> None:
    asked = [("a", ("NET_RAW", "SYS_MODULE", "SYS_ADMIN", "SYS_MODULE")), ("b", ("FOWNER",)), ("c", ("MKNOD",))]
    heard: list[str] = []

    def ask(wishes: Sequence[str]) -> bool:
        heard.extend(wishes)
        return True

    agree_to_capabilities(asked, ask)
    assert heard == ["a gets SYS_MODULE, SYS_ADMIN", "c gets MKNOD"]
    agree_to_capabilities(asked, True)
    for agreement in (False, lambda _: False):
        with pytest.raises(UsageError, match="a gets SYS_MODULE, SYS_ADMIN\n") as caught:
            agree_to_capabilities(asked, agreement)
        assert caught.value.exit_status == 2 and "--allow-caps" in str(caught.value.hint)


def test_harmless_capabilities_need_no_agreement() -> None:
    agree_to_capabilities([("a", (*CAPABILITIES, "FOWNER", "SETPCAP", "SYS_CHROOT")), ("b", ())], False)
    for name in ("SYS_ADMIN", "SYS_MODULE", "SYS_RAWIO", "SYS_PTRACE", "DAC_READ_SEARCH", "MKNOD", "BPF", "SYS_BOOT"):
        with pytest.raises(UsageError, match=name):
            agree_to_capabilities([("a", (name,))], False)
