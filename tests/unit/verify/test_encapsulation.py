"""Header in header, and the bits of a frame."""

from __future__ import annotations

import struct
from dataclasses import replace
from typing import Any

import pytest

HTTP = {"filter": "http.request", "at": "pc1:eth0", "layers": ["eth", "ip", "tcp", "http"]}
BITS = {"filter": "ip", "at": "pc1:eth0"}


@pytest.fixture
def get(build: Any) -> Any:
    """A request for a page."""
    ends = build.ADDRESS["pc1:eth0"], build.ADDRESS["web:eth0"], 40000, 80
    fields = {"http.request": (True,)}
    return build.Packet("tcp", *ends, flags="PA", payload=b"GET / HTTP/1.1\r\n\r\n", layers=("http",), fields=fields)


def test_encapsulation(wire: Any, get: Any) -> None:
    wire.see_packet("pc1:eth0", "out", get)
    result = wire.verdict("encapsulation", **HTTP)
    assert result.verdict == "pass"
    assert result.frames == (1,)
    assert result.reason == (
        "frame 1 at pc1:eth0, octets from–to (layer in the 7-, 5- and 4-layer model; field that names the next): "
        "eth 0–13 (2, 2, 1; type 0x0800 names ip), ip 14–33 (3, 3, 2; protocol 6 names tcp), "
        "tcp 34–53 (4, 4, 3; port 80 names http), http 54–71 (7, 5, 4); 14 + 20 + 20 + 18 = 72"
    )


def test_other_layers(wire: Any, build: Any) -> None:
    name = build.Packet("udp", "192.168.1.100", "192.168.1.1", 5000, 53, payload=b"?" * 20, layers=("dns",))
    wire.see_packet("pc1:eth0", "out", replace(name, fields={"dns.id": (1,)}))
    result = wire.verdict("encapsulation", filter="dns", at="pc1:eth0", layers=["eth", "ip", "udp", "dns"])
    assert result.verdict == "pass"
    assert "port 53 names dns" in result.reason
    echo = build.Packet6("icmpv6", "2001:db8::1", "2001:db8::2", payload=b"ping")
    wire.see_packet("pc1:eth0", "out", echo)
    result = wire.verdict("encapsulation", filter="icmpv6", at="pc1:eth0", layers=["eth", "ipv6", "icmpv6"])
    assert result.verdict == "pass", result.reason
    assert "ipv6 14–53 (3, 3, 2; next header 58 names icmpv6), icmpv6 54–65" in result.reason
    question = bytes(12) + struct.pack("!HHHBBH", 0x0806, 1, 0x0800, 6, 4, 1) + bytes(20)
    wire.see("pc1:eth0", "out", {}, ("eth", "arp"), question.ljust(60, b"\0"))
    result = wire.verdict("encapsulation", filter="arp", at="pc1:eth0", layers=["eth", "arp"])
    assert "14 + 28 + 18 to fill it up = 60" in result.reason
    tagged = bytes(12) + struct.pack("!HHH", 0x8100, 7, 0x88B5) + bytes(50)
    wire.see("pc1:eth0", "out", {}, ("eth", "vlan", "data"), tagged)
    result = wire.verdict("encapsulation", filter="vlan", at="pc1:eth0", layers=["eth", "vlan", "data"])
    assert "eth 0–13 (2, 2, 1; type 0x8100 names vlan), vlan 14–17 (2, 2, 1; type 0x88b5 names data)" in result.reason


def test_a_later_fragment_has_no_transport_header(wire: Any, get: Any) -> None:
    octets = bytearray(get.octets())
    octets[20:22] = (64).to_bytes(2, "big")
    wire.see("pc1:eth0", "out", {"http.request": (True,)}, ("eth", "ip", "data"), bytes(octets))
    assert wire.verdict("encapsulation", **{**HTTP, "layers": ["eth", "ip", "data"]}).verdict == "pass"


def test_other_layers_than_expected_fail(wire: Any, get: Any) -> None:
    wire.see_packet("pc1:eth0", "out", get)
    result = wire.verdict("encapsulation", **{**HTTP, "layers": ["eth", "ip", "udp", "dns"]})
    assert result.verdict == "fail"
    assert result.reason == (
        "expected eth, ip, udp, dns in frame 1 at pc1:eth0, from the outside in; it has eth, ip, tcp, http"
    )
    assert wire.verdict("encapsulation", **{**HTTP, "layers": ["eth", "ip", "tcp"]}).verdict == "fail"


def test_a_decoder_that_reads_it_otherwise_fails(wire: Any, get: Any) -> None:
    wire.see("pc1:eth0", "out", get.decoded(), ("eth", "ip", "malformed", "http"), get.octets())
    result = wire.verdict("encapsulation", **HTTP)
    assert result.verdict == "fail"
    assert "the decoder found eth, ip, malformed, http" in result.reason


@pytest.mark.parametrize(
    ("offset", "octets", "words"),
    [
        (16, b"\x00\x50", "ends at octet 93, and the frame ends at 71"),
        (16, b"\x00\x30", "ends at octet 61, and the frame goes on to 71"),
        (14, b"\x42", "8 octets of header"),
        (14, b"\x65", "version 6"),
        (46, b"\x10", "its TCP header says that it has 4 octets"),
        (46, b"\xf0", "its tcp header takes 60 octets and 38 are left"),
    ],
)
def test_octets_that_do_not_add_up_fail(wire: Any, get: Any, offset: int, octets: bytes, words: str) -> None:
    data = get.octets()
    wrong = data[:offset] + octets + data[offset + len(octets) :]
    wire.see("pc1:eth0", "out", get.decoded(), ("eth", "ip", "tcp", "http"), wrong)
    result = wire.verdict("encapsulation", **HTTP)
    assert result.verdict == "fail"
    assert words in result.reason


def test_a_udp_length_that_is_wrong_fails(wire: Any, build: Any) -> None:
    data = bytearray(build.Packet("udp", "10.0.0.1", "10.0.0.2", 1, 2, payload=b"abc").octets())
    data[38:40] = (12).to_bytes(2, "big")
    wire.see("pc1:eth0", "out", {}, ("eth", "ip", "udp", "data"), bytes(data))
    result = wire.verdict("encapsulation", filter="udp", at="pc1:eth0", layers=["eth", "ip", "udp", "data"])
    assert result.verdict == "fail"
    assert "its UDP header counts 12 octets, and IP carries 11" in result.reason


def test_encapsulation_needs_a_whole_frame(wire: Any, get: Any) -> None:
    assert "expected a frame that matches http.request" in wire.verdict("encapsulation", **HTTP).reason
    wire.see_packet("pc1:eth0", "out", get, length=1000)
    result = wire.verdict("encapsulation", **HTTP)
    assert (result.verdict, result.reason) == (
        "unknown",
        "only 72 of 1,000 octets of frame 1 at pc1:eth0 were captured",
    )
    assert wire.verdict("encapsulation", **{**HTTP, "at": "pc1:eth9"}).verdict == "unknown"


def test_bit_stream(wire: Any, get: Any) -> None:
    macs = {"eth_src": "02:00:00:00:00:01", "eth_dst": "02:00:00:00:00:ff"}
    wire.see_packet("pc1:eth0", "out", replace(get, **macs))
    result = wire.verdict("bit-stream", **BITS)
    assert result.verdict == "pass"
    assert result.reason == (
        "frame 1 at pc1:eth0 is 576 bits, and its fields give the same bits again; the first 112: "
        "destination 00000010 00000000 00000000 00000000 00000000 11111111, "
        "source 00000010 00000000 00000000 00000000 00000000 00000001, type 00001000 00000000"
    )


def test_a_length_stands_in_the_place_of_the_type(wire: Any) -> None:
    fields = {"eth.src": ("02:00:00:00:00:01",), "eth.dst": ("01:80:c2:00:00:00",), "eth.len": (38,)}
    wire.see("pc1:eth0", "out", fields, ("eth", "llc"), bytes.fromhex("0180c20000000200000000010026") + bytes(38))
    result = wire.verdict("bit-stream", filter="llc", at="pc1:eth0")
    assert result.verdict == "pass"
    assert result.reason.endswith("length 00000000 00100110")


def test_other_bits_fail(wire: Any, get: Any) -> None:
    wire.see_packet("pc1:eth0", "out", get, reencoded=False)
    assert "encoded again, has other bits" in wire.verdict("bit-stream", **BITS).reason
    wire.frames.clear()
    wire.see_packet("pc1:eth0", "out", replace(get, fields={"eth.type": (0x0801,)}))
    result = wire.verdict("bit-stream", **BITS)
    assert result.verdict == "fail"
    assert "octet 13 is 00000000 on the wire and 00000001 from the fields" in result.reason
    wire.frames.clear()
    wire.see_packet("pc1:eth0", "out", replace(get, fields={"eth.src": ("?",)}))
    assert wire.verdict("bit-stream", **BITS).verdict == "fail"


def test_bits_that_were_not_taken_apart_are_unknown_and_none_at_all_fail(wire: Any, get: Any) -> None:
    assert wire.verdict("bit-stream", **BITS).verdict == "fail"
    wire.see_packet("pc1:eth0", "out", get, reencoded=None)
    assert wire.verdict("bit-stream", **BITS).verdict == "unknown"
    wire.frames.clear()
    wire.see_packet("pc1:eth0", "out", get, length=100)
    assert wire.verdict("bit-stream", **BITS).verdict == "unknown"
