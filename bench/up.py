"""How long until a lab is up? From the start of the command to its end, beside the kernel's floor.

    make bench PART=up

Asked: at most 1.5 × the floor and 0.25 s more, with all hosts on one switch and with ten hosts a switch; and a host
costs at most 1.5 × the floor's host, by the line through 100 and 1,000 hosts.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

from bench import floor
from bench.common import Bench, Row, Sample, run, timed, wirelab

FIXED_S = 0.25
AT_MOST = 1.5


def measure(bench: Bench) -> Iterator[Row]:
    """The rows of up."""
    for kind, shapes in floor.SHAPES.items():
        found: dict[int, dict[str, Sample]] = {}
        for hosts, words in shapes.items():
            if bench.quick and hosts > 100:
                continue
            ways = {
                "wirelab": partial(up_s, bench, words),
                "floor": partial(floor.up_s, hosts, floor.hosts_a_switch(kind)),
            }
            found[hosts] = bench.rounds(ways)
            yield Row(
                "up", f"up, {kind}, {hosts:,} hosts ({words})", "s", found[hosts]["wirelab"], "floor",
                found[hosts]["floor"], at_most=AT_MOST, fixed=FIXED_S,
            )  # fmt: skip
        if 1000 in found:
            yield from _fit(kind, found)


def up_s(bench: Bench, words: str) -> float:
    """Seconds of `wirelab up --topology WORDS`; the lab is down again when this returns."""
    name = bench.name()
    try:
        return timed(wirelab("up", "--topology", words, "--name", name))
    finally:
        run(wirelab("down", name))


def _fit(kind: str, found: dict[int, dict[str, Sample]]) -> Iterator[Row]:
    """The line through 100 and 1,000 hosts: its slope is a host's cost, and what 10 hosts take above it is fixed."""

    def slope_ms(who: str) -> Sample:
        pairs = zip(found[100][who].values, found[1000][who].values, strict=True)
        return Sample(tuple((large - small) / 900 * 1000 for small, large in pairs))

    ours, floors = slope_ms("wirelab"), slope_ms("floor")
    note = "the slope between 100 and 1,000 hosts"
    yield Row("up", f"up, {kind}, a host", "ms", ours, "floor", floors, at_most=AT_MOST, note=note)
    fixed = Sample(tuple(ten - 10 * ours.median / 1000 for ten in found[10]["wirelab"].values))
    note = "10 hosts, less ten times a host's cost"
    yield Row("up", f"up, {kind}, fixed part", "s", fixed, at_most=FIXED_S, note=note)
