"""Source NAT, shared ports, published ports, and the connection tracking table."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

SIDES = {"router": "home", "inside": "lan", "outside": "wan"}
OUT = ("home:lan", "home:wan", "isp:home", "isp:web", "web:eth0")
BACK = ("web:eth0", "isp:web", "isp:home", "home:wan", "home:lan")
PUBLIC, WEB = "203.0.113.2", "192.0.2.80"
SNAT = {**SIDES, "filter": "tcp.dstport == 80"}


def talk(wire: Any, build: Any, client: str, outside_port: int, seq: int, **wrong: Any) -> None:
    """A client's request to web from port 40000, translated to `outside_port`, and the answer with data.

    `wrong` replaces what home does: `out` and `back` are its changes of request and answer, None for dropping it.
    """
    address = build.ADDRESS[client]
    request = build.Packet("tcp", address, WEB, 40000, 80, seq=seq, flags="PA", payload=b"GET", id=seq)
    out = wrong.get("out", {"src": PUBLIC, "sport": outside_port})
    wire.carry(request, client, "home:lan")
    if out is None:
        return
    wire.route(replace(request, ttl=63, **out), "home:wan", "isp:home", "isp:web", "web:eth0")
    answer = build.Packet("tcp", WEB, PUBLIC, 80, outside_port, seq=seq + 500, flags="PA", payload=b"200", id=seq + 1)
    wire.route(answer, "web:eth0", "isp:web", "isp:home", "home:wan")
    back = wrong.get("back", {"dst": address, "dport": 40000})
    if back is not None:
        wire.carry(replace(answer, ttl=62, **back), "home:lan", wrong.get("to", client))


def test_source_nat(wire: Any, build: Any) -> None:
    talk(wire, build, "pc1:eth0", 40000, 10)
    result = wire.verdict("source-nat", **SNAT)
    assert result.verdict == "pass"
    assert "192.168.1.100:40000 became 203.0.113.2:40000 on the way to 192.0.2.80:80" in result.reason


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"out": {}}, "went out with source 192.168.1.100, expected 203.0.113.2"),
        ({"out": {"src": PUBLIC, "dst": "192.0.2.81"}}, "went out to 192.0.2.81:80"),
        ({"out": None}, "it was not forwarded"),
        ({"back": None}, "expected the answer frame"),
        ({"back": {}}, "expected the answer frame"),
    ],
)
def test_a_wrong_source_nat_fails(wire: Any, build: Any, wrong: dict[str, Any], words: str) -> None:
    talk(wire, build, "pc1:eth0", 40000, 10, **wrong)
    result = wire.verdict("source-nat", **SNAT)
    assert result.verdict == "fail"
    assert words in result.reason


def test_without_packets_or_without_answers_it_fails(wire: Any, build: Any) -> None:
    assert "expected packets that match" in wire.verdict("source-nat", **SNAT).reason
    talk(wire, build, "pc1:eth0", 40000, 10)
    wire.frames = [frame for frame in wire.frames if frame.text("ip.src") != WEB]
    assert "none came" in wire.verdict("source-nat", **SNAT).reason


def test_a_translated_echo(wire: Any, build: Any) -> None:
    echo = build.Packet("icmp", build.ADDRESS["pc1:eth0"], WEB, payload=b"ping")
    wire.route(echo, "pc1:eth0", "home:lan", "home:wan", "isp:home", after={"home": {"src": PUBLIC, "ident": 9}})
    reply = build.Packet("icmp", WEB, PUBLIC, icmp_type=0, ident=9, payload=b"ping")
    back = {"home": {"dst": build.ADDRESS["pc1:eth0"], "ident": 7}}
    wire.route(reply, "isp:home", "home:wan", "home:lan", "pc1:eth0", after=back)
    assert wire.verdict("source-nat", **SIDES, filter="icmp").verdict == "pass"


SHARED = {**SIDES, "clients": ["pc1:eth0", "pc2:eth0"], "filter": "tcp.srcport == {run.port}"}


@pytest.fixture
def shared(wire: Any) -> Any:
    """A run that chose port 40000."""
    wire.variables["run.port"] = "40000"
    return wire


def test_port_translation(shared: Any, build: Any) -> None:
    talk(shared, build, "pc1:eth0", 40000, 10)
    talk(shared, build, "pc2:eth0", 1024, 2000)
    result = shared.verdict("port-translation", **SHARED)
    assert result.verdict == "pass"
    assert "192.168.1.101:40000 is 203.0.113.2:1024 outside" in result.reason


def test_one_port_for_both_fails(shared: Any, build: Any) -> None:
    talk(shared, build, "pc1:eth0", 40000, 10)
    talk(shared, build, "pc2:eth0", 40000, 2000)
    assert "203.0.113.2:40000 is used twice" in shared.verdict("port-translation", **SHARED).reason


def test_the_others_answer_fails(shared: Any, build: Any) -> None:
    talk(shared, build, "pc1:eth0", 40000, 10)
    talk(shared, build, "pc2:eth0", 1024, 2000, back={"dst": build.ADDRESS["pc1:eth0"], "dport": 40000}, to="pc1:eth0")
    result = shared.verdict("port-translation", **SHARED)
    assert result.verdict == "fail"
    assert "to leave by home:lan as tcp 192.0.2.80:80 → 192.168.1.101:40000" in result.reason


def test_a_client_that_sent_nothing_and_an_unknown_port(shared: Any, build: Any) -> None:
    talk(shared, build, "pc1:eth0", 40000, 10)
    assert "packets of pc2:eth0" in shared.verdict("port-translation", **SHARED).reason
    shared.variables.clear()
    assert shared.verdict("port-translation", **SHARED).verdict == "unknown"


def test_an_answer_that_does_not_reach_its_client_fails(shared: Any, build: Any) -> None:
    talk(shared, build, "pc1:eth0", 40000, 10)
    talk(shared, build, "pc2:eth0", 1024, 2000)
    shared.frames = [f for f in shared.frames if (f.interface, f.direction) != ("pc2:eth0", "in")]
    assert "expected an answer with data" in shared.verdict("port-translation", **SHARED).reason


PUBLISHED = {**SIDES, "port": 8080, "server": "server:eth0", "server_port": 80}


def visit(wire: Any, build: Any, **wrong: Any) -> None:
    """A request of outside to the published port, and its answer; `wrong` replaces what home does."""
    request = build.Packet("tcp", "198.18.0.99", PUBLIC, 5000, 8080, seq=1, flags="PA", payload=b"GET", ttl=63)
    wire.carry(request, "isp:home", "home:wan")
    inward = wrong.get("inward", {"dst": "192.168.1.10", "dport": 80})
    if inward is None:
        return
    wire.carry(replace(request, ttl=62, **inward), "home:lan", "server:eth0")
    answer = build.Packet("tcp", "192.168.1.10", "198.18.0.99", 80, 5000, seq=9, flags="PA", payload=b"200", id=2)
    wire.carry(answer, "server:eth0", "home:lan")
    outward = wrong.get("outward", {"src": PUBLIC, "sport": 8080})
    if outward is not None:
        wire.carry(replace(answer, ttl=63, **outward), "home:wan", "isp:home")


def test_destination_nat(wire: Any, build: Any) -> None:
    visit(wire, build)
    result = wire.verdict("destination-nat", **PUBLISHED)
    assert result.verdict == "pass"
    assert "asked 203.0.113.2:8080 and reached server:eth0 at 192.168.1.10:80" in result.reason


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"inward": None}, "it did not leave by home:lan"),
        ({"inward": {"dst": "192.168.1.10"}}, "expected 198.18.0.99:5000 → 192.168.1.10:80"),
        ({"inward": {"src": "192.168.1.1", "dst": "192.168.1.10", "dport": 80}}, "went inside as"),
        ({"outward": None}, "it did not leave there"),
        ({"outward": {"src": PUBLIC}}, "as tcp 203.0.113.2:8080 → 198.18.0.99:5000"),
    ],
)
def test_a_wrong_destination_nat_fails(wire: Any, build: Any, wrong: dict[str, Any], words: str) -> None:
    visit(wire, build, **wrong)
    result = wire.verdict("destination-nat", **PUBLISHED)
    assert result.verdict == "fail"
    assert words in result.reason


def test_a_port_that_nobody_asked_for_fails(wire: Any) -> None:
    assert "TCP packets to 203.0.113.2:8080" in wire.verdict("destination-nat", **PUBLISHED).reason


TABLE = """\
tcp      6 117 TIME_WAIT src=192.168.1.100 dst=192.0.2.80 sport=40000 dport=80 \
src=192.0.2.80 dst=203.0.113.2 sport=80 dport=40000 [ASSURED] mark=0 use=1
tcp      6 300 ESTABLISHED src=198.18.0.99 dst=203.0.113.2 sport=5000 dport=8080 \
src=192.168.1.10 dst=198.18.0.99 sport=80 dport=5000 [ASSURED] mark=0 use=1
icmp     1 29 src=192.168.1.100 dst=192.0.2.80 type=8 code=0 id=1 src=192.0.2.80 dst=203.0.113.2 type=0 code=0 id=1
udp      17 25 src=203.0.113.2 dst=198.51.100.53 sport=1 dport=53 [UNREPLIED] \
src=198.51.100.53 dst=203.0.113.2 sport=53 dport=1 mark=0 use=1
"""


def test_conntrack_agrees(wire: Any, build: Any) -> None:
    talk(wire, build, "pc1:eth0", 40000, 10)
    visit(wire, build)
    wire.after["home"] = {"conntrack": TABLE}
    result = wire.verdict("conntrack-agrees", **SIDES)
    assert result.verdict == "pass"
    assert "2 flows through home (2 translated" in result.reason


def test_another_port_in_the_table_fails(wire: Any, build: Any) -> None:
    talk(wire, build, "pc1:eth0", 40000, 10)
    wire.after["home"] = {"conntrack": TABLE.replace("dport=40000", "dport=1024")}
    result = wire.verdict("conntrack-agrees", **SIDES)
    assert result.verdict == "fail"
    assert "expected home to track tcp 192.168.1.100:40000 → 192.0.2.80:80" in result.reason


def test_an_empty_table_no_flow_and_no_table(wire: Any, build: Any) -> None:
    assert wire.verdict("conntrack-agrees", **SIDES).verdict == "unknown"
    wire.after["home"] = {"conntrack": "?? garbage\n\n"}
    assert wire.verdict("conntrack-agrees", **SIDES).verdict == "fail"
    talk(wire, build, "pc1:eth0", 40000, 10)
    assert "no such entry among 0" in wire.verdict("conntrack-agrees", **SIDES).reason
