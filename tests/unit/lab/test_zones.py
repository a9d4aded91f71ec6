"""The DNS tree: delegations, glue, hints, and what is wrong with zones."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from emulator.errors import Problem
from emulator.lab.resolved import ResolvedLab
from emulator.lab.zones import absolute, enclosing_zone, is_below, parent_zone
from emulator.plan.services.nsd import file_name

LAB = """
name: l
nodes:
  a: {{interfaces: {{eth0: 192.0.2.1/24}}, services: {{nsd: {{}}}}}}
  b: {{interfaces: {{eth0: 192.0.2.2/24}}, services: {{nsd: {{}}}}}}
links: [["a:eth0", "b:eth0"]]
zones:
  .: {{nameservers: {{a.root.net.: a}}}}
  com.: {{nameservers: {{ns.net.: a, ns: b}}}}
  {zones}
"""


def lines(lab: ResolvedLab, zone: str) -> list[str]:
    return [f"{record.name} {record.type} {record.data}" for record in lab.zones[zone].records]


def test_delegation_with_glue(resolved: Callable[..., ResolvedLab]) -> None:
    lab = resolved(LAB.format(zones="example.com.: {nameservers: b, records: {www: a, '@': b, alias: {cname: www}}}"))
    assert lines(lab, ".") == [
        ". NS a.root.net.", "a.root.net. A 192.0.2.1", "ns.net. A 192.0.2.1", "com. NS ns.net.",
        "com. NS ns.com.", "ns.com. A 192.0.2.2",
    ]  # fmt: skip
    assert lines(lab, "com.") == [
        "com. NS ns.net.", "com. NS ns.com.", "ns.com. A 192.0.2.2", "example.com. NS ns.example.com.",
        "ns.example.com. A 192.0.2.2",
    ]  # fmt: skip
    assert lines(lab, "example.com.") == [
        "www.example.com. A 192.0.2.1", "example.com. A 192.0.2.2", "alias.example.com. CNAME www.example.com.",
        "example.com. NS ns.example.com.", "ns.example.com. A 192.0.2.2",
    ]  # fmt: skip
    assert [record.data for record in lab.root_hints] == ["a.root.net.", "192.0.2.1"]
    assert lab.zones["example.com."].servers == ("b",)


def test_wrong_glue_is_what_the_parent_says_only(resolved: Callable[..., ResolvedLab]) -> None:
    lab = resolved(LAB.format(zones="example.com.: {nameservers: b, glue: {ns: 192.0.2.99}}"))
    assert "ns.example.com. A 192.0.2.99" in lines(lab, "com.")
    assert "ns.example.com. A 192.0.2.2" in lines(lab, "example.com.")


def test_mail_and_text_records(resolved: Callable[..., ResolvedLab]) -> None:
    lab = resolved(
        LAB.format(zones="x.com.: {nameservers: a, records: {'@': {mx: mail}, s: {mx: {m.org.: 20, '.': 0}, txt: t}}}")
    )
    assert lines(lab, "x.com.")[:4] == [
        "x.com. MX 10 mail.x.com.", "s.x.com. MX 20 m.org.", "s.x.com. MX 0 .", 's.x.com. TXT "t"',
    ]  # fmt: skip
    long = resolved(LAB.format(zones="x.com.: {nameservers: a, records: {t: {txt: " + "é" * 200 + "}}}"))
    text = long.zones["x.com."].records[0].data
    assert [len(part) for part in text.replace('"', "").split()] == [4 * 255, 4 * 145]


def test_signed_zones(resolved: Callable[..., ResolvedLab]) -> None:
    text = LAB.format(zones="x.com.: {nameservers: a, dnssec: true, expired: true, records: {w: a}, forged: {w: b}}")
    text = text.replace("{nameservers: {", "{dnssec: true, nameservers: {")
    zone = resolved(text).zones["x.com."]
    assert zone.dnssec and zone.expired and zone.negative_ttl == 300
    assert [(record.name, record.type, record.data) for record in zone.forged] == [("w.x.com.", "A", "192.0.2.2")]


def test_thirteen_names_on_two_nodes(resolved: Callable[..., ResolvedLab]) -> None:
    names = ", ".join(f"{letter}.root-servers.net.: {'ab'[index % 2]}" for index, letter in enumerate("abcdefghijklm"))
    lab = resolved(LAB.format(zones="net.: {nameservers: a}").replace("{a.root.net.: a}", f"{{{names}}}"))
    assert lab.zones["."].servers == ("a", "b") and len(lab.root_hints) == 26
    told = lines(lab, ".")
    assert "b.root-servers.net. A 192.0.2.2" in told and "m.root-servers.net. A 192.0.2.1" in told
    assert "m.root-servers.net. A 192.0.2.1" in lines(lab, "net.")


@pytest.mark.parametrize(
    ("zones", "said"),
    [
        ("x.com.: {nameservers: a, dnssec: true}", "x.com. is signed and its parent com. is not"),
        ("x.com.: {nameservers: a, expired: true}", "'expired' is about signatures, and x.com. has none"),
        (
            "x.com.: {nameservers: a, records: {w: a}, forged: {w: b}}",
            "'forged' is about signatures, and x.com. has none",
        ),
        ("x.com.: {nameservers: a, records: {w: {mx: 'a b'}}}", "'a b' is not a name"),
        ("x.com.: {nameservers: a, records: {w: {cname: y, mx: m}}}", "w.x.com. is an alias"),
        ("example.org.: {nameservers: a}", "missing delegation: example.org. has no parent zone org."),
        ("a.b.example.com.: {nameservers: a}", None),
        ("x.com.: {nameservers: {ns.y.com.: a}}\n  y.com.: {nameservers: {ns.x.com.: a}}", "circular delegation"),
        ("x.com.: {nameservers: {ns.y.com.: a, ns: b}}\n  y.com.: {nameservers: {ns.x.com.: a}}", None),
        ("x.com.: {nameservers: {ns.y.x.com.: a}}", None),
        ("COM.: {nameservers: a}", "zone com. given twice"),
        ("'*.com.': {nameservers: a}", "'*.com.' is not a zone's name"),
        ("x.com.: {nameservers: a, records: {w: {cname: 'a b'}}}", "'a b' is not a name"),
        ("x.com.: {nameservers: a, records: {ns: {cname: w}}}", "ns.x.com. is an alias, so it can have nothing else"),
        ("x.com.: {nameservers: a, records: {'@': {cname: w}}}", "x.com. is an alias"),
        ("x.com.: {nameservers: a, glue: {other: a}}", "other.x.com. is no name server of x.com."),
        ("x.com.: {nameservers: c}", "no node 'c'"),
    ],
)
def test_what_is_wrong_with_zones(problems: Callable[..., tuple[Problem, ...]], zones: str, said: str | None) -> None:
    found = problems(LAB.format(zones=zones))
    if said is None:
        assert found == ()
    else:
        assert found and all(said.split(":", maxsplit=1)[0] in problem.message for problem in found)


def test_names() -> None:
    assert absolute("www", "com.") == "www.com." and absolute("WWW", ".") == "www."
    assert absolute("@", "com.") == "com." and absolute("a.org.", "com.") == "a.org."
    assert is_below("a.com.", "com.") and is_below("com.", ".") and not is_below("acom.", "com.")
    zones = {".": 1, "com.": 1, "b.com.": 1}
    assert enclosing_zone("a.b.com.", zones) == "b.com." and enclosing_zone("b.com.", zones) == "b.com."
    assert parent_zone("b.com.", zones) == "com." and parent_zone("org.", zones) == "."
    assert parent_zone(".", zones) is None and parent_zone("org.", {}) is None


def test_every_zone_has_a_file_of_its_own() -> None:
    assert len({file_name(zone) for zone in (".", "root.", "com.", "root.com.", "zone.")}) == 5
