"""The container of a deputy: it is entered only on the caller's own machine; nobody else tidies its folder away."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from emulator.commands import deputy_container
from emulator.commands.deputy_container import _ENTER, _here, _lock, _make_folder
from emulator.run import runs


@pytest.fixture
def enter(tmp_path: Path) -> Iterator[Path]:
    """Where a `setpriv` is that only says that it was come to."""
    program = tmp_path / "setpriv"
    program.write_text("#!/bin/sh\necho entered\n")
    program.chmod(0o755)
    yield tmp_path


def _said(folder: Path, here: str) -> tuple[str, int]:
    argv = ["sh", "-c", _ENTER, "deputy", here, str(os.getpid()), "1", "1", "--clear-groups", "-all", "true"]
    env = {"PATH": f"{folder}:/usr/bin:/bin"}
    done = subprocess.run(argv, capture_output=True, text=True, env=env, check=False)
    return done.stdout.strip(), done.returncode


def test_the_same_machine_is_entered(enter: Path) -> None:
    assert _said(enter, _here()) == ("entered", 0)


@pytest.mark.parametrize("line", [0, 1, 2])
def test_another_machine_is_not(enter: Path, line: int) -> None:
    """Its first namespaces may have the same numbers; it was started at another time, though."""
    found = _here().splitlines()
    assert len(found) == 3
    found[line] = found[line][:-2] + ("x]" if line < 2 else "xx")
    assert _said(enter, "\n".join(found)) == ("elsewhere", 1)


@pytest.fixture
def base(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the folders are."""
    monkeypatch.setattr(runs, "base", lambda: tmp_path / "wirelab")
    return tmp_path / "wirelab"


def test_a_folder_that_is_being_made_is_left_alone(base: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also by a command that tidies before the lock is there."""

    def tidied_before(folder: Path) -> int:
        runs.tidy()
        return _lock(folder)

    monkeypatch.setattr(deputy_container, "_lock", tidied_before)
    folder, lock = _make_folder()
    assert sorted(entry.name for entry in folder.iterdir()) == ["lock"] and list(base.iterdir()) == [folder]
    os.utime(folder, (0, 0))  # its maker may need no more time
    runs.tidy()
    assert folder.exists(), "it is locked"
    os.close(lock)
    runs.tidy()
    assert not base.exists(), "nobody holds it any more"


def test_a_folder_that_goes_meanwhile_is_made_again(base: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tries = []

    def gone_at_first(folder: Path) -> int:
        tries.append(folder)
        if len(tries) < 3:
            shutil.rmtree(base)
        return _lock(folder)

    monkeypatch.setattr(deputy_container, "_lock", gone_at_first)
    folder, lock = _make_folder()
    with contextlib.closing(os.fdopen(lock)):
        assert len(tries) == 3 and list(base.iterdir()) == [folder]
