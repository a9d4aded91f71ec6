"""Capture files: written as pcapng, read as pcapng or as classic pcap. Standard library only.

Sources: the pcapng and pcap file formats, draft-ietf-opsawg-pcapng and draft-ietf-opsawg-pcap. A block's
or an option's name below is the name that it has there.
"""

from __future__ import annotations

import errno
import os
import socket
import stat
import struct
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from typing import BinaryIO, Final, Protocol

from emulator.capture.frame import Direction, Interface
from emulator.errors import UsageError

LINKTYPE_ETHERNET: Final = 1
LINKTYPE_RAW: Final = 101
"""An IPv4 or IPv6 packet without a link header."""

SNAPLEN_MAX: Final = 262_144
"""The longest packet that Wireshark and tcpdump accept, in octets."""

_SECTION_HEADER: Final = 0x0A0D0D0A
_INTERFACE_DESCRIPTION: Final = 1
_OBSOLETE_PACKET: Final = 2
_SIMPLE_PACKET: Final = 3
_NAME_RESOLUTION: Final = 4
_INTERFACE_STATISTICS: Final = 5
_ENHANCED_PACKET: Final = 6
_BYTE_ORDER_MAGIC: Final = 0x1A2B3C4D

_SHB_HARDWARE, _SHB_OS, _SHB_USERAPPL = 2, 3, 4
_IF_NAME, _IF_MACADDR, _IF_TSRESOL, _IF_TSOFFSET = 2, 6, 9, 14
_EPB_FLAGS = 2
_ISB_STARTTIME, _ISB_ENDTIME, _ISB_IFRECV, _ISB_IFDROP = 2, 3, 4, 5
_NRB_RECORD_END, _NRB_RECORD_IPV4, _NRB_RECORD_IPV6 = 0, 1, 2

STATISTICS_OCTETS: Final = 76
"""The size of an Interface Statistics Block as `Writer.statistics` writes it."""

EPB_HEAD: Final = struct.Struct("=7I")
"""Of an Enhanced Packet Block: its type (6), its length, the interface, the time (high, low), and the packet's length,
captured and on the wire."""
_EPB_TAIL: Final = struct.Struct("=HHIII")
"""The flags option, the end of the options, and the block's length again."""
_U32: Final = struct.Struct("=I")

_DIRECTION_BITS: Final[dict[Direction | None, int]] = {None: 0, "in": 1, "out": 2}
_DIRECTIONS: Final[dict[int, Direction]] = {1: "in", 2: "out"}

_PCAP_MAGICS: Final = {0xA1B2C3D4: 1_000, 0xA1B23C4D: 1}
"""Magic number of a classic pcap file → nanoseconds per unit of its fractions of a second."""

_NS_A_SECOND: Final = 1_000_000_000
_PENDING_MAX: Final = 1 << 20


@dataclass(frozen=True)
class Packet:
    """One packet of a capture file.

    Attributes:
        interface: its place in `Capture.interfaces`.
        time_ns: nanoseconds since the epoch; 0 when the file does not say.
        data: the captured octets.
        length: octets on the wire.
        direction: "in" or "out" as the interface's node saw it, None when the file does not say.
    """

    interface: int
    time_ns: int
    data: bytes
    length: int
    direction: Direction | None = None


@dataclass(frozen=True)
class Capture:
    """What a capture file holds; `truncated` says where and why reading stopped before the end of the file.

    `names` are those of its name resolution blocks: address → name, the last one where an address has several.
    """

    interfaces: tuple[Interface, ...]
    packets: tuple[Packet, ...]
    truncated: str | None = None
    names: Mapping[str, str] = field(default_factory=dict)


@lru_cache(maxsize=1 << 14)
def epb_tail(captured: int, direction: Direction | None) -> tuple[int, bytes]:
    """Of an Enhanced Packet Block with `captured` octets: its length, and all that follows those octets."""
    padding = bytes(-captured % 4)
    total = 32 + captured + len(padding) + (12 if direction else 0)
    if not direction:
        return total, padding + _U32.pack(total)
    return total, padding + _EPB_TAIL.pack(_EPB_FLAGS, 4, _DIRECTION_BITS[direction], 0, total)


class Stream(Protocol):
    """What a Writer writes to: raw (unbuffered) files are, and all other binary ones."""

    def write(self, octets: memoryview, /) -> int | None:
        """Take octets and say how many; None when there is no room now."""

    def flush(self) -> None:
        """Hand them on."""


class Writer:
    """Writes one pcapng section, in this machine's byte order, with times in nanoseconds.

    Blocks are gathered and handed to `stream` whole, many at a time, so that what a killed writer leaves can be
    read up to its last `flush`. `stream` may be raw (unbuffered): short writes are continued.
    All methods raise OSError when `stream` does.
    """

    def __init__(self, stream: Stream, *, application: str = "wirelab", hardware: str = "", system: str = "") -> None:
        self._stream = stream
        self._interfaces = 0
        self._pending: list[bytes] = []
        self._pending_octets = 0
        texts = ((_SHB_HARDWARE, hardware), (_SHB_OS, system), (_SHB_USERAPPL, application))
        options = [(code, text.encode()) for code, text in texts if text]
        self._block(_SECTION_HEADER, struct.pack("=IHHq", _BYTE_ORDER_MAGIC, 1, 0, -1) + _options(options))

    def interface(
        self, name: str, *, mac: str = "", link_type: int = LINKTYPE_ETHERNET, snaplen: int = SNAPLEN_MAX
    ) -> int:
        """Describe an interface, at any time before its first packet, and return its number.

        Args:
            name: `node:interface`.
            mac: six octets in hexadecimal with colons, or empty.
            link_type: one of the LINKTYPE numbers.
            snaplen: octets kept of a packet at most; 0 for all.
        """
        options = [(_IF_NAME, name.encode())]
        if mac:
            options.append((_IF_MACADDR, bytes.fromhex(mac.replace(":", ""))))
        options.append((_IF_TSRESOL, b"\x09"))
        self._block(_INTERFACE_DESCRIPTION, struct.pack("=HHI", link_type, 0, snaplen) + _options(options))
        self._interfaces += 1
        return self._interfaces - 1

    def packet(
        self, interface: int, time_ns: int, data: bytes, length: int | None = None, direction: Direction | None = None
    ) -> None:
        """Add a packet seen at `interface`; `length` is its octets on the wire, by default those of `data`.

        Raises:
            ValueError: `interface` was not described.
        """
        self._must_know(interface)
        captured = len(data)
        original = captured if length is None else length
        total, tail = epb_tail(captured, direction)
        high, low = time_ns >> 32 & 0xFFFFFFFF, time_ns & 0xFFFFFFFF
        self._gather(EPB_HEAD.pack(_ENHANCED_PACKET, total, interface, high, low, captured, original) + data + tail)

    def packets(self, blocks: Iterable[bytes]) -> None:
        """Add packets that are Enhanced Packet Blocks already (EPB_HEAD, octets, `epb_tail`)."""
        self._gather(b"".join(blocks))

    def names(self, names: Mapping[str, str]) -> None:
        """Say how addresses are called: IPv4 or IPv6 address → name. Nothing is written when there are none."""
        records = []
        for text, name in names.items():
            six = ":" in text
            address = socket.inet_pton(socket.AF_INET6 if six else socket.AF_INET, text)
            records.append((_NRB_RECORD_IPV6 if six else _NRB_RECORD_IPV4, address + name.encode() + b"\0"))
        if records:
            self._block(_NAME_RESOLUTION, _options(records))

    def statistics(self, interface: int, *, received: int, dropped: int, start_ns: int, end_ns: int) -> None:
        """Say how many packets `interface` gave to the capture and how many of those were lost.

        Args:
            interface: the number that `interface()` returned.
            received: packets that reached the capture, the lost ones included (isb_ifrecv).
            dropped: packets lost for lack of room (isb_ifdrop).
            start_ns: beginning of the capture, nanoseconds since the epoch.
            end_ns: its end.

        Raises:
            ValueError: `interface` was not described.
        """
        self._must_know(interface)
        options = [
            (_ISB_STARTTIME, _time(start_ns)),
            (_ISB_ENDTIME, _time(end_ns)),
            (_ISB_IFRECV, struct.pack("=Q", received)),
            (_ISB_IFDROP, struct.pack("=Q", dropped)),
        ]
        self._block(_INTERFACE_STATISTICS, struct.pack("=I", interface) + _time(end_ns) + _options(options))

    def flush(self) -> None:
        """Hand every block so far to the stream, in one write where the stream takes it whole."""
        chunk = memoryview(b"".join(self._pending))
        self._pending.clear()
        self._pending_octets = 0
        while chunk:
            taken: int | None = self._stream.write(chunk)
            if taken is None:
                raise BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN))
            chunk = chunk[taken:]
        self._stream.flush()

    def _must_know(self, interface: int) -> None:
        if not 0 <= interface < self._interfaces:
            raise ValueError(f"interface {interface} was not described")

    def _block(self, kind: int, body: bytes) -> None:
        total = 12 + len(body)
        self._gather(struct.pack("=II", kind, total) + body + struct.pack("=I", total))

    def _gather(self, block: bytes) -> None:
        self._pending.append(block)
        self._pending_octets += len(block)
        if self._pending_octets >= _PENDING_MAX:
            self.flush()


def _time(time_ns: int) -> bytes:
    return struct.pack("=II", time_ns >> 32 & 0xFFFFFFFF, time_ns & 0xFFFFFFFF)


def _options(options: list[tuple[int, bytes]]) -> bytes:
    parts = [struct.pack("=HH", code, len(value)) + value + bytes(-len(value) % 4) for code, value in options]
    return b"".join(parts) + bytes(4)


def read(source: str | Path | BinaryIO) -> Capture:
    """Read a capture file: pcapng of any byte order and time resolution, or classic pcap.

    A file that ends early or is damaged gives the packets before that place, and `Capture.truncated`.

    Raises:
        UsageError: the file cannot be opened, or it is no capture.
    """
    if isinstance(source, str | Path):
        name = str(source)
        try:
            with Path(source).open("rb") as stream:
                if stat.S_ISCHR(os.fstat(stream.fileno()).st_mode):
                    raise UsageError(f"{name} is a device, no capture", hint="give a file")  # it may have no end
                data = stream.read()
        except (OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or error
            raise UsageError(f"cannot read {name}: {reason}") from error
    else:
        name = str(getattr(source, "name", "the capture"))
        data = source.read()
    if len(data) >= 12 and data[:4] == _SECTION_HEADER.to_bytes(4, "big") and _order(data, 8, _BYTE_ORDER_MAGIC):
        reader: _PcapngReader | _PcapReader = _PcapngReader(data)
    elif len(data) >= 24 and any(_order(data, 0, magic) for magic in _PCAP_MAGICS):
        reader = _PcapReader(data)
    else:
        what = "is no capture (neither pcapng nor pcap)" if data else "is empty"
        raise UsageError(f"{name} {what}", hint="give a file that wirelab capture, Wireshark or tcpdump has written")
    truncated = None
    try:
        reader.run()
    except _DamageError as damage:
        truncated = f"octet {reader.offset}: {damage}"
    return Capture(tuple(reader.interfaces), tuple(reader.packets), truncated, reader.names)


class _DamageError(Exception):
    """The file cannot be read beyond this place; says why."""


def _order(data: bytes, offset: int, magic: int) -> str:
    """The struct prefix of the byte order in which `data` has `magic` at `offset`; empty when in none."""
    found = data[offset : offset + 4]
    return "<" if found == magic.to_bytes(4, "little") else ">" if found == magic.to_bytes(4, "big") else ""


@dataclass(frozen=True)
class _Clock:
    """How an interface counts time: `units` a second, beginning `offset_s` seconds after the epoch."""

    units: int = 1_000_000
    offset_s: int = 0

    def ns(self, high: int, low: int) -> int:
        return (high << 32 | low) * _NS_A_SECOND // self.units + self.offset_s * _NS_A_SECOND


class _PcapngReader:
    """Walks the blocks of a pcapng file; `offset` is where the current block begins."""

    def __init__(self, data: bytes) -> None:
        self.offset = 0
        self.interfaces: list[Interface] = []
        self.packets: list[Packet] = []
        self.names: dict[str, str] = {}
        self._data = data
        self._order = "="
        self._section_first = 0
        self._clocks: list[_Clock] = []
        self._snaplens: list[int] = []

    def run(self) -> None:
        """Read to the end; raise _DamageError where that is impossible."""
        readers = {
            _INTERFACE_DESCRIPTION: self._interface,
            _ENHANCED_PACKET: self._enhanced_packet,
            _OBSOLETE_PACKET: self._obsolete_packet,
            _SIMPLE_PACKET: self._simple_packet,
            _INTERFACE_STATISTICS: self._statistics,
            _NAME_RESOLUTION: self._names,
        }
        while self.offset < len(self._data):
            kind, body, total = self._block()
            if kind == _SECTION_HEADER:
                self._section_first = len(self.interfaces)
            elif kind in readers:
                try:
                    readers[kind](body)
                except struct.error:
                    raise _DamageError(f"a block of type {kind} that is too short for its own fields") from None
            self.offset += total

    def _block(self) -> tuple[int, bytes, int]:
        data, start = self._data, self.offset
        left = len(data) - start
        if left < 12:
            raise _DamageError(f"the file ends within a block header ({left} octets are left)")
        if data[start : start + 4] == _SECTION_HEADER.to_bytes(4, "big"):
            self._order = _order(data, start + 8, _BYTE_ORDER_MAGIC)
            if not self._order:
                raise _DamageError("a section header without its byte-order magic")
        kind, total = struct.unpack_from(self._order + "II", data, start)
        if total < 12 or total % 4:
            raise _DamageError(f"a block cannot be {total} octets long")
        if total > left:
            raise _DamageError(f"the file ends within a block ({left} of {total} octets are there)")
        if struct.unpack_from(self._order + "I", data, start + total - 4) != (total,):
            raise _DamageError("the two lengths of a block differ")
        return kind, data[start + 8 : start + total - 4], total

    def _options(self, body: bytes, offset: int) -> Iterator[tuple[int, bytes]]:
        while offset < len(body):
            code, length = struct.unpack_from(self._order + "HH", body, offset)
            if code == 0:
                return
            offset += 4
            if offset + length > len(body):
                raise _DamageError(f"option {code} is longer than its block")
            yield code, body[offset : offset + length]
            offset += length + -length % 4

    def _number(self, value: bytes, kind: str) -> int:
        number: int = struct.unpack(self._order + kind, value)[0]
        return number

    def _interface(self, body: bytes) -> None:
        link_type, _reserved, snaplen = struct.unpack_from(self._order + "HHI", body)
        found = Interface(name=f"interface{len(self.interfaces)}", link_type=link_type)
        clock = _Clock()
        for code, value in self._options(body, 8):
            if code == _IF_NAME:
                found = replace(found, name=value.rstrip(b"\0").decode("utf-8", "replace"))
            elif code == _IF_MACADDR and len(value) == 6:
                found = replace(found, mac=value.hex(":"))
            elif code == _IF_TSRESOL:
                exponent = self._number(value, "B")
                clock = replace(clock, units=2 ** (exponent & 0x7F) if exponent & 0x80 else 10**exponent)
            elif code == _IF_TSOFFSET:
                clock = replace(clock, offset_s=self._number(value, "q"))
        if self._section_first == len(self.interfaces):
            self._clocks, self._snaplens = [], []
        self.interfaces.append(found)
        self._clocks.append(clock)
        self._snaplens.append(snaplen)

    def _packet(self, body: bytes, interface: int, high: int, low: int, captured: int, length: int) -> None:
        if self._section_first + interface >= len(self.interfaces):
            raise _DamageError(f"a packet of interface {interface}, which its section does not describe")
        end = 20 + captured
        if end > len(body):
            raise _DamageError(f"a packet of {captured} octets in a block that holds {len(body) - 20}")
        flags = 0
        for code, value in self._options(body, end + -captured % 4):
            if code == _EPB_FLAGS:
                flags = self._number(value, "I")
        time_ns = self._clocks[interface].ns(high, low)
        place = self._section_first + interface
        self.packets.append(Packet(place, time_ns, body[20:end], length, _DIRECTIONS.get(flags & 3)))

    def _enhanced_packet(self, body: bytes) -> None:
        self._packet(body, *struct.unpack_from(self._order + "IIIII", body))

    def _obsolete_packet(self, body: bytes) -> None:
        interface, _drops, high, low, captured, length = struct.unpack_from(self._order + "HHIIII", body)
        self._packet(body, interface, high, low, captured, length)

    def _simple_packet(self, body: bytes) -> None:
        (length,) = struct.unpack_from(self._order + "I", body)
        if self._section_first == len(self.interfaces):
            raise _DamageError("a simple packet in a section without interfaces")
        captured = min(length, self._snaplens[0] or length)
        if len(body) - 4 < captured:
            raise _DamageError(f"a packet of {captured} octets in a block that holds {len(body) - 4}")
        self.packets.append(Packet(self._section_first, 0, body[4 : 4 + captured], length))

    def _statistics(self, body: bytes) -> None:
        (interface,) = struct.unpack_from(self._order + "I", body)
        place = self._section_first + interface
        if place >= len(self.interfaces):
            raise _DamageError(f"statistics of interface {interface}, which its section does not describe")
        for code, value in self._options(body, 12):
            if code == _ISB_IFRECV:
                self.interfaces[place] = replace(self.interfaces[place], received=self._number(value, "Q"))
            elif code == _ISB_IFDROP:
                self.interfaces[place] = replace(self.interfaces[place], dropped=self._number(value, "Q"))

    def _names(self, body: bytes) -> None:
        families = {_NRB_RECORD_IPV4: (socket.AF_INET, 4), _NRB_RECORD_IPV6: (socket.AF_INET6, 16)}
        for kind, value in self._options(body, 0):
            if kind in families:
                family, size = families[kind]
                name, end, _others = value[size:].partition(b"\0")
                if not end:
                    raise _DamageError("a name resolution record without the end of its name")
                self.names[socket.inet_ntop(family, value[:size])] = name.decode("utf-8", "replace")


class _PcapReader:
    """Walks the records of a classic pcap file; `offset` is where the current record begins."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        magic, self._order = next((magic, order) for magic in _PCAP_MAGICS if (order := _order(data, 0, magic)))
        self._ns_a_unit = _PCAP_MAGICS[magic]
        (network,) = struct.unpack_from(self._order + "I", data, 20)
        self.offset = 24
        self.interfaces = [Interface(name="interface0", link_type=network & 0xFFFF)]
        self.packets: list[Packet] = []
        self.names: dict[str, str] = {}

    def run(self) -> None:
        """Read to the end; raise _DamageError where that is impossible."""
        while left := len(self._data) - self.offset:
            if left < 16:
                raise _DamageError(f"the file ends within a packet header ({left} octets are left)")
            seconds, fraction, captured, length = struct.unpack_from(self._order + "IIII", self._data, self.offset)
            if captured > left - 16:
                raise _DamageError(f"the file ends within a packet ({left - 16} of {captured} octets are there)")
            start = self.offset + 16
            time_ns = seconds * _NS_A_SECOND + fraction * self._ns_a_unit
            self.packets.append(Packet(0, time_ns, self._data[start : start + captured], length))
            self.offset = start + captured
