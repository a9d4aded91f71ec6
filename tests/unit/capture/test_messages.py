"""Frames taken apart: fields of DNS, DHCP, HTTP and TLS messages."""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scapy.layers.dns import DNS, DNSQR
from scapy.layers.inet import IP, TCP, UDP
from scapy.layers.l2 import Ether

from emulator.capture.frame import Frame
from emulator.capture.tls import tls_fields

Decoded = Callable[..., Frame]
Expect = Callable[..., None]

A = "02:57:4c:00:01:00"
IP4 = Ether(src=A, dst="02:57:4c:00:02:00") / IP(src="10.0.0.1", dst="10.0.0.2")


def test_dhcp(expect: Expect) -> None:
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


def test_dns_query(expect: Expect) -> None:
    expect(
        "dns query",
        "eth ip udp dns",
        dns__id=1,
        dns__flags__response=False,
        dns__flags__recdesired=True,
        dns__flags__rcode=None,
        dns__flags__authenticated=None,
        dns__flags__checkdisable=False,
        dns__count__queries=1,
        dns__qry__name="<Root>",
        dns__qry__type=2,
        udp__checksum__status=1,
    )


@pytest.mark.parametrize(("name", "transport"), [("dns answer", "udp"), ("dns over tcp", "tcp")])
def test_dns_answer(expect: Expect, name: str, transport: str) -> None:
    expect(
        name,
        f"eth ip {transport} dns",
        dns__id=0x1234,
        dns__flags__response=True,
        dns__flags__opcode=0,
        dns__flags__authoritative=True,
        dns__flags__truncated=False,
        dns__flags__recavail=True,
        dns__flags__authenticated=False,
        dns__flags__checkdisable=False,
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


def test_dns_records_of_other_types(expect: Expect) -> None:
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


def test_a_name_for_an_address(expect: Expect) -> None:
    expect("reverse", "eth ip udp dns", dns__resp__type=12, dns__ptr__domain_name="www.example.com")


def test_dns_security(expect: Expect) -> None:
    expect(
        "signed",
        "eth ip udp dns",
        dns__flags__authenticated=True,
        dns__flags__checkdisable=True,
        dns__resp__z__do=True,
        dns__resp__type=(1, 46, 48, 43, 47, 50, 51, 41),
        dns__rrsig__type_covered=1,
        dns__rrsig__algorithm=13,
        dns__rrsig__key_tag=54171,
        dns__rrsig__signature_expiration=1893456000,
        dns__rrsig__signature_inception=1735689600,
        dns__rrsig__signers_name="example.com",
        dns__ds__key_id=12345,
        dns__ds__algorithm=13,
        dns__ds__digest_type=2,
        dns__dnskey__flags=257,
        dns__dnskey__algorithm=13,
        dns__dnskey__key_id=59409,
        dns__nsec__next_domain_name="example.com",
        wirelab__dns__answer=(
            "www.example.com A 300 192.0.2.80",
            "www.example.com RRSIG 300 A 13 3 300 20300101000000 20250101000000 54171 example.com c2lnbmF0dXJl",
            "example.com DNSKEY 300 257 3 13 "
            "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8gISIjJCUmJygpKissLS4vMDEyMzQ1Njc4OTo7PD0+Pw==",
            "sub.example.com DS 60 12345 13 2 01AB",
            "www.example.com NSEC 60 example.com A AAAA RRSIG NSEC TYPE1234",
            "0p.example.com NSEC3 60 1 0 3 AB D1IMOR3F A RRSIG",
            "example.com NSEC3PARAM 0 1 0 0 -",
        ),
    )


def test_real_dns_security(expect: Expect, samples: Any) -> None:
    messages = [found for found in samples.real() if "dns" in found.layers]
    asked, answered, unchecked, keys, delegation, denied, hashed = messages
    expect(asked, "eth ip udp dns", dns__flags__authenticated=True, dns__resp__z__do=True)
    expect(unchecked, "eth ip udp dns", dns__flags__authenticated=None, dns__flags__checkdisable=True)
    expect(answered, "eth ip udp dns", dns__flags__authenticated=False, dns__rrsig__type_covered=(1, 2, 1))
    assert str(answered.fields["wirelab.dns.answer"][1]).startswith(
        "www.example.com RRSIG 300 A 13 3 300 20300101000000 20250101000000 54171 example.com "
    )
    expect(keys, "eth ip udp dns", dns__dnskey__key_id=(54171, 50613), dns__rrsig__key_tag=50613)
    expect(delegation, "eth ip udp dns", dns__ds__key_id=12345, dns__ds__digest_type=2, dns__rrsig__type_covered=43)
    assert "ns1.example.com NSEC 60 sub.example.com A RRSIG NSEC" in denied.fields["wirelab.dns.authority"]
    assert (
        "s6jkj450rsnpm5e4159n4n2lql3cb5vm.example.org NSEC3 60 1 0 3 ABCD T0HAKLSGMQLCB4TSU734BFB6R2VFKMM2 "
        "NS SOA MX RRSIG DNSKEY NSEC3PARAM" in hashed.fields["wirelab.dns.authority"]
    )


@pytest.mark.parametrize("kind", [43, 46, 47, 48, 50, 51])
def test_a_signed_record_without_its_data_has_no_values(frame: Decoded, kind: int) -> None:
    for size in (0, 1, 2, 3):
        record = b"\1a\0" + struct.pack("!HHIH", kind, 1, 60, size) + bytes(size)
        message = struct.pack("!HHHHHH", 1, 0x8000, 0, 1, 0, 0) + record
        found = frame(bytes(IP4 / UDP(sport=53, dport=5000) / message))
        assert found.get("dns.id") == 1
        assert not [name for name in found.fields if name.startswith(("dns.rrsig", "dns.ds", "dns.dnskey"))]


@given(st.sampled_from([43, 46, 47, 48, 50, 51, 41]), st.binary(max_size=80))
def test_signed_records_of_any_octets(frame: Decoded, kind: int, data: bytes) -> None:
    record = b"\0" + struct.pack("!HHIH", kind, 1, 60, len(data)) + data
    message = struct.pack("!HHHHHH", 1, 0x8000, 0, 2, 0, 0) + record + record
    assert "dns" in frame(bytes(IP4 / UDP(sport=53, dport=5000) / message)).layers


def test_a_dns_message_that_lacks_records_is_malformed(frame: Decoded) -> None:
    message = bytearray(bytes(DNS(qr=1, qd=[DNSQR(qname="a.example")], an=[])))
    message[7] = 2
    found = frame(bytes(IP4 / UDP(sport=53, dport=5000) / bytes(message)))
    assert found.layers == ("eth", "ip", "udp", "dns", "malformed")
    assert found.get("dns.qry.name") == "a.example"
    assert found.reencoded is True


def test_part_of_a_dns_message_over_tcp_is_not_decoded(frame: Decoded, samples: Any) -> None:
    found = frame(bytes(IP4 / TCP(sport=53, dport=5000, flags="A") / struct.pack("!H", 900) / bytes(samples.ANSWER)))
    assert found.layers == ("eth", "ip", "tcp", "data")


def test_http(expect: Expect) -> None:
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


def test_a_client_hello(expect: Expect) -> None:
    expect(
        "client hello",
        "eth ip tcp tls",
        tls__record__content_type=22,
        tls__record__version=0x0301,
        tls__record__length=88,
        tls__handshake__type=1,
        tls__handshake__version=0x0303,
        tls__handshake__ciphersuite=(0x1301, 0x1302),
        tls__handshake__extensions_server_name="www.example.com",
        tls__handshake__extensions__supported_version=(0x0304, 0x0303),
        tls__app_data=None,
    )


def test_what_a_server_sends(expect: Expect, samples: Any) -> None:
    expect(
        "server hello",
        "eth ipv6 tcp tls",
        tls__record__content_type=(22, 20, 23, 23),
        tls__record__version=(0x0303,) * 4,
        tls__record__length=(50, 1, 40, 1),
        tls__handshake__type=2,
        tls__handshake__ciphersuite=0x1301,
        tls__handshake__extensions__supported_version=0x0304,
        tls__handshake__extensions_server_name=None,
        tls__app_data=(samples.CIPHERTEXT, b"!"),
    )
    expect("flight", "eth ip tcp tls", tls__record__content_type=(22, 20, 22), tls__handshake__type=(11, 14))
    expect("alert", "eth ip tcp tls", tls__alert_message__level=2, tls__alert_message__desc=48)
    expect("encrypted alert", "eth ip tcp tls", tls__record__content_type=21, tls__alert_message__level=None)


def test_real_tls(expect: Expect, samples: Any) -> None:
    frames = [found for found in samples.real() if "tls" in found.layers]
    client, server, finished, data, old_client, old_server, key, encrypted, *_ = frames
    expect(
        client,
        "eth ip tcp tls",
        tls__record__version=0x0301,
        tls__record__length=512,
        tls__handshake__type=1,
        tls__handshake__extensions_server_name="new.qq.com",
        tls__handshake__extensions__supported_version=(0x0304, 0x0303, 0x0302, 0x0301),
    )
    expect(
        server,
        "eth ip tcp tls",
        tls__record__content_type=(22, 20, 23, 23, 23, 23),
        tls__handshake__type=2,
        tls__handshake__ciphersuite=0x1302,
        tls__handshake__extensions__supported_version=0x0304,
    )
    expect(finished, "eth ip tcp tls", tls__record__content_type=(20, 23), tls__handshake__type=None)
    expect(data, "eth ip tcp tls", tls__record__content_type=23, tls__record__length=91)
    expect(old_client, "eth ip tcp tls", tls__handshake__extensions_server_name="new.qq.com")
    expect(
        old_server,
        "eth ip tcp tls",
        tls__handshake__type=(2, 11, 12, 14),
        tls__handshake__version=0x0303,
        tls__handshake__ciphersuite=0xC030,
        tls__handshake__extensions__supported_version=None,
    )
    expect(key, "eth ip tcp tls", tls__record__content_type=(22, 20, 22), tls__handshake__type=16)
    expect(encrypted, "eth ip tcp tls", tls__record__content_type=(20, 22), tls__handshake__type=None)
    alerts = [found.get("tls.alert_message.desc") for found in frames if 21 in found.fields["tls.record.content_type"]]
    assert alerts == [None, 48, 80]


@pytest.mark.parametrize(
    "payload",
    [
        b"\x16\x03\x01\0",
        b"\x16\x03\0\0\x05hello",
        b"\x16\x03\x05\0\x05hello",
        b"\x16\x02\x01\0\x05hello",
        b"\x15\x03\x03\0\0",
        b"\x17\x03\x03\x48\x01" + bytes(100),
        b"\x18\x03\x03\0\x05hello",
        b"\x13\x03\x03\0\x05hello",
    ],
    ids=["cut", "SSL 3.0", "1.5", "major", "empty", "too long", "heartbeat", "19"],
)
def test_what_is_no_tls(frame: Decoded, payload: bytes) -> None:
    assert tls_fields(payload) is None
    found = frame(bytes(IP4 / TCP(sport=40000, dport=443, flags="PA") / payload))
    assert found.layers == ("eth", "ip", "tcp", "data")


def test_a_hello_that_goes_on_in_the_next_segment_is_read_as_far_as_it_is_there(samples: Any) -> None:
    whole = samples.record(22, samples.CLIENT_HELLO, 0x0301)
    names = ["tls.handshake.version", "tls.handshake.ciphersuite", "tls.handshake.extensions_server_name"]
    found = [[name for name in names if name in (tls_fields(whole[:end]) or {})] for end in range(len(whole) + 1)]
    assert found == sorted(found, key=len)
    assert found[-1] == names
    assert (tls_fields(whole[:11]) or {})["tls.handshake.version"] == [0x0303]


def test_a_message_that_goes_on_in_the_next_record(samples: Any) -> None:
    certificates = samples.handshake(11, bytes(20000))
    first, second = certificates[: 1 << 14], certificates[1 << 14 :]
    fields = tls_fields(samples.record(22, first) + samples.record(22, second + samples.handshake(14, b"")))
    assert fields is not None
    assert fields["tls.handshake.type"] == [11]
    assert len(fields["tls.record.content_type"]) == 2


@pytest.mark.parametrize(
    "body",
    [
        bytes(40),
        b"\x02\0\0\x30" + bytes(40),
        b"\x02\0\0\x02\3\3\0",
        b"\x14\0\0\x0c" + bytes(12),
        b"\x0b\x05\0\0" + bytes(40),
    ],
    ids=["zeros", "longer than its record", "an octet too many", "Finished", "a huge certificate"],
)
def test_encrypted_handshake_messages_are_not_read(samples: Any, body: bytes) -> None:
    fields = tls_fields(samples.record(22, body))
    assert fields is not None
    assert not [name for name in fields if "handshake" in name]


def test_after_a_change_of_cipher_nothing_is_in_plain_text(samples: Any) -> None:
    change = samples.record(20, b"\1")
    fields = tls_fields(change + samples.record(22, samples.CLIENT_HELLO) + samples.record(21, b"\2\x28"))
    assert fields is not None
    assert set(fields) == {"tls.record.content_type", "tls.record.version", "tls.record.length"}


def test_lengths_in_a_hello_that_lie(samples: Any) -> None:
    hello = samples.record(22, samples.CLIENT_HELLO)
    for place in range(9, len(hello)):
        for value in (0, 1, 0x7F, 0xFF):
            fields = tls_fields(hello[:place] + bytes([value]) + hello[place + 1 :])
            assert fields is not None
            assert fields["tls.handshake.type"] == [1]
            assert len(fields.get("tls.handshake.ciphersuite", [])) <= len(hello) // 2


@given(st.binary(max_size=300), st.sampled_from([20, 21, 22, 23]), st.integers(1, 400), st.integers(0, 20))
def test_any_record(body: bytes, kind: int, length: int, first: int) -> None:
    fields = tls_fields(struct.pack("!BHHB", kind, 0x0303, length, first) + body)
    assert fields is not None
    records = fields["tls.record.content_type"]
    assert records[0] == kind
    assert len(records) <= 1 + len(body) // 6


@given(st.binary(max_size=200))
def test_any_hello(samples: Any, body: bytes) -> None:
    for kind in (1, 2):
        for head in (b"", b"\3\3" + bytes(32) + b"\0"):
            assert tls_fields(samples.record(22, samples.handshake(kind, head + body))) is not None


def test_many_small_records_take_no_long_time() -> None:
    fields = tls_fields(b"\x17\x03\x03\0\x01x" * 10_000)
    assert fields is not None
    assert len(fields["tls.app_data"]) == 10_000
