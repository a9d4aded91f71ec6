"""Mininet with Linux bridges on the same topology, for /usr/bin/python3: Debian's package `mininet` is for that one.

    mininet_peer.py SINCE KIND,N[,N] [ping]     kinds: single, tree, linear, as `wirelab up --topology` takes them

SINCE is the monotonic clock's time when the command was begun. Prints one JSON object: seconds up since the program was
loaded, and since SINCE; seconds down; and with `ping` seconds for all ordered pairs, and the pairs lost.
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
    kind, *numbers = sys.argv[2].split(",")
    topology = TOPOLOGIES[kind](*map(int, numbers))
    found = {}
    began = time.perf_counter()
    net = Mininet(topo=topology, switch=LinuxBridge, controller=None)
    net.start()
    found["up_s"] = time.perf_counter() - began
    found["command_s"] = time.perf_counter() - float(sys.argv[1])
    found["hosts"] = len(net.hosts)
    if "ping" in sys.argv[3:]:
        began = time.perf_counter()
        lost_percent = net.pingAll(timeout="1")
        found["ping_s"] = time.perf_counter() - began
        pairs = found["hosts"] * (found["hosts"] - 1)
        found["pairs"], found["lost"] = pairs, round(pairs * lost_percent / 100)
    began = time.perf_counter()
    net.stop()
    found["down_s"] = time.perf_counter() - began
    print(json.dumps(found))


if __name__ == "__main__":
    main()
