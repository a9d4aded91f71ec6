"""Does it grow as the floor does? 5,000 hosts, once.

    make bench PART=large

The kernel makes namespaces the slower the more there are, so both are measured at that size.
"""

from __future__ import annotations

import time
from collections.abc import Iterator

from bench import floor
from bench.common import Bench, Broken, Row, Sample, run, slab_kib, timed, wait_reclaimed, wirelab
from bench.up import AT_MOST, FIXED_S

HOSTS = 5_000


def measure(bench: Bench) -> Iterator[Row]:
    """The rows of large."""
    hosts = 500 if bench.quick else HOSTS
    before = slab_kib()
    floors = floor.up_s(hosts)
    wait_reclaimed(before)
    name = bench.name()
    ours = timed(wirelab("up", "--topology", f"single,{hosts}", "--name", name))
    # From the first host to the last: what is switched to more hosts than a processor keeps frames for
    # (net.core.netdev_max_backlog) reaches the last one first.
    far = f"10.0.{hosts // 256}.{hosts % 256}"
    try:
        answered = run(wirelab("exec", name, "h1", "--", "ping", "-c", "1", "-W", "5", "-q", far))
        if "1 received" not in answered:
            raise Broken(f"h1 does not reach h{hosts}")
    except BaseException:
        run(wirelab("down", name))
        raise
    began = time.perf_counter()
    down = timed(wirelab("down", name))
    wait_reclaimed(before)
    gone = time.perf_counter() - began
    yield Row(
        "large", f"up, single, {hosts:,} hosts", "s", Sample((ours,)), "floor", Sample((floors,)),
        at_most=AT_MOST, fixed=FIXED_S, note="once",
    )  # fmt: skip
    yield Row("large", f"down, single, {hosts:,} hosts: the command returns", "s", Sample((down,)), note="once")
    yield Row(
        "large", f"down, single, {hosts:,} hosts: the kernel has everything back", "s", Sample((gone,)), note="once"
    )
