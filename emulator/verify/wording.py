"""How frames and values are put into the words of a reason. Nothing from a packet reaches a terminal unescaped."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from emulator.capture.frame import Frame
from emulator.errors import counted, printable

_SHOWN_FRAMES = 4
_TCP_FLAGS = ("syn", "fin", "reset", "ack")
DHCP_MESSAGES = {
    1: "Discover", 2: "Offer", 3: "Request", 4: "Decline", 5: "Ack", 6: "Nak", 7: "Release", 8: "Inform",
}  # fmt: skip
"""DHCP message types (RFC 2132, section 9.6)."""

_ICMP_TYPES = {
    0: "echo reply", 3: "destination unreachable", 4: "source quench", 5: "redirect", 8: "echo request",
    9: "router advertisement", 10: "router solicitation", 11: "time exceeded", 12: "parameter problem",
    13: "timestamp request", 14: "timestamp reply",
}  # fmt: skip
_ICMP_CODES = {
    (3, 0): "network unreachable", (3, 1): "host unreachable", (3, 2): "protocol unreachable",
    (3, 3): "port unreachable", (3, 4): "fragmentation needed", (3, 9): "network prohibited",
    (3, 10): "host prohibited", (3, 13): "prohibited", (11, 1): "reassembly time exceeded",
}  # fmt: skip
"""ICMP types and codes in words (RFC 792, RFC 1812)."""

_ICMPV6_TYPES = {
    1: "destination unreachable", 2: "packet too big", 3: "time exceeded", 4: "parameter problem",
    128: "echo request", 129: "echo reply", 130: "listener query", 131: "listener report", 132: "listener done",
    133: "router solicitation", 134: "router advertisement", 135: "neighbour solicitation",
    136: "neighbour advertisement", 137: "redirect", 143: "listener report",
}  # fmt: skip
_ICMPV6_CODES = {
    (1, 0): "no route", (1, 1): "prohibited", (1, 3): "address unreachable", (1, 4): "port unreachable",
    (3, 1): "reassembly time exceeded",
}  # fmt: skip
"""ICMPv6 types and codes in words (RFC 4443, RFC 4861, RFC 2710, RFC 3810)."""

_TLS_RECORDS = {20: "ChangeCipherSpec", 21: "encrypted alert", 22: "handshake", 23: "application data"}
_TLS_MESSAGES = {
    0: "HelloRequest", 1: "ClientHello", 2: "ServerHello", 4: "NewSessionTicket", 11: "Certificate",
    12: "ServerKeyExchange", 13: "CertificateRequest", 14: "ServerHelloDone", 15: "CertificateVerify",
    16: "ClientKeyExchange", 22: "CertificateStatus",
}  # fmt: skip
_TLS_ALERTS = {
    0: "close notify", 10: "unexpected message", 20: "bad record MAC", 40: "handshake failure", 42: "bad certificate",
    43: "unsupported certificate", 44: "certificate revoked", 45: "certificate expired", 46: "certificate unknown",
    47: "illegal parameter", 48: "unknown CA", 49: "access denied", 50: "decode error", 51: "decrypt error",
    70: "protocol version", 71: "insufficient security", 80: "internal error", 90: "user cancelled",
    112: "unrecognized name",
}  # fmt: skip
"""TLS record types, handshake messages and alerts in words (RFC 8446, sections 5.1, 4 and 6; RFC 5246)."""

_HOST_NAME = re.compile(r"[A-Za-z0-9._-]{1,60}")
"""A name that needs no quotes."""


def shown(text: str | bytes, limit: int = 60) -> str:
    """`text` in quotes, on one line, shortened to `limit` characters, control characters as escapes."""
    if isinstance(text, bytes):
        text = text.decode("utf-8", "replace")
    if len(text) > limit:
        text = text[: limit - 1] + "…"
    return '"' + printable(text).replace("\n", "\\n").replace("\t", "\\t") + '"'


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
    if "stp" in frame.layers:
        return _bpdu(frame)
    source, target = (frame.text("ip.src") or frame.text("ipv6.src"), frame.text("ip.dst") or frame.text("ipv6.dst"))
    if "dhcp" in frame.layers:
        kind = frame.number_of("dhcp.option.dhcp")
        return f"DHCP {DHCP_MESSAGES.get(kind, f'message {kind}')}"
    if "dns" in frame.layers:
        what = "answer" if frame.number_of("dns.flags.response") == 1 else "question"
        return f"DNS {what} {shown(frame.text('dns.qry.name'))} {source} → {target}"
    if frame.get("tcp.srcport") is not None:
        return _segment(frame, source, target)
    if frame.get("udp.srcport") is not None:
        return f"UDP {_ends(frame, 'udp', source, target)}"
    if frame.get("icmp.type") is not None:
        return f"ICMP {_icmp(frame.number_of('icmp.type'), frame.number_of('icmp.code'))} {source} → {target}"
    if frame.get("icmpv6.type") is not None:
        return f"ICMPv6 {_icmpv6(frame)} {source} → {target}"
    if source:
        later = frame.number_of("ip.frag_offset") > 0 or frame.number_of("ipv6.fraghdr.offset") > 0
        protocol = frame.number_of("ip.proto" if frame.get("ip.src") else "ipv6.nxt")
        return f"IP {'fragment' if later else f'protocol {protocol}'} {source} → {target}"
    return f"{frame.text('eth.src') or 'a frame'} → {frame.text('eth.dst') or 'somewhere'}"


def _ends(frame: Frame, protocol: str, source: str, target: str) -> str:
    """`192.0.2.80:80 → 203.0.113.2:40000`; an IPv6 address in brackets (RFC 5952, section 6)."""
    sender, receiver = (f"[{address}]" if ":" in address else address for address in (source, target))
    return f"{sender}:{frame.text(f'{protocol}.srcport')} → {receiver}:{frame.text(f'{protocol}.dstport')}"


def _segment(frame: Frame, source: str, target: str) -> str:
    """A TCP segment, by what it carries if that has words of its own."""
    ends = _ends(frame, "tcp", source, target)
    if "tls" in frame.layers:
        return f"TLS {_tls(frame)} {ends}"
    if method := frame.text("http.request.method"):
        return f"HTTP {shown(method + ' ' + frame.text('http.request.uri'))} {ends}"
    if code := frame.text("http.response.code"):
        return f"HTTP {shown((code + ' ' + frame.text('http.response.phrase')).rstrip())} {ends}"
    flags = ",".join(flag.upper() for flag in _TCP_FLAGS if frame.number_of(f"tcp.flags.{flag}") == 1)
    return f"TCP {ends} {flags}".rstrip()


def _tls(frame: Frame) -> str:
    """The first TLS record of a segment: `ClientHello new.qq.com`, `alert unknown CA`, `application data`."""
    first = frame.number_of("tls.record.content_type")
    handshake, alert = frame.number_of("tls.handshake.type"), frame.number_of("tls.alert_message.desc")
    if first == 22 and handshake >= 0:
        name = frame.text("tls.handshake.extensions_server_name")
        words = [_TLS_MESSAGES.get(handshake, f"handshake message {handshake}")]
        return " ".join(words + ([name if _HOST_NAME.fullmatch(name) else shown(name)] if name else []))
    if first == 21 and alert >= 0:
        return f"alert {_TLS_ALERTS.get(alert, str(alert))}"
    return _TLS_RECORDS.get(first, "record")


def _icmp(kind: int, code: int) -> str:
    return _ICMP_CODES.get((kind, code)) or _ICMP_TYPES.get(kind, f"type {kind}")


def _icmpv6(frame: Frame) -> str:
    kind, code = frame.number_of("icmpv6.type"), frame.number_of("icmpv6.code")
    words = _ICMPV6_CODES.get((kind, code)) or _ICMPV6_TYPES.get(kind, f"type {kind}")
    if asked := frame.text("icmpv6.nd.ns.target_address"):
        return f"{words} for {asked},"
    offered = frame.text("icmpv6.nd.na.target_address")
    return f"{words} of {offered}," if offered else words


def _bpdu(frame: Frame) -> str:
    """`STP BPDU root 4096/02:57:4c:00:01:00 from 02:57:4c:00:02:00`: bridges by their identifiers."""
    sender = frame.text("stp.bridge.hw") or frame.text("eth.src")
    if not frame.get("stp.root.hw"):
        change = frame.number_of("stp.type") == 0x80
        return f"STP {'topology change' if change else 'BPDU'} from {sender}"
    priority = frame.number_of("stp.root.prio") + frame.number_of("stp.root.ext")
    return f"STP BPDU root {priority}/{frame.text('stp.root.hw')} from {sender}"


def saw(frames: Sequence[Frame]) -> str:
    """What was there instead: `saw 12 other frames, the last: …`, or `saw nothing there`."""
    if not frames:
        return "saw nothing there"
    others = counted(len(frames), "other frame")
    return f"saw {others}, the last: {told(frames[-1])} (frame {frames[-1].number})"
