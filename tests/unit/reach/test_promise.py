"""What a lab promises of its pairs of hosts, by its file alone."""

from __future__ import annotations

from collections.abc import Callable
from ipaddress import ip_address
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from emulator.lab.resolved import ResolvedLab
from emulator.reach.promise import Ways, promised_rows
from emulator.reach.scheme import Scheme
from emulator.reach.tester import scheme_of

Make = Callable[..., ResolvedLab]


def scheme(lab: ResolvedLab) -> Scheme:
    hosts = [node.name for node in lab.nodes.values() if node.kind == "host"]
    routers = [node.name for node in lab.nodes.values() if node.kind == "router"]
    survey = {name: {"links": {}, "addresses": []} for name in (*hosts, *routers)}
    return scheme_of(lab, [*hosts, *routers], len(hosts), survey, {}, None)


def rows(lab: ResolvedLab) -> list[str]:
    return [row.decode() for row in promised_rows(lab, scheme(lab), Ways(lab, {}))]


def home(**router: Any) -> dict[str, Any]:
    """pc behind a router, and a server outside."""
    return {
        "name": "home",
        "nodes": {
            "pc": {},
            "gate": {"kind": "router", **router},
            "isp": {"kind": "router"},
            "server": {},
        },
        "links": [["pc", "gate:lan"], ["gate:wan", "isp:home"], ["isp:out", "server"]],
    }


def test_switch(resolved: Make) -> None:
    lab = resolved(
        {"name": "s", "nodes": {"a": {}, "b": {}, "sw": {"kind": "switch"}}, "links": [["a", "sw"], ["b", "sw"]]}
    )
    assert rows(lab) == ["-1", "1-"]


def test_two_islands(resolved: Make) -> None:
    nodes = {name: {} for name in "abcd"}
    lab = resolved({"name": "s", "nodes": nodes, "links": [["a", "b"], ["c", "d"]]})
    assert rows(lab) == ["-100", "1-00", "00-1", "001-"]


def test_routers(resolved: Make) -> None:
    assert rows(resolved(home())) == ["-1", "1-"]


def test_router_that_does_not_forward(resolved: Make) -> None:
    assert rows(resolved(home(sysctls={"net.ipv4.ip_forward": 0}))) == ["-0", "0-"]


def test_translation_is_one_way(resolved: Make) -> None:
    assert rows(resolved(home(nat={"masquerade": "wan"}))) == ["-1", "0-"]


def test_filter_is_one_way(resolved: Make) -> None:
    assert rows(resolved(home(firewall={"untrusted": "wan"}))) == ["-1", "0-"]
    assert rows(resolved(home(firewall={"untrusted": "lan"}))) == ["-0", "1-"]
    assert rows(resolved(home(firewall={"drop-private": True}))) == ["-0", "0-"]


def test_host_that_ignores_echo(resolved: Make) -> None:
    lab = home()
    lab["nodes"]["server"] = {"sysctls": {"net.ipv4.icmp_echo_ignore_all": 1}}
    assert rows(resolved(lab)) == ["-0", "1-"]


@given(st.data())
def test_kinds_of_hosts_change_nothing(
    networks: st.SearchStrategy[dict[str, Any]], resolved: Make, data: st.DataObject
) -> None:
    """The rows are the same as when the way of every single pair is walked."""
    lab = resolved(data.draw(networks))
    made = scheme(lab)
    ways = Ways(lab, {})
    found = promised_rows(lab, made, ways)
    for sender in range(made.hosts):
        for receiver in range(made.hosts):
            target = made.target(sender, receiver)
            if sender != receiver and target is not None:
                address = ip_address(bytes.fromhex(made.endpoints[target].address))
                one = ways.promised(made.stations[sender], made.stations[receiver], address)
                assert found[sender][receiver] == ord("1" if one else "0")


@pytest.mark.parametrize("name", ["nat", "subnet", "two-lans", "ipv6"])
def test_shipped_labs_have_a_promise_for_every_pair(name: str, labs_folder: Any) -> None:
    from emulator.sources import load_lab

    lab, *_ = load_lab(labs_folder / name)
    found = rows(lab)
    assert all(set(row) <= {"0", "1", "-"} for row in found)
    assert any("1" in row for row in found)
