"""How long until a lab is gone? Until the command returns, and until the kernel has everything back.

    make bench PART=down

The floor's program is killed; the kernel takes back what it held. The time ends when the memory of per-processor data
(`Percpu` in /proc/meminfo), of which each namespace and each interface has some, is what it was before.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from functools import partial

from bench import floor
from bench.common import Bench, Row, Sample, percpu_kib, run, wait_reclaimed, wirelab

RETURNS_S = 0.3
AT_MOST = 1.5


def measure(bench: Bench) -> Iterator[Row]:
    """The rows of down."""
    hosts = 100 if bench.quick else 1000
    for kind, shapes in floor.SHAPES.items():
        returned: list[float] = []
        ways = {
            "wirelab": partial(_ours_s, bench, shapes[hosts], returned),
            "floor": partial(_floor_s, bench, hosts, floor.hosts_a_switch(kind)),
        }
        found = bench.rounds(ways)
        what = f"down, {kind}, {hosts:,} hosts"
        yield Row("down", f"{what}: the command returns", "s", Sample(tuple(returned)), at_most=RETURNS_S)
        yield Row(
            "down", f"{what}: the kernel has everything back", "s", found["wirelab"], "floor", found["floor"],
            at_most=AT_MOST,
        )  # fmt: skip


def _ours_s(bench: Bench, words: str, returned: list[float]) -> float:
    """Seconds from the start of `wirelab down` until all is gone; when the command returned is added to `returned`."""
    name, before = bench.name(), percpu_kib()
    run(wirelab("up", "--topology", words, "--name", name))
    began = time.perf_counter()
    run(wirelab("down", name))
    returned.append(time.perf_counter() - began)
    return _until_gone(bench, began, before)


def _floor_s(bench: Bench, hosts: int, a_switch: int) -> float:
    """Seconds from killing the floor's program until all is gone."""
    before = percpu_kib()
    with floor.held(hosts, a_switch) as process:
        began = time.perf_counter()
        process.kill()
        return _until_gone(bench, began, before)


def _until_gone(bench: Bench, began: float, before_kib: int) -> float:
    if not wait_reclaimed(before_kib):
        bench.say("the kernel has not taken back everything: something else uses it, and this round says nothing")
    return time.perf_counter() - began
