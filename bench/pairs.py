"""How long until all ordered pairs of hosts are tested? `wirelab verify --pairs` beside Mininet's pingAll.

    make bench PART=pairs

At 100 hosts, at 1,000 hosts (999,000 pairs) ours alone. Every pair must be reached, else this ends in an error. Mininet
has as many hosts as the kernel's neighbour table has room for (`gc_thresh3`, all namespaces together): with more, most
of its pings wait in vain for a second. So the two are compared at that number of hosts, and by the time for a pair.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from bench.common import Bench, Broken, Lacking, Row, Sample, run, wirelab
from bench.mininet import FASTER, peer


def measure(bench: Bench) -> Iterator[Row]:
    """The rows of pairs."""
    hosts = 10 if bench.quick else 100
    pairs = hosts * (hosts - 1)
    few = min(hosts, _hosts_that_fit())
    few_pairs = few * (few - 1)
    theirs: Sample | None = None
    same: Sample | None = None
    with bench.lab("--topology", f"single,{hosts}") as lab, bench.lab("--topology", f"single,{few}") as small:

        def mininet() -> float:
            answer = peer(f"single,{few}", ping=True)
            if answer["lost"]:
                bench.say(f"Mininet lost {answer['lost']} of {answer['pairs']} pairs")
            return float(answer["ping_s"]) * 1e3 / few_pairs

        try:
            mininet()  # whether there is one, and the first of its figures is not kept
            ways = {
                "wirelab": lambda: _all_pairs_s(lab, pairs),
                "few": lambda: _all_pairs_s(small, few_pairs),
                "Mininet": mininet,
            }
            found = bench.rounds(ways, reclaim=False)
            ours, same, theirs = found["wirelab"], found["few"], found["Mininet"]
        except Lacking as reason:
            bench.say(f"pairs without Mininet: {reason}")
            ours = bench.rounds({"wirelab": lambda: _all_pairs_s(lab, pairs)}, reclaim=False)["wirelab"]
    yield Row("pairs", f"{pairs:,} pairs of {hosts} hosts", "s", ours, at_most=2.0)
    if theirs and same:
        total = Sample(tuple(ms * few_pairs / 1e3 for ms in theirs.values))
        yield Row("pairs", f"all {few_pairs} pairs of {few} hosts", "s", same, "Mininet", total, at_most=FASTER)
        each = Sample(tuple(seconds * 1e3 / pairs for seconds in ours.values))
        what = f"a pair, of {hosts} hosts; pingAll of {few}"
        yield Row("pairs", what, "ms", each, "Mininet", theirs, at_most=FASTER)
    if not bench.quick:
        for words in ("single,1000", "tree,3,10"):
            with bench.lab("--topology", words) as lab:
                large = Sample(tuple(_all_pairs_s(lab, 999_000) for _ in range(max(5, bench.repeats))))
                yield Row("pairs", f"999,000 pairs of 1,000 hosts ({words})", "s", large, at_most=60.0)
                if words.startswith("tree"):
                    yield from _cut(lab, words)


def _cut(lab: str, words: str) -> Iterator[Row]:
    """The same with a cable cut: exactly the pairs are lost that it cuts off."""
    for cable, alone in (("h7:eth0", {"h7"}), ("s2:s1", {f"h{number}" for number in range(1, 101)})):
        run(wirelab("link", lab, cable, "down"))
        began = time.perf_counter()
        answer = json.loads(run(wirelab("verify", lab, "--pairs", "--json"), status=1))
        seconds = time.perf_counter() - began
        run(wirelab("link", lab, cable, "up"))
        nodes = answer["nodes"]
        wrong = sum(
            (sign == "1") != ((a in alone) == (b in alone))
            for a, signs in zip(nodes, answer["reachable"], strict=True)
            for b, sign in zip(nodes, signs, strict=True)
            if a != b
        )
        if wrong:
            raise Broken(f"with the cable of {cable} cut, {wrong:,} pairs have the wrong verdict")
        what = f"999,000 pairs ({words}), {cable} cut: exactly {answer['lost']:,} lost"
        yield Row("pairs", what, "s", Sample((seconds,)), note="once")


def _hosts_that_fit() -> int:
    """For how many hosts on a switch the machine's neighbour table has room: with pingAll each learns all others."""
    room = int(Path("/proc/sys/net/ipv4/neigh/default/gc_thresh3").read_text(encoding="ascii"))
    return max(2, math.isqrt(room * 9 // 10))


def _all_pairs_s(lab: str, pairs: int) -> float:
    """Seconds of the whole command; all pairs must be reached."""
    began = time.perf_counter()
    answer: dict[str, Any] = json.loads(run(wirelab("verify", lab, "--pairs", "--json")))
    seconds = time.perf_counter() - began
    if answer["pairs"] != pairs or answer["lost"]:
        raise Broken(f"of {answer['pairs']:,} pairs {answer['lost']:,} were not reached; {pairs:,} are asked")
    return seconds
