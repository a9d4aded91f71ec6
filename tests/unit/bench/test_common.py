"""The measurements' common part: ratios, bounds, rounds, tables; and the floor's program."""

from __future__ import annotations

import importlib
import json
import math
import os
import shutil
import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench import common, floor
from bench.common import Bench, Lacking, Row, Sample

FIGURES = st.lists(st.floats(0.001, 1000), min_size=1, max_size=7).map(tuple)


@given(values=FIGURES)
def test_a_sample_has_its_median_between_its_extremes(values: tuple[float, ...]) -> None:
    sample = Sample(values)
    assert sample.low <= sample.median <= sample.high
    assert sum(value <= sample.median for value in values) >= len(values) / 2


@given(ours=FIGURES, other=FIGURES, at_most=st.floats(0.1, 10), fixed=st.floats(0, 10))
def test_a_bound_holds_as_it_is_written(
    ours: tuple[float, ...], other: tuple[float, ...], at_most: float, fixed: float
) -> None:
    row = Row("p", "w", "s", Sample(ours), "them", Sample(other), at_most=at_most, fixed=fixed)
    assert row.holds == (row.ours.median <= at_most * Sample(other).median + fixed)
    assert math.isclose(row.ratio or 0, row.ours.median / Sample(other).median)
    assert row.ratios is not None and len(row.ratios.values) == min(len(ours), len(other))


def test_bounds_that_hold_and_that_do_not() -> None:
    ours, other = Sample((2.0,)), Sample((1.0,))
    cases = [
        (Row("p", "w", "s", ours), None, ""),
        (Row("p", "w", "s", ours, at_most=2.0), True, "≤ 2 s"),
        (Row("p", "w", "s", ours, at_most=1.9), False, "≤ 1.9 s"),
        (Row("p", "w", "s", ours, at_least=2.1), False, "≥ 2.1 s"),
        (Row("p", "w", "s", ours, "x", other, at_most=1.5, fixed=0.25), False, "≤ 1.5× + 0.25 s"),
        (Row("p", "w", "s", ours, "x", other, at_most=1.5, fixed=0.5), True, "≤ 1.5× + 0.5 s"),
        (Row("p", "w", "s", ours, "x", other, at_least=0.97), True, "≥ 0.97×"),
        (Row("p", "w", "s", other, "x", ours, at_least=0.97), False, "≥ 0.97×"),
        (Row("p", "w", "s", ours, "x", other, paired=True, at_least=0.97), True, "≥ 0.97×"),
        (Row("p", "w", "s", other, "x", ours, paired=True, at_least=0.97), False, "≥ 0.97×"),
    ]
    for row, holds, bound in cases:
        assert (row.holds, row.bound) == (holds, bound)


def test_rounds_alternate_and_their_order_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(common, "slab_kib", lambda: 1000)
    order: list[str] = []
    figures = iter(range(100))

    def way(name: str) -> float:
        order.append(name)
        return next(figures)

    found = Bench(repeats=3).rounds({"a": lambda: way("a"), "b": lambda: way("b")})
    assert order == ["a", "b", "b", "a", "a", "b"]
    assert found["a"].values == (0, 3, 4) and found["b"].values == (1, 2, 5)


def test_waiting_ends_when_all_is_back_or_nothing_changes(monkeypatch: pytest.MonkeyPatch) -> None:
    figures = iter([9000, 8000, 7000, 5096, 5096])
    monkeypatch.setattr(common, "slab_kib", lambda: next(figures))
    assert common.wait_reclaimed(1000)
    monkeypatch.setattr(common, "slab_kib", lambda: 6000)
    monkeypatch.setattr(common, "STEADY_S", 0.05)
    assert not common.wait_reclaimed(1000)


def test_table_and_json(tmp_path: Path) -> None:
    rows = [
        Row("up", "up, 10 hosts", "s", Sample((0.2, 0.25, 0.3)), "floor", Sample((0.1, 0.1, 0.2)), at_most=1.5),
        Row("down", "down", "s", Sample((1234.5,)), note="once"),
    ]
    text = common.as_text(rows)
    assert "0.25 (0.2–0.3)" in text and "2.5 (1.5–2.5)" in text and "NO" in text and "1,234" in text
    markdown = common.as_markdown(rows).splitlines()
    assert len({line.count("|") for line in markdown}) == 1 and len(markdown) == 4
    common.write_json(rows, tmp_path / "results" / "x.json", {"mininet": "it is not there"})
    written = json.loads((tmp_path / "results" / "x.json").read_text())
    assert written["rows"][0]["ours"]["values"] == [0.2, 0.25, 0.3] and written["rows"][0]["holds"] is False
    assert written["rows"][1]["ratio"] is None and written["skipped"] == {"mininet": "it is not there"}
    assert written["machine"]["processors"] == os.cpu_count()


def test_every_part_can_be_measured() -> None:
    for module in common.PARTS.values():
        assert callable(importlib.import_module(module).measure)


def test_what_is_lacking_is_said() -> None:
    with pytest.raises(Lacking, match="no-such-program"):
        common.need("sh", "no-such-program")
    with pytest.raises(common.Broken, match="status 3"):
        common.run(["sh", "-c", "exit 3"])


@pytest.mark.skipif(shutil.which("cc") is None, reason="no C compiler")
def test_the_floor_says_what_it_wants() -> None:
    done = subprocess.run([floor.program()], capture_output=True, text=True, check=False)
    assert done.returncode == 2 and done.stderr == "usage: kernel_floor HOSTS [HOSTS_A_SWITCH] [hold]\n"
