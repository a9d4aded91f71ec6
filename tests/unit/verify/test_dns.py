"""The walk from the root, and the cache."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

NAME, FINAL = "www.example.com", "www.example.com A 300 192.0.2.80"
CHAIN = {
    "question": "www.{run.domain}.", "client": "pc1", "forwarder": "home", "resolver": "resolver",
    "servers": ["root", "tld", "auth"],
}  # fmt: skip
ROOT = {"authority": ["com NS 300 a.gtld-servers.net."], "additional": ["a.gtld-servers.net A 300 198.51.100.3"]}
TLD = {"authority": ["example.com NS 300 ns.example.com"], "additional": ["ns.example.com A 300 198.51.100.4"]}
ANSWER = {"answer": [FINAL]}


def walk(wire: Any, **wrong: Any) -> None:
    """pc1 asks home, home the resolver, which asks down from the root; `wrong` replaces replies, None for silence."""
    replies = {"root": ROOT, "tld": TLD, "auth": {**ANSWER, "aa": True}, "resolver": ANSWER, "home": ANSWER, **wrong}
    asks = {
        "home": (NAME, "pc1:eth0", "home:lan", 1, True),
        "resolver": (NAME, "home:wan", "resolver:eth0", 2, wrong.get("rd", True)),
        "root": ("com", "resolver:eth0", "root:eth0", 3, False),
        "tld": ("example.com", "resolver:eth0", "tld:eth0", 4, False),
        "auth": (NAME, "resolver:eth0", "auth:eth0", 5, False),
    }
    frames: dict[str, list[Any]] = {}
    for server, (name, asker, place, number, rd) in asks.items():
        before = len(wire.frames)
        wire.dns(name, asker, place, number=number, rd=rd, **(replies[server] or {}))
        frames[server] = wire.frames[before:]
        del wire.frames[before:]
    order = [*frames["home"][:2], *frames["resolver"][:2], *frames["root"], *frames["tld"], *frames["auth"]]
    wire.frames += [*order, *frames["resolver"][2:], *frames["home"][2:]]
    renumber(wire)


def renumber(wire: Any) -> None:
    """Give the frames numbers and times in their order."""
    wire.frames = [replace(f, number=n, time_ns=wire.now_ns + n) for n, f in enumerate(wire.frames, start=1)]
    wire.now_ns += len(wire.frames)


@pytest.fixture
def zone(wire: Any) -> Any:
    """A run about example.com."""
    wire.variables["run.domain"] = "example.com"
    return wire


def test_referral_chain(zone: Any) -> None:
    walk(zone)
    result = zone.verdict("referral-chain", **CHAIN)
    assert result.verdict == "pass", result.reason
    assert result.reason.startswith(
        'pc1 → home → resolver → root (refers to "com.") → tld (refers to "example.com.") → auth: '
        "192.0.2.80 authoritative"
    )


def test_any_server_of_a_zone_may_be_asked(zone: Any) -> None:
    walk(zone)
    chain = {**CHAIN, "servers": [["web", "root"], ["tld"], ["auth", "web"]]}
    result = zone.verdict("referral-chain", **chain)
    assert result.verdict == "pass", result.reason
    assert '→ root (refers to "com.") → tld (refers to "example.com.") → auth: 192.0.2.80' in result.reason


@pytest.mark.parametrize(
    ("servers", "words"),
    [
        (
            [["web", "outside"], "tld", "auth"],
            'expected a question of resolver to web or outside for "www.example.com"',
        ),
        (["root", ["web", "outside"], "auth"], "expected a referral to web or outside (192.0.2.80, 198.18.0.99)"),
    ],
)
def test_none_of_a_zones_servers_was_asked(zone: Any, servers: list[Any], words: str) -> None:
    walk(zone)
    result = zone.verdict("referral-chain", **{**CHAIN, "servers": servers})
    assert result.verdict == "fail"
    assert words in result.reason


def test_without_a_forwarder(zone: Any) -> None:
    zone.dns(NAME, "outside:eth0", "resolver:eth0", number=1, rd=True, **ANSWER)
    asked, answered = zone.frames[:2], zone.frames[2:]
    zone.frames = []
    zone.dns(NAME, "resolver:eth0", "auth:eth0", number=5, **ANSWER, aa=True)
    zone.frames = [*asked, *zone.frames, *answered]
    renumber(zone)
    chain = {**CHAIN, "client": "outside", "forwarder": None, "servers": ["auth"]}
    assert zone.verdict("referral-chain", **chain).verdict == "pass"


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"root": None}, "expected a reply of root"),
        ({"root": {"rcode": 5}}, "root replied in frame 8 at resolver:eth0: refused; expected a referral to tld"),
        ({"root": {**ROOT, "additional": []}}, "with glue missing; expected a referral to tld (198.51.100.3)"),
        ({"tld": {**TLD, "additional": ["ns.example.com A 300 203.0.113.99"]}}, 'glue "203.0.113.99"; expected'),
        ({"tld": {**TLD, "aa": True}}, "expected a referral to auth"),
        ({"auth": ANSWER}, "not authoritative answer"),
        ({"auth": {"aa": True}}, "empty answer; expected an authoritative address"),
        ({"resolver": {"rcode": 2}}, "resolver replied in frame 18 at home:wan: server failure; expected 192.0.2.80"),
        ({"home": None}, "expected a reply of home"),
        ({"home": {**ANSWER, "reply_id": 77}}, "expected a reply of home"),
        ({"home": {"answer": ["www.example.com A 300 192.0.2.99"]}}, "expected 192.0.2.80"),
        ({"rd": False}, "to ask for recursion"),
    ],
)
def test_a_broken_chain_is_told(zone: Any, wrong: dict[str, Any], words: str) -> None:
    walk(zone, **wrong)
    result = zone.verdict("referral-chain", **CHAIN)
    assert result.verdict == "fail"
    assert words in result.reason


def test_a_resolver_that_asks_nobody(zone: Any) -> None:
    zone.dns(NAME, "pc1:eth0", "home:lan", number=1, rd=True, rcode=2)
    zone.dns(NAME, "home:wan", "resolver:eth0", number=2, rd=True, rcode=2)
    reason = zone.verdict("referral-chain", **CHAIN).reason
    assert 'expected a question of resolver to root for "www.example.com"' in reason


def test_an_answer_before_its_time_fails(zone: Any) -> None:
    walk(zone)
    early = zone.frames[-1]
    zone.frames = [*zone.frames[:5], early, *zone.frames[5:-1]]
    renumber(zone)
    assert "before the name servers had" in zone.verdict("referral-chain", **CHAIN).reason


CACHE = {"question": NAME, "client": "pc1", "server": "home", "quiet": ["resolver", "root", "tld", "auth"]}


def test_answered_from_cache(wire: Any) -> None:
    wire.dns(NAME, "pc1:eth0", "home:lan", number=1, rd=True, **ANSWER)
    wire.dns("<Root>", "resolver:eth0", "root:eth0", number=9, **ROOT)
    result = wire.verdict("answered-from-cache", **CACHE)
    assert result.verdict == "pass"
    assert "home answered pc1 by itself" in result.reason


def test_a_cache_on_the_computer_itself(wire: Any) -> None:
    """The question of a node to itself is on loopback, where a packet is recorded once, as it arrives."""
    wire.dns(NAME, "home:lan", "home:lan", number=1, rd=True, **ANSWER)
    question, _, answer, _ = wire.frames
    own = {**CACHE, "client": "home", "server": "home"}
    wire.frames = [replace(frame, direction="in") for frame in (question, answer)]
    assert "expected a question of home to home" in wire.verdict("answered-from-cache", **own).reason
    wire.frames = [replace(frame, interface="home:lo") for frame in wire.frames]
    assert wire.verdict("answered-from-cache", **own).verdict == "pass"


@pytest.mark.parametrize("name", [NAME, "example.com", "com"])
def test_a_question_to_somebody_else_fails(wire: Any, name: str) -> None:
    wire.dns(NAME, "pc1:eth0", "home:lan", number=1, rd=True, **ANSWER)
    wire.dns(name, "resolver:eth0", "root:eth0", number=9, **ROOT)
    result = wire.verdict("answered-from-cache", **CACHE)
    assert result.verdict == "fail"
    assert "at resolver:eth0 asks for" in result.reason


def test_no_question_no_answer_or_an_error_fails(wire: Any) -> None:
    assert "expected a question of pc1 to home" in wire.verdict("answered-from-cache", **CACHE).reason
    wire.dns(NAME, "pc1:eth0", "home:lan", number=1)
    assert "none came" in wire.verdict("answered-from-cache", **CACHE).reason
    wire.frames.clear()
    wire.dns(NAME, "pc1:eth0", "home:lan", number=1, rcode=3)
    assert "no such name; expected an answer" in wire.verdict("answered-from-cache", **CACHE).reason


def test_quiet_needs_a_whole_record(wire: Any) -> None:
    wire.dns(NAME, "pc1:eth0", "home:lan", number=1, rd=True, **ANSWER)
    wire.dropped["root:eth0"] = 2
    assert wire.verdict("answered-from-cache", **CACHE).verdict == "unknown"


def test_a_client_without_an_address_fails(wire: Any) -> None:
    wire.configure("pc1:eth0", None)
    wire.dns(NAME, "outside:eth0", "resolver:eth0", number=1, **ANSWER)
    chain = {**CHAIN, "question": NAME, "client": "outside", "forwarder": None, "resolver": "pc1", "servers": ["root"]}
    result = wire.verdict("referral-chain", **chain)
    assert result.verdict == "fail"
    assert "expected pc1:eth0 to have an IPv4 address" in result.reason
