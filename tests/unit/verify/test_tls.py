"""A TLS session as it looks from outside: TLS 1.3, TLS 1.2, and all that can go wrong with it."""

from __future__ import annotations

from dataclasses import replace
from hashlib import sha256
from typing import Any

import pytest

NAME = "new.example.com"
TLS = {"client": "pc1:eth0", "server": "web:eth0", "server-name": NAME}
WAY = ("pc1:eth0", "home:lan", "home:wan", "isp:home", "isp:web", "web:eth0")
SEQ, ACK = 2**32 - 40, 9000


def record(kind: int, body: bytes) -> bytes:
    """A record with its header."""
    return bytes([kind, 3, 3]) + len(body).to_bytes(2, "big") + body


CLIENT_HELLO = record(22, b"\x01" + bytes(80))
SERVER_HELLO = record(22, b"\x02\x00\x00\x50\x03\x03" + bytes(32) + bytes(46))
RETRY = record(22, b"\x02\x00\x00\x50\x03\x03" + sha256(b"HelloRetryRequest").digest() + bytes(46))
CHANGE = record(20, b"\x01")
CERTIFICATE, KEYS, FINISHED_12 = (
    record(22, b"\x0b" + bytes(900)),
    record(22, b"\x10" + bytes(32)),
    record(22, b"\x02" * 40),
)
HIDDEN, FINISHED_13, HIDDEN_ALERT = record(23, bytes(900)), record(23, bytes(53)), record(23, bytes(19))
REQUEST, PAGE = record(23, bytes(100)), record(23, bytes(400))

V13 = (("c", CLIENT_HELLO), ("s", SERVER_HELLO + CHANGE + HIDDEN), ("c", CHANGE + FINISHED_13 + REQUEST), ("s", PAGE))
V12 = (
    ("c", CLIENT_HELLO), ("s", SERVER_HELLO + CERTIFICATE), ("c", KEYS + CHANGE + FINISHED_12),
    ("s", CHANGE + FINISHED_12), ("c", REQUEST), ("s", PAGE),
)  # fmt: skip


def alert(description: int, level: int = 2) -> bytes:
    """An alert in the clear."""
    return record(21, bytes([level, description]))


class Talk:
    """A connection of pc1 to web, seen at pc1, the first segment also at web."""

    def __init__(self, wire: Any, build: Any, *, name: str = NAME, sport: int = 40000, dport: int = 443) -> None:
        self.wire, self.build, self.name = wire, build, name
        self.ends = (build.ADDRESS["pc1:eth0"], build.ADDRESS["web:eth0"], sport, dport)
        self.next = {"c": SEQ, "s": ACK}

    def say(self, side: str, payload: bytes = b"", *, flags: str = "PA", arrives: bool = True, at: int = 0) -> None:
        """One segment, `at` octets behind where the side is."""
        src, dst, sport, dport = self.ends
        ends = (src, dst, sport, dport) if side == "c" else (dst, src, dport, sport)
        other = "s" if side == "c" else "c"
        fields = {}
        if payload.startswith(CLIENT_HELLO[:6]):
            names = (self.name,) if self.name else ()
            fields = {"tls.handshake.type": (1,), "tls.handshake.extensions_server_name": names}
        packet = self.build.Packet(
            "tcp", *ends, seq=(self.next[side] + at) % 2**32, ack=self.next[other] % 2**32, flags=flags,
            payload=payload, fields=fields,
        )  # fmt: skip
        if fields and arrives:
            self.wire.route(packet, *WAY, after={"home": {"src": "203.0.113.2"}})
        else:
            self.wire.see_packet("pc1:eth0", "out" if side == "c" else "in", packet)
        if at == 0:
            self.next[side] += len(payload)

    def all(self, lines: Any) -> None:
        """Several segments."""
        for side, payload in lines:
            self.say(side, payload)


@pytest.fixture
def talk(wire: Any, build: Any) -> Talk:
    """A connection on which nothing was said yet."""
    return Talk(wire, build)


@pytest.mark.parametrize(("lines", "version"), [(V13, ", TLS 1.3"), (V12, "")])
def test_a_session(wire: Any, talk: Talk, lines: Any, version: str) -> None:
    talk.all(lines)
    result = wire.verdict("tls-handshake", **TLS)
    assert result.verdict == "pass", result.reason
    assert f'ClientHello for "new.example.com" (frame 1), ServerHello (frame 9{version}), then data' in result.reason
    assert "1 record from pc1:eth0 (first in frame 1" in result.reason


def test_records_may_be_cut_anywhere_repeated_and_out_of_order(wire: Any, talk: Talk) -> None:
    talk.say("c", CLIENT_HELLO)
    talk.say("s", SERVER_HELLO[:30])
    talk.say("s", SERVER_HELLO[:30], at=-30)
    server = SERVER_HELLO[30:] + CHANGE + HIDDEN
    talk.say("s", server[100:], at=100)
    talk.say("s", server)
    talk.say("c", CHANGE + FINISHED_13[:9])
    talk.say("c", FINISHED_13[9:] + REQUEST)
    talk.say("s", PAGE)
    result = wire.verdict("tls-handshake", **TLS)
    assert result.verdict == "pass", result.reason


def test_a_second_greeting_on_the_same_connection(wire: Any, talk: Talk) -> None:
    talk.all((V13[0], ("s", RETRY + CHANGE), *V13))
    result = wire.verdict("tls-handshake", **TLS)
    assert result.verdict == "pass", result.reason
    assert "other connection" not in result.reason
    assert ", TLS 1.3" in result.reason


def test_alerts_after_the_data_are_how_a_session_ends(wire: Any, talk: Talk) -> None:
    talk.all((*V13, ("c", HIDDEN_ALERT), ("s", HIDDEN_ALERT)))
    assert wire.verdict("tls-handshake", **TLS).verdict == "pass"


@pytest.mark.parametrize(
    ("lines", "words"),
    [
        (V13[:1], "expected a ServerHello to the ClientHello in frame 1 at pc1:eth0; none came"),
        ((V13[0], ("s", b"HTTP/1.1 400 Bad Request\r\n")), "expected a ServerHello"),
        ((V13[0], ("s", alert(112))), 'web:eth0 sent the alert "unrecognized name" (112) in frame 9'),
        ((V13[0], ("s", alert(255))), 'the alert "number 255"'),
        ((*V12[:2], ("c", alert(48))), 'pc1:eth0 sent the alert "unknown CA" (48) in frame 10'),
        (
            (*V12[:4], ("c", record(21, bytes(24)))),
            "an alert (encrypted; a client that does not accept the certificate sends one) in frame 12",
        ),
        ((*V13[:2], ("c", CHANGE + HIDDEN_ALERT)), "an alert (encrypted, to be told by its size; a client"),
        (V13[:2], "expected pc1:eth0 to send data after the ServerHello in frame 9 at pc1:eth0; it sent none"),
        ((*V13[:2], ("c", CHANGE + FINISHED_13)), "expected pc1:eth0 to send data"),
        (V12[:4], "expected pc1:eth0 to send data"),
        (V13[:3], "expected web:eth0 to send data after that of pc1:eth0 in frame 10"),
        (V12[:5], "expected web:eth0 to send data after that of pc1:eth0 in frame 12"),
    ],
)
def test_a_session_that_goes_wrong_fails(wire: Any, talk: Talk, lines: Any, words: str) -> None:
    talk.all(lines)
    result = wire.verdict("tls-handshake", **TLS)
    assert result.verdict == "fail"
    assert words in result.reason


def test_how_the_connection_ended_is_told(wire: Any, talk: Talk) -> None:
    talk.all(V13[:1])
    talk.say("s", flags="FA")
    assert "none came; the connection was closed in frame 9" in wire.verdict("tls-handshake", **TLS).reason
    talk.say("s", flags="R")
    assert "the connection was broken off by RST in frame 10" in wire.verdict("tls-handshake", **TLS).reason


def test_a_greeting_that_never_arrives_fails(wire: Any, talk: Talk) -> None:
    talk.say("c", CLIENT_HELLO, arrives=False)
    talk.all(V13[1:])
    result = wire.verdict("tls-handshake", **TLS)
    assert result.verdict == "fail"
    assert "expected the ClientHello of frame 1 at pc1:eth0 at web:eth0; it never arrived" in result.reason


@pytest.mark.parametrize(("name", "told"), [("old.example.com", '"old.example.com"'), ("", '"no name"')])
def test_another_name_fails(wire: Any, build: Any, name: str, told: str) -> None:
    Talk(wire, build, name=name).all(V13)
    result = wire.verdict("tls-handshake", **TLS)
    assert result.verdict == "fail"
    assert f"saw frame 1 for {told}" in result.reason


def test_no_greeting_and_another_port_fail(wire: Any, build: Any) -> None:
    assert "to port 443" in wire.verdict("tls-handshake", **TLS).reason
    Talk(wire, build, dport=8443).all(V13)
    assert wire.verdict("tls-handshake", **TLS).verdict == "fail"
    assert wire.verdict("tls-handshake", **TLS, port=8443).verdict == "pass"


def test_every_connection_with_the_name_is_judged(wire: Any, build: Any) -> None:
    Talk(wire, build).all(V13)
    Talk(wire, build, sport=40001).all(V12)
    assert "likewise 1 other connection" in wire.verdict("tls-handshake", **TLS).reason
    Talk(wire, build, name="other.example.com", sport=40002).all(V13[:1])
    assert wire.verdict("tls-handshake", **TLS).verdict == "pass"
    Talk(wire, build, sport=40003).all(V13[:1])
    assert wire.verdict("tls-handshake", **TLS).verdict == "fail"


def test_a_port_that_is_used_again_is_another_connection(wire: Any, build: Any) -> None:
    Talk(wire, build).all(V13)
    again = Talk(wire, build)
    again.say("c", flags="S")
    again.all(V13[:1])
    assert wire.verdict("tls-handshake", **TLS).verdict == "fail"


def test_a_gap_in_the_record_is_unknown(wire: Any, talk: Talk) -> None:
    talk.all(V13)
    wire.frames = [frame for frame in wire.frames if frame.number != 9]
    wire.dropped["pc1:eth0"] = 1
    assert wire.verdict("tls-handshake", **TLS).verdict == "unknown"


def test_a_server_that_was_not_captured_is_unknown(wire: Any, talk: Talk) -> None:
    talk.all(V13)
    nodes = {name: node for name, node in wire.lab.nodes.items() if name != "web"}
    wire.frames = [frame for frame in wire.frames if frame.node != "web"]
    wire.lab = replace(wire.lab, nodes=nodes)
    assert wire.verdict("tls-handshake", **TLS).verdict == "unknown"
