"""One connection as it grows: who it is between, what has been counted, and its history. Pure.

The words are those of Zeek's conn.log: originator and responder, `conn_state`, `history`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from emulator.flows import packets

if TYPE_CHECKING:
    from emulator.flows.tcp import Tcp

Key = tuple[bytes, int, bytes, int, int]

_RESET_BEFORE_ANSWER: Final = re.compile(r"\^?S[^HAFGIQ]*R.*")
_NAMES: Final = {packets.TCP: "tcp", packets.UDP: "udp", packets.ICMP: "icmp", packets.ICMPV6: "icmp"}
_NS_A_SECOND: Final = 1_000_000_000

INACTIVE, SYN_SENT, SYN_ACK_SENT, PARTIAL, ESTABLISHED, CLOSED, RESET = range(7)
"""What has been seen of one end of a TCP connection: nothing, a SYN, a SYN/ACK with no SYN before it, no SYN but
something else, its part of the handshake, a FIN, an RST."""


@dataclass(frozen=True, slots=True)
class Row:
    """A connection in the terms of Zeek's conn.log.

    Attributes:
        protocol: "tcp", "udp", "icmp", or "unknown_transport" for any other protocol over IP.
        ip_protocol: its number in the IP header.
        orig_port: port; of ICMP the type; else 0.
        resp_port: port; of ICMP the type of the answer, or the code where there is no answer; else 0.
        start_ns: time of the first packet, nanoseconds since the epoch.
        duration_ns: from then to the last packet that mattered; None when that was no time at all.
        orig_bytes: octets of payload; None without a duration.
        history: what happened, in order: capital letters from the originator, small ones from the responder.
    """

    protocol: str
    ip_protocol: int
    orig_address: str
    orig_port: int
    resp_address: str
    resp_port: int
    start_ns: int
    duration_ns: int | None
    orig_bytes: int | None
    resp_bytes: int | None
    state: str
    history: str
    orig_packets: int
    resp_packets: int
    missed_bytes: int

    def to_json(self) -> dict[str, str | int | float | None]:
        """The row with Zeek's names; times in seconds."""
        return {
            "ts": self.start_ns / _NS_A_SECOND,
            "proto": self.protocol,
            "ip_proto": self.ip_protocol,
            "id.orig_h": self.orig_address,
            "id.orig_p": self.orig_port,
            "id.resp_h": self.resp_address,
            "id.resp_p": self.resp_port,
            "conn_state": self.state,
            "history": self.history,
            "duration": None if self.duration_ns is None else self.duration_ns / _NS_A_SECOND,
            "orig_pkts": self.orig_packets,
            "resp_pkts": self.resp_packets,
            "orig_bytes": self.orig_bytes,
            "resp_bytes": self.resp_bytes,
            "missed_bytes": self.missed_bytes,
        }


class Connection:
    """A connection of which packets may still come.

    Attributes:
        orig, resp: addresses; orig_port, resp_port: ports, or what ICMP has in their place.
        start: time of the first packet; last: of the last that mattered; nanoseconds.
        timeout: nanoseconds of silence after which it is over.
        orig_length, resp_length: octets of payload of each side, None before the first; of TCP, `tcp` knows them.
        epoch: grows when its timers are cancelled.
        over: it has its row, and no packet belongs to it any more.
        broken: tunnels that its payload has turned out not to be.
    """

    __slots__ = (
        "application", "broken", "epoch", "history", "key", "last", "missed", "orig", "orig_length", "orig_packets",
        "orig_port", "orig_wrong", "over", "protocol", "resp", "resp_length", "resp_packets", "resp_port", "resp_wrong",
        "seen", "start", "tcp", "timeout",
    )  # fmt: skip

    def __init__(
        self, key: Key, protocol: int, ends: tuple[bytes, int, bytes, int], time: int, timeout: int, flip: bool
    ) -> None:
        self.key = key
        self.protocol = protocol
        self.orig, self.orig_port, self.resp, self.resp_port = ends
        self.start = self.last = time
        self.timeout = timeout
        self.orig_length: int | None = None
        self.resp_length: int | None = None
        self.orig_packets = self.resp_packets = self.missed = 0
        self.orig_wrong = self.resp_wrong = 0
        self.history = self.seen = ""
        self.application: str | None = None
        self.broken: set[str] | None = None
        self.tcp: Tcp | None = None
        self.epoch = 0
        self.over = False
        if flip:
            self.flip()

    def count(self, from_orig: bool) -> None:
        """A packet more of that side."""
        if from_orig:
            self.orig_packets += 1
        else:
            self.resp_packets += 1

    def grow(self, from_orig: bool, octets: int) -> None:
        """Payload of that side."""
        if from_orig:
            self.orig_length = (self.orig_length or 0) + octets
        else:
            self.resp_length = (self.resp_length or 0) + octets

    def note(self, letter: str, from_orig: bool) -> None:
        """Add a letter to the history."""
        self.history += letter if from_orig else letter.lower()

    def note_once(self, kind: str, letter: str, from_orig: bool) -> bool:
        """Add a letter unless that side has had one of its `kind`; returns whether it had."""
        mark = kind if from_orig else kind.lower()
        if mark in self.seen:
            return True
        self.seen += mark
        self.note(letter, from_orig)
        return False

    def wrong_checksum(self, from_orig: bool) -> None:
        """A packet whose checksum is wrong: nothing of it counts, but the history tells."""
        if from_orig:
            count = self.orig_wrong = self.orig_wrong + 1
        else:
            count = self.resp_wrong = self.resp_wrong + 1
        if is_power_of_ten(count):
            self.note("C", from_orig)

    def flip(self) -> None:
        """The other side is the originator after all."""
        self.orig, self.resp = self.resp, self.orig
        self.orig_port, self.resp_port = self.resp_port, self.orig_port
        self.orig_packets, self.resp_packets = self.resp_packets, self.orig_packets
        if self.tcp is not None:
            self.tcp.flip()
        self.history += "^"

    def row(self) -> Row:
        """The connection as it stands."""
        duration = self.last - self.start if self.last > self.start else None
        sizes = (self.orig_length or 0, self.resp_length or 0)
        if self.tcp is not None:
            orig_size, resp_size = self.tcp.sizes()
            sizes = (max(0, orig_size), max(0, resp_size))
        ports = self.protocol in _NAMES
        return Row(
            protocol=_NAMES.get(self.protocol, "unknown_transport"),
            ip_protocol=self.protocol,
            orig_address=packets.address_text(self.orig),
            orig_port=self.orig_port if ports else 0,
            resp_address=packets.address_text(self.resp),
            resp_port=self.resp_port if ports else 0,
            start_ns=self.start,
            duration_ns=duration,
            orig_bytes=None if duration is None else sizes[0],
            resp_bytes=None if duration is None else sizes[1],
            state=self.state(),
            history=self.history,
            orig_packets=self.orig_packets,
            resp_packets=self.resp_packets,
            missed_bytes=self.missed,
        )

    def state(self) -> str:
        """The connection's `conn_state`."""
        if self.tcp is not None:
            return self._tcp_state(self.tcp)
        if self.protocol == packets.UDP:
            if self.orig_length is None:
                return "OTH" if self.resp_length is None else "SHR"
            return "S0" if self.resp_length is None else "SF"
        return "OTH"

    def _tcp_state(self, tcp: Tcp) -> str:
        orig, resp = tcp.orig.state, tcp.resp.state
        orig_absent, resp_absent = orig in (INACTIVE, PARTIAL), resp in (INACTIVE, PARTIAL)
        if resp == RESET:
            nothing_said = orig == RESET and tcp.sizes() == (0, 0)
            if orig in (SYN_SENT, SYN_ACK_SENT) or nothing_said:
                return "REJ"
            return "RSTRH" if orig_absent else "RSTR"
        if orig == RESET:
            if not resp_absent:
                return "RSTO"
            return "RSTOS0" if _RESET_BEFORE_ANSWER.fullmatch(self.history) else "OTH"
        if orig == CLOSED:
            return "SF" if resp == CLOSED else "SH" if resp_absent else "S2"
        if resp == CLOSED:
            return "SHR" if orig_absent else "S3"
        if orig == SYN_SENT and resp == INACTIVE:
            return "S0"
        return "S1" if orig == ESTABLISHED and resp == ESTABLISHED else "OTH"


def is_power_of_ten(count: int) -> bool:
    """Whether `count` is 1, 10, 100 …: what happens often is noted in the history that often only."""
    while count % 10 == 0 and count:
        count //= 10
    return count == 1
