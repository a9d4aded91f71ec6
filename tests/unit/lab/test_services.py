"""Services, translation, templates and filters: what is filled in, and what is refused."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from emulator.errors import Problem
from emulator.lab.references import filter_problem
from emulator.lab.resolved import ResolvedLab

HOME = """
name: l
nodes:
  pc: {{interfaces: {{eth0: dhcp}}}}
  srv: {{interfaces: {{eth0: dhcp}}, services: {{http: {http}}}}}
  sw: {{kind: switch}}
  home:
    kind: router
    interfaces: {{lan: 192.168.1.1/24, wan: 203.0.113.2/24}}
    nat: {{masquerade: wan, publish: {publish}}}
    services: {{dnsmasq: {{dhcp: [{{interface: lan, range: {range}, reservations: {reservations}}}]}}}}
  out: {{interfaces: {{eth0: 203.0.113.1/24}}, exec: ["true", {exec}]}}
links: [["pc:eth0", sw], ["srv:eth0", sw], ["home:lan", sw], ["home:wan", "out:eth0"]]
"""
DEFAULTS = {
    "http": "{}",
    "publish": "{port: 80, to: srv}",
    "range": "192.168.1.100-192.168.1.199",
    "reservations": "{srv: 192.168.1.10}",
    "exec": "echo",
}


def home(**changes: str) -> str:
    return HOME.format(**DEFAULTS | changes)


def test_the_home_is_right(problems: Callable[..., tuple[Problem, ...]]) -> None:
    assert problems(home()) == ()
    assert problems(home(reservations="{srv: 192.168.1.150}")) == ()


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"range": "192.168.1.0-192.168.1.0"}, "has an address that no host can have"),
        ({"range": "192.168.1.200-192.168.1.100"}, "is empty: its first address is above its last"),
        ({"range": "192.168.1.200-192.168.2.10"}, "is outside the network of home:lan"),
        ({"range": "192.168.1.1-192.168.1.9"}, "192.168.1.1 of home:lan lies in the range"),
        ({"reservations": "{srv: 192.168.2.10}"}, "the reservation 192.168.2.10 is outside the network"),
        ({"reservations": "{srv: 192.168.1.1}"}, "duplicate address 192.168.1.1: home:lan has it"),
        (
            {"reservations": "{srv: 192.168.1.9, pc: 192.168.1.9}"},
            "duplicate address 192.168.1.9: it is reserved for srv",
        ),
        ({"reservations": "{srv: 192.168.1.9, out: 192.168.1.8}"}, "out is not on the network of home:lan"),
        ({"reservations": "{}"}, "srv has no fixed address"),
        ({"publish": "{port: 80, to: srvv}"}, "no node 'srvv'"),
        ({"publish": "{port: 80, to: srv, on: wam}"}, "home has no interface 'wam'"),
        ({"http": "{pages: {/a/../b: x}}"}, "the page /a/../b has `.`, `..` or nothing between two slashes"),
        ({"http": "{pages: {/: x, /index.html: x}}"}, "the pages / and /index.html are one file"),
        ({"http": "{pages: {/a: x, /a/b: x}}"}, "the page /a is a file, so there can be no page /a/b below it"),
        ({"exec": "'ping {pc.ip}'"}, "{pc.ip}: the address of pc is given by DHCP and not known before"),
        ({"exec": "'ping {sw.ip}'"}, "{sw.ip}: sw has no address"),
        ({"exec": "'ping {home.lam.ip}'"}, "{home.lam.ip}: home has no interface lam"),
        ({"exec": "'ping {hom.ip}'"}, "nothing is called {hom.ip}"),
    ],
)
def test_what_is_refused(problems: Callable[..., tuple[Problem, ...]], changes: dict[str, str], said: str) -> None:
    (found,) = problems(home(**changes))
    assert said in found.message


def test_templates(resolved: Callable[..., ResolvedLab]) -> None:
    lab = resolved(home(exec="'{srv.ip} {home.ip} {home.wan.ip} {out.mac} {home.wan.mac} {gateway} {run.port} {x}'"))
    assert lab.nodes["out"].exec[1] == (
        "192.168.1.10", "192.168.1.1", "203.0.113.2", lab.interface("out:eth0").mac, lab.interface("home:wan").mac,
        "{gateway}", "{run.port}", "{x}",
    )  # fmt: skip


@pytest.mark.parametrize(
    ("text", "offset"),
    [
        ("icmp.typo", 0),
        ("ip && icmp.typo", 6),
        ("ip.dst == {web.ip} && icmp.typo", 22),
        ("tcp.port == {run.port} && ip.src == {web.ip} && x.y", 48),
        ("ip.dst == {web.ip} &&", 21),
    ],
)
def test_a_wrong_filter_is_shown_where_it_is_wrong(text: str, offset: int) -> None:
    wrong = filter_problem(text, {"web.ip": "192.0.2.80"}.get)
    assert wrong is not None and wrong.offset == offset


def test_a_right_filter() -> None:
    assert filter_problem("ip.dst == {web.ip} && tcp.port == {run.port}", {"web.ip": "192.0.2.80"}.get) is None
