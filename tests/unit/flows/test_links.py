"""Link layers and tunnels: the same datagram is found behind each, and not behind what only looks like it."""

from __future__ import annotations

import struct

import pytest

from .wire import CLIENT, CLIENT6, ETHERNET, SERVER, SERVER6, Wire, ethernet, icmp, ipv4, ipv6, tcp, udp

PACKET = udp(CLIENT, 5000, SERVER, 6000, b"hello")
PACKET6 = udp(CLIENT6, 5000, SERVER6, 6000, b"hello")
MACS = bytes.fromhex("02000000000b02000000000a")
SNAP = b"\xaa\xaa\x03\0\0\0\x08\0"
LABELS = bytes.fromhex("00010040 00020140")


def wireless(payload: bytes, control: int = 0x08, flags: int = 0x01) -> bytes:
    return bytes((control, flags)) + bytes(22) + payload


FRAMES = {
    "ethernet": (1, ethernet(PACKET)),
    "802.1Q": (1, MACS + b"\x81\0\0\x05\x08\0" + PACKET),
    "802.1ad": (1, MACS + b"\x88\xa8\0\x05\x81\0\0\x06\x08\0" + PACKET),
    "three tags": (1, MACS + b"\x91\0\0\x05\x81\0\0\x06\x81\0\0\x07\x08\0" + PACKET),
    "MPLS": (1, MACS + b"\x88\x47" + LABELS + PACKET),
    "MPLS in a VLAN": (1, MACS + b"\x81\0\0\x05\x88\x47" + LABELS + PACKET),
    "PPPoE": (1, MACS + b"\x88\x64\x11\0\0\x01" + struct.pack("!H", len(PACKET) + 2) + b"\0\x21" + PACKET),
    "PPPoE in two VLANs": (1, MACS + b"\x81\0\0\x05\x81\0\0\x06\x88\x64\x11\0\0\x01\0\x40\0\x21" + PACKET),
    "SNAP": (1, MACS + struct.pack("!H", len(PACKET) + 8) + SNAP + PACKET),
    "SNAP in a VLAN": (1, MACS + b"\x81\0\0\x05" + struct.pack("!H", len(PACKET) + 8) + SNAP + PACKET),
    "802.1ah": (1, MACS + b"\x88\xe7\0\0\0\x01" + ethernet(PACKET)),
    "VN-tag": (1, MACS + b"\x89\x26\0\0\0\0\x81\0\0\x05\x08\0" + PACKET),
    "FabricPath": (1, MACS + b"\x89\x03\0\x01" + ethernet(PACKET)),
    "loopback": (0, b"\x02\0\0\0" + PACKET),
    "loopback, big-endian": (0, b"\0\0\0\x02" + PACKET),
    "loopback of OpenBSD": (108, b"\0\0\0\x02" + PACKET),
    "PPP": (9, b"\0\x21" + PACKET),
    "PPP with framing": (9, b"\xff\x03\0\x21" + PACKET),
    "PPP with MPLS": (9, b"\x02\x81" + LABELS + PACKET),
    "PPP over a serial line": (50, b"\xff\x03\0\x21" + PACKET),
    "PPP over Ethernet alone": (51, b"\x11\0\0\x01\0\x40\0\x21" + PACKET),
    "FDDI": (10, bytes(13) + SNAP + PACKET),
    "raw": (101, PACKET),
    "raw of BSD": (12, PACKET),
    "raw IPv4": (228, PACKET),
    "cooked": (113, bytes(14) + b"\x08\0" + PACKET),
    "cooked, version 2": (276, b"\x08\0" + bytes(18) + PACKET),
    "netfilter log": (239, b"\x02\0\0\0" + b"\x05\0\x0a\0x\0\0\0" + b"\x08\0\x09\0" + PACKET),
    "802.11": (105, wireless(SNAP + PACKET)),
    "802.11 with QoS": (105, wireless(b"\0\0" + SNAP + PACKET, control=0x88)),
    "802.11 between access points": (105, wireless(bytes(6) + SNAP + PACKET, flags=0x03)),
    "radiotap": (127, b"\0\0\x0a\0" + bytes(6) + wireless(SNAP + PACKET)),
}


@pytest.mark.parametrize("name", FRAMES)
def test_ip_is_found(name: str) -> None:
    link, frame = FRAMES[name]
    row = Wire().send(frame, link=link).row()
    assert (row.orig_address, row.orig_port, row.resp_address, row.resp_port) == (CLIENT, 5000, SERVER, 6000)


@pytest.mark.parametrize("name", sorted(FRAMES.keys() - {"SNAP"}))
def test_cut_anywhere_it_is_found_as_long_as_its_ports_are_there(name: str) -> None:
    link, frame = FRAMES[name]
    header = len(frame) - len(PACKET)
    for size in range(len(frame)):
        rows = Wire().send(frame[:size], link=link, length=len(frame)).rows()
        assert len(rows) == (size >= header + 28), size


def test_a_frame_that_is_shorter_than_its_length_says_is_none() -> None:
    link, frame = FRAMES["SNAP"]
    assert Wire().send(frame[:-1], link=link, length=len(frame)).rows() == []


@pytest.mark.parametrize(
    ("link", "frame"),
    [
        (1, ethernet(PACKET, 0x0806)),
        (1, ethernet(PACKET, 0x88B5)),
        (1, ethernet(PACKET, 1501)),
        (1, MACS + struct.pack("!H", len(PACKET) + 8) + b"\xaa\xaa\x03\0\0\x0c\x20\0" + PACKET),
        (1, MACS + struct.pack("!H", len(PACKET) + 100) + SNAP + PACKET),
        (1, MACS + struct.pack("!H", len(PACKET) + 3) + b"\x42\x42\x03" + PACKET),
        (1, MACS + b"\x88\x64\x11\0\0\x01\0\x40\xc0\x21" + PACKET),
        (1, MACS + b"\x88\x47" + b"\0\x01\0\x40" * 3),
        (0, b"\x63\0\0\0" + PACKET),
        (9, b"\xc0\x21" + PACKET),
        (113, bytes(14) + b"\x08\x06" + PACKET),
        (239, b"\x02\x01\0\0" + b"\x08\0\x09\0" + PACKET),
        (239, b"\x02\0\0\0" + b"\0\0\x0a\0" + PACKET),
        (105, wireless(SNAP + PACKET, control=0x80)),
        (105, wireless(SNAP + PACKET, control=0x48)),
        (105, wireless(SNAP + PACKET, flags=0x41)),
        (147, b"\x01" + PACKET),
    ],
)
def test_no_ip_is_found_in_what_carries_none(link: int, frame: bytes) -> None:
    assert Wire().send(frame, link=link).rows() == []


def test_an_aggregate_of_802_11_holds_several() -> None:
    frame = wireless(b"\x80\0", control=0x88)
    for port in (1, 2, 3):
        part = SNAP + udp(CLIENT, port, SERVER, 6000, b"x" * port)
        frame += MACS + struct.pack("!H", len(part)) + part + bytes(-(len(part) + 14) % 4)
    assert [row.orig_port for row in Wire().send(frame, link=105).rows()] == [1, 2, 3]


def inside(packet: bytes) -> list[str]:
    """What is found in a packet, the tunnel's own connection left out."""
    return [row.orig_address for row in Wire().send(packet).rows() if row.orig_address not in (OUTER, OUTER6)]


OUTER, OUTER_END = "10.0.0.1", "10.0.0.2"
OUTER6, OUTER6_END = "2001:db8:f::1", "2001:db8:f::2"
TEREDO = "2001:0:7f00:1::1"
INNER6 = udp(TEREDO, 5000, SERVER6, 6000, b"hello")


def in_udp(port: int, payload: bytes) -> bytes:
    return udp(OUTER, 50_000, OUTER_END, port, payload)


def gre(flags: int, kind: int, payload: bytes) -> bytes:
    return ipv4(OUTER, OUTER_END, 47, struct.pack("!HH", flags, kind) + payload)


GTP = struct.pack("!BBHI", 0x30, 255, len(PACKET), 1)
TUNNELS = {
    "4in4": ipv4(OUTER, OUTER_END, 4, PACKET),
    "6in4": ipv4(OUTER, OUTER_END, 41, PACKET6),
    "4in6": ipv6(OUTER6, OUTER6_END, 4, PACKET),
    "6in6": ipv6(OUTER6, OUTER6_END, 41, PACKET6),
    "GRE": gre(0, 0x0800, PACKET),
    "GRE with checksum, key and number": gre(0xB000, 0x0800, bytes(12) + PACKET),
    "GRE with IPv6": gre(0, 0x86DD, PACKET6),
    "GRE with Ethernet": gre(0, 0x6558, ethernet(PACKET)),
    "PPTP": gre(0x3081, 0x880B, bytes(12) + b"\xff\x03\0\x21" + PACKET),
    "ERSPAN I": gre(0, 0x88BE, ethernet(PACKET)),
    "ERSPAN II": gre(0x1000, 0x88BE, bytes(4) + bytes(8) + ethernet(PACKET)),
    "ERSPAN III": gre(0x1000, 0x22EB, bytes(4) + bytes(12) + ethernet(PACKET)),
    "ERSPAN III with platform": gre(0x1000, 0x22EB, bytes(4) + bytes(11) + b"\x01" + bytes(8) + ethernet(PACKET)),
    "Aruba": gre(0, 0x9000, wireless(SNAP + PACKET)),
    "VXLAN": in_udp(4789, b"\x08" + bytes(7) + ethernet(PACKET)),
    "Geneve": in_udp(6081, b"\0\0\x65\x58" + bytes(4) + ethernet(PACKET)),
    "Geneve with options and IP": in_udp(6081, b"\x02\0\x08\0" + bytes(12) + PACKET),
    "GTP-U": in_udp(2152, GTP + PACKET),
    "GTP-U with a number": in_udp(2152, b"\x32" + GTP[1:] + bytes(4) + PACKET),
    "GTP-U with an extension": in_udp(2152, b"\x34" + GTP[1:] + b"\0\0\0\x85" + b"\x01\0\0\0" + PACKET),
    "AYIYA": in_udp(5072, b"\x44\x52\x11\x29" + bytes(4) + bytes(16) + bytes(20) + PACKET6),
    "AYIYA on another port": in_udp(9999, b"\x44\x52\x11\x29" + bytes(4) + bytes(16) + bytes(20) + PACKET6),
    "Teredo": in_udp(3544, PACKET6),
    "Teredo with origin": in_udp(3544, bytes(8) + PACKET6),
    "Teredo with authentication": in_udp(3544, b"\0\x01\x02\x03" + bytes(5) + bytes(9) + PACKET6),
    "Teredo with both": in_udp(3544, b"\0\x01\0\0" + bytes(9) + bytes(8) + PACKET6),
    "Teredo on another port": in_udp(9999, INNER6),
    "Teredo with origin on another port": in_udp(9999, bytes(8) + PACKET6),
    "Teredo with both on another port": in_udp(9999, b"\0\x01\0\0" + bytes(9) + bytes(8) + PACKET6),
    "GRE in GRE": gre(0, 0x0800, ipv4(OUTER, OUTER_END, 47, b"\0\0\x08\0" + PACKET)),
    "fragments": ipv4(OUTER, OUTER_END, 4, PACKET),
}


@pytest.mark.parametrize("name", TUNNELS)
def test_what_a_tunnel_carries_is_found(name: str) -> None:
    assert len(inside(TUNNELS[name])) == 1


@pytest.mark.parametrize("name", TUNNELS)
def test_a_cut_tunnel_never_fails(name: str) -> None:
    packet = TUNNELS[name]
    for size in range(len(packet)):
        Wire().send(packet[:size], length=len(packet)).rows()


@pytest.mark.parametrize(
    "packet",
    [
        ipv4(OUTER, OUTER_END, 4, PACKET + b"\0"),
        ipv4(OUTER, OUTER_END, 41, PACKET),
        gre(0x4000, 0x0800, PACKET),
        gre(0x0008, 0x0800, PACKET),
        gre(0x0002, 0x0800, PACKET),
        gre(0x0001, 0x0800, PACKET),
        gre(0x3081, 0x880B, bytes(12) + b"\xff\x03\xc0\x21" + PACKET),
        gre(0, 0x2000, b"\x02" + bytes(30)),
        in_udp(4789, b"\0" + bytes(7) + ethernet(PACKET)),
        in_udp(6081, b"\x40\0\x65\x58" + bytes(4) + ethernet(PACKET)),
        in_udp(6081, b"\x3f\0\x65\x58" + bytes(4) + ethernet(PACKET)),
        in_udp(2152, b"\x50" + GTP[1:] + PACKET),
        in_udp(2152, b"\x20" + GTP[1:] + PACKET),
        in_udp(2152, GTP[:1] + b"\x10" + GTP[2:] + PACKET),
        in_udp(2152, b"\x34" + GTP[1:] + b"\0\0\0\x85" + b"\0\0\0\0" + PACKET),
        in_udp(5072, b"\x44\x52\x12\x29" + bytes(4) + bytes(16) + bytes(20) + PACKET6),
        in_udp(3544, PACKET6 + b"\0"),
        in_udp(3544, ipv6(CLIENT6, SERVER6, 59, b"")),
        in_udp(9999, PACKET6),
        in_udp(9999, PACKET),
        gre(0, 0x0800, ipv4(OUTER, OUTER_END, 47, b"\0\0\x08\0" + ipv4(OUTER, OUTER_END, 4, PACKET))),
    ],
)
def test_what_is_no_tunnel_or_too_deep_is_not_looked_into(packet: bytes) -> None:
    assert inside(packet) == []


def test_a_connection_that_turned_out_to_be_no_tunnel_is_not_tried_again() -> None:
    wire = Wire().send(in_udp(4789, b"\0" * 40)).send(TUNNELS["VXLAN"])
    assert [row.orig_address for row in wire.rows()] == [OUTER]


def test_the_tunnel_is_a_connection_too() -> None:
    rows = Wire().send(TUNNELS["VXLAN"]).rows()
    assert [(row.protocol, row.resp_port) for row in rows] == [("udp", 4789), ("udp", 6000)]
    assert len(Wire().send(TUNNELS["GRE"]).rows()) == 1


def test_an_error_about_a_packet_is_not_that_packet() -> None:
    assert [row.protocol for row in Wire().send(icmp(SERVER, CLIENT, 3, 1, PACKET)).rows()] == ["icmp"]


def test_a_cut_inner_datagram_keeps_its_length() -> None:
    inner = tcp(CLIENT, 40_000, SERVER, 80, "PA", 1, 1, b"x" * 500)
    packet = ethernet(gre(0, 0x0800, inner))
    (row,) = Wire().send(packet[:90], link=ETHERNET, length=len(packet)).rows()
    assert (row.history, row.orig_packets) == ("D", 1)
