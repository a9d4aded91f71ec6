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


def renewal(
    wire: Any, build: Any, *, xid: int = 0x77, ack: int | None = 5, changes: Any = None, reply: Any = None
) -> None:
    """pc1 asks home to extend its lease, and home answers with a message of type `ack`."""
    mac, home = wire.mac("pc1:eth0"), wire.mac("home:lan")
    base = {"dhcp.id": xid, "dhcp.hw.mac_addr": mac, "dhcp.ip.client": "192.168.1.100"}
    fields = base | {"dhcp.option.dhcp": 3} | (changes or {})
    ask = build.Packet(
        "udp", str(fields.pop("ip.src", "192.168.1.100")), str(fields.pop("ip.dst", "192.168.1.1")), 68, 67, id=xid,
        layers=("dhcp",), payload=b"renew", eth_src=mac, eth_dst=str(fields.pop("eth.dst", home)),
        fields={name: (value,) for name, value in fields.items() if value is not None},
    )  # fmt: skip
    wire.see_packet("pc1:eth0", "out", ask)
    wire.see_packet("home:lan", "in", ask)
    if ack is not None:
        answer = base | OPTIONS | {"dhcp.option.dhcp": ack} | (reply or {})
        back = build.Packet(
            "udp", "192.168.1.1", "192.168.1.100", 67, 68, id=xid, layers=("dhcp",), payload=bytes([ack]),
            fields={name: (value,) for name, value in answer.items()},
        )  # fmt: skip
        wire.see_packet("home:lan", "out", back)
        wire.see_packet("pc1:eth0", "in", back)


def test_renewal(leased: Any, build: Any) -> None:
    leased.now_ns += 30_000_000_000
    renewal(leased, build)
    result = leased.verdict("dhcp-renewal", **ENDS, after=30)
    assert result.verdict == "pass", result.reason
    assert "Request with ciaddr 192.168.1.100 to home:lan alone (frame 9), 30.0 s after the Ack before" in result.reason
    assert "the same transaction id 0x00000077 (frame 12)" in result.reason
    assert leased.verdict("dhcp-renewal", **ENDS).verdict == "pass"


def test_every_renewal_counts(leased: Any, build: Any) -> None:
    for xid in (1, 2):
        leased.now_ns += 4_000_000_000
        renewal(leased, build, xid=xid)
    result = leased.verdict("dhcp-renewal", **ENDS, after="4s")
    assert result.verdict == "pass"
    assert "2 renewals in all" in result.reason
    renewal(leased, build, xid=3, ack=None)
    assert leased.verdict("dhcp-renewal", **ENDS).verdict == "fail"


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"changes": {"eth.dst": "ff:ff:ff:ff:ff:ff", "ip.dst": "255.255.255.255"}}, "rebinding"),
        ({"changes": {"ip.dst": "192.168.1.9"}}, "goes to 192.168.1.9"),
        ({"changes": {"eth.dst": "02:00:00:00:00:99"}}, "02:00:00:00:00:99"),
        ({"changes": {"ip.src": "192.168.1.7"}}, "expected the renewal to come from the address that it is about"),
        ({"changes": {"dhcp.option.dhcp_server_id": "192.168.1.1"}}, "without a server identifier option"),
        ({"changes": {"dhcp.option.requested_ip_address": "192.168.1.100"}}, "without a requested address option"),
        ({"changes": {"dhcp.ip.client": "0.0.0.0"}}, "saw Discover (frame 1)"),
        ({"ack": None}, "transaction id 0x00000077 to the renewal in frame 9 at pc1:eth0; none came"),
        ({"ack": 6}, "is a Nak"),
        ({"reply": {"dhcp.id": 9}}, "the Ack in frame 12 has another transaction id"),
        ({"reply": {"dhcp.option.dhcp_server_id": "192.168.1.66"}}, "from server 192.168.1.66"),
        ({"reply": {"dhcp.ip.your": "192.168.1.101"}}, "gives 192.168.1.101"),
    ],
)
def test_what_is_no_renewal_fails(leased: Any, build: Any, wrong: dict[str, Any], words: str) -> None:
    renewal(leased, build, **wrong)
    result = leased.verdict("dhcp-renewal", **ENDS)
    assert result.verdict == "fail"
    assert words in result.reason


@pytest.mark.parametrize(("after", "verdict"), [(28.4, "fail"), (28.6, "pass"), (34.9, "pass"), (35.1, "fail")])
def test_a_client_may_be_a_little_early_and_a_busy_one_late(
    leased: Any, build: Any, after: float, verdict: str
) -> None:
    leased.now_ns += round(after * 1_000_000_000)
    renewal(leased, build)
    assert leased.verdict("dhcp-renewal", **ENDS, after=30).verdict == verdict


@pytest.mark.parametrize("seconds", [20, 40])
def test_a_renewal_at_the_wrong_time_fails(leased: Any, build: Any, seconds: int) -> None:
    leased.now_ns += seconds * 1_000_000_000
    renewal(leased, build)
    result = leased.verdict("dhcp-renewal", **ENDS, after=30)
    assert result.verdict == "fail"
    assert f"30 seconds (T1) after the Ack in frame 8; frame 9 at pc1:eth0 came after {seconds}.0" in result.reason


def test_a_renewal_whose_lease_began_before_the_capture_has_no_known_age(wire: Any, build: Any) -> None:
    assert "saw no DHCP message of it" in wire.verdict("dhcp-renewal", **ENDS).reason
    renewal(wire, build)
    assert wire.verdict("dhcp-renewal", **ENDS).verdict == "pass"
    assert wire.verdict("dhcp-renewal", **ENDS, after=30).verdict == "unknown"


def test_a_renewal_unseen_at_the_server_fails(leased: Any, build: Any) -> None:
    renewal(leased, build)
    leased.frames = [f for f in leased.frames if f.interface != "home:lan"]
    assert "also at home:lan" in leased.verdict("dhcp-renewal", **ENDS).reason
    leased.dropped["pc1:eth0"] = 1
    leased.frames = leased.frames[:-1]
    assert leased.verdict("dhcp-renewal", **ENDS).verdict == "unknown"
