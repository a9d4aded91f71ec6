"""How long until a lab is gone? Until the command returns, and until the kernel has everything back.

    make bench PART=down

The floor's program is killed; the kernel takes back what it held. The time ends when 97 % of the memory that the
kernel's objects took for the lab is free again (`Slab` in /proc/meminfo). So does that of a lab whose `up` is
interrupted (SIGINT) when half of the time is over that it takes.
"""

from __future__ import annotations

import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from functools import partial

from bench import floor
from bench.common import Bench, Broken, Row, Sample, run, slab_kib, timed, wait_reclaimed, wirelab

RETURNS_S = 0.3
AT_MOST = 1.5
INTERRUPTED_S = 2.0
HOST_KIB = 200
"""The kernel's objects of a host take more than this; when less was added, somebody else gave some back meanwhile."""
LEFT = 0.03
TRIES = 5


def measure(bench: Bench) -> Iterator[Row]:
    """The rows of down."""
    hosts = 100 if bench.quick else 1000
    for kind, shapes in floor.SHAPES.items():
        returned: list[float] = []
        ways = {
            "wirelab": partial(_ours_s, bench, shapes[hosts], hosts, returned),
            "floor": partial(_floor_s, bench, hosts, floor.hosts_a_switch(kind)),
        }
        found = bench.rounds(ways)
        what = f"down, {kind}, {hosts:,} hosts"
        yield Row("down", f"{what}: the command returns", "s", Sample(tuple(returned)), at_most=RETURNS_S)
        yield Row(
            "down", f"{what}: the kernel has everything back", "s", found["wirelab"], "floor", found["floor"],
            at_most=AT_MOST,
        )  # fmt: skip
    words = floor.SHAPES["single"][hosts]
    seconds = Sample(tuple(_interrupted_s(bench, words, hosts) for _ in range(bench.repeats)))
    what = f"up, single, {hosts:,} hosts, interrupted half-way: the kernel has everything back"
    yield Row("down", what, "s", seconds, at_most=INTERRUPTED_S)


def _interrupted_s(bench: Bench, words: str, hosts: int) -> float:
    """Seconds from Ctrl-C in half the time that `up` takes until all is gone."""

    def once() -> float | None:
        name, before = bench.name(), slab_kib()
        argv = wirelab("up", "--topology", words, "--name", name)
        whole = timed(argv)
        grown = slab_kib() - before
        run(wirelab("down", name))
        wait_reclaimed(before, forgiven_kib=int(grown * LEFT))
        before = slab_kib()
        with subprocess.Popen(argv, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
            try:
                process.wait(whole / 2)
            except subprocess.TimeoutExpired:
                began = time.perf_counter()
                process.send_signal(signal.SIGINT)
                process.wait()
                return _until_gone(began, before, grown, hosts)
        run(wirelab("down", name))  # it was quicker this time
        return None

    return _undisturbed(bench, once)


def _ours_s(bench: Bench, words: str, hosts: int, returned: list[float]) -> float:
    """Seconds from the start of `wirelab down` until all is gone; when the command returned is added to `returned`."""

    def once() -> float | None:
        name, before = bench.name(), slab_kib()
        run(wirelab("up", "--topology", words, "--name", name))
        grown = slab_kib() - before
        began = time.perf_counter()
        run(wirelab("down", name))
        command = time.perf_counter() - began
        seconds = _until_gone(began, before, grown, hosts)
        if seconds is not None:
            returned.append(command)
        return seconds

    return _undisturbed(bench, once)


def _floor_s(bench: Bench, hosts: int, a_switch: int) -> float:
    """Seconds from killing the floor's program until all is gone."""

    def once() -> float | None:
        before = slab_kib()
        with floor.held(hosts, a_switch) as process:
            grown = slab_kib() - before
            began = time.perf_counter()
            process.kill()
            return _until_gone(began, before, grown, hosts)

    return _undisturbed(bench, once)


def _until_gone(began: float, before_kib: int, grown_kib: int, hosts: int) -> float | None:
    """Seconds since `began` until all is gone; None when something else on the machine made or removed namespaces."""
    gone = wait_reclaimed(before_kib, forgiven_kib=int(grown_kib * LEFT))
    return time.perf_counter() - began if gone and grown_kib > hosts * HOST_KIB else None


def _undisturbed(bench: Bench, once: Callable[[], float | None]) -> float:
    for _ in range(TRIES):
        if (seconds := once()) is not None:
            return seconds
        bench.say("something else on this machine makes or removes namespaces; this round is measured again")
    raise Broken("something else on this machine makes or removes namespaces all the time")
