"""What is told of an exchange, and the words that all kinds of exchange have in common."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from emulator.capture.frame import Frame
from emulator.explain.exchanges import Exchange
from emulator.explain.journeys import Change, Journey, Passage
from emulator.explain.surroundings import Surroundings
from emulator.explain.translations import Translations, entry_text
from emulator.verify.paths import flow_of
from emulator.verify.wording import listed, shown, told

_MS = 1_000_000
_SECOND = 1_000_000_000
_SETTLE_NS = 20_000_000
"""A packet that was sent so shortly before the end of the capture may still have been under way."""
_BAD = 0
"""Of a checksum status field: wrong (as in Wireshark)."""


@dataclass(frozen=True)
class Remark:
    """Something unusual. `kind` is a word for programs, `text` a sentence."""

    kind: str
    text: str
    frames: tuple[int, ...] = ()


@dataclass(frozen=True)
class Point:
    """A sentence about some frames; `at_ns` is when that was, since the epoch."""

    text: str
    at_ns: int | None = None
    frames: tuple[int, ...] = ()


@dataclass(frozen=True)
class Rewrite:
    """What one node changed of a packet. `table` is its connection tracking entry; `witness` says how sure that is."""

    node: str
    entering: int
    leaving: int
    changes: tuple[Change, ...]
    translated: bool
    witness: str = ""


@dataclass(frozen=True)
class Way:
    """A way that packets of an exchange took; `frames` are those of the first of them, one an interface."""

    sender: str
    receiver: str
    interfaces: tuple[str, ...]
    frames: tuple[int, ...]
    packets: int
    rewrites: tuple[Rewrite, ...]
    flooded: bool = False


@dataclass(frozen=True)
class Telling:
    """An exchange, told.

    Attributes:
        kind, protocol: as in `Exchange.kind`, and the word for people.
        title: the whole of it in one sentence.
        points: what happened, one after the other.
        ways: how its packets went.
        remarks: what is unusual.
        facts: the same for programs.
        round_trip_ns: from the question to its answer, both at the one who asked.
        inside: number of the exchange that it belongs to or that waited for it.
        parts: exchanges within this one (HTTP and TLS in a TCP connection).
    """

    number: int
    kind: str
    protocol: str
    title: str
    began_ns: int
    ended_ns: int
    points: tuple[Point, ...] = ()
    ways: tuple[Way, ...] = ()
    remarks: tuple[Remark, ...] = ()
    facts: dict[str, Any] = field(default_factory=dict)
    round_trip_ns: int | None = None
    inside: int | None = None
    parts: tuple[Telling, ...] = ()
    exchange: Exchange | None = None


@dataclass(frozen=True)
class Context:
    """What all tellings need to know.

    Attributes:
        last_ns: time of the last frame of the capture.
    """

    around: Surroundings
    translations: Translations
    zero_ns: int
    last_ns: int

    def sender(self, journey: Journey) -> str:
        """Who sent a packet: the node, or the address."""
        frame = journey.first
        if self.around.by_node and frame.direction == "out":
            return frame.node
        source = address(frame, "src")
        known = (
            self.around.owner(source, journey.nodes)
            or self.around.macs.get(frame.text("eth.src"), "").partition(":")[0]
        )
        return known or source or frame.text("eth.src") or frame.interface

    def receiver(self, journey: Journey) -> str:
        """Whom a packet was for at the end of its way: the node, or the address."""
        frame = journey.last
        target = address(frame, "dst")
        if not target and frame.text("eth.dst") == "ff:ff:ff:ff:ff:ff":
            return "everyone"
        known = (
            self.around.owner(target, journey.nodes)
            or self.around.macs.get(frame.text("eth.dst"), "").partition(":")[0]
        )
        return known or target or frame.text("eth.dst") or "everyone"

    def received_by(self, journey: Journey) -> int:
        """When a packet was seen last, nanoseconds since the epoch: at its receiver, if it came so far."""
        return journey.last.time_ns


def address(frame: Frame, end: str) -> str:
    """The IP address of one end, "src" or "dst"; empty where there is none."""
    return frame.text(f"ip.{end}") or frame.text(f"ipv6.{end}")


def numbers_of(frames: Iterable[Frame]) -> tuple[int, ...]:
    """The numbers of frames, each once, in order."""
    return tuple(sorted({frame.number for frame in frames}))


def frames_of(journeys: Iterable[Journey]) -> tuple[int, ...]:
    """The numbers of all frames of some packets."""
    return numbers_of(frame for journey in journeys for frame in journey.sightings)


def ranges(numbers: Sequence[int], limit: int = 6) -> str:
    """`frame 3`, `frames 1–9, 12`, `frames 1–9, 12, … 90 (31 in all)`."""
    if not numbers:
        return "no frame"
    runs: list[list[int]] = []
    for number in sorted(set(numbers)):
        if runs and number == runs[-1][1] + 1:
            runs[-1][1] = number
        else:
            runs.append([number, number])
    texts = [str(a) if a == b else f"{a}–{b}" if b > a + 1 else f"{a}, {b}" for a, b in runs]
    if len(runs) == 1 and runs[0][0] == runs[0][1]:
        return f"frame {texts[0]}"
    if len(texts) > limit:
        return f"frames {', '.join(texts[: limit - 1])}, … {texts[-1]} ({len(set(numbers))} in all)"
    return f"frames {', '.join(texts)}"


def duration(nanoseconds: int) -> str:
    """`0.055 ms`, `12.3 ms`, `1.002 s`."""
    sign, value = ("−" if nanoseconds < 0 else ""), abs(nanoseconds)
    if value >= _SECOND:
        return f"{sign}{value / _SECOND:,.3f} s"
    ms = value / _MS
    return f"{sign}{ms:.3f} ms" if ms < 10 else f"{sign}{ms:.1f} ms"


def octets(count: int) -> str:
    """`1 octet`, `1,204 octets`."""
    return f"{count:,} octet{'' if count == 1 else 's'}"


def times(count: int) -> str:
    """`once`, `twice`, `5 times`."""
    return {1: "once", 2: "twice"}.get(count, f"{count:,} times")


def ways(journeys: Sequence[Journey], context: Context) -> tuple[Way, ...]:
    """The different ways that packets took, each with how many took it."""
    found: dict[object, list[Journey]] = {}
    for journey in journeys:
        if context.around.by_node or len(journey.sightings) > 1:
            found.setdefault((journey.way, _ends(journey.first), _ends(journey.last)), []).append(journey)
    made = []
    for group in found.values():
        first = group[0]
        rewrites = tuple(_rewrite(passage, context) for passage in first.passages() if passage.changes)
        arrivals = [frame for frame in first.sightings if frame.direction == "in"]
        group_sent = (first.first.data[0] & 1) == 1 if first.first.data else False
        made.append(
            Way(
                context.sender(first),
                context.receiver(first),
                first.way,
                tuple(frame.number for frame in first.sightings),
                len(group),
                rewrites,
                flooded=group_sent and len({frame.node for frame in arrivals}) > 2,
            )
        )
    return tuple(made)


def _ends(frame: Frame) -> object:
    flow = flow_of(frame)
    return flow if flow is not None else (address(frame, "src"), address(frame, "dst"), frame.text("eth.dst"))


def _rewrite(passage: Passage, context: Context) -> Rewrite:
    witness = ""
    if passage.translated and passage.node:
        before, after = flow_of(passage.entering), flow_of(passage.leaving)
        if not context.translations.asked(passage.node) or before is None or after is None:
            witness = "seen in the captures on both sides"
        elif (entry := context.translations.entry(passage.node, before, after)) is not None:
            witness = f"its connection tracking has {entry_text(entry)}"
        else:
            witness = "seen in the captures on both sides; its connection tracking had no such entry when it was read"
    return Rewrite(
        passage.node,
        passage.entering.number,
        passage.leaving.number,
        passage.changes,
        passage.translated,
        witness,
    )


def common_remarks(exchange: Exchange, context: Context) -> list[Remark]:
    """What can be unusual about the packets of any exchange."""
    found: list[Remark] = []
    for journey in exchange.journeys:
        first = journey.first
        if journey.looped:
            found.append(
                Remark(
                    "loop",
                    f"the same frame came by {first.interface} again within 50 ms: it goes round in a loop",
                    (first.number,),
                )
            )
            continue
        if "malformed" in first.layers:
            found.append(Remark("malformed", f"{_at(first)} is malformed: {told(first)}", (first.number,)))
        if martian := _martian(first):
            found.append(Remark("martian", f"{_at(first)} is a martian: {martian}", (first.number,)))
        wrong = next((frame for frame in journey.sightings if _bad_checksums(frame)), None)
        if wrong is not None:
            what = listed([name.partition(".")[0].upper() for name in _bad_checksums(wrong)])
            why = (
                "" if context.around.by_node else "; of a frame that this machine sent, the network card makes it later"
            )
            found.append(Remark("checksum", f"the {what} checksum of {_at(wrong)} is wrong{why}", (wrong.number,)))
        if lost := fate(journey, context):
            found.append(Remark("lost", lost, (journey.last.number,)))
        if icmp := icmp_error(first):
            who = context.sender(journey)
            found.append(Remark("icmp-error", f"{who} says {icmp} ({ranges(frames_of([journey]))})", (first.number,)))
    return merged(found)


def merged(remarks: Sequence[Remark], limit: int = 5) -> list[Remark]:
    """At most `limit` remarks of a kind; the last says how many more there were, and has their frames."""
    kinds: dict[str, list[Remark]] = {}
    for remark in remarks:
        kinds.setdefault(remark.kind, []).append(remark)
    found = []
    for kind, group in kinds.items():
        if len(group) <= limit:
            found += group
            continue
        rest = group[limit - 1 :]
        frames = tuple(sorted({number for remark in rest for number in remark.frames}))
        found += group[: limit - 1]
        found.append(Remark(kind, f"and {len(rest):,} more of this kind ({ranges(frames)})", frames))
    return found


def _at(frame: Frame) -> str:
    return f"frame {frame.number} at {frame.interface}"


def _bad_checksums(frame: Frame) -> list[str]:
    names = ("ip.checksum.status", "tcp.checksum.status", "udp.checksum.status", "icmp.checksum.status")
    return [name for name in (*names, "icmpv6.checksum.status") if frame.number_of(name) == _BAD]


def _martian(frame: Frame) -> str:
    """Why no packet with these addresses can be on a wire (RFC 1812, section 5.3.7; RFC 4291, section 2.7), or ""."""
    source, target = address(frame, "src"), address(frame, "dst")
    if not source:
        return ""
    if not frame.interface.endswith(":lo") and frame.text("eth.src") != "00:00:00:00:00:00":
        for what, value in (("source", source), ("destination", target)):
            if value.startswith("127.") or value == "::1":
                return f"its {what} {value} is a loopback address"
    if source == "255.255.255.255" or (":" not in source and 224 <= int(source.partition(".")[0]) < 240):
        return f"its source {source} is no single host"
    if source.startswith("ff") and ":" in source:
        return f"its source {source} is a group"
    if target in ("0.0.0.0", "::"):
        return f"its destination {target} is nobody"
    if source.startswith("0.") and "dhcp" not in frame.layers and frame.number_of("ip.proto") != 2:
        return f"its source {source} is nobody"
    return ""


def fate(journey: Journey, context: Context) -> str:
    """Where a packet got lost; empty when it arrived, or when nobody can know."""
    around, first, last = context.around, journey.first, journey.last
    if not around.by_node or first.direction != "out" or context.last_ns - last.time_ns < _SETTLE_NS:
        return ""
    target = address(last, "dst")
    if not target or target.endswith(".255") or target.startswith(("224.", "239.", "ff")):
        return ""
    if (first.data[0] & 1) if first.data else False:
        return ""
    owner = around.owner(target, journey.nodes)
    if owner and (journey.arrival_at(owner) is not None or first.node == owner):
        return ""
    if not (around.complete or (owner and around.recorded(owner))):
        return ""
    whom = around.named(target, journey.nodes)
    if last.direction == "in":
        return f"the packet to {whom} came to {last.interface} (frame {last.number}) and went no further"
    peer = around.peers.get(last.interface)
    where = f" and did not arrive at {peer}" if peer else " and was not seen after that"
    return f"the packet to {whom} left {last.interface} (frame {last.number}){where}: it was lost on the cable"


_UNREACHABLE = {
    0: "network unreachable", 1: "host unreachable", 2: "protocol unreachable", 3: "port unreachable",
    4: "fragmentation needed", 9: "network prohibited", 10: "host prohibited", 13: "communication prohibited",
}  # fmt: skip
_UNREACHABLE6 = {0: "no route", 1: "prohibited", 3: "address unreachable", 4: "port unreachable"}


def icmp_error(frame: Frame) -> str:
    """An ICMP error in words (RFC 792, RFC 4443); empty when `frame` is none."""
    if "icmp" not in frame.layers and "icmpv6" not in frame.layers:
        return ""
    kind, code = frame.number_of("icmp.type"), frame.number_of("icmp.code")
    if "icmp" in frame.layers and kind in {3, 4, 5, 11, 12}:
        if kind == 3:
            mtu = f", MTU {frame.text('icmp.mtu')}" if code == 4 else ""
            return f"destination unreachable: {_UNREACHABLE.get(code, f'code {code}')}{mtu}"
        if kind == 5:
            return f"redirect: there is a better way, by {frame.text('icmp.redir_gw')}"
        return {
            4: "slow down (source quench)",
            11: "time exceeded: " + ("TTL reached 0" if code == 0 else "fragments are missing"),
        }.get(kind, "parameter problem")
    kind, code = frame.number_of("icmpv6.type"), frame.number_of("icmpv6.code")
    if "icmpv6" in frame.layers and kind in {1, 2, 3, 4}:
        return {
            1: f"destination unreachable: {_UNREACHABLE6.get(code, f'code {code}')}",
            2: f"packet too big, MTU {frame.text('icmpv6.mtu')}",
            3: "time exceeded: " + ("hop limit reached 0" if code == 0 else "fragments are missing"),
        }.get(kind, "parameter problem")
    return ""


def quoted(text: str, limit: int = 80) -> str:
    """Text of a packet, in quotes, safe to show."""
    return shown(text, limit)
