"""How fast and how soon do packets arrive? TCP and ping through a switch and through a NAT router, in a lab and in the
same network built by hand, taking turns.

    make bench PART=traffic        (or: python -m bench traffic)

With offloads (`defaults: {offload: true}`) a segment of 64 KiB goes through the whole network in one piece; without
them, which is what labs do unless they ask, every frame is one of the wire. Each program has a processor of its own, on
both sides the same one: where the scheduler puts them moves the figures more than what is looked for.
"""

from __future__ import annotations

import json
import os
import re
import statistics
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

from bench.by_hand import ByHand, by_hand
from bench.common import Bench, Row, Sample, need, run, wirelab

LAB = """\
name: bench-traffic
nodes:
  h1: {interfaces: {eth0: 10.0.0.1/24}}
  h2: {interfaces: {eth0: 10.0.0.2/24}}
  sw: {kind: switch}
  pc: {interfaces: {eth0: 192.168.1.2/24}}
  lan: {kind: switch}
  home: {kind: router, interfaces: {lan: 192.168.1.1/24, wan: 203.0.113.2/24}, nat: {masquerade: wan}}
  web: {interfaces: {eth0: 203.0.113.80/24}}
links:
  - [h1:eth0, sw]
  - [h2:eth0, sw]
  - [pc:eth0, lan]
  - [home:lan, lan]
  - [home:wan, web:eth0]
defaults: {offload: OFFLOAD}
"""

SCRIPT = """
for node in h1 h2 sw pc lan home web; do node $node; done
cable h1 eth0 sw h1; cable h2 eth0 sw h2; bridge sw
cable pc eth0 lan pc; cable home lan lan home; bridge lan
cable home wan web eth0
ip -n h1 address add 10.0.0.1/24 dev eth0
ip -n h2 address add 10.0.0.2/24 dev eth0
ip -n pc address add 192.168.1.2/24 dev eth0
ip -n home address add 192.168.1.1/24 dev lan
ip -n home address add 203.0.113.2/24 dev wan
ip -n web address add 203.0.113.80/24 dev eth0
ip -n pc route add default via 192.168.1.1
ip -n web route add default via 203.0.113.2
ip netns exec home sysctl -qw net.ipv4.ip_forward=1
ip netns exec home iptables -t nat -A POSTROUTING -o wan -j MASQUERADE
"""
"""The network of LAB, by hand."""

NO_OFFLOAD = "for end in h1:eth0 sw:h1 h2:eth0 sw:h2 pc:eth0 lan:pc home:lan lan:home home:wan web:eth0; do\n" + (
    '    no_offload "${end%:*}" "${end#*:}"\ndone\n'
)

WAYS = {"a switch": ("h1", "h2", "10.0.0.2"), "the NAT router": ("pc", "web", "203.0.113.80")}
"""What is measured: client, server and its address."""

Argv = Callable[..., list[str]]


def measure(bench: Bench) -> Iterator[Row]:
    """The rows of throughput and latency."""
    need("iperf3", "ping", "taskset", "ip", "iptables", "unshare", "nsenter")
    for offload in (True, False):
        with ExitStack() as stack:
            lab = _lab(bench, stack, offload=offload)
            hand = stack.enter_context(by_hand(SCRIPT + ("" if offload else NO_OFFLOAD)))
            state = "offloads on" if offload else "offloads off"
            bound = 0.97 if offload else None
            for what, (client, server, address) in WAYS.items():
                both = _both(lab, hand, lambda argv, *where: _gbit_s(bench, argv, *where), client, server, address)
                found = bench.rounds(both, repeats=_rounds(bench, 8), reclaim=False)
                yield _row(f"TCP through {what}, {state}", "Gbit/s", found, paired=True, at_least=bound)
            if not offload:
                for what, (client, _, address) in WAYS.items():
                    both = _both(lab, hand, lambda argv, *where: _rtt_us(bench, argv, *where), client, address)
                    found = bench.rounds(both, repeats=_rounds(bench, 2), reclaim=False)
                    yield _row(f"ping through {what}", "µs", found, at_most=1.05)


def _rounds(bench: Bench, times: int) -> int:
    """So many times as many as elsewhere: from one round to the next these figures differ by more than what is looked
    for. TCP does by a quarter, and slowly with time, too; so it has many rounds, and ratios of neighbours count."""
    return times * bench.repeats + 1


def _row(what: str, unit: str, found: dict[str, Sample], *, paired: bool = False, **bounds: float | None) -> Row:
    return Row("traffic", what, unit, found["wirelab"], "by hand", found["by hand"], paired=paired, **bounds)


def _lab(bench: Bench, stack: ExitStack, *, offload: bool) -> str:
    folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="wirelab-bench-")))
    file = folder / "lab.yml"
    file.write_text(LAB.replace("OFFLOAD", str(offload).lower()), encoding="utf-8")
    return stack.enter_context(bench.lab(str(file)))


def _both(lab: str, hand: ByHand, figure: Callable[..., float], *where: str) -> dict[str, Callable[[], float]]:
    def in_lab(node: str, *argv: str) -> list[str]:
        return wirelab("exec", lab, node, "--", *argv)

    return {"wirelab": lambda: figure(in_lab, *where), "by hand": lambda: figure(hand.argv, *where)}


def _on(number: int) -> list[str]:
    """The words before a command that put it on the first or second processor that may be used (taskset(1))."""
    processors = sorted(os.sched_getaffinity(0))
    return ["taskset", "-c", str(processors[number % len(processors)])]


def _gbit_s(bench: Bench, argv: Argv, client: str, server: str, address: str) -> float:
    """Gbit/s of payload that iperf3 received from one TCP connection in a second."""
    with subprocess.Popen(
        argv(server, *_on(1), "iperf3", "--server", "--one-off", "--forceflush"), stdout=subprocess.PIPE, text=True
    ) as process:
        if process.stdout is None or not any("listening" in line for line in process.stdout):
            raise SystemExit("bench: iperf3 does not listen")
        said = run(argv(client, *_on(0), "iperf3", "--json", "--client", address, "--time", "1"))
        process.communicate(timeout=30)
    return float(json.loads(said)["end"]["sum_received"]["bits_per_second"]) / 1e9


def _rtt_us(bench: Bench, argv: Argv, client: str, address: str) -> float:
    """Microseconds from question to answer, the median of 400 pings, one each 2 ms."""
    count = 100 if bench.quick else 400
    said = run(argv(client, *_on(0), "ping", "-n", "-c", str(count), "-i", "0.002", address))
    times = [float(found) for found in re.findall(r"time=([0-9.]+) ms", said)]
    if len(times) != count:
        raise SystemExit(f"bench: {count - len(times)} of {count} pings were lost")
    return 1000 * statistics.median(times)
