"""The arithmetic of a subnet, with the addresses that the kernel has."""

from __future__ import annotations

import json
from typing import Any

import pytest

HALF = {
    "at": ["pc1:eth0", "pc2:eth0"],
    "network": "192.168.1.0/25",
    "broadcast": "192.168.1.127",
    "hosts": 126,
    "first": "192.168.1.1",
    "last": "192.168.1.126",
}


def held(wire: Any, place: str, address: str, *, broadcast: str | None, network: str | None) -> None:
    """Say what the kernel has at `place`."""
    node, _, name = place.partition(":")
    ip, _, prefix = address.partition("/")
    info = {"family": "inet", "local": ip, "prefixlen": int(prefix)} | ({"broadcast": broadcast} if broadcast else {})
    route = {"dst": network, "dev": name, "protocol": "kernel", "scope": "link", "prefsrc": ip}
    routes = [{"dst": "default", "gateway": "192.168.1.1", "dev": name}, *([route] if network else [])]
    wire.after[node] = {
        "address": json.dumps([{"ifname": "lo", "addr_info": []}, {"ifname": name, "addr_info": [info]}]),
        "route": json.dumps(routes),
    }


@pytest.fixture
def halved(wire: Any) -> Any:
    """pc1 and pc2 in the lower half of the network."""
    for place, address in (("pc1:eth0", "192.168.1.100/25"), ("pc2:eth0", "192.168.1.101/25")):
        held(wire, place, address, broadcast="192.168.1.127", network="192.168.1.0/25")
    return wire


def test_subnet_arithmetic(halved: Any) -> None:
    result = halved.verdict("subnet-arithmetic", **HALF)
    assert result.verdict == "pass"
    assert result.reason == (
        "192.168.1.100 (pc1:eth0) and 192.168.1.101 (pc2:eth0): & 255.255.255.128 = 192.168.1.0, | 0.0.0.127 = "
        "192.168.1.127, 2^7 − 2 = 126 hosts, 192.168.1.1 to 192.168.1.126; the kernel has the same broadcast address "
        "and a route to 192.168.1.0/25"
    )
    few = {name: value for name, value in HALF.items() if name not in ("first", "last")}
    assert halved.verdict("subnet-arithmetic", **{**few, "at": "pc2:eth0"}).verdict == "pass"


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"network": "192.168.1.0/24"}, "192.168.1.100 & 255.255.255.128 = 192.168.1.0/25, expected 192.168.1.0/24"),
        ({"broadcast": "192.168.1.255"}, "192.168.1.0 | 0.0.0.127 = 192.168.1.127, expected 192.168.1.255"),
        ({"hosts": 128}, "room for 2^7 − 2 = 126 hosts, expected 128"),
        ({"first": "192.168.1.2"}, "192.168.1.0 + 1 = 192.168.1.1, expected 192.168.1.2"),
        ({"last": "192.168.1.127"}, "192.168.1.127 − 1 = 192.168.1.126, expected 192.168.1.127"),
    ],
)
def test_a_lab_file_that_counts_otherwise_fails(halved: Any, changes: dict[str, Any], words: str) -> None:
    result = halved.verdict("subnet-arithmetic", **{**HALF, **changes})
    assert result.verdict == "fail"
    assert words in result.reason


@pytest.mark.parametrize(
    ("address", "broadcast", "network", "words"),
    [
        ("192.168.1.101/24", "192.168.1.255", "192.168.1.0/24", "pc2:eth0 has 192.168.1.101/24: its network is"),
        ("192.168.1.201/25", "192.168.1.255", "192.168.1.128/25", "= 192.168.1.128/25, expected 192.168.1.0/25"),
        ("192.168.1.101/25", "192.168.1.255", "192.168.1.0/25", "broadcast address 192.168.1.255, expected"),
        ("192.168.1.101/25", None, "192.168.1.0/25", "the kernel has the broadcast address none, expected"),
        ("192.168.1.101/25", "192.168.1.127", "192.168.0.0/16", "networks there: 192.168.0.0/16; expected"),
        ("192.168.1.101/25", "192.168.1.127", None, "networks there: none; expected 192.168.1.0/25"),
    ],
)
def test_a_kernel_that_has_it_otherwise_fails(
    halved: Any, address: str, broadcast: str | None, network: str | None, words: str
) -> None:
    held(halved, "pc2:eth0", address, broadcast=broadcast, network=network)
    result = halved.verdict("subnet-arithmetic", **HALF)
    assert result.verdict == "fail"
    assert words in result.reason


def test_no_address_fails_and_no_table_is_unknown(halved: Any) -> None:
    assert halved.verdict("subnet-arithmetic", **{**HALF, "at": "home:lan"}).verdict == "unknown"
    halved.after["pc1"]["address"] = json.dumps([{"ifname": "eth0", "addr_info": [{"family": "inet6"}]}])
    result = halved.verdict("subnet-arithmetic", **HALF)
    assert result.reason == "expected pc1:eth0 to have an IPv4 address in 192.168.1.0/25; the kernel has none there"
    del halved.after["pc2"]["route"]
    assert halved.verdict("subnet-arithmetic", **{**HALF, "at": ["pc2:eth0"]}).verdict == "unknown"
