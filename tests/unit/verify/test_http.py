"""The page in the packets and in the client's hands."""

from __future__ import annotations

import json
from dataclasses import replace
from ipaddress import IPv6Interface
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from emulator.capture.frame import Frame
from emulator.verify.http import response, stream

PAGE = {"client": "pc1:eth0", "server": "web:eth0", "host": "www.example.com", "step": "page"}
BODY = b"hello, world\n"
HEAD = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n"
WAY = ("pc1:eth0", "home:lan", "home:wan", "isp:home", "isp:web", "web:eth0")


@pytest.fixture
def get(wire: Any, build: Any) -> Any:
    """A function that sends the request and has the octets given come back, in segments of ten octets."""
    wire.variables["run.name"] = "world"

    def get(octets: bytes, *, printed: str | None = BODY.decode(), reach: int = 6, order: int = 1) -> Any:
        fields = {"http.request.method": ("GET",), "http.request.uri": ("/",), "http.host": ("www.example.com",)}
        request = build.Packet(
            "tcp", build.ADDRESS["pc1:eth0"], build.ADDRESS["web:eth0"], 40000, 80, seq=1, ack=2**32 - 5, flags="PA",
            payload=b"GET / HTTP/1.1\r\n\r\n", fields=fields, layers=("http",),
        )  # fmt: skip
        wire.route(request, *WAY[:reach], after={"home": {"src": "203.0.113.2"}})
        parts = [
            build.Packet(
                "tcp", request.dst, request.src, 80, 40000, seq=(2**32 - 5 + i) % 2**32, ack=19, flags="A",
                payload=octets[i : i + 10],
            )
            for i in range(0, len(octets), 10)
        ]  # fmt: skip
        for part in parts[::order]:
            wire.see_packet("pc1:eth0", "in", part)
        if printed is not None:
            wire.printed("page", "pc1", printed)
        return wire.verdict("http-page", **PAGE)

    return get


@pytest.mark.parametrize("order", [1, -1])
def test_http_page(get: Any, order: int) -> None:
    result = get(HEAD % len(BODY) + BODY, order=order)
    assert result.verdict == "pass", result.reason
    assert "brought 13 octets with status 200" in result.reason
    assert "what curl printed on pc1" in result.reason


@pytest.mark.parametrize(
    ("octets", "printed", "words"),
    [
        (b"", BODY.decode(), "saw no octet"),
        (b"\x1b[2Jgarbage", "", "11 octets that begin"),
        (HEAD.replace(b"200 OK", b"404 No") % 0, "", "says 404"),
        (HEAD % 13 + BODY[:5], "", "expected 13 octets of page"),
        (HEAD % 13 + b"Hello, world\n", "", 'from octet 0 on it is "Hello, world'),
        (HEAD % 12 + BODY, "", "it has 12 octets, expected 13"),
        (HEAD % 13 + BODY, "hello", 'expected the page from step "page" on pc1; it has 5 octets'),
    ],
)
def test_another_page_fails(get: Any, octets: bytes, printed: str, words: str) -> None:
    result = get(octets, printed=printed)
    assert result.verdict == "fail"
    assert words in result.reason
    assert result.reason.isprintable()


def test_what_never_happened(get: Any, wire: Any) -> None:
    assert 'expected a GET request for "/"' in wire.verdict("http-page", **PAGE).reason
    assert "it never arrived" in get(HEAD % len(BODY) + BODY, reach=4).reason


def test_a_step_that_never_ran_is_unknown(get: Any) -> None:
    assert get(HEAD % len(BODY) + BODY, printed=None).verdict == "unknown"


def test_a_page_that_the_lab_does_not_have_fails(wire: Any) -> None:
    assert "the lab gives it none" in wire.verdict("http-page", **{**PAGE, "path": "/nowhere"}).reason


@pytest.mark.parametrize(("slaac", "source", "verdict"), [
    (False, "2001:db8:3::88", "pass"), (True, "2001:db8:3::88", "pass"), (True, "2001:db8:3::99", "fail"),
])  # fmt: skip
def test_a_page_over_ipv6(wire: Any, build: Any, slaac: bool, source: str, verdict: str) -> None:
    pc1 = wire.lab.nodes["pc1"]
    fixed = () if slaac else (IPv6Interface("2001:db8:3::88/64"),)
    own = replace(pc1.interface("eth0"), dhcp=False, slaac=slaac, addresses=fixed)
    wire.lab = replace(wire.lab, nodes={**wire.lab.nodes, "pc1": replace(pc1, interfaces=(own,))})
    infos = [{"family": "inet6", "local": "2001:db8:3::88", "prefixlen": 64}]
    wire.after["pc1"] = {"address": json.dumps([{"ifname": "eth0", "addr_info": infos}])}
    wire.variables["run.name"] = "world"
    fields = {"http.request.method": ("GET",), "http.request.uri": ("/",)}
    request = build.Packet6(
        "tcp", source, "2001:db8:80::80", 40000, 80, seq=1, ack=1, flags="PA", payload=b"GET / HTTP/1.1\r\n\r\n",
        fields=fields, layers=("http",),
    )  # fmt: skip
    wire.route(request, *WAY)
    body = HEAD % len(BODY) + BODY
    answer = build.Packet6("tcp", request.dst, source, 80, 40000, seq=1, ack=19, flags="A", payload=body)
    wire.see_packet("pc1:eth0", "in", answer)
    wire.printed("page", "pc1", BODY.decode())
    result = wire.verdict("http-page", client="pc1:eth0", server="web:eth0", step="page")
    assert result.verdict == verdict, result.reason


@given(st.binary())
def test_any_octets_are_read_without_harm(octets: bytes) -> None:
    found = response(octets)
    assert found is None or 0 <= found.status <= 999


@given(st.binary(min_size=1, max_size=80), st.integers(0, 2**32 - 1), st.data())
def test_a_stream_comes_together_from_any_order_with_repetitions(data: bytes, start: int, draw: st.DataObject) -> None:
    cuts = sorted(draw.draw(st.sets(st.integers(1, max(len(data) - 1, 1)), max_size=5)) | {0, len(data)})
    spans = list(pairwise(cuts))
    spans += draw.draw(st.lists(st.sampled_from(spans), max_size=3))
    base = Frame(1, 0, "pc1:eth0", "in", b"", 0)
    frames = [
        replace(base, number=n, fields={"tcp.seq_raw": ((start + a) % 2**32,), "tcp.payload": (data[a:b],)})
        for n, (a, b) in enumerate(draw.draw(st.permutations(spans)))
    ]
    assert stream(frames, start)[0] == data
