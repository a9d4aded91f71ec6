"""Frames taken apart: names and values of fields, checksums, encoding again, and octets that make no sense.

The frames are put together by scapy, or by hand where scapy would put them right.
"""

from __future__ import annotations

import struct
import subprocess
import sys
from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scapy.layers.dhcp import BOOTP, DHCP
from scapy.layers.dns import DNS, DNSQR, DNSRR, DNSRRMX, DNSRROPT, DNSRRSOA, DNSRRSRV, dns_compress
from scapy.layers.inet import ICMP, IP, TCP, UDP, IPOption_Router_Alert
from scapy.layers.inet6 import (
    ICMPv6DestUnreach,
    ICMPv6EchoRequest,
    ICMPv6MLReport2,
    ICMPv6ND_NA,
    ICMPv6ND_NS,
    ICMPv6ND_RA,
    ICMPv6NDOptSrcLLAddr,
    IPv6,
    IPv6ExtHdrFragment,
    IPv6ExtHdrHopByHop,
)
from scapy.layers.l2 import ARP, Dot1Q, Ether
from scapy.packet import Packet as Layer

from emulator.capture.decode import decode
from emulator.capture.frame import Frame, Interface, Value
from emulator.capture.pcapng import Packet

A, B = "02:57:4c:00:01:00", "02:57:4c:00:02:00"
ETH = Ether(src=A, dst=B)
IP4 = ETH / IP(src="10.0.0.1", dst="10.0.0.2", id=77, ttl=63)
IP6 = ETH / IPv6(src="2001:db8::1", dst="2001:db8::2", hlim=63)
CLIENT = Ether(src=A, dst="ff:ff:ff:ff:ff:ff") / IP(src="0.0.0.0", dst="255.255.255.255") / UDP(sport=68, dport=67)
SERVER = ETH / IP(src="192.168.1.1", dst="192.168.1.100") / UDP(sport=67, dport=68)
ANSWER = DNS(
    id=0x1234,
    qr=1,
    aa=1,
    rd=1,
    ra=1,
    qd=[DNSQR(qname="www.example.com")],
    an=[
        DNSRR(rrname="www.example.com", type="CNAME", ttl=300, rdata="web.example.com"),
        DNSRR(rrname="web.example.com", type="A", ttl=60, rdata="192.0.2.80"),
        DNSRR(rrname="web.example.com", type="AAAA", ttl=60, rdata="2001:db8::80"),
    ],
    ns=[DNSRR(rrname="example.com", type="NS", ttl=3600, rdata="ns1.example.com")],
    ar=[DNSRR(rrname="ns1.example.com", type="A", ttl=3600, rdata="192.0.2.53"), DNSRROPT(rclass=1232)],
)
REQUEST = b"GET /a?b=1 HTTP/1.1\r\nHost: www.example.com\r\nUser-Agent: curl/8.0\r\n\r\n"
RESPONSE = b"HTTP/1.1 200 OK\r\nServer: s\r\ncontent-length: 5\r\n\r\nhello"
EXPIRED = IP4 / ICMP(type=11) / IP(src="10.0.0.2", dst="192.0.2.1", id=9, ttl=1) / UDP(sport=33000, dport=33434) / b"12"
REFUSED = IP6 / ICMPv6DestUnreach(code=4) / IPv6(src="2001:db8::2", dst="2001:db8::3") / UDP(sport=9, dport=53)


def built(layer: Layer) -> bytes:
    return bytes(layer)


SAMPLES: dict[str, bytes] = {
    "arp request": built(ETH / ARP(op=1, hwsrc=A, psrc="10.0.0.1", pdst="10.0.0.2") / bytes(18)),
    "tagged arp": built(ETH / Dot1Q(vlan=10, prio=3) / ARP(op=2, hwsrc=A, psrc="10.0.0.1", hwdst=B, pdst="10.0.0.2")),
    "double tag": built(
        ETH / Dot1Q(vlan=10, type=0x8100) / Dot1Q(vlan=20) / IP(dst="10.0.0.2", src="10.0.0.1") / ICMP()
    ),
    "echo": built(IP4 / ICMP(id=5, seq=6) / b"abc"),
    "timestamp": built(IP4 / ICMP(type=13, id=5, seq=6, ts_ori=1, ts_rx=2, ts_tx=3)),
    "redirect": built(IP4 / ICMP(type=5, code=1, gw="10.0.0.254") / IP(src="10.0.0.2", dst="192.0.2.1") / UDP()),
    "expired": built(EXPIRED),
    "too big": built(IP4 / ICMP(type=3, code=4, nexthopmtu=1400) / IP(src="10.0.0.2", dst="192.0.2.1") / TCP(dport=80)),
    "ip options": built(
        ETH / IP(src="10.0.0.1", dst="224.0.0.22", proto=2, options=[IPOption_Router_Alert()]) / b"igmp"
    ),
    "fragment": built(ETH / IP(src="10.0.0.1", dst="10.0.0.2", proto=17, frag=185) / bytes(range(100))),
    "syn": built(
        IP4
        / TCP(
            sport=40000,
            dport=80,
            flags="S",
            seq=1,
            options=[("MSS", 1460), ("SAckOK", b""), ("Timestamp", (1, 0)), ("NOP", None), ("WScale", 7)],
        )
    ),
    "sack": built(IP4 / TCP(flags="A", options=[("NOP", None), ("NOP", None), ("SAck", (5, 9)), (253, b"\1\2")])),
    "request": built(IP4 / TCP(sport=40000, dport=80, flags="PA", seq=2**32 - 1, ack=7) / REQUEST),
    "response": built(IP4 / TCP(sport=8080, dport=40000, flags="PA") / RESPONSE),
    "bare ack": built(IP4 / TCP(flags="A")) + bytes(6),
    "udp": built(IP4 / UDP(sport=1000, dport=2000) / b"data!"),
    "discover": built(
        CLIENT
        / BOOTP(op=1, xid=0xDEADBEEF, chaddr=bytes.fromhex(A.replace(":", "")), flags=0x8000)
        / DHCP(
            options=[
                ("message-type", 1),
                ("requested_addr", "192.168.1.100"),
                ("hostname", b"pc1"),
                ("param_req_list", [1, 3, 6]),
                "end",
                "pad",
            ]
        )
    ),
    "ack": built(
        SERVER
        / BOOTP(op=2, xid=7, yiaddr="192.168.1.100", siaddr="192.168.1.1", chaddr=bytes.fromhex(A.replace(":", "")))
        / DHCP(
            options=[
                ("message-type", 5),
                ("server_id", "192.168.1.1"),
                ("lease_time", 600),
                ("renewal_time", 300),
                ("subnet_mask", "255.255.255.0"),
                ("broadcast_address", "192.168.1.255"),
                ("router", "192.168.1.1"),
                ("name_server", "192.168.1.1", "192.168.1.2"),
                ("domain", b"home.lan"),
                "end",
            ]
        )
    ),
    "dns query": built(IP4 / UDP(sport=5000, dport=53) / DNS(id=1, rd=1, qd=[DNSQR(qname=".", qtype="NS")])),
    "dns answer": built(IP4 / UDP(sport=53, dport=5000) / dns_compress(ANSWER)),
    "dns over tcp": built(
        IP4 / TCP(sport=53, dport=5000, flags="PA") / struct.pack("!H", len(bytes(ANSWER))) / bytes(ANSWER)
    ),
    "dns zone": built(
        IP4
        / UDP(sport=53, dport=5000)
        / DNS(
            qr=1,
            rcode=3,
            qd=[DNSQR(qname="x.example.com", qtype=99)],
            an=[
                DNSRRMX(rrname="example.com", preference=10, exchange="mail.example.com"),
                DNSRR(rrname="example.com", type="TXT", rdata=["v=1", "two words"]),
                DNSRRSRV(rrname="_ldap._tcp.example.com", priority=1, weight=2, port=389, target="a.example.com"),
                DNSRR(rrname="example.com", type=99, rdata=b"\1\2"),
            ],
            ns=[DNSRRSOA(rrname="example.com", ttl=60, mname="ns1.example.com", rname="h.example.com", serial=5)],
        )
    ),
    "echo 6": built(IP6 / ICMPv6EchoRequest(id=5, seq=6, data=b"abc")),
    "solicitation": built(IP6 / ICMPv6ND_NS(tgt="2001:db8::2") / ICMPv6NDOptSrcLLAddr(lladdr=A)),
    "advertisement": built(IP6 / ICMPv6ND_NA(tgt="2001:db8::2", R=0, S=1, O=1)),
    "router": built(IP6 / ICMPv6ND_RA(routerlifetime=1800)),
    "listener": built(IP6 / IPv6ExtHdrHopByHop() / ICMPv6MLReport2()),
    "refused 6": built(REFUSED),
    "udp 6": built(IP6 / UDP(sport=1000, dport=2000) / b"data"),
    "fragment 6": built(IP6 / IPv6ExtHdrFragment(offset=8, m=1, nh=17, id=3) / bytes(range(64))),
    "spanning tree": built(Ether(src=A, dst="01:80:c2:00:00:00", type=38) / bytes(38)),
    "unknown": built(Ether(src=A, dst=B, type=0x88B5) / b"experiment"),
}
every_sample = pytest.mark.parametrize("octets", SAMPLES.values(), ids=list(SAMPLES))


def frame(octets: bytes, length: int | None = None, link_type: int = 1) -> Frame:
    interface = Interface("pc1:eth0", link_type=link_type)
    return decode([Packet(0, 1, octets, len(octets) if length is None else length, "in")], [interface])[0]


def values(name: str, *wanted: str) -> dict[str, Value | Sequence[Value] | None]:
    """The fields `wanted` of a sample: one value as it is, more as a tuple, None when absent."""
    fields = frame(SAMPLES[name]).fields
    return {field: found[0] if len(found := fields.get(field, (None,))) == 1 else found for field in wanted}


def expect(name: str, layers: str, **expected: Value | tuple[Value, ...] | None) -> None:
    """Sample `name` has these layers and fields; `__` in an argument's name stands for the dot."""
    fields = {field.replace("__", "."): value for field, value in expected.items()}
    assert values(name, *fields) == fields
    assert frame(SAMPLES[name]).layers == tuple(layers.split())


@every_sample
def test_encoded_again_the_octets_are_the_same(octets: bytes) -> None:
    found = frame(octets)
    assert found.reencoded is True
    assert "malformed" not in found.layers
    assert all(type(value) in {int, bool, str, bytes} for each in found.fields.values() for value in each)


@every_sample
def test_cut_anywhere_nothing_is_raised(octets: bytes) -> None:
    whole = frame(octets)
    for end in range(len(octets)):
        snapped, short = frame(octets[:end], len(octets)), frame(octets[:end])
        for found in (snapped, short):
            layers = tuple(layer for layer in found.layers if layer not in {"malformed", "data"})
            assert layers == whole.layers[: len(layers)]
            assert found.get("frame.cap_len") == end
            assert found.get("_ws.malformed") == (True if "malformed" in found.layers else None)
        assert 0 not in snapped.fields.get("tcp.checksum.status", ())
        assert 0 not in snapped.fields.get("udp.checksum.status", ())


@settings(max_examples=300)
@given(
    st.sampled_from(sorted(SAMPLES)),
    st.lists(st.tuples(st.integers(0, 400), st.integers(0, 255)), max_size=5),
    st.binary(max_size=20),
)
def test_damaged_frames_raise_nothing(name: str, changes: list[tuple[int, int]], tail: bytes) -> None:
    octets = bytearray(SAMPLES[name])
    for place, value in changes:
        octets[place % len(octets)] = value
    for link_type in (1, 101, 147):
        frame(bytes(octets) + tail, link_type=link_type)


@given(st.binary(max_size=120), st.sampled_from([0x0800, 0x86DD, 0x0806, 0x8100]))
def test_any_octets_raise_nothing(octets: bytes, kind: int) -> None:
    frame(bytes(12) + struct.pack("!H", kind) + octets)


def test_frame_fields_and_shared_values() -> None:
    octets = SAMPLES["echo"]
    interfaces = [Interface("pc1:eth0"), Interface("sw1:pc1")]
    first, second = decode([Packet(0, 5, octets, 45, "out"), Packet(1, 6, octets, 45, "in")], interfaces)
    assert (first.number, first.time_ns, first.interface, first.direction) == (1, 5, "pc1:eth0", "out")
    assert (second.number, second.time_ns, second.interface, second.direction) == (2, 6, "sw1:pc1", "in")
    assert second.get("frame.number") == 2
    assert second.get("frame.interface_name") == "sw1:pc1"
    assert second.get("frame.len") == 45
    assert second.fields["ip.src"] is first.fields["ip.src"]


def test_ethernet_and_vlan() -> None:
    expect("echo", "eth ip icmp data", eth__src=A, eth__dst=B, eth__addr=(B, A), eth__type=0x0800, vlan__id=None)
    expect("double tag", "eth vlan vlan ip icmp", eth__type=0x8100, vlan__id=(10, 20), ip__src="10.0.0.1")
    expect("spanning tree", "eth llc", eth__len=38, eth__type=None)
    expect("unknown", "eth data", eth__type=0x88B5)


def test_arp() -> None:
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
        (1, "10.0.0.1", "10.0.0.2", None, None, None),
    ],
)
def test_arp_about_oneself(
    operation: int,
    sender: str,
    target: str,
    gratuitous: bool | None,
    probe: bool | None,
    announcement: bool | None,
) -> None:
    found = frame(built(ETH / ARP(op=operation, hwsrc=A, psrc=sender, pdst=target)))
    names = ("arp.isgratuitous", "arp.isprobe", "arp.isannouncement")
    assert [found.get(name) for name in names] == [gratuitous, probe, announcement]


def test_ip() -> None:
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


def test_a_later_fragment_has_no_transport_header() -> None:
    expect("fragment", "eth ip data", ip__frag_offset=185, ip__proto=17, udp__srcport=None)
    expect("fragment 6", "eth ipv6 data", ipv6__nxt=44, ipv6__fraghdr__offset=8, udp__srcport=None)


def test_a_first_fragment_has_one_that_cannot_be_verified() -> None:
    whole = built(IP(src="10.0.0.1", dst="10.0.0.2") / UDP(sport=1000, dport=2000) / bytes(100))
    found = frame(built(ETH / IP(src="10.0.0.1", dst="10.0.0.2", proto=17, flags="MF") / whole[20:60]))
    assert found.get("udp.srcport") == 1000
    assert found.get("udp.length") == 108
    assert found.get("udp.checksum.status") == 2
    assert "malformed" not in found.layers


def test_icmp() -> None:
    expect("echo", "eth ip icmp data", icmp__type=8, icmp__code=0, icmp__ident=5, icmp__seq=6, icmp__checksum__status=1)
    expect("redirect", "eth ip icmp", icmp__type=5, icmp__redir_gw="10.0.0.254")
    expect("too big", "eth ip icmp", icmp__mtu=1400, tcp__dstport=None, wirelab__icmp__tcp__dstport=80)


def test_a_quoted_packet_has_names_of_its_own() -> None:
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


def test_ipv6_and_neighbour_discovery() -> None:
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
    expect("listener", "eth ipv6 icmpv6", icmpv6__type=143, icmpv6__checksum__status=1)


def test_tcp() -> None:
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
        tcp__checksum__status=1,
    )
    expect("request", "eth ip tcp http", tcp__seq_raw=2**32 - 1, tcp__ack_raw=7, tcp__len=68, tcp__payload=REQUEST)


def test_padding_is_no_payload() -> None:
    expect("bare ack", "eth ip tcp", frame__len=60, tcp__len=0, tcp__payload=None)


def test_udp() -> None:
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
def test_one_wrong_bit_makes_a_checksum_bad(name: str, field: str, place: int) -> None:
    octets = bytearray(SAMPLES[name])
    assert frame(bytes(octets)).get(field) == 1
    octets[place] ^= 0x10
    found = frame(bytes(octets))
    assert found.get(field) == 0
    assert found.reencoded is True


def test_udp_without_a_checksum_is_unverified_and_over_ipv6_bad() -> None:
    assert frame(built(IP4 / UDP(chksum=0) / b"x")).get("udp.checksum.status") == 2
    assert frame(built(IP6 / UDP(chksum=0) / b"x")).get("udp.checksum.status") == 0


def test_dhcp() -> None:
    expect(
        "discover",
        "eth ip udp dhcp",
        dhcp__type=1,
        dhcp__id=0xDEADBEEF,
        dhcp__flags__bc=True,
        dhcp__hw__mac_addr=A,
        dhcp__ip__client="0.0.0.0",
        dhcp__option__dhcp=1,
        dhcp__option__requested_ip_address="192.168.1.100",
        dhcp__option__hostname="pc1",
        dhcp__option__request_list_item=(1, 3, 6),
    )
    expect(
        "ack",
        "eth ip udp dhcp",
        dhcp__type=2,
        dhcp__flags__bc=False,
        dhcp__ip__your="192.168.1.100",
        dhcp__ip__server="192.168.1.1",
        dhcp__ip__relay="0.0.0.0",
        dhcp__option__dhcp=5,
        dhcp__option__dhcp_server_id="192.168.1.1",
        dhcp__option__ip_address_lease_time=600,
        dhcp__option__renewal_time_value=300,
        dhcp__option__subnet_mask="255.255.255.0",
        dhcp__option__router="192.168.1.1",
        dhcp__option__domain_name_server=("192.168.1.1", "192.168.1.2"),
        dhcp__option__domain_name="home.lan",
    )


def test_dns_query() -> None:
    expect(
        "dns query",
        "eth ip udp dns",
        dns__id=1,
        dns__flags__response=False,
        dns__flags__recdesired=True,
        dns__flags__rcode=None,
        dns__count__queries=1,
        dns__qry__name="<Root>",
        dns__qry__type=2,
        udp__checksum__status=1,
    )


@pytest.mark.parametrize(("name", "transport"), [("dns answer", "udp"), ("dns over tcp", "tcp")])
def test_dns_answer(name: str, transport: str) -> None:
    expect(
        name,
        f"eth ip {transport} dns",
        dns__id=0x1234,
        dns__flags__response=True,
        dns__flags__opcode=0,
        dns__flags__authoritative=True,
        dns__flags__truncated=False,
        dns__flags__recavail=True,
        dns__flags__rcode=0,
        dns__count__answers=3,
        dns__count__auth_rr=1,
        dns__count__add_rr=2,
        dns__qry__name="www.example.com",
        dns__resp__type=(5, 1, 28, 2, 1, 41),
        dns__resp__ttl=(300, 60, 60, 3600, 3600),
        dns__a=("192.0.2.80", "192.0.2.53"),
        dns__aaaa="2001:db8::80",
        dns__ns="ns1.example.com",
        dns__cname="web.example.com",
        wirelab__dns__answer=(
            "www.example.com CNAME 300 web.example.com",
            "web.example.com A 60 192.0.2.80",
            "web.example.com AAAA 60 2001:db8::80",
        ),
        wirelab__dns__authority="example.com NS 3600 ns1.example.com",
        wirelab__dns__additional="ns1.example.com A 3600 192.0.2.53",
    )


def test_dns_records_of_other_types() -> None:
    expect(
        "dns zone",
        "eth ip udp dns",
        dns__flags__rcode=3,
        dns__soa__mname="ns1.example.com",
        dns__mx__mail_exchange="mail.example.com",
        dns__txt=("v=1", "two words"),
        wirelab__dns__answer=(
            "example.com MX 0 10 mail.example.com",
            'example.com TXT 0 "v=1" "two words"',
            "_ldap._tcp.example.com SRV 0 1 2 389 a.example.com",
            "example.com TYPE99 0 \\# 2 0102",
        ),
        wirelab__dns__authority="example.com SOA 60 ns1.example.com h.example.com 5 0 0 0 0",
    )


def test_a_dns_message_that_lacks_records_is_malformed() -> None:
    message = bytearray(bytes(DNS(qr=1, qd=[DNSQR(qname="a.example")], an=[])))
    message[7] = 2
    found = frame(built(IP4 / UDP(sport=53, dport=5000) / bytes(message)))
    assert found.layers == ("eth", "ip", "udp", "dns", "malformed")
    assert found.get("dns.qry.name") == "a.example"
    assert found.reencoded is True


def test_part_of_a_dns_message_over_tcp_is_not_decoded() -> None:
    found = frame(built(IP4 / TCP(sport=53, dport=5000, flags="A") / struct.pack("!H", 900) / bytes(ANSWER)))
    assert found.layers == ("eth", "ip", "tcp", "data")


def test_http() -> None:
    expect(
        "request",
        "eth ip tcp http",
        http__request__method="GET",
        http__request__uri="/a?b=1",
        http__host="www.example.com",
        http__user_agent="curl/8.0",
        http__file_data=None,
    )
    expect(
        "response",
        "eth ip tcp http",
        http__response__code=200,
        http__response__phrase="OK",
        http__content_length=5,
        http__file_data=b"hello",
    )


def test_what_scapy_does_not_keep_is_not_called_the_same() -> None:
    """After the end of the option list (RFC 9293, section 3.1) padding is zero: other octets are in no field."""
    header = bytearray(built(IP4 / TCP(flags="S", options=[("MSS", 1460), ("EOL", None)])))
    assert frame(bytes(header)).reencoded is True
    header[-1] = 0x99
    found = frame(bytes(header))
    assert found.reencoded is False
    assert found.get("tcp.options.mss_val") == 1460


def test_a_header_that_does_not_fit_is_not_called_the_same() -> None:
    found = frame(SAMPLES["syn"][:40])
    assert found.layers == ("eth", "ip", "tcp", "malformed")
    assert found.reencoded is False
    assert found.get("ip.src") == "10.0.0.1"


def test_a_packet_longer_than_its_frame_is_malformed() -> None:
    octets = SAMPLES["udp"]
    assert frame(octets[:-1]).layers == ("eth", "ip", "udp", "data", "malformed")
    assert "malformed" not in frame(octets[:-1], len(octets)).layers


def test_other_link_types() -> None:
    assert frame(SAMPLES["echo"][14:], link_type=101).layers == ("ip", "icmp", "data")
    assert frame(SAMPLES["echo 6"][14:], link_type=101).layers == ("ipv6", "icmpv6")
    unknown = frame(SAMPLES["echo"], link_type=147)
    assert (unknown.layers, unknown.reencoded) == ((), None)


def test_decoding_leaves_the_output_alone() -> None:
    code = "import emulator.capture.decode, sys; print([m for m in sys.modules if m == 'scapy.all'])"
    done = subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr) == ("[]\n", "")
