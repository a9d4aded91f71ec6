"""Frames taken apart: fields of link, network and transport headers, and their checksums."""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scapy.layers.inet import IP, TCP, UDP
from scapy.layers.inet6 import IPv6
from scapy.layers.l2 import ARP, Ether
from scapy.packet import Packet as Layer

from emulator.capture.discovery import option_fields
from emulator.capture.frame import Frame
from emulator.capture.stp import stp_fields

Decoded = Callable[..., Frame]
Expect = Callable[..., None]

A, B = "02:57:4c:00:01:00", "02:57:4c:00:02:00"
ETH = Ether(src=A, dst=B)
IP4 = ETH / IP(src="10.0.0.1", dst="10.0.0.2")
IP6 = ETH / IPv6(src="2001:db8::1", dst="2001:db8::2")


def test_ethernet_and_vlan(expect: Expect) -> None:
    expect("echo", "eth ip icmp data", eth__src=A, eth__dst=B, eth__addr=(B, A), eth__type=0x0800, vlan__id=None)
    expect("double tag", "eth vlan vlan ip icmp", eth__type=0x8100, vlan__id=(10, 20), ip__src="10.0.0.1")
    expect("unknown", "eth data", eth__type=0x88B5)


def test_arp(expect: Expect) -> None:
    expect(
        "arp request",
        "eth arp",
        arp__opcode=1,
        arp__src__hw_mac=A,
        arp__src__proto_ipv4="10.0.0.1",
        arp__dst__hw_mac="00:00:00:00:00:00",
        arp__dst__proto_ipv4="10.0.0.2",
        arp__isgratuitous=None,
        arp__isprobe=None,
    )
    expect("tagged arp", "eth vlan arp", arp__opcode=2, vlan__id=10, vlan__priority=3)


@pytest.mark.parametrize(
    ("operation", "sender", "target", "gratuitous", "probe", "announcement"),
    [
        (1, "10.0.0.1", "10.0.0.1", True, None, True),
        (2, "10.0.0.1", "10.0.0.1", True, None, None),
        (1, "0.0.0.0", "10.0.0.1", None, True, None),
        (2, "0.0.0.0", "10.0.0.1", None, None, None),
        (1, "10.0.0.1", "10.0.0.2", None, None, None),
        (1, "10.0.0.1", "0.0.0.0", None, None, None),
    ],
)
def test_arp_about_oneself(
    frame: Decoded,
    operation: int,
    sender: str,
    target: str,
    gratuitous: bool | None,
    probe: bool | None,
    announcement: bool | None,
) -> None:
    found = frame(bytes(ETH / ARP(op=operation, hwsrc=A, psrc=sender, pdst=target)))
    names = ("arp.isgratuitous", "arp.isprobe", "arp.isannouncement")
    assert [found.get(name) for name in names] == [gratuitous, probe, announcement]


def test_a_probe_knows_no_mac_of_the_target(frame: Decoded) -> None:
    """RFC 5227, sections 2.1.1 and 2.3, and as Wireshark has it."""
    for sender in ("0.0.0.0", "10.0.0.1"):
        found = frame(bytes(ETH / ARP(op=1, hwsrc=A, psrc=sender, hwdst=B, pdst="10.0.0.1")))
        assert found.get("arp.isprobe") is None
        assert found.get("arp.isannouncement") is None


def test_a_bpdu(expect: Expect, samples: Any) -> None:
    expect(
        "spanning tree",
        "eth llc stp",
        eth__len=46,
        eth__type=None,
        llc__dsap=0x42,
        llc__ssap=0x42,
        llc__control=3,
        stp__protocol=0,
        stp__version=0,
        stp__type=0,
        stp__flags=0x81,
        stp__flags__tc=True,
        stp__flags__tcack=True,
        stp__flags__agreement=None,
        stp__root__prio=0x1000,
        stp__root__ext=0,
        stp__root__hw="02:57:4c:00:09:00",
        stp__root__cost=4,
        stp__bridge__prio=0x8000,
        stp__bridge__ext=0x64,
        stp__bridge__hw=A,
        stp__port=0x8002,
        stp__msg_age=1.5,
        stp__max_age=20.0,
        stp__hello=2.0,
        stp__forward=15.0,
    )
    expect(
        "rapid tree",
        "eth llc stp",
        stp__version=2,
        stp__type=2,
        stp__flags__agreement=False,
        stp__flags__forwarding=True,
        stp__flags__learning=True,
        stp__flags__port_role=3,
        stp__flags__proposal=True,
        stp__flags__tc=False,
    )
    configuration, change, _ = [found for found in samples.real() if "stp" in found.layers]
    expect(configuration, "eth llc stp", stp__root__prio=4096, stp__root__cost=2, stp__flags__tc=False, stp__hello=1.0)
    assert 0 < configuration.fields["stp.msg_age"][0] < 1
    expect(change, "eth llc stp", stp__type=0x80, stp__flags=None, stp__root__hw=None)


def test_what_is_no_bpdu(expect: Expect, frame: Decoded, samples: Any) -> None:
    expect("snap", "eth llc data", llc__dsap=0xAA, stp__type=None)
    expect("not spanning tree", "eth llc data", llc__dsap=0x42, stp__type=None)
    expect("numbered", "eth llc data", llc__dsap=0x42, llc__control=None, stp__type=None)
    octets = samples.SAMPLES["spanning tree"]
    short = octets[:12] + struct.pack("!H", 3 + 34) + octets[14:]
    expect(frame(short), "eth llc stp malformed", stp__type=0, stp__flags=None)
    tiny = octets[:12] + struct.pack("!H", 3 + 3) + octets[14:]
    expect(frame(tiny), "eth llc stp malformed", stp__type=None)
    expect(frame(octets[:40]), "eth llc stp malformed", stp__type=0)
    expect(frame(octets[:16]), "eth llc malformed", llc__dsap=None)
    later = octets[:19] + b"\3" + octets[20:]
    expect(frame(later), "eth llc stp", stp__version=3, stp__type=0, stp__root__hw=None)


@given(st.binary(max_size=60))
def test_any_bpdu(octets: bytes) -> None:
    fields, whole = stp_fields(octets)
    assert whole or len(octets) < 35
    assert all(len(values) == 1 for values in fields.values())


def test_ip(expect: Expect) -> None:
    expect(
        "echo",
        "eth ip icmp data",
        ip__version=4,
        ip__hdr_len=20,
        ip__len=31,
        ip__id=77,
        ip__ttl=63,
        ip__proto=1,
        ip__src="10.0.0.1",
        ip__dst="10.0.0.2",
        ip__addr=("10.0.0.1", "10.0.0.2"),
        ip__flags__df=False,
        ip__flags__mf=False,
        ip__frag_offset=0,
        ip__checksum__status=1,
    )
    expect("ip options", "eth ip data", ip__hdr_len=24, ip__checksum__status=1)


def test_a_later_fragment_has_no_transport_header(expect: Expect) -> None:
    expect("fragment", "eth ip data", ip__frag_offset=185, ip__proto=17, udp__srcport=None)
    expect("fragment 6", "eth ipv6 data", ipv6__nxt=44, ipv6__fraghdr__offset=8, udp__srcport=None)


def test_a_first_fragment_has_one_that_cannot_be_verified(frame: Decoded) -> None:
    whole = bytes(IP(src="10.0.0.1", dst="10.0.0.2") / UDP(sport=1000, dport=2000) / bytes(100))
    found = frame(bytes(ETH / IP(src="10.0.0.1", dst="10.0.0.2", proto=17, flags="MF") / whole[20:60]))
    assert found.get("udp.srcport") == 1000
    assert found.get("udp.length") == 108
    assert found.get("udp.checksum.status") == 2
    assert "malformed" not in found.layers


def test_icmp(expect: Expect) -> None:
    expect("echo", "eth ip icmp data", icmp__type=8, icmp__code=0, icmp__ident=5, icmp__seq=6, icmp__checksum__status=1)
    expect("redirect", "eth ip icmp", icmp__type=5, icmp__redir_gw="10.0.0.254")
    expect("too big", "eth ip icmp", icmp__mtu=1400, tcp__dstport=None, wirelab__icmp__tcp__dstport=80)


def test_a_quoted_packet_has_names_of_its_own(expect: Expect) -> None:
    expect(
        "expired",
        "eth ip icmp",
        icmp__type=11,
        ip__src="10.0.0.1",
        udp__dstport=None,
        wirelab__icmp__ip__src="10.0.0.2",
        wirelab__icmp__ip__dst="192.0.2.1",
        wirelab__icmp__ip__id=9,
        wirelab__icmp__udp__srcport=33000,
        wirelab__icmp__udp__dstport=33434,
    )
    expect("refused 6", "eth ipv6 icmpv6", wirelab__icmpv6__ipv6__dst="2001:db8::3", wirelab__icmpv6__udp__dstport=53)


def test_ipv6_and_neighbour_discovery(expect: Expect) -> None:
    expect(
        "echo 6",
        "eth ipv6 icmpv6",
        ipv6__src="2001:db8::1",
        ipv6__dst="2001:db8::2",
        ipv6__addr=("2001:db8::1", "2001:db8::2"),
        ipv6__hlim=63,
        ipv6__nxt=58,
        ipv6__plen=11,
        icmpv6__type=128,
        icmpv6__echo__identifier=5,
        icmpv6__checksum__status=1,
    )
    expect("solicitation", "eth ipv6 icmpv6", icmpv6__nd__ns__target_address="2001:db8::2", icmpv6__checksum__status=1)
    expect(
        "advertisement", "eth ipv6 icmpv6", icmpv6__nd__na__target_address="2001:db8::2", icmpv6__nd__na__flag__s=True
    )
    expect(
        "router",
        "eth ipv6 icmpv6",
        icmpv6__type=134,
        icmpv6__nd__ra__cur_hop_limit=64,
        icmpv6__nd__ra__flag__m=False,
        icmpv6__nd__ra__flag__o=True,
        icmpv6__nd__ra__router_lifetime=1800,
        icmpv6__nd__ra__reachable_time=30000,
        icmpv6__nd__ra__retrans_timer=1000,
        icmpv6__opt__type=(3, 3, 5, 1, 25, 31, 24),
        icmpv6__opt__prefix=("2001:db8:1::", "2001:db8:2::", "2001:db8:3::"),
        icmpv6__opt__prefix__length=(64, 64, 48),
        icmpv6__opt__prefix__flag__l=(True, False),
        icmpv6__opt__prefix__flag__a=(True, False),
        icmpv6__opt__prefix__valid_lifetime=(600, 9),
        icmpv6__opt__prefix__preferred_lifetime=(300, 8),
        icmpv6__opt__mtu=1480,
        icmpv6__opt__linkaddr=A,
        icmpv6__opt__src_linkaddr=A,
        icmpv6__opt__target_linkaddr=None,
        icmpv6__opt__rdnss=("2001:db8::53", "2001:db8::54"),
        icmpv6__opt__rdnss__lifetime=1200,
        icmpv6__opt__dnssl=("home.arpa", "example.com"),
        icmpv6__opt__dnssl__lifetime=60,
        icmpv6__opt__route_lifetime=70,
    )
    expect("solicitation", "eth ipv6 icmpv6", icmpv6__opt__type=1, icmpv6__opt__linkaddr=A, icmpv6__opt__src_linkaddr=A)
    expect(
        "duplicate address",
        "eth ipv6 icmpv6",
        icmpv6__nd__ns__target_address="2001:db8::2",
        icmpv6__opt__nonce=b"nonce!",
        icmpv6__opt__linkaddr=None,
    )
    expect("too big 6", "eth ipv6 icmpv6", icmpv6__type=2, icmpv6__mtu=1280, icmpv6__opt__type=None)
    expect("redirect 6", "eth ipv6 icmpv6", icmpv6__opt__type=(2, 4), icmpv6__opt__target_linkaddr=B)
    expect("listener", "eth ipv6 icmpv6", icmpv6__type=143, icmpv6__checksum__status=1)


def test_real_neighbour_discovery(expect: Expect, samples: Any) -> None:
    by_type = {found.number_of("icmpv6.type"): found for found in samples.real() if "icmpv6" in found.layers}
    assert {128, 133, 134, 135, 136, 143} <= by_type.keys()
    expect(
        by_type[134],
        "eth ipv6 icmpv6",
        icmpv6__nd__ra__router_lifetime=1800,
        icmpv6__nd__ra__flag__m=False,
        icmpv6__opt__prefix="fd00:1::",
        icmpv6__opt__prefix__length=64,
        icmpv6__opt__prefix__flag__a=True,
        icmpv6__opt__prefix__valid_lifetime=1800,
        icmpv6__opt__mtu=1500,
        icmpv6__opt__rdnss="fd00:1::1",
        icmpv6__opt__dnssl="home.arpa",
        icmpv6__checksum__status=1,
    )
    expect(by_type[136], "eth ipv6 icmpv6", icmpv6__opt__target_linkaddr=B, icmpv6__nd__na__flag__s=True)


@pytest.mark.parametrize(
    "options",
    [b"\1\0", b"\1\0" + bytes(6), b"\3\4" + bytes(20), b"\1\1" + bytes(6) + b"\5", b"\x19\xff"],
    ids=["no length", "length 0", "cut", "one octet more", "long"],
)
def test_wrong_options_are_malformed(frame: Decoded, options: bytes) -> None:
    packet = ETH / IPv6(src="fe80::1", dst="ff02::1", hlim=255, nh=58) / (b"\x86\0\0\0" + bytes(12) + options)
    found = frame(bytes(packet))
    assert found.layers == ("eth", "ipv6", "icmpv6", "malformed")
    assert found.get("icmpv6.nd.ra.router_lifetime") == 0
    assert "icmpv6.opt.prefix" not in found.fields


@pytest.mark.parametrize(
    "option",
    [b"\3\1", b"\1\2", b"\5\2", b"\x19\1", b"\x19\2", b"\x1f\1", b"\x18\4", b"\xfe\1"],
)
def test_an_option_of_another_length_has_only_its_type(option: bytes) -> None:
    assert option_fields(option + bytes(option[1] * 8 - 2)) == ({"icmpv6.opt.type": [option[0]]}, True)


@given(st.binary(max_size=80))
def test_any_options(octets: bytes) -> None:
    fields, _whole = option_fields(octets)
    assert len(fields.get("icmpv6.opt.type", [])) <= len(octets) // 8


def test_names_of_a_search_list() -> None:
    def names(octets: bytes) -> list[object]:
        padded = octets + bytes(-len(octets) % 8)
        fields, _whole = option_fields(bytes([31, 1 + len(padded) // 8]) + bytes(6) + padded)
        return list(fields["icmpv6.opt.dnssl"])

    assert names(b"\4home\4arpa\0\1a\0") == ["home.arpa", "a"]
    assert names(b"\1a\0\x3fshort") == ["a"]
    assert names(b"\xc0\1a\0") == []


def test_tcp(expect: Expect, samples: Any) -> None:
    expect(
        "syn",
        "eth ip tcp",
        tcp__srcport=40000,
        tcp__dstport=80,
        tcp__port=(40000, 80),
        tcp__seq_raw=1,
        tcp__ack_raw=0,
        tcp__flags=2,
        tcp__flags__syn=True,
        tcp__flags__ack=False,
        tcp__window_size_value=8192,
        tcp__len=0,
        tcp__payload=None,
        tcp__options__mss_val=1460,
        tcp__options__wscale__shift=7,
        tcp__options__sack_perm=True,
        tcp__options__timestamp__tsval=1,
        tcp__options__timestamp__tsecr=0,
        tcp__options__sack__count=None,
        tcp__checksum__status=1,
    )
    expect(
        "request",
        "eth ip tcp http",
        tcp__seq_raw=2**32 - 1,
        tcp__ack_raw=7,
        tcp__len=68,
        tcp__payload=samples.REQUEST,
    )


def test_selective_acknowledgment(expect: Expect, frame: Decoded) -> None:
    expect("sack", "eth ip tcp", tcp__options__sack__count=1, tcp__options__sack_perm=None)
    two = IP4 / TCP(flags="A", options=[("SAck", (5, 9, 20, 30))])
    assert frame(bytes(two)).get("tcp.options.sack.count") == 2


def test_options_of_another_length_have_no_value(frame: Decoded) -> None:
    header = bytearray(bytes(IP4 / TCP(flags="S")))
    header[46] = 0x70
    for options in (b"\x04\x03\0\0\0\0\0\0", b"\x08\x04\0\0\0\0\0\0", b"\x05\x06\0\0\0\1\0\0"):
        octets = bytearray(header + options)
        octets[16:18] = struct.pack("!H", len(octets) - 14)
        found = frame(bytes(octets))
        assert "tcp" in found.layers
        assert not [name for name in found.fields if name.startswith("tcp.options")]


def test_padding_is_no_payload(expect: Expect) -> None:
    expect("bare ack", "eth ip tcp", frame__len=60, tcp__len=0, tcp__payload=None)


def test_udp(expect: Expect) -> None:
    expect(
        "udp",
        "eth ip udp data",
        udp__srcport=1000,
        udp__dstport=2000,
        udp__port=(1000, 2000),
        udp__length=13,
        udp__payload=b"data!",
        udp__checksum__status=1,
    )
    expect("udp 6", "eth ipv6 udp data", udp__checksum__status=1)


@pytest.mark.parametrize(
    ("name", "field", "place"),
    [
        ("echo", "ip.checksum.status", 22),
        ("echo", "icmp.checksum.status", 42),
        ("request", "tcp.checksum.status", 60),
        ("udp", "udp.checksum.status", 42),
        ("udp 6", "udp.checksum.status", 63),
        ("echo 6", "icmpv6.checksum.status", 63),
        ("udp", "udp.checksum.status", 26),
    ],
)
def test_one_wrong_bit_makes_a_checksum_bad(frame: Decoded, samples: Any, name: str, field: str, place: int) -> None:
    octets = bytearray(samples.SAMPLES[name])
    assert frame(bytes(octets)).get(field) == 1
    octets[place] ^= 0x10
    found = frame(bytes(octets))
    assert found.get(field) == 0
    assert found.reencoded is True


def test_udp_without_a_checksum_is_unverified_and_over_ipv6_bad(frame: Decoded) -> None:
    assert frame(bytes(IP4 / UDP(chksum=0) / b"x")).get("udp.checksum.status") == 2
    assert frame(bytes(IP6 / UDP(chksum=0) / b"x")).get("udp.checksum.status") == 0


@pytest.mark.parametrize("transport", [TCP(dport=80, flags="PA"), UDP(sport=1000, dport=2000)], ids=["tcp", "udp"])
@pytest.mark.parametrize("network", [IP(src="127.0.0.1", dst="127.0.0.1"), IPv6(src="::1", dst="::1")], ids="46")
def test_on_loopback_a_checksum_that_the_kernel_left_unfinished_is_unverified(
    frame: Decoded, network: Layer, transport: Layer
) -> None:
    name, protocol = ("tcp", 6) if isinstance(transport, TCP) else ("udp", 17)
    size = (20 if name == "tcp" else 8) + 4
    ends = (b"\x7f\0\0\1" * 2) if isinstance(network, IP) else (bytes(15) + b"\1") * 2
    unfinished = sum(ends[place] << 8 | ends[place + 1] for place in range(0, len(ends), 2)) + protocol + size
    unfinished = (unfinished & 0xFFFF) + (unfinished >> 16)

    def status(link: Layer, checksum: int | None) -> object:
        upper = transport.copy()
        upper.chksum = checksum
        return frame(bytes(link / network / upper / b"data")).get(f"{name}.checksum.status")

    nobody = Ether(src="00:00:00:00:00:00", dst="00:00:00:00:00:00")
    assert status(nobody, None) == 1
    assert status(nobody, unfinished) == 2
    assert status(nobody, unfinished ^ 1) == 0
    assert status(ETH, unfinished) == 0
