"""The four messages, and the lease."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

ENDS = {"client": "pc1:eth0", "server": "home:lan"}
OPTIONS = {
    "dhcp.ip.your": "192.168.1.100",
    "dhcp.option.subnet_mask": "255.255.255.0",
    "dhcp.option.router": "192.168.1.1",
    "dhcp.option.domain_name_server": "192.168.1.1",
    "dhcp.option.ip_address_lease_time": 3600,
    "dhcp.option.domain_name": "home.arpa",
    "dhcp.option.dhcp_server_id": "192.168.1.1",
}


def message(wire: Any, build: Any, kind: int, *, client: str = "pc1:eth0", xid: int = 0x1234, **options: Any) -> None:
    """A DHCP message between a client and home."""
    from_client = kind in (1, 3)
    fields = {"dhcp.option.dhcp": kind, "dhcp.id": xid, "dhcp.hw.mac_addr": wire.mac(client)}
    if not from_client:
        fields |= OPTIONS | options
    src, dst = ("0.0.0.0", "255.255.255.255") if from_client else ("192.168.1.1", str(fields["dhcp.ip.your"]))
    packet = build.Packet(
        "udp", src, dst, *((68, 67) if from_client else (67, 68)), id=kind, layers=("dhcp",),
        eth_dst=build.BROADCAST if from_client else wire.mac(client), payload=bytes([kind]),
        fields={name: (value,) for name, value in fields.items()},
    )  # fmt: skip
    ways = [(client, "out"), ("home:lan", "in")] if from_client else [("home:lan", "out"), (client, "in")]
    for place, way in ways:
        wire.see_packet(place, way, packet)


@pytest.fixture
def leased(wire: Any, build: Any) -> Any:
    """pc1 got its address."""
    for kind in (1, 2, 3, 5):
        message(wire, build, kind)
    return wire


def test_exchange(leased: Any) -> None:
    result = leased.verdict("dhcp-exchange", **ENDS)
    assert result.verdict == "pass"
    assert "transaction id 0x00001234" in result.reason
    assert "gave 192.168.1.100" in result.reason


def test_an_exchange_with_two_ids_fails(wire: Any, build: Any) -> None:
    for kind, xid in ((1, 7), (2, 7), (3, 8), (5, 8)):
        message(wire, build, kind, xid=xid)
    result = wire.verdict("dhcp-exchange", **ENDS)
    assert result.verdict == "fail"
    assert "saw Discover (id 0x00000007)" in result.reason


def test_an_unanswered_discover_fails(wire: Any, build: Any) -> None:
    message(wire, build, 1)
    assert wire.verdict("dhcp-exchange", **ENDS).verdict == "fail"


def test_a_request_to_one_alone_fails(leased: Any) -> None:
    for index, frame in enumerate(leased.frames):
        if frame.number_of("dhcp.option.dhcp") == 3:
            leased.frames[index] = replace(frame, fields={**frame.fields, "eth.dst": (leased.mac("home:lan"),)})
    assert "expected Request to be broadcast" in leased.verdict("dhcp-exchange", **ENDS).reason


def test_another_server_fails(wire: Any, build: Any) -> None:
    for kind in (1, 2, 3, 5):
        message(wire, build, kind, **{"dhcp.option.dhcp_server_id": "192.168.1.66"})
    assert "names server 192.168.1.66" in wire.verdict("dhcp-exchange", **ENDS).reason


def test_messages_unseen_at_the_server_fail(leased: Any) -> None:
    leased.frames = [frame for frame in leased.frames if frame.interface != "home:lan"]
    assert "also at home:lan" in leased.verdict("dhcp-exchange", **ENDS).reason


def test_lease(leased: Any) -> None:
    result = leased.verdict("lease", **ENDS)
    assert result.verdict == "pass"
    assert "uses 192.168.1.100/24" in result.reason
    assert "3,600 seconds" in result.reason


@pytest.mark.parametrize(
    ("option", "value", "words"),
    [
        ("dhcp.ip.your", "192.168.1.5", "expected a free one of 192.168.1.100 to 192.168.1.199"),
        ("dhcp.option.subnet_mask", "255.255.0.0", "expected 255.255.255.0"),
        ("dhcp.option.router", "192.168.1.2", "gateway 192.168.1.2, expected 192.168.1.1"),
        ("dhcp.option.domain_name_server", "8.8.8.8", "DNS server 8.8.8.8"),
        ("dhcp.option.ip_address_lease_time", 60, "lease time 60, expected 3600"),
        ("dhcp.option.domain_name", "\x1b[31mevil", "\\x1b[31mevil, expected home.arpa"),
    ],
)
def test_a_lease_that_is_not_the_labs_fails(wire: Any, build: Any, option: str, value: Any, words: str) -> None:
    message(wire, build, 5, **{option: value})
    result = wire.verdict("lease", **ENDS)
    assert result.verdict == "fail"
    assert words in result.reason


def test_a_reserved_client_must_get_its_reservation(wire: Any, build: Any) -> None:
    message(wire, build, 5, client="server:eth0")
    ends = {"client": "server:eth0", "server": "home:lan"}
    assert "expected the reserved 192.168.1.10" in wire.verdict("lease", **ends).reason
    message(wire, build, 5, client="server:eth0", **{"dhcp.ip.your": "192.168.1.10"})
    assert wire.verdict("lease", **ends).verdict == "pass"


def test_a_client_that_does_not_use_its_lease_fails(leased: Any) -> None:
    leased.configure("pc1:eth0", "192.168.1.150")
    assert "it has 192.168.1.150/24" in leased.verdict("lease", **ENDS).reason
    leased.configure("pc1:eth0", "192.168.1.100", gateway=None)
    assert "it is missing" in leased.verdict("lease", **ENDS).reason


def test_no_acknowledgement_fails_and_no_table_is_unknown(wire: Any, build: Any) -> None:
    assert "a DHCP Ack for pc1:eth0" in wire.verdict("lease", **ENDS).reason
    message(wire, build, 5)
    del wire.after["pc1"]
    assert wire.verdict("lease", **ENDS).verdict == "unknown"
