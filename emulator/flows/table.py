"""Frames in, connections out: which packet belongs to which connection, and when a connection is over. Pure.

Time is that of the packets. A connection ends when a timer says so (`tcp.py`; silence of a minute for what is not
TCP), when its ports begin another one, or with the capture.
"""

from __future__ import annotations

import struct
from collections import Counter
from collections.abc import Iterable
from heapq import heappop, heappush
from typing import Final

from emulator.flows import links, packets, ports, tunnels
from emulator.flows.connection import Connection, Key, Row
from emulator.flows.endpoint import ACK, SYN
from emulator.flows.fragments import Fragments
from emulator.flows.packets import Datagram
from emulator.flows.tcp import SECOND, Tcp

SILENCE: Final = 60 * SECOND
"""Without a packet for this long, what is not an established TCP connection is over."""
QUERY_CHECK: Final = 10 * SECOND
"""This often it is asked whether queries and answers of DNS have ended; they have after a little less."""
_QUERY_SILENCE: Final = 9 * SECOND
_MERGED: Final = 1500
"""A longer datagram was put together, or not yet taken apart, by a network card; its checksum was not made anew."""

_PADDED: Final = 50
"""Ethernet fills frames with less than 46 octets behind its header; tags take up to four of them."""

_TCP: Final = struct.Struct("!HHIIBBHH")
_UDP: Final = struct.Struct("!HHHH")
_SILENCE, _CHECK, _ATTEMPT, _RESET, _DELETE, _QUERY = range(6)

_ANSWERS: Final = {8: 0, 0: 8, 13: 14, 14: 13, 15: 16, 16: 15, 10: 9, 9: 10, 17: 18, 18: 17}
"""ICMP types that ask and answer (RFC 792, 950, 1256)."""
_ANSWERS_V6: Final = {
    128: 129, 129: 128, 133: 134, 134: 133, 135: 136, 136: 135, 130: 131, 131: 130, 139: 140, 140: 139,
    144: 145, 145: 144,
}  # fmt: skip
"""ICMPv6 types that do (RFC 4443, 4861, 2710, 4620, 6275)."""


class Table:
    """The connections of one capture.

    Args:
        unchecked: addresses whose checksums are not looked at.

    Attributes:
        right, wrong: how many checksums of an address were right, and wrong.
        rows: connections that are over.
    """

    def __init__(self, unchecked: frozenset[bytes] = frozenset()) -> None:
        self.right: Counter[bytes] = Counter()
        self.wrong: Counter[bytes] = Counter()
        self.rows: list[Row] = []
        self._unchecked = unchecked
        self._connections: dict[Key, Connection] = {}
        self._timers: list[tuple[int, int, int, int, Connection]] = []
        self._timers_made = 0
        self._fragments = Fragments()
        self._clock = 0
        self._time = 0

    def frame(self, time: int, link_type: int, data: bytes, length: int) -> None:
        """Take a frame.

        Args:
            time: when it was captured, nanoseconds.
            link_type: LINKTYPE number.
            data: the captured octets.
            length: octets on the wire.
        """
        self._time = time
        if time > self._clock:
            self._clock = time
            if self._timers and self._timers[0][0] <= time:
                self._wake()
        end = len(data)
        for place in links.datagrams(link_type, data, end, max(length, end)):
            self._datagram(data, place, ())

    def finish(self) -> list[Row]:
        """All connections, in order of their first packets; the capture is over."""
        for connection in list(self._connections.values()):
            self._end(connection)
        return sorted(self.rows, key=lambda row: row.start_ns)

    # Timers, as tcp.Timers wants them.

    def check(self, connection: Connection, at: int) -> None:
        self._arrange(at, _CHECK, connection)

    def attempt(self, connection: Connection, at: int) -> None:
        self._arrange(at, _ATTEMPT, connection)

    def reset(self, connection: Connection, at: int) -> None:
        self._arrange(at, _RESET, connection)

    def delete(self, connection: Connection, at: int) -> None:
        self._arrange(at, _DELETE, connection)

    def _arrange(self, at: int, kind: int, connection: Connection) -> None:
        self._timers_made += 1
        heappush(self._timers, (at, self._timers_made, kind, connection.epoch, connection))

    def _wake(self) -> None:
        now, timers = self._clock, self._timers
        while timers and timers[0][0] <= now:
            _, _, kind, epoch, connection = heappop(timers)
            if connection.over:
                continue
            tcp = connection.tcp
            if kind == _SILENCE:
                if connection.last + connection.timeout <= now:
                    self._end(connection)
                else:
                    self._arrange(connection.last + connection.timeout, _SILENCE, connection)
            elif kind == _QUERY:
                if now - connection.last >= _QUERY_SILENCE:
                    self._end(connection)
                else:
                    self._arrange(now + QUERY_CHECK, _QUERY, connection)
            elif tcp is None or epoch != connection.epoch:
                continue
            elif (
                kind == _DELETE
                or (kind == _RESET and tcp.active)
                or (kind == _ATTEMPT and tcp.unanswered())
                or (kind == _CHECK and tcp.expired(now))
            ):
                self._end(connection)

    def _end(self, connection: Connection) -> None:
        connection.over = True
        self.rows.append(connection.row())
        del self._connections[connection.key]

    # From IP up.

    def _datagram(self, data: bytes, place: links.Place, outer: tuple[str, ...], reassembled: bool = False) -> None:
        start, end, wire = place
        found = packets.read(data, start, end, wire)
        if found is None:
            return
        if found.version == 4 and not reassembled and not self._header_holds(found, wire - start):
            return
        if found.fragment:
            if reassembled:
                return  # fragments of fragments are nobody's
            if end - start >= found.total:
                whole = self._fragments.add(self._clock, found)
                if whole is not None:
                    self._datagram(whole, (0, len(whole), len(whole)), outer, reassembled=True)
                return
            if found.offset:
                return
        protocol = found.protocol
        if protocol == packets.TCP:
            self._tcp(found)
        elif protocol == packets.UDP:
            self._udp(found, wire, outer)
        elif protocol in (packets.ICMP, packets.ICMPV6):
            self._icmp(found)
        elif protocol in (packets.IPV4, packets.IPV6):
            self._tunnel(found, tunnels.exactly(data, found.payload, end, wire, protocol), (*outer, "ip"))
        elif protocol == packets.GRE:
            self._tunnel(found, tunnels.gre(data, found.payload, end, wire), (*outer, "gre"))
        elif protocol not in (packets.NO_NEXT, packets.IGMP) and not self._is_opaque(found):
            self._other(found)

    @staticmethod
    def _is_opaque(found: Datagram) -> bool:
        """Whether IPv6 has no transport here: encrypted, or about mobility."""
        return found.encrypted or (found.version == 6 and found.protocol == packets.MOBILITY)

    def _tunnel(self, outer: Datagram, places: Iterable[links.Place], names: tuple[str, ...]) -> None:
        if len(names) <= tunnels.DEPTH_MAX:
            for place in places:
                self._datagram(outer.data, place, names)

    # Connections.

    def _find(
        self, source: bytes, sport: int, destination: bytes, dport: int, protocol: int
    ) -> tuple[Key, Connection | None]:
        if (source, sport) <= (destination, dport):
            key = (source, sport, destination, dport, protocol)
        else:
            key = (destination, dport, source, sport, protocol)
        return key, self._connections.get(key)

    def _new(self, key: Key, protocol: int, ends: tuple[bytes, int, bytes, int], flip: bool = False) -> Connection:
        connection = Connection(key, protocol, ends, self._time, SILENCE, flip)
        self._connections[key] = connection
        self._arrange(self._time + SILENCE, _SILENCE, connection)
        return connection

    def _tcp(self, found: Datagram) -> None:
        data, at = found.data, found.payload
        captured = found.end - at
        if captured < 20 or found.size < 20:
            return
        sport, dport, sequence, ack, header, flags, window, checksum = _TCP.unpack_from(data, at)
        source, destination = found.source, found.destination
        key, connection = self._find(source, sport, destination, dport, packets.TCP)
        header = (header >> 4) * 4
        tcp = None if connection is None else connection.tcp
        if connection is not None and header >= 20 and tcp is not None and tcp.begins_anew(flags, sequence):
            self._end(connection)
            connection = None
        if connection is None:
            flip = _tcp_flips(sport, dport, flags) and destination != b"\xff\xff\xff\xff"
            connection = self._new(key, packets.TCP, (source, sport, destination, dport), flip)
            tcp = connection.tcp = Tcp(connection, self, self._clock)
        from_orig = source == connection.orig and sport == connection.orig_port
        if header < 20 or header > found.size or header > captured:
            return
        if captured >= found.size and not self._holds(found, packets.TCP, checksum):
            connection.wrong_checksum(from_orig)
            return
        length = found.size - header
        if tcp is not None:
            whole = captured - header >= length
            tcp.packet(self._time, from_orig, flags, sequence, ack, window, length, whole)
        connection.count(from_orig)

    def _udp(self, found: Datagram, wire: int, outer: tuple[str, ...]) -> None:
        data, at = found.data, found.payload
        captured = found.end - at
        if captured < 8 or found.size < 8:
            return
        sport, dport, length, checksum = _UDP.unpack_from(data, at)
        source, destination = found.source, found.destination
        key, connection = self._find(source, sport, destination, dport, packets.UDP)
        if connection is None:
            flip = sport in ports.LIKELY_UDP_SERVERS and dport not in ports.LIKELY_UDP_SERVERS
            flip = flip and destination != b"\xff\xff\xff\xff"
            connection = self._new(key, packets.UDP, (source, sport, destination, dport), flip)
            connection.application = _application(connection.resp_port)
            if connection.application == "dns":
                self._arrange(self._clock + QUERY_CHECK, _QUERY, connection)
        from_orig = source == connection.orig and sport == connection.orig_port
        if captured >= found.size and wire <= found.end and checksum and not self._udp_holds(found, dport, checksum):
            connection.wrong_checksum(from_orig)
            return
        connection.last = self._time
        connection.note_once("D", "D", from_orig)
        connection.grow(from_orig, max(0, length - 8))
        inner, end = at + 8, min(found.end, at + found.size)
        self._open(connection, found, (inner, end, end + max(0, wire - found.end)), outer)
        if connection.application is not None:
            _ask_application(connection, data[inner:end], from_orig)
        connection.count(from_orig)

    def _open(self, connection: Connection, found: Datagram, payload: links.Place, outer: tuple[str, ...]) -> None:
        """Look into a UDP payload that is a tunnel."""
        inner, end, wire = payload
        name = tunnels.find(connection.resp_port, found.data, inner, end)
        if name is None or (connection.broken is not None and name in connection.broken):
            return
        if len(outer) >= tunnels.DEPTH_MAX:
            if name != "gtp":
                connection.note_once("X", "X", True)
            return
        try:
            places = tunnels.open_udp(name, found.data, inner, end, wire, outer)
        except tunnels.NotThisTunnelError:
            connection.broken = {*(connection.broken or ()), name}
            return
        for place in places:
            self._datagram(found.data, place, (*outer, name))

    def _icmp(self, found: Datagram) -> None:
        data, at = found.data, found.payload
        captured = found.end - at
        if captured < 8 or found.size < 8:
            return
        kind, code = data[at], data[at + 1]
        answers = _ANSWERS if found.protocol == packets.ICMP else _ANSWERS_V6
        answer = answers.get(kind)
        source, destination, protocol = found.source, found.destination, found.protocol
        if answer is None:
            answer = code
            key = (source, kind, destination, code, protocol)
            connection = self._connections.get(key)
        else:
            key, connection = self._find(source, kind, destination, answer, protocol)
        if connection is None:
            connection = self._new(key, protocol, (source, kind, destination, answer))
        from_orig = source == connection.orig and kind == connection.orig_port
        if captured >= found.size and not self._holds(found, protocol, None):
            return
        connection.last = self._time
        connection.grow(from_orig, found.size - 8)
        if captured >= found.size:
            connection.count(from_orig)

    def _other(self, found: Datagram) -> None:
        """A transport that is not looked into: SCTP, ESP, OSPF …"""
        protocol, source, destination = found.protocol, found.source, found.destination
        key, connection = self._find(source, protocol, destination, protocol, protocol)
        if connection is None:
            connection = self._new(key, protocol, (source, protocol, destination, protocol))
        from_orig = source == connection.orig
        connection.last = self._time
        connection.count(from_orig)

    # Checksums.

    def _header_holds(self, found: Datagram, room: int) -> bool:
        """Whether the checksum of an IPv4 header is right, or was left to the network card.

        With a wrong one, what fills its frame (`room` octets) is a datagram; anything else need not even be IP.
        """
        data, start = found.data, found.start
        if not packets.ones_complement(data[start : found.payload]):
            return True
        if room != found.total and room > _PADDED:
            return False
        return data[start + 10 : start + 12] == b"\0\0" or self._forgiven(found)

    def _holds(self, found: Datagram, protocol: int, checksum: int | None) -> bool:
        """Whether the checksum of a segment is right, or was left to the network card.

        A sender that leaves it to the card puts zero there, or the sum of the pseudo header, to which the card adds.
        """
        data, at, size = found.data, found.payload, found.size
        if protocol == packets.ICMP:
            total = packets.ones_complement(data[at : at + size])
        else:
            pseudo = packets.pseudo_header(found, protocol, size)
            total = (packets.ones_complement(data[at : at + size]) + pseudo) % 0xFFFF
            if total and checksum is not None and (checksum in (0, pseudo) or size > _MERGED):
                return True
        if not total:
            self.right[found.source] += 1
            return True
        return self._forgiven(found)

    def _udp_holds(self, found: Datagram, port: int, checksum: int) -> bool:
        data, at = found.data, found.payload
        if port == ports.VXLAN and found.size > 30 and data[at + 8] & 0x08:
            # RFC 7348 5: it should be zero; whoever looks at one that is not must drop the packet if it is wrong.
            pseudo = packets.pseudo_header(found, packets.UDP, found.size)
            return not (packets.ones_complement(data[at : at + found.size]) + pseudo) % 0xFFFF
        return self._holds(found, packets.UDP, checksum)

    def _forgiven(self, found: Datagram) -> bool:
        self.wrong[found.source] += 1
        return found.source in self._unchecked


def connections(frames: Iterable[tuple[int, int, bytes, int]]) -> list[Row]:
    """The connections of a capture.

    A machine that leaves checksums to its network card captures its own packets without them, and an address that was
    changed afterwards makes them wrong. So when most checksums of an address are wrong, none of them is looked at: the
    frames are then gone through a second time.

    Args:
        frames: time in nanoseconds, LINKTYPE, captured octets, octets on the wire; can be iterated twice.
    """
    table = Table()
    for frame in frames:
        table.frame(*frame)
    unchecked = frozenset(address for address, count in table.wrong.items() if count > table.right[address])
    if not unchecked:
        return table.finish()
    table = Table(unchecked)
    for frame in frames:
        table.frame(*frame)
    return table.finish()


def _tcp_flips(sport: int, dport: int, flags: int) -> bool:
    """Whether the first packet that was captured comes from the responder: no SYN, and from a server's port."""
    if flags & (SYN | ACK) == SYN or sport not in ports.LIKELY_TCP_SERVERS:
        return False
    return dport not in ports.LIKELY_TCP_SERVERS or (not flags & SYN and sport < dport)


def _application(port: int) -> str | None:
    return "dns" if port in ports.DNS else "ntp" if port == ports.NTP else None


def _ask_application(connection: Connection, payload: bytes, from_orig: bool) -> None:
    """Between server ports, the first message of DNS or NTP tells which side asks (RFC 1035 4.1.1, RFC 5905 7.3)."""
    if connection.application == "dns":
        if len(payload) < 12:
            return
        answer = payload[2] & 0x80 != 0
        if answer and from_orig and not packets.is_multicast(connection.resp):
            connection.flip()
    elif len(payload) < 48:
        return
    else:
        mode = payload[0] & 7
        if not (mode == 4 and from_orig) and not (mode == 3 and not from_orig):
            return
        connection.flip()
    connection.application = None
