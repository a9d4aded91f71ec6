"""Labs that are too large for this machine."""

from __future__ import annotations

import resource
from pathlib import Path

import pytest

from emulator.errors import MachineError
from emulator.run import room


@pytest.mark.parametrize(("nodes", "fits"), [(100, True), (101, False)])
def test_memory(monkeypatch: pytest.MonkeyPatch, nodes: int, fits: bool) -> None:
    monkeypatch.setattr(room, "available_octets", lambda: 100 * room.NODE_OCTETS)
    if fits:
        room.refuse_too_large("big", nodes)
        return
    with pytest.raises(MachineError, match=r"the 101 nodes of big take about 31 MiB .* has 31 MiB left"):
        room.refuse_too_large("big", nodes)


@pytest.mark.parametrize(("limit", "fits"), [(108, True), (107, False), (resource.RLIM_INFINITY, True)])
def test_files(monkeypatch: pytest.MonkeyPatch, limit: int, fits: bool) -> None:
    monkeypatch.setattr(room, "available_octets", lambda: None)
    monkeypatch.setattr(resource, "getrlimit", lambda _: (10, limit))
    if fits:
        room.refuse_too_large("big", 100)
        return
    with pytest.raises(MachineError, match="must open at least 108 files; it may open 107"):
        room.refuse_too_large("big", 100)


@pytest.mark.parametrize(
    ("text", "octets"),
    [
        ("MemTotal:  5 kB\nMemAvailable:    2048 kB\n", 2 << 20),
        ("MemTotal: 5 kB\n", None),
        ("MemAvailable: x\n", None),
    ],
)
def test_what_the_kernel_says(tmp_path: Path, text: str, octets: int | None) -> None:
    file = tmp_path / "meminfo"
    file.write_text(text)
    assert room.available_octets(file) == octets
    assert room.available_octets(tmp_path / "none") is None
