"""How many connections can a home router keep, and how fast do new ones come? Real TCP connections of two computers
through a NAT router that is set up as `home` of the lab `nat` (a lab of its own, with the same rules, since `nat` has
no second computer and no server with so many ports), in a lab and in the same network built by hand, taking
turns.

    make bench PART=nat        (or: python -m bench nat)

50,000 connections are opened as fast as two processors manage, client and server included; then the router's table is
read, and an octet goes through each connection and comes back. What is limited, and by whom:

- connections of one router: `net.netfilter.nf_conntrack_max`; the count is each network namespace's own, the limit is
  the machine's and can be read, not changed, in a lab;
- ports: one address outside has 64,512 of them for each address and port at the other side; the server here has eight;
- open files: each end of a connection is one, so both sides are several processes (`ulimit -Hn`).
"""

from __future__ import annotations

import json
import re
import resource
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bench.by_hand import by_hand
from bench.common import ROOT, Bench, Lacking, Row, Sample, need, run, wirelab

CONNECTIONS = 50_000
CLIENTS = ("pc1", "pc2")
SERVER = "203.0.113.80"
PORTS = tuple(range(8001, 8009))
RESERVE = 64
"""Open files that a process needs besides its connections."""

LAB = """\
name: bench-nat
nodes:
  pc1: {interfaces: {eth0: 192.168.1.2/24}, sysctls: {net.ipv4.ip_local_port_range: 1024 65535}}
  pc2: {interfaces: {eth0: 192.168.1.3/24}, sysctls: {net.ipv4.ip_local_port_range: 1024 65535}}
  sw: {kind: switch}
  home:
    kind: router
    interfaces: {lan: 192.168.1.1/24, wan: 203.0.113.2/24}
    nat: {masquerade: wan, publish: {port: 8080, to: pc1, to-port: 80}}
    firewall: {untrusted: wan}
  web: {interfaces: {eth0: 203.0.113.80/24}}
links:
  - [pc1:eth0, sw]
  - [pc2:eth0, sw]
  - [home:lan, sw]
  - [home:wan, web:eth0]
"""

SCRIPT = """
for node in pc1 pc2 sw home web; do node $node; done
cable pc1 eth0 sw pc1; cable pc2 eth0 sw pc2; cable home lan sw home; bridge sw
cable home wan web eth0
ip -n pc1 address add 192.168.1.2/24 dev eth0
ip -n pc2 address add 192.168.1.3/24 dev eth0
ip -n home address add 192.168.1.1/24 dev lan
ip -n home address add 203.0.113.2/24 dev wan
ip -n web address add 203.0.113.80/24 dev eth0
ip -n web route add default via 203.0.113.2
for pc in pc1 pc2; do
    ip -n $pc route add default via 192.168.1.1
    ip netns exec $pc sysctl -qw net.ipv4.ip_local_port_range="1024 65535"
done
ip netns exec home sysctl -qw net.ipv4.ip_forward=1
home() { ip netns exec home iptables "$@"; }
home -t nat -A PREROUTING -i wan -d 203.0.113.2 -p tcp --dport 8080 -j DNAT --to-destination 192.168.1.2:80
home -t nat -A POSTROUTING -o wan -j MASQUERADE
for chain in INPUT FORWARD; do
    home -A $chain -i wan -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
    [ $chain = INPUT ] || home -A $chain -i wan -m conntrack --ctstate DNAT -j ACCEPT
    home -A $chain -i wan -j DROP
done
for end in pc1:eth0 sw:pc1 pc2:eth0 sw:pc2 home:lan sw:home home:wan web:eth0; do
    no_offload "${end%:*}" "${end#*:}"
done
"""
"""The network of LAB, by hand."""

Argv = Callable[..., list[str]]


@dataclass
class Counts:
    """What the rounds of one way saw, besides the rate."""

    answered: list[float] = field(default_factory=list)
    translated: list[float] = field(default_factory=list)


def measure(bench: Bench) -> Iterator[Row]:
    """The rows of NAT at load."""
    need("conntrack", "ip", "iptables", "unshare", "nsenter", "python3")
    wanted = 2_000 if bench.quick else CONNECTIONS
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="wirelab-bench-")))
        (folder / "lab.yml").write_text(LAB, encoding="utf-8")
        lab = stack.enter_context(bench.lab(str(folder / "lab.yml")))
        hand = stack.enter_context(by_hand(SCRIPT))

        def in_lab(node: str, *argv: str) -> list[str]:
            return wirelab("exec", lab, node, "--", *argv)

        most = int(run(in_lab("home", "sysctl", "-n", "net.netfilter.nf_conntrack_max")))
        if 0 < most < wanted + 1000:
            raise Lacking(
                f"this machine tracks at most {most:,} connections (net.netfilter.nf_conntrack_max), {wanted:,} are "
                "asked for; its administrator can raise that: sysctl -w net.netfilter.nf_conntrack_max=131072"
            )
        counts = {"wirelab": Counts(), "by hand": Counts()}
        argvs: dict[str, Argv] = {"wirelab": in_lab, "by hand": hand.argv}
        ways = {name: _way(argvs[name], wanted, counts[name]) for name in argvs}
        found = bench.rounds(ways, reclaim=False)
    note = f"nf_conntrack_max {most:,}; {len(PORTS)} ports at the server; {_workers(wanted)} processes a side"
    for what, attribute in (("translated at the same time", "translated"), ("that answered afterwards", "answered")):
        ours, theirs = (Sample(tuple(getattr(counts[name], attribute))) for name in ("wirelab", "by hand"))
        yield Row("nat", f"connections {what}", "", ours, at_least=float(wanted), note=note)
        yield Row("nat", f"connections {what}, by hand", "", theirs)
    yield Row(
        "nat",
        "new connections through NAT",
        "/s",
        found["wirelab"],
        "by hand",
        found["by hand"],
        at_least=0.95,
        note=note,
    )


def _workers(wanted: int) -> int:
    """Processes on each side, so that none needs more open files than it may have."""
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    room = most - RESERVE if most != resource.RLIM_INFINITY else wanted
    if room < 256:
        raise Lacking(f"a process may open {most} files at most (ulimit -Hn); at least {256 + RESERVE} are needed")
    workers = max(2, -(-wanted // room))
    return workers + workers % len(CLIENTS)


def _way(argv: Argv, wanted: int, counts: Counts) -> Callable[[], float]:
    return lambda: _load(argv, wanted, counts)


def _load(argv: Argv, wanted: int, counts: Counts) -> float:
    """Open, count, ask and close; gives new connections a second."""
    workers = _workers(wanted)
    program = (ROOT / "bench" / "connections.py").read_text(encoding="utf-8")
    with ExitStack() as stack:

        def start(node: str, *words: str) -> _Worker:
            return stack.enter_context(_Worker(argv(node, "python3", "-u", "-c", program, *words)))

        # Each server has ports of its own, and each client asks all of them: a server gets as much as a client opens.
        # Fewer ports than servers would leave some without work.
        ports = [[str(port) for port in PORTS[number::workers]] or [str(9000 + number)] for number in range(workers)]
        every = [port for own in ports for port in own]
        servers = [start("web", "serve", *own) for own in ports]
        shares = [wanted // workers + (number < wanted % workers) for number in range(workers)]
        clients = [
            start(CLIENTS[number % len(CLIENTS)], "open", str(share), SERVER, *every)
            for number, share in enumerate(shares)
        ]
        for worker in (*servers, *clients):
            worker.expect("ready")
        opened = _all(clients, "go")
        translated = run(argv("home", "conntrack", "-L", "--src-nat", "-p", "tcp", "--state", "ESTABLISHED"))
        answered = sum(report["answered"] for report in _all(clients, "ask"))
    run(argv("home", "conntrack", "-F"))
    counts.answered.append(answered)
    counts.translated.append(len(re.findall(r"^tcp ", translated, re.MULTILINE)))
    if failed := sum(report["failed"] for report in opened):
        raise SystemExit(f"bench: {failed:,} of {wanted:,} connections could not be opened")
    seconds = max(report["ended"] for report in opened) - min(report["began"] for report in opened)
    return wanted / seconds


def _all(clients: list[_Worker], order: str) -> list[dict[str, Any]]:
    """Give all clients an order at the same time; what each reports."""
    for worker in clients:
        worker.order(order)
    return [json.loads(worker.line()) for worker in clients]


class _Worker:
    """A process of connections.py."""

    def __init__(self, argv: list[str]) -> None:
        self._process = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def __enter__(self) -> _Worker:
        return self

    def __exit__(self, *_: object) -> None:
        for stream in (self._process.stdin, self._process.stdout):
            if stream:
                stream.close()
        self._process.wait(60)

    def order(self, text: str) -> None:
        """Tell it what to do."""
        if self._process.stdin:
            self._process.stdin.write(text + "\n")
            self._process.stdin.flush()

    def line(self) -> str:
        """What it says next."""
        said = self._process.stdout.readline() if self._process.stdout else ""
        if not said:
            raise SystemExit("bench: a process that opens or answers connections has ended")
        return said

    def expect(self, word: str) -> None:
        """Wait until it says `word`."""
        if self.line().strip() != word:
            raise SystemExit(f"bench: expected {word} of a process that opens or answers connections")
