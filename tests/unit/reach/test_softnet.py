"""What waits on processors is waited for, and no longer than that."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from emulator.reach import softnet
from emulator.reach.softnet import Processor


def test_this_machine_has_processors_that_look_at_frames() -> None:
    if not Path("/proc/net/softnet_stat").exists():
        pytest.skip("this machine does not say")
    assert sum(row.processed for row in softnet.read()) > 0
    assert softnet.settle(10)


def test_a_machine_that_says_nothing_has_nothing_to_wait_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(softnet, "Path", lambda _: Path("/nonexistent"))
    assert softnet.read() == []
    assert (softnet.dropped(), softnet.settle(0)) == (0, True)


def test_the_columns(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """As Linux 6.18 has them, and as one that does not tell what waits."""
    file = tmp_path / "softnet_stat"
    new = "0000ff00 00000002 00000053 0 0 0 0 0 0 00000000 00000000 00000007 00000001 00000000 00000000\n"
    old = "0000ff00 00000002 00000053 0 0 0 0 0 0 00000000 00000000\n"
    monkeypatch.setattr(softnet, "Path", lambda _: file)
    file.write_text(new * 2)
    assert softnet.read() == [Processor(0xFF00, 2, 7)] * 2
    assert softnet.dropped() == 4
    file.write_text(old)
    assert softnet.read() == []


def seen(monkeypatch: pytest.MonkeyPatch, rows: Sequence[Processor]) -> list[Processor]:
    """Let one processor have these counts, one after the other, the last for ever; gives those that are left."""
    left = list(rows)
    monkeypatch.setattr(softnet, "read", lambda: [left.pop(0) if len(left) > 1 else left[0]])
    return left


def test_it_waits_until_all_that_waited_has_been_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two cables: what was looked at waits again at the next one; then nothing does."""
    top = (1 << 32) - 1  # the counter begins anew
    counts = [(top, 5), (top, 5), (1, 3), (4, 5), (4, 5), (9, 1), (9, 0)]
    rows = seen(monkeypatch, [Processor(processed, 0, waiting) for processed, waiting in counts])
    assert softnet.settle(10)
    assert rows == [Processor(9, 0, 0)]


def test_other_labs_that_never_rest_do_not_keep_it(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = seen(monkeypatch, [Processor(10 * count, 0, 7) for count in range(1000)])
    assert softnet.settle(10)
    assert len(rows) > 1


def test_a_processor_that_looks_at_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    seen(monkeypatch, [Processor(1, 0, 1)])
    assert not softnet.settle(0.01)
