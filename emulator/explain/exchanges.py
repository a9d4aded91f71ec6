"""Which packets belong together: journeys → exchanges, one frame after the other, so that one can also watch live.

An exchange is what a textbook draws as one picture: a question with its answer, a connection from its SYN to its last
ACK. Across a translator the packets carry other addresses; they belong together because one packet was seen with both.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable
from dataclasses import dataclass, field
from typing import Final

from emulator.capture.frame import Frame
from emulator.explain.journeys import Journey, Journeys
from emulator.explain.surroundings import Surroundings
from emulator.verify.paths import Flow, flow_of, quoted_flow

SAME_QUESTION_NS: Final = 10_000_000_000
"""A question that is asked again within this time, without an answer between, is the same one."""
LATE_ANSWER_NS: Final = 3_000_000_000
"""An answer that comes so long after the first one still belongs to it: two hosts with one address."""
IDLE_NS: Final = 60_000_000_000
"""Datagrams between the same ports after such a silence are another exchange."""

_SOLICITING_MAX: Final = 64
"""Hosts that wait for a router at the same time."""

_ANSWER: Final = frozenset({2, 4})
_NS, _NA, _RS, _RA = 135, 136, 133, 134
_MULTICAST_LISTENERS: Final = frozenset({130, 131, 132, 143})
_IGMP: Final = 2


@dataclass(eq=False)
class Exchange:
    """Packets that belong together.

    Attributes:
        number: exchanges counted from 1 by their first frame.
        kind: "arp", "nd", "router-discovery", "dhcp", "dns", "tcp", "udp", "ping", "icmp", "stp", "multicast", "ip",
            "link".
        journeys: its packets in the order in which they were sent.
        answered: when the answer was sent, where the kind has one; nanoseconds since the epoch.
        touched: when a frame of it was last seen.
    """

    number: int
    kind: str
    journeys: list[Journey] = field(default_factory=list)
    answered: int | None = None
    touched: int = 0

    @property
    def began_ns(self) -> int:
        """When its first packet was sent."""
        return self.journeys[0].first.time_ns

    def frames(self) -> list[Frame]:
        """All frames, in the order of the capture."""
        return sorted((f for journey in self.journeys for f in journey.sightings), key=lambda frame: frame.number)


@dataclass(eq=False)
class _Conversation:
    """Both ends of a flow, under all addresses that translators give them; `exchanges` by what tells them apart."""

    exchanges: dict[Hashable, Exchange] = field(default_factory=dict)
    latest: Exchange | None = None
    syn: int | None = None


class Exchanges:
    """Sorts frames into exchanges; `all` has those so far."""

    def __init__(self, surroundings: Surroundings) -> None:
        self.all: list[Exchange] = []
        self.journeys = Journeys(surroundings)
        self._around = surroundings
        self._exchange_of: dict[int, Exchange] = {}
        self._conversations: dict[Hashable, _Conversation] = {}
        self._asked: dict[Hashable, Exchange] = {}
        self._soliciting: list[Exchange] = []
        self._fragments: dict[Hashable, Flow] = {}

    def add(self, frame: Frame) -> Exchange:
        """Put `frame`, the next in time, into its exchange."""
        journey, begins = self.journeys.add(frame)
        if begins:
            self._around.learn(frame)
            exchange = self._begin(journey)
            self._exchange_of[journey.number] = exchange
        else:
            exchange = self._exchange_of[journey.number]
            self._also_known(journey, frame)
        exchange.touched = frame.time_ns
        return exchange

    def add_all(self, frames: Iterable[Frame]) -> list[Exchange]:
        """Put all `frames`, which are in the order of time, into exchanges."""
        for frame in frames:
            self.add(frame)
        return self.all

    def _begin(self, journey: Journey) -> Exchange:
        exchange = self._find(journey)
        exchange.journeys.append(journey)
        return exchange

    def _new(self, kind: str) -> Exchange:
        exchange = Exchange(len(self.all) + 1, kind)
        self.all.append(exchange)
        return exchange

    def _find(self, journey: Journey) -> Exchange:
        frame = journey.first
        layers = frame.layers
        if "arp" in layers:
            return self._arp(frame)
        if "stp" in layers:
            return self._ongoing("stp", frame.text("stp.root.hw"), None)
        if "dhcp" in layers and frame.fields.get("dhcp.id"):
            return self._dhcp(frame)
        if "icmpv6" in layers:
            kind = frame.number_of("icmpv6.type")
            if kind in {_NS, _NA}:
                return self._neighbour(frame, kind)
            if kind in {_RS, _RA}:
                return self._router(frame, kind)
            if kind in _MULTICAST_LISTENERS:
                return self._ongoing("multicast", "listeners", None)
        if frame.number_of("ip.proto") == _IGMP:
            return self._ongoing("multicast", "listeners", None)
        flow = self._flow(frame)
        if flow is not None:
            return self._of_flow(frame, flow)
        quoted = quoted_flow(frame)
        if quoted is not None:
            return self._error(frame, quoted)
        return self._other(frame)

    def _dhcp(self, frame: Frame) -> Exchange:
        """One transaction of one client; ICMP errors about its packets find it by their flow."""
        exchange = self._ongoing("dhcp", (frame.number_of("dhcp.id"), frame.text("dhcp.hw.mac_addr")), None)
        flow = self._flow(frame)
        if flow is not None:
            self._conversations.setdefault(_undirected(flow), _Conversation()).latest = exchange
        return exchange

    def _flow(self, frame: Frame) -> Flow | None:
        """The flow of a frame; that of the first fragment for those after it."""
        flow = flow_of(frame)
        key = (frame.get("ip.src"), frame.get("ip.dst"), frame.get("ip.proto"), frame.get("ip.id"))
        if flow is not None:
            if frame.get("ip.flags.mf"):
                self._fragments[key] = flow
            return flow
        if frame.number_of("ip.frag_offset") > 0:
            return self._fragments.get(key)
        return None

    def _ongoing(self, kind: str, key: Hashable, idle_ns: int | None) -> Exchange:
        """The exchange with this key, or a new one."""
        known = self._asked.get((kind, key))
        if known is None or (idle_ns is not None and self._now() - known.touched > idle_ns):
            known = self._asked[kind, key] = self._new(kind)
        return known

    def _now(self) -> int:
        return self.journeys.all[-1].first.time_ns

    def _ask(self, kind: str, key: Hashable, now: int) -> Exchange:
        """The exchange of a question: the one that still waits for an answer, or a new one."""
        known = self._asked.get((kind, key))
        if known is None or known.answered is not None or now - known.touched > SAME_QUESTION_NS:
            known = self._asked[kind, key] = self._new(kind)
        return known

    def _answer(self, kind: str, key: Hashable, now: int) -> Exchange:
        """The exchange of an answer: that of its question, or a new one when nobody asked."""
        known = self._asked.get((kind, key))
        late = known is not None and now - (known.answered or known.touched) > LATE_ANSWER_NS
        if known is None or late:
            known = self._asked[kind, key] = self._new(kind)
        if known.answered is None:
            known.answered = now
        return known

    def _arp(self, frame: Frame) -> Exchange:
        target, sender = frame.text("arp.dst.proto_ipv4"), frame.text("arp.src.proto_ipv4")
        if frame.get("arp.isgratuitous"):
            return self._ongoing("arp", ("announcement", frame.text("arp.src.hw_mac"), sender), SAME_QUESTION_NS)
        if frame.number_of("arp.opcode") in _ANSWER:
            return self._answer("arp", (frame.text("arp.dst.hw_mac"), sender), frame.time_ns)
        return self._ask("arp", (frame.text("arp.src.hw_mac"), target), frame.time_ns)

    def _neighbour(self, frame: Frame, kind: int) -> Exchange:
        if kind == _NS:
            target, asker = frame.text("icmpv6.nd.ns.target_address"), frame.text("ipv6.src")
            return self._ask("nd", (target, "" if asker == "::" else asker), frame.time_ns)
        target, asker = frame.text("icmpv6.nd.na.target_address"), frame.text("ipv6.dst")
        if asker.startswith("ff"):
            return self._answer("nd", (target, ""), frame.time_ns)
        return self._answer("nd", (target, asker), frame.time_ns)

    def _router(self, frame: Frame, kind: int) -> Exchange:
        """A router advertisement answers the solicitations that had come to the interface from which it is sent."""
        if kind == _RS:
            asked = self._ask("router-discovery", ("solicited", frame.interface, frame.text("ipv6.src")), frame.time_ns)
            if asked not in self._soliciting:
                self._soliciting = [*self._soliciting[-_SOLICITING_MAX:], asked]
            return asked
        for exchange in reversed(self._soliciting):
            came = (asked.was_at(frame.interface, way) for asked in exchange.journeys for way in ("in", None))
            if frame.time_ns - exchange.touched < SAME_QUESTION_NS and any(came):
                exchange.answered = frame.time_ns
                self._soliciting.remove(exchange)
                return exchange
        return self._ongoing("router-discovery", ("unasked", frame.text("eth.src"), frame.text("ipv6.src")), None)

    def _of_flow(self, frame: Frame, flow: Flow) -> Exchange:
        key = _undirected(flow)
        conversation = self._conversations.get(key)
        if conversation is not None and self._is_other(conversation, frame):
            conversation = None
        if conversation is None:
            conversation = self._conversations[key] = _Conversation()
        exchange = self._within(conversation, frame, flow)
        conversation.latest = exchange
        return exchange

    def _is_other(self, conversation: _Conversation, frame: Frame) -> bool:
        """Whether `frame` begins another conversation between the same ports."""
        if frame.fields.get("tcp.seq_raw"):
            begins = frame.get("tcp.flags.syn") and not frame.get("tcp.flags.ack")
            return bool(begins) and conversation.syn not in (None, frame.number_of("tcp.seq_raw"))
        return conversation.latest is not None and frame.time_ns - conversation.latest.touched > IDLE_NS

    def _within(self, conversation: _Conversation, frame: Frame, flow: Flow) -> Exchange:
        kind = {"tcp": "tcp", "udp": "udp"}.get(flow.protocol, "ping")
        key: Hashable = kind
        if kind == "tcp" and frame.get("tcp.flags.syn") and not frame.get("tcp.flags.ack"):
            conversation.syn = frame.number_of("tcp.seq_raw")
        elif kind == "udp" and "dns" in frame.layers and frame.fields.get("dns.id"):
            kind, key = "dns", ("dns", frame.number_of("dns.id"))
        known = conversation.exchanges.get(key)
        answer = kind == "dns" and bool(frame.get("dns.flags.response"))
        if known is None or (kind == "dns" and not answer and known.answered is not None):
            known = conversation.exchanges[key] = self._new(kind)
        if answer and known.answered is None:
            known.answered = frame.time_ns
        return known

    def _error(self, frame: Frame, quoted: Flow) -> Exchange:
        """An ICMP error belongs to what it is about."""
        conversation = self._conversations.get(_undirected(quoted))
        if conversation is not None and conversation.latest is not None:
            return conversation.latest
        return self._ongoing("icmp", (frame.text("ip.src") or frame.text("ipv6.src"), _undirected(quoted)), IDLE_NS)

    def _other(self, frame: Frame) -> Exchange:
        source, target = frame.text("ip.src") or frame.text("ipv6.src"), frame.text("ip.dst") or frame.text("ipv6.dst")
        if source:
            if "icmp" in frame.layers or "icmpv6" in frame.layers:
                kind = frame.number_of("icmp.type"), frame.number_of("icmpv6.type")
                return self._ongoing("icmp", (source, target, kind), IDLE_NS)
            protocol = max(frame.number_of("ip.proto"), frame.number_of("ipv6.nxt"))
            return self._ongoing("ip", (protocol, *sorted((source, target))), IDLE_NS)
        return self._ongoing("link", (frame.number_of("eth.type"), "llc" in frame.layers), None)

    def _also_known(self, journey: Journey, frame: Frame) -> None:
        """After a translator the same packet has another flow; answers to it will carry that one."""
        if frame.data == journey.sightings[-2].data or journey.flow is None:
            return
        conversation = self._conversations.get(_undirected(journey.flow))
        flow = self._flow(frame)
        if conversation is not None and flow is not None:
            self._conversations[_undirected(flow)] = conversation


def _undirected(flow: Flow) -> Hashable:
    here, there = (flow.source, flow.source_port), (flow.target, flow.target_port)
    return (flow.protocol, here, there) if here <= there else (flow.protocol, there, here)
