"""Packets written by hand, with right checksums, and the connections that are found in them."""

from __future__ import annotations

import struct
from dataclasses import dataclass, field
from ipaddress import ip_address

from emulator.flows.connection import Row
from emulator.flows.table import connections

SECOND = 1_000_000_000
START = 1_700_000_000 * SECOND
ETHERNET, RAW = 1, 101
CLIENT, SERVER = "192.0.2.10", "198.51.100.80"
CLIENT6, SERVER6 = "2001:db8::10", "2001:db8:1::80"
TCP, UDP, ICMP, ICMPV6 = 6, 17, 1, 58
_FLAGS = {"F": 1, "S": 2, "R": 4, "P": 8, "A": 16}


def checksum(octets: bytes) -> int:
    """The Internet checksum, word by word as RFC 1071 tells it."""
    total = 0
    for high, low in zip(octets[::2], octets[1::2] + b"\0" * (len(octets) % 2), strict=True):
        total += high << 8 | low
        total = (total & 0xFFFF) + (total >> 16)
    return total ^ 0xFFFF


def packed(address: str) -> bytes:
    return ip_address(address).packed


def pseudo(source: str, destination: str, protocol: int, segment: bytes) -> bytes:
    return packed(source) + packed(destination) + struct.pack("!IHH", len(segment), 0, protocol)


def sealed(source: str, destination: str, protocol: int, segment: bytes, place: int) -> bytes:
    """`segment` with the checksum at `place`."""
    total = checksum(pseudo(source, destination, protocol, segment) + segment)
    return segment[:place] + total.to_bytes(2) + segment[place + 2 :]


def ipv4(
    source: str, destination: str, protocol: int, payload: bytes, *, identification: int = 1, flags: int = 0
) -> bytes:
    total = 20 + len(payload)
    header = struct.pack(
        "!BBHHHBBH4s4s", 0x45, 0, total, identification, flags, 64, protocol, 0, packed(source), packed(destination)
    )
    return header[:10] + checksum(header).to_bytes(2) + header[12:] + payload


def ipv6(source: str, destination: str, protocol: int, payload: bytes) -> bytes:
    return (
        struct.pack("!IHBB16s16s", 6 << 28, len(payload), protocol, 64, packed(source), packed(destination)) + payload
    )


def ip(source: str, destination: str, protocol: int, payload: bytes) -> bytes:
    return (ipv6 if ":" in source else ipv4)(source, destination, protocol, payload)


def tcp_segment(
    source: str, sport: int, destination: str, dport: int, flags: str, seq: int, ack: int = 0, data: bytes = b"",
    window: int = 1000,
) -> bytes:  # fmt: skip
    bits = sum(_FLAGS[letter] for letter in flags)
    segment = struct.pack("!HHIIBBHHH", sport, dport, seq & 0xFFFFFFFF, ack & 0xFFFFFFFF, 0x50, bits, window, 0, 0)
    return sealed(source, destination, TCP, segment + data, 16)


def tcp(
    source: str, sport: int, destination: str, dport: int, flags: str, seq: int, ack: int = 0, data: bytes = b""
) -> bytes:
    return ip(source, destination, TCP, tcp_segment(source, sport, destination, dport, flags, seq, ack, data))


def udp(source: str, sport: int, destination: str, dport: int, data: bytes = b"") -> bytes:
    segment = struct.pack("!HHHH", sport, dport, 8 + len(data), 0) + data
    return ip(source, destination, UDP, sealed(source, destination, UDP, segment, 6))


def icmp(source: str, destination: str, kind: int, code: int = 0, data: bytes = b"") -> bytes:
    message = struct.pack("!BBHI", kind, code, 0, 0x00010001) + data
    if ":" in source:
        return ipv6(source, destination, ICMPV6, sealed(source, destination, ICMPV6, message, 2))
    return ipv4(source, destination, ICMP, message[:2] + checksum(message).to_bytes(2) + message[4:])


def ethernet(packet: bytes, kind: int | None = None) -> bytes:
    number = (0x86DD if packet[0] >> 4 == 6 else 0x0800) if kind is None else kind
    return bytes.fromhex("02000000000b02000000000a") + number.to_bytes(2) + packet


def damaged(packet: bytes) -> bytes:
    """`packet` with its last octet changed on the way."""
    return packet[:-1] + bytes((packet[-1] ^ 0xFF,))


@dataclass
class Wire:
    """A cable between a client and a server: what is sent, when, and what an observer makes of it."""

    client: str = CLIENT
    server: str = SERVER
    cport: int = 40_000
    sport: int = 80
    now: int = START
    frames: list[tuple[int, int, bytes, int]] = field(default_factory=list)

    def send(self, packet: bytes, *, link: int = RAW, length: int | None = None, later: float = 0.001) -> Wire:
        self.now += int(later * SECOND)
        self.frames.append((self.now, link, packet, len(packet) if length is None else length))
        return self

    def wait(self, seconds: float) -> Wire:
        self.now += int(seconds * SECOND)
        return self

    def c(self, flags: str, seq: int, ack: int = 0, data: bytes = b"") -> Wire:
        """The client sends a segment; its numbers count from 1,000, the server's from 5,000."""
        ack = ack + 5000 if "A" in flags else 0
        return self.send(tcp(self.client, self.cport, self.server, self.sport, flags, seq + 1000, ack, data))

    def s(self, flags: str, seq: int, ack: int = 0, data: bytes = b"") -> Wire:
        """The server sends one."""
        ack = ack + 1000 if "A" in flags else 0
        return self.send(tcp(self.server, self.sport, self.client, self.cport, flags, seq + 5000, ack, data))

    def handshake(self) -> Wire:
        return self.c("S", 0).s("SA", 0, 1).c("A", 1, 1)

    def talk(self) -> Wire:
        """Ten octets asked, twenty answered, all acknowledged."""
        return self.c("PA", 1, 1, b"q" * 10).s("PA", 1, 11, b"a" * 20).c("A", 11, 21)

    def rows(self) -> list[Row]:
        return connections(self.frames)

    def row(self) -> Row:
        (only,) = self.rows()
        return only

    def told(self) -> list[tuple[str, str, int, int]]:
        """State, history and packets of each connection."""
        return [(row.state, row.history, row.orig_packets, row.resp_packets) for row in self.rows()]
