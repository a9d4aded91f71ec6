"""What an answer says, how its TTL runs down, and how the order of addresses changes."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from emulator.verify.dns_answer import _value

NAME = "www.example.com"
ASKED = {"question": NAME, "client": "pc1", "server": "home"}
A = f"{NAME} A 300 192.0.2.80"
TYPES = {"A": 1, "NS": 2, "MX": 15, "TXT": 16, "AAAA": 28}


def ask(wire: Any, *answer: str, number: int = 1, name: str = NAME, kind: str = "A", **reply: Any) -> None:
    """pc1 asks home, and home answers."""
    wire.dns(name, "pc1:eth0", "home:lan", number=number, rd=True, qtype=TYPES[kind], answer=answer, **reply)


def test_an_answer(wire: Any) -> None:
    ask(wire, A)
    result = wire.verdict("dns-answer", **ASKED, answers=["192.0.2.80"], count=1, authoritative=False)
    assert result.verdict == "pass", result.reason
    assert result.reason.startswith(
        'home answered pc1 NOERROR to "www.example.com A": "192.0.2.80", not authoritative; 1 answer (frames 1 and 4)'
    )
    assert wire.verdict("dns-answer", **ASKED).verdict == "pass"


@pytest.mark.parametrize(
    ("kind", "record", "value"),
    [
        ("AAAA", "AAAA 300 2001:db8::0:80", "2001:DB8::80"),
        ("MX", "MX 300 10 mail.example.com", "10 Mail.Example.com."),
        ("TXT", 'TXT 300 "v=spf1 mx" " -all"', "v=spf1 mx -all"),
        ("TXT", 'TXT 300 "v=spf1 mx"', '"v=spf1 mx"'),
        ("NS", "NS 300 ns1.example.com", "ns1.example.com."),
    ],
)
def test_other_types_and_spellings(wire: Any, kind: str, record: str, value: str) -> None:
    ask(wire, f"{NAME} {record}", kind=kind)
    assert wire.verdict("dns-answer", **ASKED, type=kind, answers=[value]).verdict == "pass"
    result = wire.verdict("dns-answer", **ASKED, type=kind, answers=["other"])
    assert result.verdict == "fail"
    assert "frame 4 at pc1:eth0 has" in result.reason


def test_the_name_servers_of_the_root(wire: Any) -> None:
    letters = "abcdefghijklm"
    ask(wire, *(f"<Root> NS 300 {letter}.root-servers.net" for letter in letters), name="<Root>", kind="NS")
    root = {**ASKED, "question": ".", "type": "NS"}
    assert wire.verdict("dns-answer", **root, count=13).verdict == "pass"
    assert "expected 12 records of type NS; frame 4" in wire.verdict("dns-answer", **root, count=12).reason


def test_a_chain_of_names_ends_in_its_addresses(wire: Any) -> None:
    ask(wire, f"{NAME} CNAME 300 web.example.com", "web.example.com A 300 192.0.2.80", "web.example.com RRSIG 300 …")
    assert wire.verdict("dns-answer", **ASKED, answers=["192.0.2.80"], count=1).verdict == "pass"


def test_errors_and_flags_can_be_what_is_expected(wire: Any) -> None:
    ask(wire, rcode=3, aa=True, ad=True)
    told = {**ASKED, "rcode": "NXDOMAIN", "authoritative": True, "authenticated": True}
    result = wire.verdict("dns-answer", **told)
    assert result.verdict == "pass"
    assert "NXDOMAIN" in result.reason
    assert "authoritative and authenticated" in result.reason


def test_no_records_are_an_answer_too_when_they_are_asked_for(wire: Any) -> None:
    ask(wire)
    assert wire.verdict("dns-answer", **ASKED, answers=[]).verdict == "pass"
    assert "holds no record of type A" in wire.verdict("dns-answer", **ASKED).reason


@pytest.mark.parametrize(
    ("reply", "check", "words"),
    [
        ({"rcode": 2}, {}, "expected response code NOERROR to"),
        ({"rcode": 2}, {"rcode": "NXDOMAIN"}, "says SERVFAIL (server failure)"),
        ({"rcode": 9}, {"rcode": "REFUSED"}, "says code 9"),
        ({}, {"authoritative": True}, "is authoritative (AA flag 1); frame 4 at pc1:eth0 has AA flag 0"),
        ({"ad": True}, {"authenticated": False}, "is not authenticated (AD flag 0)"),
        ({}, {"answers": ["192.0.2.99"]}, 'expected "192.0.2.99" as the answer'),
        ({}, {"answers": ["192.0.2.80", "192.0.2.81"]}, 'has "192.0.2.80"'),
        ({}, {"answers": []}, "expected no record as the answer"),
        ({}, {"count": 2}, "expected 2 records of type A"),
    ],
)
def test_a_wrong_answer_fails(wire: Any, reply: dict[str, Any], check: dict[str, Any], words: str) -> None:
    ask(wire, *([] if "rcode" in reply else [A]), **reply)
    result = wire.verdict("dns-answer", **ASKED, **check)
    assert result.verdict == "fail"
    assert words in result.reason


def test_one_wrong_answer_among_others_fails(wire: Any) -> None:
    ask(wire, A)
    ask(wire, f"{NAME} A 300 192.0.2.99", number=2)
    assert "frame 8" in wire.verdict("dns-answer", **ASKED, answers=["192.0.2.80"]).reason


def test_no_question_or_no_answer_fails(wire: Any) -> None:
    assert "it asked for nothing" in wire.verdict("dns-answer", **ASKED).reason
    ask(wire, "example.com MX 300 10 mail.example.com", name="example.com", kind="MX")
    result = wire.verdict("dns-answer", **ASKED)
    assert result.verdict == "fail"
    assert "it asked for example.com of type 15" in result.reason
    wire.dns(NAME, "pc1:eth0", "home:lan", number=7)
    assert "expected a reply of home to frame 5 at pc1:eth0; none came" in wire.verdict("dns-answer", **ASKED).reason


def test_without_a_whole_record_silence_proves_nothing(wire: Any) -> None:
    wire.dropped["pc1:eth0"] = 3
    assert wire.verdict("dns-answer", **ASKED).verdict == "unknown"


TTL = {**ASKED, "scenes": ["first", "second"]}


def ask_twice(wire: Any, ttl: int, *, seconds: int = 20, was: int = 300, data: str = "192.0.2.80") -> None:
    """The same question in two scenes."""
    wire.scene("first")
    ask(wire, f"{NAME} A {was} 192.0.2.80")
    wire.now_ns += seconds * 1_000_000_000
    wire.scene("second")
    ask(wire, f"{NAME} A {ttl} {data}", number=2)


@pytest.mark.parametrize("ttl", [280, 279, 278])
def test_a_ttl_falls_with_the_clock(wire: Any, ttl: int) -> None:
    ask_twice(wire, ttl)
    result = wire.verdict("dns-ttl-falls", **TTL)
    assert result.verdict == "pass", result.reason
    assert f"fell from 300 s (frame 4) to {ttl} s (frame 8) in 21.0 s" in result.reason


@pytest.mark.parametrize("ttl", [300, 301, 290, 277, 0])
def test_a_ttl_that_stands_still_or_jumps_fails(wire: Any, ttl: int) -> None:
    ask_twice(wire, ttl)
    result = wire.verdict("dns-ttl-falls", **TTL)
    assert result.verdict == "fail"
    assert f"to fall by 21.0 s from 300 s in frame 4 at pc1:eth0; it is {ttl} s in frame 8" in result.reason


def test_too_little_time_proves_nothing(wire: Any) -> None:
    ask_twice(wire, 300, seconds=0)
    wire.frames[-1] = replace(wire.frames[-1], time_ns=wire.frames[3].time_ns + 200_000_000)
    assert wire.verdict("dns-ttl-falls", **TTL).verdict == "fail"


def test_other_records_and_the_wrong_order_of_scenes_fail(wire: Any) -> None:
    ask_twice(wire, 279, data="192.0.2.99")
    assert "expected the same record of type A in both answers" in wire.verdict("dns-ttl-falls", **TTL).reason
    swapped = {**TTL, "scenes": ["second", "first"]}
    assert "came before" in wire.verdict("dns-ttl-falls", **swapped).reason


def test_a_scene_without_an_answer_fails_and_one_that_never_ran_is_unknown(wire: Any) -> None:
    wire.scene("first")
    ask(wire, A)
    assert wire.verdict("dns-ttl-falls", **TTL).verdict == "unknown"
    wire.scene("second")
    result = wire.verdict("dns-ttl-falls", **TTL)
    assert result.verdict == "fail"
    assert 'in scene "second"' in result.reason


ROTATES = {**ASKED, "addresses": ["192.0.2.80", "192.0.2.81", "192.0.2.82"]}


def pool(*last: int) -> list[str]:
    """A records in this order."""
    return [f"{NAME} A 300 192.0.2.{number}" for number in last]


def test_rotation(wire: Any) -> None:
    ask(wire, *pool(80, 81, 82))
    ask(wire, *pool(81, 82, 80), number=2)
    result = wire.verdict("dns-rotates", **ROTATES)
    assert result.verdict == "pass", result.reason
    assert "2 orders: 192.0.2.80, 192.0.2.81, 192.0.2.82 (frame 4), 192.0.2.81, 192.0.2.82, 192.0.2.80" in result.reason


def test_rotation_of_ipv6_and_of_named_nodes(wire: Any) -> None:
    for number, order in enumerate((("::1", "::2"), ("::2", "::1")), start=1):
        ask(wire, *(f"{NAME} AAAA 300 2001:db8{end}" for end in order), number=number, kind="AAAA")
    six = {**ASKED, "addresses": ["2001:db8::1", "2001:db8::2"]}
    assert wire.verdict("dns-rotates", **six).verdict == "pass"
    for number, order in enumerate((("80", "1"), ("1", "80")), start=3):
        ask(wire, *(f"{NAME} A 300 192.0.2.{end}" for end in order), number=number)
    assert wire.verdict("dns-rotates", **{**ASKED, "addresses": ["web", "isp:web"]}).verdict == "pass"


@pytest.mark.parametrize(
    ("orders", "words"),
    [
        ([], "expected a question of pc1 to home"),
        ([(80, 81, 82)], "expected several answers"),
        ([(80, 81, 82), (80, 81, 82)], "all 2 answers (frames 1, 4, 5 and 8) say 192.0.2.80, 192.0.2.81, 192.0.2.82"),
        ([(80, 81, 82), (81, 80)], "expected 192.0.2.80, 192.0.2.81 and 192.0.2.82 in every answer"),
        ([(80, 81, 82), ()], "has empty answer"),
    ],
)
def test_what_does_not_rotate_fails(wire: Any, orders: list[tuple[int, ...]], words: str) -> None:
    for number, order in enumerate(orders, start=1):
        ask(wire, *pool(*order), number=number)
    result = wire.verdict("dns-rotates", **ROTATES)
    assert result.verdict == "fail"
    assert words in result.reason


def test_what_is_no_address_is_compared_as_it_stands() -> None:
    assert _value("A", "…") == "…"
