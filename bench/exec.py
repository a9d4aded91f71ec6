"""How long does a command in a node take to start? `wirelab exec` beside `ip netns exec`, taking turns; and one command
on a hundred nodes at once.

    make bench PART=exec        (or: python -m bench exec)
"""

from __future__ import annotations

import json
from collections.abc import Iterator

from bench.by_hand import by_hand
from bench.common import Bench, Row, Sample, need, run, timed, wirelab

TIMER = """
import statistics, subprocess, sys, time
def once():
    began = time.perf_counter()
    subprocess.run(sys.argv[2:], check=True)
    return 1000 * (time.perf_counter() - began)
print(statistics.median(once() for _ in range(int(sys.argv[1]))))
"""
"""Prints the median of many runs of a command, in milliseconds. Both sides are timed by it, each where it runs."""

NODES = 100
"""99 hosts and the switch between them."""


def measure(bench: Bench) -> Iterator[Row]:
    """The rows of exec."""
    need("ip", "unshare", "nsenter", "python3")
    timer = ["python3", "-c", TIMER, "5" if bench.quick else "20"]
    with bench.lab("--topology", "single,2") as lab, by_hand("node h1") as hand:
        node = _nodes(lab)[0]
        ways = {
            "wirelab": lambda: float(run([*timer, *wirelab("exec", lab, node, "--", "true")])),
            "by hand": lambda: float(run(hand.inside(*timer, "ip", "netns", "exec", "h1", "true"))),
        }
        found = bench.rounds(ways, reclaim=False)
    yield Row(
        "exec", "exec of `true`", "ms", found["wirelab"], "ip netns exec", found["by hand"], at_most=1.0, fixed=60.0,
        note=f"each round is the median of {timer[-1]} runs",
    )  # fmt: skip
    yield from _at_once(bench)


def _at_once(bench: Bench) -> Iterator[Row]:
    first: list[float] = []
    later: list[float] = []
    for _ in range(bench.repeats):
        with bench.lab("--topology", f"single,{NODES - 1}") as lab:
            words = wirelab("exec", lab, "--all", "--", "true")
            first.append(timed(words))
            later.append(timed(words))
            answered = json.loads(run(wirelab("exec", lab, "--all", "--json", "--", "cat", "/etc/hostname")))["nodes"]
            names = [part["stdout"].strip() for part in answered]
            if len(names) != NODES or names != [part["node"] for part in answered]:
                raise SystemExit(f"bench: the command did not run on each of {NODES} nodes")
    for what, seconds in (("for the first time", first), ("again", later)):
        yield Row("exec", f"exec of `true` on {NODES} nodes at once, {what}", "s", Sample(tuple(seconds)), at_most=1.0)


def _nodes(lab: str) -> list[str]:
    """The hosts of a running lab."""
    return [node["name"] for node in json.loads(run(wirelab("ps", lab, "--json")))["nodes"] if node["kind"] == "host"]
