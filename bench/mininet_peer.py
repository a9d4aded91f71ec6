"""Mininet with Linux bridges on the same topology, for /usr/bin/python3: Debian's package `mininet` is for that one.

    mininet_peer.py KIND,N[,N] [ping]       kinds: single, tree, linear, as `wirelab up --topology` takes them

Prints one JSON object: seconds up, seconds down, and with `ping` seconds for all ordered pairs, and the pairs lost.
Mininet makes its bridges where it runs and writes kernel settings: `bench.mininet` runs this in a network and mount
namespace of its own, where the settings cannot be written.
"""

import json
import sys
import time

from mininet.log import setLogLevel
from mininet.net import Mininet
from mininet.nodelib import LinuxBridge
from mininet.topo import LinearTopo, SingleSwitchTopo
from mininet.topolib import TreeTopo

TOPOLOGIES = {"single": SingleSwitchTopo, "tree": TreeTopo, "linear": LinearTopo}


def main() -> None:
    """Up, all pairs, down; each timed."""
    setLogLevel("error")
    kind, *numbers = sys.argv[1].split(",")
    topology = TOPOLOGIES[kind](*map(int, numbers))
    found = {"bytes_before": used_kib() * 1024}
    began = time.perf_counter()
    net = Mininet(topo=topology, switch=LinuxBridge, controller=None)
    net.start()
    found["up_s"] = time.perf_counter() - began
    found["hosts"] = len(net.hosts)
    found["bytes_up"] = used_kib() * 1024 - found.pop("bytes_before")
    if "ping" in sys.argv[2:]:
        began = time.perf_counter()
        lost_percent = net.pingAll(timeout="1")
        found["ping_s"] = time.perf_counter() - began
        pairs = found["hosts"] * (found["hosts"] - 1)
        found["pairs"], found["lost"] = pairs, round(pairs * lost_percent / 100)
    began = time.perf_counter()
    net.stop()
    found["down_s"] = time.perf_counter() - began
    print(json.dumps(found))


def used_kib() -> int:
    """Memory in use that cannot be taken back, in KiB (proc_meminfo(5))."""
    with open("/proc/meminfo", encoding="ascii") as stream:
        lines = dict(line.split(":", 1) for line in stream)
    return int(lines["MemTotal"].split()[0]) - int(lines["MemAvailable"].split()[0])


if __name__ == "__main__":
    main()
