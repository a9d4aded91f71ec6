"""Header in header, down to bits: what lies where in a frame, read from its octets without the decoder."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from emulator.capture.frame import Frame
from emulator.lab.checks.frames import BitStream, Encapsulation
from emulator.verify.finding import DisprovedError, Finding, MissingEvidenceError, failed, passed
from emulator.verify.view import View
from emulator.verify.wording import at, listed, told

_ETHERNET_OCTETS = 14
_ETHERNET_MINIMUM = 60
"""Shorter frames are filled up to this size before the check sequence (IEEE 802.3, section 3.2.8)."""
_ETHERTYPE_MINIMUM = 0x0600
"""Smaller numbers in the place of the type are a length (IEEE 802.3, section 3.2.6)."""
_VLAN_TYPES = (0x8100, 0x88A8)
_ETHERTYPES = {0x0800: "ip", 0x0806: "arp", 0x86DD: "ipv6", **dict.fromkeys(_VLAN_TYPES, "vlan")}
_PROTOCOLS = {1: "icmp", 6: "tcp", 17: "udp", 58: "icmpv6"}
_APPLICATIONS = {"dhcp": (67, 68), "dns": (53,), "http": (80, 8080), "tls": (443,)}
_NUMBERS = {
    **dict.fromkeys(("eth", "vlan", "arp"), "2, 2, 1"), **dict.fromkeys(("ip", "ipv6", "icmp", "icmpv6"), "3, 3, 2"),
    **dict.fromkeys(("tcp", "udp"), "4, 4, 3"), **dict.fromkeys(_APPLICATIONS, "7, 5, 4"), "tls": "6, 5, 4",
}  # fmt: skip
"""The number of a protocol's layer in the 7-layer model (ISO/IEC 7498-1), the 5-layer model of textbooks, and the
4-layer model (RFC 1122, section 1.1.3)."""


@dataclass(frozen=True)
class Part:
    """A header, or the data at the end: octets `start` up to `end`, which is no longer in it.

    `names` says which field names the part that follows, in words.
    """

    name: str
    start: int
    end: int
    names: str = ""

    @property
    def octets(self) -> int:
        """Its size."""
        return self.end - self.start

    def __str__(self) -> str:
        about = "; ".join(text for text in (_NUMBERS.get(self.name, ""), self.names) if text)
        return f"{self.name} {self.start}–{self.end - 1}" + (f" ({about})" if about else "")


class _Cutter:
    """One frame, cut into its parts by what its own octets say. DisprovedError where they contradict themselves."""

    def __init__(self, frame: Frame) -> None:
        self.frame = frame
        self.data = frame.data
        self.end = len(frame.data)

    def _number(self, start: int, octets: int = 2) -> int:
        return int.from_bytes(self.data[start : start + octets], "big")

    def _wrong(self, what: str) -> DisprovedError:
        return DisprovedError(f"expected the octets of {at(self.frame)} ({told(self.frame)}) to add up; {what}")

    def _need(self, name: str, start: int, octets: int) -> int:
        """Where a header of `octets` octets at `start` ends."""
        if start + octets > self.end:
            raise self._wrong(
                f"its {name} header takes {octets} octets and {max(self.end - start, 0)} are left after octet {start}"
            )
        return start + octets

    def parts(self) -> Iterator[Part]:
        """From the outside in."""
        position = self._need("eth", 0, _ETHERNET_OCTETS)
        name, kind = "eth", self._number(12)
        start = 0
        while kind in _VLAN_TYPES:
            yield Part(name, start, position, f"type {kind:#06x} names vlan")
            name, start = "vlan", position
            position = self._need(name, start, 4)
            kind = self._number(position - 2)
        following = _ETHERTYPES.get(kind, "data")
        field = "type" if kind >= _ETHERTYPE_MINIMUM else "length"
        yield Part(name, start, position, f"{field} {kind:#06x} names {following}")
        if following == "ip":
            yield from self._ip(position)
        elif following == "ipv6":
            yield from self._ipv6(position)
        elif following == "arp":
            self._need("arp", position, 8)
            yield Part("arp", position, self._fill(self._need("arp", position, 8 + 2 * sum(self._sizes(position)))))
        else:
            yield from self._data(position)

    def _sizes(self, start: int) -> tuple[int, int]:
        """The sizes of hardware and protocol addresses in an ARP packet (RFC 826)."""
        return self.data[start + 4], self.data[start + 5]

    def _fill(self, end: int) -> int:
        """`end` of the packet, where the frame ends too but for what fills it up to the smallest size."""
        if end > self.end:
            raise self._wrong(f"its packet says that it ends at octet {end - 1}, and the frame ends at {self.end - 1}")
        if end < self.end and self.end > _ETHERNET_MINIMUM:
            raise self._wrong(f"its packet ends at octet {end - 1}, and the frame goes on to {self.end - 1}")
        self.end = end
        return end

    def _data(self, position: int, name: str = "data") -> Iterator[Part]:
        if position < self.end:
            yield Part(name, position, self.end)

    def _ip(self, start: int) -> Iterator[Part]:
        self._need("ip", start, 20)
        size, total = 4 * (self.data[start] & 0x0F), self._number(start + 2)
        if self.data[start] >> 4 != 4 or size < 20 or total < size:
            raise self._wrong(
                f"its IPv4 header has version {self.data[start] >> 4}, {size} octets of header in {total}"
            )
        position = self._need("ip", start, size)
        self._fill(start + total)
        protocol = self.data[start + 9]
        # A later fragment begins in the middle of what the protocol sent (RFC 791, section 3.2).
        following = "data" if self._number(start + 6) & 0x1FFF else _PROTOCOLS.get(protocol, "data")
        yield Part("ip", start, position, f"protocol {protocol} names {following}")
        yield from self._transport(following, position)

    def _ipv6(self, start: int) -> Iterator[Part]:
        position = self._need("ipv6", start, 40)
        if self.data[start] >> 4 != 6:
            raise self._wrong(f"its IPv6 header has version {self.data[start] >> 4}")
        self._fill(position + self._number(start + 4))
        following = _PROTOCOLS.get(self.data[start + 6], "data")
        yield Part("ipv6", start, position, f"next header {self.data[start + 6]} names {following}")
        yield from self._transport(following, position)

    def _transport(self, name: str, start: int) -> Iterator[Part]:
        if name == "tcp":
            self._need(name, start, 20)
            size = 4 * (self.data[start + 12] >> 4)
            if size < 20:
                raise self._wrong(f"its TCP header says that it has {size} octets, and 20 is the least")
            yield from self._application(name, start, self._need(name, start, size))
        elif name == "udp":
            position = self._need(name, start, 8)
            length = self._number(start + 4)
            if length != self.end - start:
                raise self._wrong(f"its UDP header counts {length} octets, and IP carries {self.end - start}")
            yield from self._application(name, start, position)
        elif name == "icmp":
            position = self._need(name, start, 8)
            yield Part(name, start, position)
            yield from self._data(position)
        else:
            yield from self._data(start, name)

    def _application(self, name: str, start: int, position: int) -> Iterator[Part]:
        """A transport header and the message in it. The decoder has read the message; a port led to its program."""
        if position == self.end:
            yield Part(name, start, position)
            return
        following = self.frame.layers[-1] if self.frame.layers and self.frame.layers[-1] in _APPLICATIONS else "data"
        ports = [self._number(start), self._number(start + 2)]
        known = [port for port in reversed(ports) if port in _APPLICATIONS.get(following, ())]
        yield Part(name, start, position, f"port {(known or [min(ports)])[0]} names {following}")
        yield from self._data(position, following)


def _whole(frame: Frame) -> Frame:
    """`frame`, when all its octets were captured."""
    if len(frame.data) < frame.length:
        raise MissingEvidenceError(f"only {len(frame.data):,} of {frame.length:,} octets of {at(frame)} were captured")
    return frame


def _first(text: str, view: View, place: str) -> Finding | Frame:
    found = view.matching(text, view.at(place))
    return _whole(found[0]) if found else view.lacking(f"a frame that matches {view.wanted(text)}", place)


def encapsulation(check: Encapsulation, view: View) -> Finding:
    """The layers are those of the lab file, each inside the one before, and their octets are those of the frame."""
    frame = _first(check.filter, view, check.at)
    if isinstance(frame, Finding):
        return frame
    parts = list(_Cutter(frame).parts())
    names = tuple(part.name for part in parts)
    if names != check.layers:
        return failed(
            f"expected {', '.join(check.layers)} in {at(frame)}, from the outside in; it has {', '.join(names)}",
            [frame],
        )
    if names != frame.layers:
        return failed(
            f"expected {at(frame)} to be decoded as its fields name it, {', '.join(names)}; the decoder found "
            f"{', '.join(frame.layers)}",
            [frame],
        )
    filling = frame.length - parts[-1].end
    tail = f" + {filling} to fill it up" if filling else ""
    return passed(
        f"{at(frame)}, octets from–to (layer in the 7-, 5- and 4-layer model; field that names the next): "
        f"{', '.join(map(str, parts))}; {' + '.join(str(part.octets) for part in parts)}{tail} = {frame.length:,}",
        [frame],
    )


def _bits(octets: bytes) -> str:
    return " ".join(f"{octet:08b}" for octet in octets)


def _header(frame: Frame) -> bytes:
    """The Ethernet header, made of the decoded fields; ValueError when there are none."""
    kind = frame.number_of("eth.type") if frame.fields.get("eth.type") else frame.number_of("eth.len")
    macs = [bytes.fromhex(frame.text(name).replace(":", "")) for name in ("eth.dst", "eth.src")]
    if kind < 0 or any(len(mac) != 6 for mac in macs):
        raise ValueError("no Ethernet header")
    return b"".join(macs) + kind.to_bytes(2, "big")


def bit_stream(check: BitStream, view: View) -> Finding:
    """Decoding and encoding lose nothing: the fields, written as bits again, are the frame."""
    frame = _first(check.filter, view, check.at)
    if isinstance(frame, Finding):
        return frame
    if frame.reencoded is None or not frame.layers:
        raise MissingEvidenceError(f"{at(frame)} could not be taken apart into fields")
    captured = frame.data[:_ETHERNET_OCTETS]
    try:
        rebuilt = _header(frame)
    except ValueError:
        return failed(f"expected {at(frame)} to begin with an Ethernet header; its fields give none", [frame])
    if rebuilt != captured:
        wrong = next(n for n, (a, b) in enumerate(zip(rebuilt, captured.ljust(14, b"\0"), strict=True)) if a != b)
        return failed(
            f"expected the fields of {at(frame)} to give its bits; octet {wrong} is "
            f"{_bits(captured[wrong : wrong + 1])} on the wire and {_bits(rebuilt[wrong : wrong + 1])} from the fields",
            [frame],
        )
    if not frame.reencoded:
        layers = listed(frame.layers, 8)
        return failed(
            f"expected the fields of {at(frame)} to give its {frame.length:,} octets; one of its headers ({layers}), "
            "encoded again, has other bits",
            [frame],
        )
    field = "type" if frame.fields.get("eth.type") else "length"
    return passed(
        f"{at(frame)} is {8 * frame.length:,} bits, and its fields give the same bits again; the first 112: "
        f"destination {_bits(captured[:6])}, source {_bits(captured[6:12])}, {field} {_bits(captured[12:])}",
        [frame],
    )
