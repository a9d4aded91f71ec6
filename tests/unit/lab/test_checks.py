"""Checks of a lab file that name steps and hold patterns."""

from __future__ import annotations

import pytest

from emulator.errors import LabFileError, render
from emulator.lab.document import parse
from emulator.lab.load import build
from emulator.lab.resolve import resolve
from emulator.lab.resolved import ResolvedLab

LAB = """name: l
nodes: {{a: {{interfaces: {{eth0: 10.0.0.1/24}}}}, b: {{interfaces: {{eth0: 10.0.0.2/24}}}}}}
links: [["a", "b"]]
scenes: [{{name: s, steps: [{{on: a, run: "true", id: go}}, {{unplug: "a:eth0", id: pull}}]}}]
checks:
  - {{name: c, layer: network, {check}}}
"""


def lab(check: str) -> ResolvedLab:
    """A lab of two hosts with one check."""
    return resolve(build(parse(LAB.format(check=check).encode(), "lab.yml")))


def test_the_forms_of_the_checks_are_taken() -> None:
    for check in (
        "check: seen, filter: icmp, at: a, at-least: 2, at-most: 9",
        'check: output, step: go, on: a, status: nonzero, matches: "x{2}", lacks: [y, z]',
        'check: path, filter: icmp, through: ["a:eth0", b], unchanged: true',
        'check: end-to-end, from: "a:eth0", to: "b:eth0", filter: icmp',
        'check: encapsulation, filter: http, at: "a:eth0", layers: [eth, ip, tcp, http]',
        'check: bit-stream, filter: icmp, at: "a:eth0"',
        'check: subnet-arithmetic, at: "a:eth0", network: 10.0.0.0/24, broadcast: 10.0.0.255, hosts: 254',
        'check: tcp-stream, at: "a:eth0", filter: tcp, octets: 1000000, from: client',
        'check: retransmission, from: "a:eth0", to: "b:eth0", filter: tcp',
        'check: lost, from: "a:eth0", to: "b:eth0", filter: udp',
        'check: address-conflict, at: [a, "b:eth0"], address: 10.0.0.9',
    ):
        assert len(lab(check).checks) == 1


def test_an_address_in_a_pattern_is_matched_letter_by_letter() -> None:
    (check,) = lab('check: output, step: go, matches: "^from {b.ip} port {run.port}$"').checks
    assert getattr(check, "matches", None) == (r"^from 10\.0\.0\.2 port {run.port}$",)


@pytest.mark.parametrize(
    ("check", "words"),
    [
        ('check: output, step: go, matches: "("', "lab.yml:6:65: 'matches': not a regular expression: missing )"),
        ('check: output, step: go, lacks: [a, "["]', "'lacks': not a regular expression: unterminated character set"),
        ('check: output, step: go, matches: ".*"', "'matches': this regular expression matches any text"),
        ('check: output, step: go, matches: "{c.ip}"', "nothing is called {c.ip}"),
        ("check: output, step: go", "say at least one of `status`, `matches` and `lacks`"),
        ("check: output, step: gone, status: 0", "no step with the id 'gone' (did you mean 'go'?)"),
        ("check: output, step: go, on: c, status: 0", "no node 'c'"),
        ("check: output, step: go, on: b, status: 0", "step 'go' does not run on b (it runs on a)"),
        ("check: output, step: pull, on: a, status: 0", "step 'pull' does not run on a (it runs no command)"),
        ("check: output, step: go, status: 300", "expected an exit status from 0 to 255"),
        ("check: path, filter: icmp, through: a", "expected at least 2 items, not 1"),
        ('check: encapsulation, filter: ip, at: "a:eth0", layers: [eth, ipv4]', "not 'ipv4'"),
        ('check: subnet-arithmetic, at: "a:eth0", network: 10.0.0.1/24, broadcast: 10.0.0.255, hosts: 254',
         "expected an IPv4 network such as 192.168.1.0/24, not '10.0.0.1/24'"),
        ('check: tcp-stream, at: "a:eth0", filter: tcp, octets: 0, from: client', "expected at least 1, not 0"),
        ('check: tcp-stream, at: "a:eth0", filter: tcp, octets: 1, from: a', "'from': expected 'client' or 'server'"),
        ("check: seen, filter: icmp, at: a, count: 1, at-most: 2", "`at-least` and `at-most` do not go with it"),
        ("check: address-conflict, at: a, address: c", "'c' is neither an address nor a node"),
        ('check: address-conflict, at: a, address: "fd00::1"', "'address': expected an IPv4 address, a node"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_told_at_its_place(check: str, words: str) -> None:
    with pytest.raises(LabFileError) as caught:
        lab(check)
    said = render(caught.value)
    assert "lab.yml:6:" in said
    assert words in said
