"""Mininet on the same topologies: up, down, and all pairs; and our own commands beside.

    tools/setup.sh bench; make bench PART=mininet        (as root)

Mininet makes its bridges in the host's network namespace, adds to the packet filter's work there, and writes kernel
settings. Here it gets a network and a mount namespace of its own in which /proc/sys is read-only.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

from bench.common import ROOT, Bench, Lacking, Row, Sample, need, run, slab_kib, timed, wait_reclaimed, wirelab

PEER = Path(__file__).with_name("mininet_peer.py")
APART = (
    "mount -t sysfs sysfs /sys && mount --bind /proc/sys /proc/sys && mount -o remount,bind,ro /proc/sys"
    ' && ip link set lo up && exec /usr/bin/python3 -I "$@"'
)
FASTER = 0.1
"""Ours takes at most so much of the time that Mininet takes: ten times faster."""


def measure(bench: Bench) -> Iterator[Row]:
    """The rows beside Mininet."""
    for words, hosts in (("single,10", 10), ("single,100", 100), ("tree,1,10", 10), ("tree,2,10", 100)):
        if bench.quick and hosts > 10:
            continue
        theirs: list[dict[str, Any]] = []
        ours_down: list[float] = []

        def mininet(words: str = words, into: list[dict[str, Any]] = theirs) -> float:
            into.append(peer(words))
            return float(into[-1]["command_s"])

        def wirelabs(words: str = words, into: list[float] = ours_down) -> float:
            name = bench.name()
            seconds = timed(wirelab("up", "--topology", words, "--name", name))
            into.append(timed(wirelab("down", name)))
            return seconds

        ways = {"wirelab": wirelabs, "Mininet": mininet, "loaded": partial(up_loaded_s, bench, words)}
        found = bench.rounds(ways)
        bound = FASTER if hosts == 100 else None
        yield Row(
            "mininet", f"up, {words}, from the command's start", "s", found["wirelab"], "Mininet", found["Mininet"],
            at_most=bound,
        )  # fmt: skip
        loaded = Sample(tuple(run["up_s"] for run in theirs))
        yield Row(
            "mininet", f"up, {words}, by the API of the program once loaded", "s", found["loaded"], "Mininet", loaded,
            at_most=bound,
        )  # fmt: skip
        down = Sample(tuple(run["down_s"] for run in theirs))
        yield Row("mininet", f"down, {words}", "s", Sample(tuple(ours_down)), "Mininet", down)


LOADED = """
import sys, time
sys.path.insert(0, sys.argv[3])
import emulator
from emulator import controller
from emulator.lab import generate
from emulator.plan import compile
from emulator.run import building
began = time.perf_counter()
lab = emulator.up(topology=sys.argv[1], name=sys.argv[2])
print(time.perf_counter() - began)
lab.down()
"""


def up_loaded_s(bench: Bench, words: str) -> float:
    """Seconds of `emulator.up(topology=WORDS)` in an interpreter that has imported what it takes, as Mininet's program
    has; the lab is down again when this returns."""
    python = Path(wirelab()[0]).with_name("python")
    argv = [str(python) if python.exists() else sys.executable, "-c", LOADED, words, bench.name(), str(ROOT)]
    return float(run(argv))


def peer(words: str, *, ping: bool = False) -> dict[str, Any]:
    """What `mininet_peer.py` measured of one network, brought up and down.

    Raises:
        Lacking: no Mininet, or not root, which it needs to be.
    """
    if os.geteuid() != 0:
        raise Lacking("Mininet runs as root only")
    need("mnexec", "brctl", "unshare")
    before = slab_kib()
    argv = [
        "unshare",
        "--net",
        "--mount",
        "sh",
        "-c",
        APART,
        "sh",
        str(PEER),
        str(time.perf_counter()),
        words,
        *(["ping"] if ping else []),
    ]
    answer: dict[str, Any] = json.loads(run(argv))
    wait_reclaimed(before)
    return answer
