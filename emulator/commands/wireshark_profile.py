"""Wireshark's profile `Wirelab`: names, columns and colours that suit captures of whole labs. Only data.

The files are those of a configuration profile (Wireshark User's Guide, Configuration Files and Folders).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

NAME: Final = "Wirelab"

_PREFERENCES: Final = """\
# Wirelab: made by `wirelab wireshark install`.

# Addresses by the nodes' names, which the capture itself brings; nobody else is asked.
nameres.mac_name: FALSE
nameres.network_name: TRUE
nameres.transport_name: FALSE
nameres.dns_pkt_addr_resolution: FALSE
nameres.use_external_name_resolver: FALSE

# Frames of a lab are those of a wire: a wrong checksum is a fault.
ip.check_checksum: TRUE
tcp.check_checksum: TRUE
udp.check_checksum: TRUE

# A whole lab shows one packet at each interface that it passes: to Wireshark the later ones are repetitions.
tcp.analyze_sequence_numbers: FALSE
tcp.desegment_tcp_streams: FALSE

gui.column.format:
\t"No.", "%m",
\t"Time", "%t",
\t"Interface", "%Cus:frame.interface_name:0:R",
\t"Direction", "%Cus:frame.packet_flags_direction:0:R",
\t"Source", "%s",
\t"Destination", "%d",
\t"Protocol", "%p",
\t"TTL", "%Cus:ip.ttl:1:R",
\t"Length", "%L",
\t"Info", "%i"
"""

_RULES: Final = (
    ("Bad checksum", "ip.checksum.status == 0 || tcp.checksum.status == 0 || udp.checksum.status == 0",
     (4718, 10030, 11796), (63479, 34695, 34695)),
    ("Duplicate address", "arp.duplicate-address-detected", (63479, 34695, 34695), (0, 0, 0)),
    ("TCP reset", "tcp.flags.reset == 1", (42148, 0, 0), (65535, 64764, 40092)),
    ("ICMP error", "icmp.type in {3, 4, 5, 11, 12} || icmpv6.type in {1, 2, 3, 4}",
     (4718, 10030, 11796), (47031, 63479, 29812)),
    ("DNS without an answer", "dns.flags.response == 1 && dns.flags.rcode != 0", (65535, 52428, 45232), (39321, 0, 0)),
    ("ARP and neighbour discovery", "arp || icmpv6.type in {133, 134, 135, 136, 137}",
     (64250, 61680, 55255), (4718, 10030, 11796)),
    ("Spanning tree", "stp", (61680, 57568, 63479), (4718, 10030, 11796)),
    ("DHCP", "dhcp || dhcpv6", (65535, 61166, 46003), (4718, 10030, 11796)),
    ("DNS", "dns", (56026, 61166, 65535), (4718, 10030, 11796)),
    ("HTTP and TLS", "http || tls", (58596, 65535, 51143), (4718, 10030, 11796)),
    ("TCP begins or ends", "tcp.flags & 0x03", (41120, 41120, 41120), (4718, 10030, 11796)),
    ("TCP", "tcp", (59367, 59110, 65535), (4718, 10030, 11796)),
    ("ICMP", "icmp || icmpv6", (64764, 57568, 65535), (4718, 10030, 11796)),
    ("UDP", "udp", (56026, 61166, 65535), (4718, 10030, 11796)),
)  # fmt: skip
"""Name, display filter, background, foreground (red, green, blue, 16 bits each). The first that matches colours."""


def _colours(rgb: tuple[int, int, int]) -> str:
    return "[" + ",".join(str(value) for value in rgb) + "]"


_COLORFILTERS: Final = "# Wirelab: made by `wirelab wireshark install`.\n" + "".join(
    f"@{name}@{expression}@{_colours(background)}{_colours(foreground)}\n"
    for name, expression, background, foreground in _RULES
)

FILTERS: Final = tuple(expression for _name, expression, _background, _foreground in _RULES)
"""The display filters of the colour rules."""

FILES: Final[Mapping[str, str]] = {"preferences": _PREFERENCES, "colorfilters": _COLORFILTERS}
"""File of the profile → its text."""
