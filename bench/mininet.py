"""Mininet on the same topologies: up, down, and all pairs; and our own commands beside.

    tools/setup.sh bench; make bench PART=mininet        (as root)

Mininet makes its bridges in the host's network namespace, adds to the packet filter's work there, and writes kernel
settings. Here it gets a network and a mount namespace of its own in which /proc/sys is read-only.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from bench.common import Bench, Lacking, Row, Sample, need, percpu_kib, run, timed, wait_reclaimed, wirelab

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
            return float(into[-1]["up_s"])

        def wirelabs(words: str = words, into: list[float] = ours_down) -> float:
            name = bench.name()
            seconds = timed(wirelab("up", "--topology", words, "--name", name))
            into.append(timed(wirelab("down", name)))
            return seconds

        found = bench.rounds({"wirelab": wirelabs, "Mininet": mininet})
        bound = FASTER if hosts == 100 else None
        yield Row("mininet", f"up, {words}", "s", found["wirelab"], "Mininet", found["Mininet"], at_most=bound)
        down = Sample(tuple(run["down_s"] for run in theirs))
        yield Row("mininet", f"down, {words}", "s", Sample(tuple(ours_down)), "Mininet", down)


def peer(words: str, *, ping: bool = False) -> dict[str, Any]:
    """What `mininet_peer.py` measured of one network, brought up and down.

    Raises:
        Lacking: no Mininet, or not root, which it needs to be.
    """
    if os.geteuid() != 0:
        raise Lacking("Mininet runs as root only")
    need("mnexec", "brctl", "unshare")
    before = percpu_kib()
    argv = ["unshare", "--net", "--mount", "sh", "-c", APART, "sh", str(PEER), words, *(["ping"] if ping else [])]
    answer: dict[str, Any] = json.loads(run(argv))
    wait_reclaimed(before)
    return answer
