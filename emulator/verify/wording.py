"""How frames and values are put into the words of a reason. Nothing from a packet reaches a terminal unescaped."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from emulator.capture.frame import Frame
from emulator.errors import printable

_SHOWN_FRAMES = 4
_TCP_FLAGS = ("syn", "fin", "reset", "ack")
DHCP_MESSAGES = {
    1: "Discover", 2: "Offer", 3: "Request", 4: "Decline", 5: "Ack", 6: "Nak", 7: "Release", 8: "Inform",
}  # fmt: skip
"""DHCP message types (RFC 2132, section 9.6)."""


def shown(text: str | bytes, limit: int = 60) -> str:
    """`text` in quotes, on one line, shortened to `limit` characters, control characters as escapes."""
    if isinstance(text, bytes):
        text = text.decode("utf-8", "replace")
    if len(text) > limit:
        text = text[: limit - 1] + "…"
    return '"' + printable(text).replace("\n", "\\n").replace("\t", "\\t") + '"'


def counted(number: int, noun: str) -> str:
    """`1 frame`, `1,204 frames`."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def at(frame: Frame) -> str:
    """`frame 12 at home:wan`."""
    return f"frame {frame.number} at {frame.interface}"


def numbers(frames: Iterable[Frame]) -> str:
    """`frame 12`, `frames 12 and 14`, `frames 12, 14, 15, 18 … 90 (31 in all)`."""
    found = list(dict.fromkeys(str(frame.number) for frame in frames))
    if not found:
        return "no frame"
    if len(found) == 1:
        return f"frame {found[0]}"
    if len(found) <= _SHOWN_FRAMES:
        return f"frames {', '.join(found[:-1])} and {found[-1]}"
    return f"frames {', '.join(found[:_SHOWN_FRAMES])} … {found[-1]} ({len(found)} in all)"


def listed(items: Sequence[str], limit: int = 3) -> str:
    """`a`, `a and b`, `a, b, c and 4 more`."""
    if len(items) > limit:
        return f"{', '.join(items[:limit])} and {len(items) - limit} more"
    return " and ".join([", ".join(items[:-1]), items[-1]] if len(items) > 1 else items)


def told(frame: Frame) -> str:
    """What a frame says, in a few words: `TCP 192.0.2.80:80 → 203.0.113.2:40000 SYN,ACK`."""
    if "arp" in frame.layers:
        asked, asker = frame.text("arp.dst.proto_ipv4"), frame.text("arp.src.proto_ipv4")
        if frame.number_of("arp.opcode") == 1:
            return f"ARP who has {asked}? tell {asker}"
        return f"ARP {asker} is at {frame.text('arp.src.hw_mac')}"
    source, target = (frame.text("ip.src") or frame.text("ipv6.src"), frame.text("ip.dst") or frame.text("ipv6.dst"))
    protocol = max(frame.number_of("ip.proto"), frame.number_of("ipv6.nxt"))
    if frame.fields.get("ipv6.src") and protocol in (6, 17):
        # Before a port, the address is in brackets (RFC 3986, section 3.2.2).
        source, target = f"[{source}]", f"[{target}]"
    if protocol == 6:
        flags = ",".join(flag.upper() for flag in _TCP_FLAGS if frame.number_of(f"tcp.flags.{flag}") == 1)
        ends = f"{source}:{frame.text('tcp.srcport')} → {target}:{frame.text('tcp.dstport')}"
        return f"TCP {ends} {flags}".rstrip()
    if "dhcp" in frame.layers:
        kind = frame.number_of("dhcp.option.dhcp")
        return f"DHCP {DHCP_MESSAGES.get(kind, f'message {kind}')}"
    if "dns" in frame.layers and protocol == 17:
        what = "answer" if frame.number_of("dns.flags.response") == 1 else "question"
        return f"DNS {what} {shown(frame.text('dns.qry.name'))} {source} → {target}"
    if protocol == 17:
        return f"UDP {source}:{frame.text('udp.srcport')} → {target}:{frame.text('udp.dstport')}"
    if protocol == 1:
        return f"ICMP type {frame.number_of('icmp.type')} {source} → {target}"
    if frame.fields.get("icmpv6.type"):
        return f"ICMPv6 type {frame.number_of('icmpv6.type')} {source} → {target}"
    if source:
        return f"IP protocol {protocol} {source} → {target}"
    return f"{frame.text('eth.src') or 'a frame'} → {frame.text('eth.dst') or 'somewhere'}"


def saw(frames: Sequence[Frame]) -> str:
    """What was there instead: `saw 12 other frames, the last: …`, or `saw nothing there`."""
    if not frames:
        return "saw nothing there"
    others = counted(len(frames), "other frame")
    return f"saw {others}, the last: {told(frames[-1])} (frame {frames[-1].number})"
