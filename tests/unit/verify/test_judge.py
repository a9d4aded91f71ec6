"""The judge itself: order, windows, crashes, hostile text; and the same packet at several interfaces."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from emulator.lab.checks import CHECK_KINDS
from emulator.verify import judge as judge_module
from emulator.verify.finding import failed
from emulator.verify.judge import JUDGES, judge
from emulator.verify.paths import Sightings, identity
from emulator.verify.verdict import Verdict
from emulator.verify.view import SLACK_NS, View


def test_every_kind_of_check_has_its_judge() -> None:
    assert set(JUDGES) == set(CHECK_KINDS.values())


def test_results_come_by_layer_and_then_as_in_the_file(wire: Any) -> None:
    layers = ["application", "physical", "transport", "physical"]
    checks = tuple(
        CHECK_KINDS["re-encode"].model_validate({"name": f"c{n}", "layer": layer, "check": "re-encode"})
        for n, layer in enumerate(layers)
    )
    results = judge(replace(wire.lab, checks=checks), wire.evidence())
    assert [result.name for result in results] == ["c1", "c3", "c2", "c0"]


def test_a_crashing_check_is_unknown_and_says_why(wire: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def crash(_check: Any, _view: View) -> Any:
        raise KeyError("\x1b]0;owned\x07")

    monkeypatch.setattr(judge_module, "JUDGES", {**JUDGES, CHECK_KINDS["re-encode"]: crash})
    result = wire.verdict("re-encode")
    assert result.verdict is Verdict.UNKNOWN
    assert "KeyError" in result.reason
    assert result.reason.isprintable()


def test_a_reason_is_one_short_printable_line(wire: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def talkative(_check: Any, _view: View) -> Any:
        return failed("a\nb\t\x00" + "x" * 5000)

    monkeypatch.setattr(judge_module, "JUDGES", {CHECK_KINDS["re-encode"]: talkative})
    result = wire.verdict("re-encode")
    assert result.reason.startswith("a b \\x00x")
    assert result.reason.isprintable()
    assert len(result.reason) == 600


def test_frames_without_fields_crash_nothing(wire: Any) -> None:
    for place in ("pc1:eth0", "home:lan", "home:wan", "sw:pc1", "isp:home", "web:eth0"):
        for direction in ("in", "out", None):
            wire.see(place, direction, {}, ("eth",), b"")
            wire.see(
                place, direction, {"ip.src": ("?",), "ip.proto": (6,), "tcp.srcport": (b"?",)}, ("eth", "ip"), b"\x45"
            )
    wire.before["isp"] = wire.after["isp"] = {"counters": ""}
    wire.after["sw"], wire.after["home"] = {"fdb": "[]"}, {"conntrack": ""}
    tcp = {"at": "pc1:eth0", "filter": "tcp"}
    nat = {"router": "home", "inside": "lan", "outside": "wan"}
    ends = {"client": "pc1:eth0", "server": "home:lan"}
    hops = {"from": "pc1:eth0", "to": "web:eth0"}
    asked = {"question": "www.example.com", "client": "pc1"}
    parameters: dict[str, dict[str, Any]] = {
        "seen": {"filter": "dns", "at": "pc1"},
        "never-seen": {"filter": "dns", "at": "pc1"},
        "in-order": {"filters": ["tcp", "dns"], "at": "pc1:eth0"},
        "arp-resolution": {"asker": "pc1:eth0", "target": "home:lan"},
        "next-hop-mac": {**hops, "router": "home:lan"},
        "mac-table": {"switch": "sw"},
        "no-flooding": {"switch": "sw"},
        "lease": ends,
        "dhcp-exchange": ends,
        "hop-count": {**hops, "routers": ["home", "isp"], "filter": "ip"},
        "source-nat": {**nat, "filter": "ip"},
        "port-translation": {**nat, "clients": ["pc1:eth0", "pc2:eth0"], "filter": "ip"},
        "destination-nat": {**nat, "port": 8080, "server": "server:eth0", "server-port": 80},
        "unanswered": tcp,
        "private-dropped": {"router": "isp"},
        "conntrack-agrees": nat,
        "tcp-handshake": tcp,
        "tcp-acknowledged": tcp,
        "tcp-close": tcp,
        "referral-chain": {**asked, "forwarder": "home", "resolver": "resolver", "servers": ["root", "tld"]},
        "answered-from-cache": {**asked, "server": "home", "quiet": ["root"]},
        "http-page": {"client": "pc1:eth0", "server": "web:eth0", "step": "page"},
        "output": {"step": "page", "status": 0},
        "path": {"filter": "ip", "through": ["pc1:eth0", "home"]},
        "end-to-end": {**hops, "filter": "ip"},
        "encapsulation": {**tcp, "filter": "ip", "layers": ["eth", "ip", "tcp"]},
        "bit-stream": {**tcp, "filter": "eth"},
        "subnet-arithmetic": {
            "at": "pc1:eth0",
            "network": "192.168.1.0/24",
            "broadcast": "192.168.1.255",
            "hosts": 254,
        },
        "address-conflict": {"at": "pc1", "address": "192.168.1.1"},
        "tcp-stream": {**tcp, "octets": 1, "from": "client"},
        "retransmission": {**hops, "filter": "ip"},
        "lost": {**hops, "filter": "ip"},
        "neighbour-discovery": {"asker": "pc1:eth0", "target": "home:lan"},
        "duplicate-address-detection": {"at": "pc1:eth0"},
        "slaac": {"client": "pc1:eth0", "router": "home:lan"},
        "spanning-tree": {"switches": ["sw", "core"]},
        "dhcp-renewal": ends,
        "dns-answer": {**asked, "server": "home"},
        "dns-ttl-falls": {**asked, "server": "home", "scenes": ["a", "b"]},
        "dns-rotates": {**asked, "server": "home", "addresses": ["192.0.2.80", "192.0.2.81"]},
        "tls-handshake": {"client": "pc1:eth0", "server": "web:eth0", "server-name": "www.example.com"},
    }
    for kind in CHECK_KINDS:
        result = wire.verdict(kind, **parameters.get(kind, {}))
        assert "check itself failed" not in result.reason, f"{kind}: {result.reason}"


def test_checks_see_packets_through_the_view_alone() -> None:
    """So none is judged from packets that were altered: the view refuses them."""
    folder = Path(judge_module.__file__).parent
    users = [file.name for file in folder.glob("*.py") if re.search(r"evidence\.(frames|interfaces)", file.read_text())]
    assert users == ["view.py"]


def test_a_scene_includes_late_packets_up_to_the_next_scene(wire: Any, build: Any) -> None:
    packet = build.Packet("udp", "10.0.0.1", "10.0.0.2", 1, 2)
    wire.scene("one")
    wire.now_ns = wire.windows["one"].ended_ns + SLACK_NS // 2
    wire.see_packet("pc1:eth0", "out", packet)
    wire.now_ns += SLACK_NS
    wire.see_packet("pc1:eth0", "out", packet)
    view = View.of(wire.lab, wire.evidence()).limited_to("one")
    assert [frame.number for frame in view.frames] == [1]
    wire.windows["two"] = replace(wire.windows["one"], began_ns=wire.windows["one"].ended_ns + 1)
    assert View.of(wire.lab, wire.evidence()).limited_to("one").frames == ()


def test_addresses_come_from_the_lab_or_from_the_tables(wire: Any) -> None:
    def view() -> View:
        return View.of(wire.lab, wire.evidence())

    assert view().address("web:eth0") == "192.0.2.80"
    assert view().address("pc1:eth0") == "192.168.1.100"
    assert view().gateway("pc1") == ("192.168.1.1", "eth0")
    wire.before["pc1"] = wire.after["pc1"]
    wire.configure("pc1:eth0", None)
    assert view().address("pc1:eth0") == "192.168.1.100"


def test_repetitions_of_a_packet_pair_in_order(wire: Any, build: Any) -> None:
    packet = build.Packet("udp", "192.168.1.100", "192.0.2.80", 1, 2, id=0, payload=b"same")
    way = ("pc1:eth0", "home:lan", "home:wan", "isp:home")
    first, second = (wire.route(packet, *way, after={"home": {"src": "203.0.113.2"}}) for _ in range(2))
    sightings = Sightings(wire.frames)
    assert sightings.journey(first[0]) == tuple(first)
    assert sightings.journey(second[0]) == tuple(second)
    entering = [run[3] for run in (first, second)]
    crossings = list(sightings.crossings(entering, "home:lan", "home:wan"))
    assert [crossing.leaving for crossing in crossings] == [first[4], second[4]]


def test_identity_is_what_routers_and_translators_leave_alone(build: Any, wire: Any) -> None:
    packet = build.Packet("tcp", "192.168.1.100", "192.0.2.80", 1, 2, seq=5, payload=b"x")

    def of(**changes: Any) -> Any:
        return identity(wire.see_packet("pc1:eth0", "out", replace(packet, **changes)))

    assert of() == of(src="203.0.113.2", sport=9, dst="192.0.2.81", dport=8, ttl=3, eth_src="02:00:00:00:00:09")
    assert len({of(), of(seq=6), of(id=9), of(payload=b"y"), of(flags="S"), of(protocol="udp")}) == 6
    echo = {"protocol": "icmp", "payload": b"ping"}
    assert of(**echo) == of(**echo, ident=99)
    assert of(**echo) != of(**echo, icmp_seq=2)
