"""What a frame says, in a few words."""

from __future__ import annotations

from typing import Any

import pytest

from emulator.capture.frame import Frame
from emulator.verify.wording import told

ENDS = {"ip.src": "192.0.2.1", "ip.dst": "192.0.2.80", "ip.proto": 6, "tcp.srcport": 40000, "tcp.dstport": 443}
ENDS6 = {"ipv6.src": "fe80::1", "ipv6.dst": "ff02::1", "ipv6.nxt": 58}


def frame(layers: str, **fields: Any) -> Frame:
    """A frame with these fields; `__` stands for the dot."""
    named = {name.replace("__", "."): (value,) for name, value in fields.items()}
    return Frame(7, 0, "pc1:eth0", "out", b"", 0, named, tuple(layers.split()))


@pytest.mark.parametrize(
    ("kind", "code", "words"),
    [
        (8, 0, "echo request"),
        (0, 0, "echo reply"),
        (3, 0, "network unreachable"),
        (3, 1, "host unreachable"),
        (3, 3, "port unreachable"),
        (3, 4, "fragmentation needed"),
        (3, 77, "destination unreachable"),
        (11, 0, "time exceeded"),
        (11, 1, "reassembly time exceeded"),
        (200, 0, "type 200"),
    ],
)
def test_icmp(kind: int, code: int, words: str) -> None:
    found = frame("eth ip icmp", ip__src="10.0.0.1", ip__dst="10.0.0.2", icmp__type=kind, icmp__code=code)
    assert told(found) == f"ICMP {words} 10.0.0.1 → 10.0.0.2"


@pytest.mark.parametrize(
    ("kind", "code", "fields", "words"),
    [
        (128, 0, {}, "echo request"),
        (129, 0, {}, "echo reply"),
        (133, 0, {}, "router solicitation"),
        (134, 0, {}, "router advertisement"),
        (135, 0, {"icmpv6.nd.ns.target_address": "fe80::9"}, "neighbour solicitation for fe80::9,"),
        (136, 0, {"icmpv6.nd.na.target_address": "fe80::9"}, "neighbour advertisement of fe80::9,"),
        (135, 0, {}, "neighbour solicitation"),
        (143, 0, {}, "listener report"),
        (1, 4, {}, "port unreachable"),
        (1, 9, {}, "destination unreachable"),
        (250, 0, {}, "type 250"),
    ],
)
def test_icmpv6(kind: int, code: int, fields: dict[str, str], words: str) -> None:
    found = frame("eth ipv6 icmpv6", **ENDS6, **fields, icmpv6__type=kind, icmpv6__code=code)
    assert told(found) == f"ICMPv6 {words} fe80::1 → ff02::1"


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"type": 22, "handshake": 1, "name": "new.qq.com"}, "ClientHello new.qq.com"),
        ({"type": 22, "handshake": 1, "name": "a b\x1b[2J"}, 'ClientHello "a b\\x1b[2J"'),
        ({"type": 22, "handshake": 1}, "ClientHello"),
        ({"type": 22, "handshake": 2}, "ServerHello"),
        ({"type": 22}, "handshake"),
        ({"type": 21, "alert": 48}, "alert unknown CA"),
        ({"type": 21, "alert": 201}, "alert 201"),
        ({"type": 21}, "encrypted alert"),
        ({"type": 20}, "ChangeCipherSpec"),
        ({"type": 23}, "application data"),
    ],
)
def test_tls(fields: dict[str, Any], words: str) -> None:
    names = {
        "type": "tls.record.content_type",
        "handshake": "tls.handshake.type",
        "name": "tls.handshake.extensions_server_name",
        "alert": "tls.alert_message.desc",
    }
    found = frame("eth ip tcp tls", **ENDS, **{names[name]: value for name, value in fields.items()})
    assert told(found) == f"TLS {words} 192.0.2.1:40000 → 192.0.2.80:443"


def test_http() -> None:
    request = {"http.request.method": "GET", "http.request.uri": "/a\x07"}
    assert told(frame("eth ip tcp http", **ENDS, **request)) == ('HTTP "GET /a\\x07" 192.0.2.1:40000 → 192.0.2.80:443')
    answer = {"http.response.code": 404, "http.response.phrase": "Not Found"}
    assert told(frame("eth ip tcp http", **ENDS, **answer)).startswith('HTTP "404 Not Found" ')
    assert told(frame("eth ip tcp http", **ENDS, **{"http.response.code": 204})).startswith('HTTP "204" ')


def test_spanning_tree() -> None:
    bpdu = {"stp.root.prio": 4096, "stp.root.ext": 1, "stp.root.hw": "02:57:4c:00:01:00"}
    found = frame("eth llc stp", **bpdu, **{"stp.bridge.hw": "02:57:4c:00:02:00", "stp.type": 0})
    assert told(found) == "STP BPDU root 4097/02:57:4c:00:01:00 from 02:57:4c:00:02:00"
    change = frame("eth llc stp", eth__src="02:57:4c:00:03:00", **{"stp.type": 0x80})
    assert told(change) == "STP topology change from 02:57:4c:00:03:00"
    assert told(frame("eth llc stp malformed", eth__src="02:57:4c:00:03:00")) == "STP BPDU from 02:57:4c:00:03:00"


def test_ports_over_ipv6_and_later_fragments() -> None:
    tcp = frame("eth ipv6 tcp", **ENDS6, tcp__srcport=80, tcp__dstport=9, **{"tcp.flags.syn": True})
    assert told(tcp) == "TCP [fe80::1]:80 → [ff02::1]:9 SYN"
    udp = frame("eth ipv6 udp", **ENDS6, udp__srcport=80, udp__dstport=9)
    assert told(udp) == "UDP [fe80::1]:80 → [ff02::1]:9"
    ends = {"ip.src": "10.0.0.1", "ip.dst": "10.0.0.2", "ip.proto": 17}
    assert told(frame("eth ip data", **ends, **{"ip.frag_offset": 185})) == "IP fragment 10.0.0.1 → 10.0.0.2"
    assert told(frame("eth ip data", **ends)) == "IP protocol 17 10.0.0.1 → 10.0.0.2"
    assert told(frame("eth ipv6 data", **ENDS6)) == "IP protocol 58 fe80::1 → ff02::1"


def test_frames_without_an_address_of_ip() -> None:
    assert told(frame("eth data", eth__src="02:57:4c:00:01:00", eth__dst="02:57:4c:00:02:00")) == (
        "02:57:4c:00:01:00 → 02:57:4c:00:02:00"
    )
    assert told(frame("")) == "a frame → somewhere"
