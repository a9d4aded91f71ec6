"""What do idle hosts cost? Memory in use that the kernel cannot take back, and processes.

    make bench PART=memory

What is used: see `bench.common.used_kib`, before and while the hosts are up. Run it on a machine that does nothing
else: what others take and give back meanwhile is counted, too.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path

from bench import floor
from bench.common import Bench, Row, Sample, used_kib

AT_MOST = 1.15
FIXED_MIB = 40.0
SETTLED_KIB = 512
STEADY_S = 1.0
PATIENCE_S = 15.0


def measure(bench: Bench) -> Iterator[Row]:
    """The rows of memory."""
    hosts = 100 if bench.quick else 1000
    processes: list[float] = []
    for kind, shapes in floor.SHAPES.items():

        def ours(words: str = shapes[hosts]) -> float:
            before, count = _settled_kib(), _processes()
            with bench.lab("--topology", words):
                used = (_settled_kib() - before) / 1024
                processes.append(_processes() - count)
                return used

        def floors(a_switch: int = floor.hosts_a_switch(kind)) -> float:
            before = _settled_kib()
            with floor.held(hosts, a_switch):
                return (_settled_kib() - before) / 1024

        found = bench.rounds({"wirelab": ours, "floor": floors})
        yield Row(
            "memory", f"memory, {kind}, {hosts:,} idle hosts", "MiB", found["wirelab"], "floor", found["floor"],
            at_most=AT_MOST, fixed=FIXED_MIB,
        )  # fmt: skip
    yield Row("memory", f"processes of a lab with {hosts:,} idle hosts", "", Sample(tuple(processes)), at_most=2.0)


def _settled_kib() -> int:
    """Memory in use, once it has been the same for a second: what has ended is freed a little later."""
    last, since = used_kib(), time.monotonic()
    deadline = since + PATIENCE_S
    while time.monotonic() < min(since + STEADY_S, deadline):
        time.sleep(0.05)
        now = used_kib()
        if abs(now - last) > SETTLED_KIB:
            last, since = now, time.monotonic()
    return last


def _processes() -> int:
    """This user's processes called `wirelab-…`: every process that a lab starts for itself."""
    count = 0
    for entry in Path("/proc").iterdir():
        try:
            if entry.name.isdigit() and entry.stat().st_uid == os.geteuid():
                count += (entry / "comm").read_text().startswith("wirelab")
        except OSError:
            continue
    return count
