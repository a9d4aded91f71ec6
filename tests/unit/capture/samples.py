"""Frames for the tests of the decoder, and what they are decoded with.

Put together by scapy, or by hand where scapy would put them right. `real.pcap` holds frames of real programs in network
namespaces: the kernel's IPv6 and its bridges with spanning tree, dnsmasq's router advertisements, curl with OpenSSL
(TLS 1.3, 1.2, alerts), NSD with zones signed by ldns-signzone, and the loopback interface.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from pathlib import Path

from scapy.layers.dhcp import BOOTP, DHCP
from scapy.layers.dns import (
    DNS,
    DNSQR,
    DNSRR,
    DNSRRDNSKEY,
    DNSRRDS,
    DNSRRMX,
    DNSRRNSEC,
    DNSRRNSEC3,
    DNSRRNSEC3PARAM,
    DNSRROPT,
    DNSRRRSIG,
    DNSRRSOA,
    DNSRRSRV,
    dns_compress,
)
from scapy.layers.inet import ICMP, IP, TCP, UDP, IPOption_Router_Alert
from scapy.layers.inet6 import (
    ICMPv6DestUnreach,
    ICMPv6EchoRequest,
    ICMPv6MLReport2,
    ICMPv6ND_NA,
    ICMPv6ND_NS,
    ICMPv6ND_RA,
    ICMPv6ND_Redirect,
    ICMPv6NDOptDNSSL,
    ICMPv6NDOptDstLLAddr,
    ICMPv6NDOptMTU,
    ICMPv6NDOptPrefixInfo,
    ICMPv6NDOptRDNSS,
    ICMPv6NDOptRedirectedHdr,
    ICMPv6NDOptRouteInfo,
    ICMPv6NDOptSrcLLAddr,
    ICMPv6NDOptUnknown,
    ICMPv6PacketTooBig,
    IPv6,
    IPv6ExtHdrFragment,
    IPv6ExtHdrHopByHop,
)
from scapy.layers.l2 import ARP, LLC, STP, Dot1Q, Dot3, Ether
from scapy.packet import Packet as Layer

from emulator.capture.decode import decode
from emulator.capture.frame import Frame, Interface, Value
from emulator.capture.pcapng import Packet, read

REAL = Path(__file__).with_name("real.pcap")
A, B = "02:57:4c:00:01:00", "02:57:4c:00:02:00"
ETH = Ether(src=A, dst=B)
NOBODY = Ether(src="00:00:00:00:00:00", dst="00:00:00:00:00:00")
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
KEY = DNSRRDNSKEY(rrname="example.com", ttl=300, flags=257, algorithm=13, publickey=bytes(range(64)))
SIGNED = DNS(
    id=9,
    qr=1,
    rd=1,
    ra=1,
    ad=1,
    cd=1,
    qd=[DNSQR(qname="www.example.com")],
    an=[
        DNSRR(rrname="www.example.com", ttl=300, rdata="192.0.2.80"),
        DNSRRRSIG(
            rrname="www.example.com",
            ttl=300,
            typecovered=1,
            algorithm=13,
            labels=3,
            originalttl=300,
            expiration=1893456000,
            inception=1735689600,
            keytag=54171,
            signersname="example.com",
            signature=b"signature",
        ),
        KEY,
        DNSRRDS(rrname="sub.example.com", ttl=60, keytag=12345, algorithm=13, digesttype=2, digest=b"\x01\xab"),
        DNSRRNSEC(rrname="www.example.com", ttl=60, nextname="example.com", typebitmaps=[1, 28, 46, 47, 1234]),
        DNSRRNSEC3(
            rrname="0p.example.com", ttl=60, hashalg=1, iterations=3, saltlength=1, salt=b"\xab", hashlength=5,
            nexthashedownername=b"hello", typebitmaps=[1, 46],
        ),
        DNSRRNSEC3PARAM(rrname="example.com", ttl=0, hashalg=1),
    ],
    ar=[DNSRROPT(rclass=1232, z=0x8000)],
)  # fmt: skip
REQUEST = b"GET /a?b=1 HTTP/1.1\r\nHost: www.example.com\r\nUser-Agent: curl/8.0\r\n\r\n"
RESPONSE = b"HTTP/1.1 200 OK\r\nServer: s\r\ncontent-length: 5\r\n\r\nhello"
EXPIRED = IP4 / ICMP(type=11) / IP(src="10.0.0.2", dst="192.0.2.1", id=9, ttl=1) / UDP(sport=33000, dport=33434) / b"12"
REFUSED = IP6 / ICMPv6DestUnreach(code=4) / IPv6(src="2001:db8::2", dst="2001:db8::3") / UDP(sport=9, dport=53)


def record(kind: int, body: bytes, version: int = 0x0303) -> bytes:
    """A TLS record (RFC 8446, section 5.1)."""
    return struct.pack("!BHH", kind, version, len(body)) + body


def handshake(kind: int, body: bytes) -> bytes:
    """A handshake message (RFC 8446, section 4)."""
    return bytes([kind]) + len(body).to_bytes(3, "big") + body


def extension(kind: int, body: bytes) -> bytes:
    """An extension of a hello (RFC 8446, section 4.2)."""
    return struct.pack("!HH", kind, len(body)) + body


NAME = b"www.example.com"
CLIENT_EXTENSIONS = (
    extension(0, struct.pack("!HBH", len(NAME) + 3, 0, len(NAME)) + NAME)
    + extension(23, b"")
    + extension(43, b"\x04\x03\x04\x03\x03")
)
CLIENT_HELLO = handshake(
    1,
    b"\x03\x03" + bytes(32) + b"\x02id" + b"\x00\x04\x13\x01\x13\x02" + b"\x01\x00"
    + struct.pack("!H", len(CLIENT_EXTENSIONS)) + CLIENT_EXTENSIONS,
)  # fmt: skip
SERVER_HELLO = handshake(
    2, b"\x03\x03" + bytes(32) + b"\x00" + b"\x13\x01" + b"\x00" + b"\x00\x06" + extension(43, b"\x03\x04")
)
CIPHERTEXT = bytes.fromhex("9f1c" * 20)


def built(layer: Layer) -> bytes:
    """The octets that scapy makes of `layer`."""
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
    "request": built(IP4 / TCP(sport=40001, dport=80, flags="PA", seq=2**32 - 1, ack=7) / REQUEST),
    "response": built(IP4 / TCP(sport=8080, dport=40000, flags="PA") / RESPONSE),
    "client hello": built(IP4 / TCP(sport=40000, dport=8443, flags="PA") / record(22, CLIENT_HELLO, 0x0301)),
    "server hello": built(
        IP6
        / TCP(sport=8443, dport=40000, flags="PA")
        / (record(22, SERVER_HELLO) + record(20, b"\1") + record(23, CIPHERTEXT) + record(23, b"!"))
    ),
    "flight": built(
        IP4
        / TCP(sport=443, dport=40000, flags="PA")
        / (record(22, handshake(11, bytes(60)) + handshake(14, b"")) + record(20, b"\1") + record(22, CIPHERTEXT))
    ),
    "alert": built(IP4 / TCP(sport=443, dport=40002, flags="PA") / record(21, b"\2\x30")),
    "encrypted alert": built(IP4 / TCP(sport=443, dport=40003, flags="PA") / record(21, CIPHERTEXT)),
    "loopback": built(NOBODY / IP(src="127.0.0.1", dst="127.0.0.1") / TCP(sport=40004, dport=80, flags="PA") / REQUEST),
    "loopback 6": built(NOBODY / IPv6(src="::1", dst="::1") / UDP(sport=1000, dport=2000) / b"data"),
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
    "signed": built(IP4 / UDP(sport=53, dport=5000) / SIGNED),
    "dns query": built(IP4 / UDP(sport=5000, dport=53) / DNS(id=1, rd=1, qd=[DNSQR(qname=".", qtype="NS")])),
    "dns answer": built(IP4 / UDP(sport=53, dport=5000) / dns_compress(ANSWER)),
    "dns over tcp": built(
        IP4 / TCP(sport=53, dport=5000, flags="PA") / struct.pack("!H", len(bytes(ANSWER))) / bytes(ANSWER)
    ),
    "reverse": built(
        IP4
        / UDP(sport=53, dport=5001)
        / DNS(qr=1, qd=[], an=[DNSRR(rrname="80.2.0.192.in-addr.arpa", type="PTR", rdata="www.example.com")])
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
    "router": built(
        IP6
        / ICMPv6ND_RA(chlim=64, M=0, O=1, routerlifetime=1800, reachabletime=30000, retranstimer=1000)
        / ICMPv6NDOptPrefixInfo(prefix="2001:db8:1::", prefixlen=64, L=1, A=1, validlifetime=600, preferredlifetime=300)
        / ICMPv6NDOptPrefixInfo(prefix="2001:db8:2::", prefixlen=64, L=0, A=0, validlifetime=9, preferredlifetime=8)
        / ICMPv6NDOptMTU(mtu=1480)
        / ICMPv6NDOptSrcLLAddr(lladdr=A)
        / ICMPv6NDOptRDNSS(dns=["2001:db8::53", "2001:db8::54"], lifetime=1200)
        / ICMPv6NDOptDNSSL(searchlist=["home.arpa.", "example.com."], lifetime=60)
        / ICMPv6NDOptRouteInfo(prefix="2001:db8:3::", plen=48, rtlifetime=70)
    ),
    "redirect 6": built(
        IP6
        / ICMPv6ND_Redirect(tgt="fe80::9", dst="2001:db8::99")
        / ICMPv6NDOptDstLLAddr(lladdr=B)
        / ICMPv6NDOptRedirectedHdr(pkt=bytes(IPv6(src="2001:db8::1", dst="2001:db8::99") / UDP()))
    ),
    "duplicate address": built(
        ETH
        / IPv6(src="::", dst="ff02::1:ff00:2", hlim=255)
        / ICMPv6ND_NS(tgt="2001:db8::2")
        / ICMPv6NDOptUnknown(type=14, data=b"nonce!")
    ),
    "listener": built(IP6 / IPv6ExtHdrHopByHop() / ICMPv6MLReport2()),
    "refused 6": built(REFUSED),
    "too big 6": built(IP6 / ICMPv6PacketTooBig(mtu=1280) / IPv6(src="2001:db8::2", dst="2001:db8::3") / UDP()),
    "udp 6": built(IP6 / UDP(sport=1000, dport=2000) / b"data"),
    "fragment 6": built(IP6 / IPv6ExtHdrFragment(offset=8, m=1, nh=17, id=3) / bytes(range(64))),
    "spanning tree": built(
        Dot3(src=A, dst="01:80:c2:00:00:00")
        / LLC()
        / STP(
            bpduflags=0x81,
            rootid=0x1000,
            rootmac="02:57:4c:00:09:00",
            pathcost=4,
            bridgeid=0x8064,
            bridgemac=A,
            portid=0x8002,
            age=1.5,
            maxage=20,
            hellotime=2,
            fwddelay=15,
        )
        / bytes(8)
    ),
    "rapid tree": built(Dot3(src=A, dst="01:80:c2:00:00:00") / LLC() / STP(version=2, bpdutype=2, bpduflags=0x3E))
    + b"\0",
    "snap": built(Dot3(src=A, dst="01:80:c2:00:00:00") / LLC(dsap=0xAA, ssap=0xAA, ctrl=3) / bytes(9)),
    "not spanning tree": built(Dot3(src=A, dst="01:80:c2:00:00:21") / LLC(dsap=0x42, ssap=0x42, ctrl=3) / b"\0\1garp"),
    "numbered": built(Dot3(src=A, dst=B) / LLC(dsap=0x42, ssap=0x42, ctrl=2) / bytes(40)),
    "unknown": built(Ether(src=A, dst=B, type=0x88B5) / b"experiment"),
}


def frame(octets: bytes, length: int | None = None, link_type: int = 1) -> Frame:
    """`octets` decoded; `length` is what was on the wire."""
    interface = Interface("pc1:eth0", link_type=link_type)
    return decode([Packet(0, 1, octets, len(octets) if length is None else length, "in")], [interface])[0]


def values(found: Frame, *wanted: str) -> dict[str, Value | Sequence[Value] | None]:
    """The fields `wanted` of a frame: one value as it is, more as a tuple, None when absent."""
    named = {field: found.fields.get(field, (None,)) for field in wanted}
    return {field: each[0] if len(each) == 1 else each for field, each in named.items()}


def expect(found: str | Frame, layers: str, **expected: Value | tuple[Value, ...] | None) -> None:
    """A sample, or a frame, has these layers and fields; `__` in an argument's name stands for the dot."""
    if isinstance(found, str):
        found = frame(SAMPLES[found])
    fields = {field.replace("__", "."): value for field, value in expected.items()}
    assert found.layers == tuple(layers.split()), found.layers
    wrong = {field: value for field, value in values(found, *fields).items() if value != fields[field]}
    assert not wrong, wrong


def real() -> tuple[Frame, ...]:
    """The frames of `real.pcap`."""
    capture = read(REAL)
    return decode(capture.packets, capture.interfaces)
