"""The story of a capture: all its exchanges told, in the order in which they began, and what belongs to what."""

from __future__ import annotations

from bisect import bisect_right
from collections import defaultdict
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Final

from emulator.capture.frame import Frame, Interface
from emulator.errors import counted
from emulator.explain import tell_hosts, tell_link, tell_tcp
from emulator.explain.exchanges import Exchange, Exchanges
from emulator.explain.surroundings import Surroundings
from emulator.explain.telling import Context, Point, Remark, Telling, address
from emulator.explain.translations import Translations
from emulator.flows.connection import Row
from emulator.flows.table import connections
from emulator.verify.paths import flow_of

_TELLERS: Final[Mapping[str, Callable[[Exchange, Context], Telling]]] = {
    "arp": tell_link.arp,
    "nd": tell_link.neighbour,
    "router-discovery": tell_link.router_discovery,
    "stp": tell_link.spanning_tree,
    "multicast": tell_link.multicast,
    "link": tell_link.other_frames,
    "dhcp": tell_hosts.dhcp,
    "dns": tell_hosts.dns,
    "ping": tell_hosts.ping,
    "icmp": tell_hosts.icmp,
    "udp": tell_hosts.udp,
    "ip": tell_hosts.ip,
}
_LOOKED_BACK: Final = 32
"""Of the questions that wait at a node, the latest so many can be what another question is asked for."""


@dataclass(frozen=True)
class Command:
    """A command that ran while everything was recorded.

    `status` is its exit status, −n when signal n ended it, None when its time was over.
    """

    node: str
    argv: tuple[str, ...]
    status: int | None
    stdout: str
    stderr: str
    began_ns: int
    ended_ns: int

    @property
    def ending(self) -> str:
        """How it ended, in words."""
        if self.status is None:
            return "was killed when its time was over"
        return f"ended with status {self.status}" if self.status >= 0 else f"was ended by signal {-self.status}"


@dataclass(frozen=True)
class Recording:
    """What a story is told from.

    Attributes:
        frames: in the order of time.
        truncated: why the capture is not whole.
        tracking: node → what its connection tracking printed, before, meanwhile and after.
    """

    frames: Sequence[Frame]
    interfaces: Sequence[Interface]
    surroundings: Surroundings
    command: Command | None = None
    tracking: Mapping[str, Sequence[str]] = field(default_factory=dict)
    truncated: str | None = None


@dataclass(frozen=True)
class Story:
    """Everything that is told.

    Attributes:
        zero_ns: the time that others are counted from: the command's start, or the first frame.
        remarks: about the capture as a whole.
        rows: all connections, each as it was seen at one place.
    """

    recording: Recording
    zero_ns: int
    tellings: tuple[Telling, ...]
    remarks: tuple[Remark, ...]
    rows: tuple[Row, ...]
    packets: int

    @property
    def unusual(self) -> list[tuple[Telling, Remark]]:
        """Every remark with its exchange, those of inner exchanges too."""
        every = [inner for telling in self.tellings for inner in (telling, *telling.parts)]
        return [(telling, remark) for telling in every for remark in telling.remarks]


def tell(recording: Recording) -> Story:
    """Tell what happened."""
    exchanges = Exchanges(recording.surroundings)
    found = exchanges.add_all(recording.frames)
    return compose(recording, exchanges, found)


def compose(recording: Recording, exchanges: Exchanges, found: Sequence[Exchange]) -> Story:
    """Tell `found`, exchanges of `recording`."""
    frames = recording.frames
    first_ns = frames[0].time_ns if frames else 0
    zero_ns = recording.command.began_ns if recording.command else first_ns
    context = Context(
        recording.surroundings, Translations(recording.tracking), zero_ns, max((f.time_ns for f in frames), default=0)
    )
    rows = _rows(recording, exchanges)
    by_ends = defaultdict(list)
    for row in rows:
        by_ends[_ends(row)].append(row)
    tellings = [tell_one(exchange, context, _row_of(exchange, by_ends)) for exchange in found]
    tellings = _nested(tellings, context)
    return Story(
        recording, zero_ns, tuple(tellings), tuple(_whole_remarks(recording)), tuple(rows), len(exchanges.journeys.all)
    )


def tell_one(exchange: Exchange, context: Context, row: Row | None = None) -> Telling:
    """Tell one exchange."""
    if exchange.kind == "tcp":
        return tell_tcp.tcp(exchange, context, row)
    return _TELLERS[exchange.kind](exchange, context)


class Narrator:
    """Tells exchanges while frames still come: each as soon as it is complete."""

    def __init__(self, surroundings: Surroundings, zero_ns: int) -> None:
        self._around = surroundings
        self._zero_ns = zero_ns
        self._exchanges = Exchanges(surroundings)
        self._waiting: list[Exchange] = []
        self._known = 0
        self.told: set[int] = set()

    def hear(self, frames: Sequence[Frame], now_ns: int) -> list[Telling]:
        """Take further frames; returns what can be told now, which is `now_ns` since the epoch."""
        self._exchanges.add_all(frames)
        self._waiting += self._exchanges.all[self._known :]
        self._known = len(self._exchanges.all)
        done = [exchange for exchange in self._waiting if _complete(exchange, now_ns)]
        if not done:
            return []
        self._waiting = [exchange for exchange in self._waiting if exchange not in done]
        self.told |= {exchange.number for exchange in done}
        context = Context(self._around, Translations({}), self._zero_ns, now_ns)
        return [tell_one(exchange, context, self._row(exchange)) for exchange in done]

    def _row(self, exchange: Exchange) -> Row | None:
        if exchange.kind != "tcp":
            return None
        rows = connections([(f.time_ns, 1, f.data, f.length) for f in _at_one_place(exchange)])
        return rows[0] if rows else None


_SETTLED_NS: Final = 100_000_000
"""When an answered exchange has been quiet for so long, it is complete …"""
_GIVEN_UP_NS: Final = 2_000_000_000
"""… and any other after this."""
_FIN_OR_RST: Final = 0x01 | 0x04


def _complete(exchange: Exchange, now_ns: int) -> bool:
    quiet = now_ns - exchange.touched
    if exchange.kind == "tcp":
        ended = any(journey.first.number_of("tcp.flags") & _FIN_OR_RST for journey in exchange.journeys[-4:])
        return ended and quiet > _SETTLED_NS
    return quiet > (_SETTLED_NS if exchange.answered is not None else _GIVEN_UP_NS)


def _whole_remarks(recording: Recording) -> list[Remark]:
    found = []
    for interface in recording.interfaces:
        if interface.dropped:
            text = f"{counted(interface.dropped, 'frame')} at {interface.name} were lost before they were recorded"
            found.append(Remark("capture-gap", f"{text}: what seems missing there may have been", ()))
    if recording.truncated:
        found.append(Remark("capture-gap", f"the capture is not whole: {recording.truncated}", ()))
    return found


def _rows(recording: Recording, exchanges: Exchanges) -> list[Row]:
    """The connections, each from the frames at one place: where its first packet was seen first."""
    links = {interface.name: interface.link_type for interface in recording.interfaces}
    chosen: Iterable[Frame] = recording.frames
    if recording.surroundings.by_node:
        chosen = (frame for exchange in exchanges.all for frame in _at_one_place(exchange))
    chosen = sorted(chosen, key=lambda frame: frame.number)
    return connections([(f.time_ns, links.get(f.interface, 1), f.data, f.length) for f in chosen])


def _at_one_place(exchange: Exchange) -> list[Frame]:
    place = exchange.journeys[0].first.interface
    found = []
    for journey in exchange.journeys:
        frame = next((seen for seen in journey.sightings if seen.interface == place), None)
        if frame is not None:
            found.append(frame)
    return found


def _ends(row: Row) -> Hashable:
    here, there = (row.orig_address, row.orig_port), (row.resp_address, row.resp_port)
    return (here, there) if here <= there else (there, here)


def _row_of(exchange: Exchange, rows: Mapping[Hashable, Sequence[Row]]) -> Row | None:
    """The connection of a TCP exchange: between the same ports, begun last before or with its first frame."""
    if exchange.kind != "tcp":
        return None
    first = exchange.journeys[0].first
    flow = flow_of(first)
    if flow is None:
        return None
    here, there = (flow.source, flow.source_port), (flow.target, flow.target_port)
    known = rows.get((here, there) if here <= there else (there, here), ())
    place = bisect_right([row.start_ns for row in known], first.time_ns)
    return known[place - 1] if place else None


def _nested(tellings: list[Telling], context: Context) -> list[Telling]:
    """Say of questions what they were asked for: a node asks others while somebody waits for its own answer."""
    waiting: dict[str, list[Telling]] = defaultdict(list)
    departures = _departures(tellings) if context.around.by_node else {}
    found = []
    for telling in tellings:
        exchange = telling.exchange
        inside: int | None = None
        points = telling.points
        if exchange is not None and context.around.by_node:
            node = context.sender(exchange.journeys[0])
            inside = _waiting_for(telling, waiting.get(node, []))
            if telling.kind in ("arp", "nd") and (frame := _served(telling, exchange, departures)) is not None:
                text = f"frame {frame.number} was waiting for that: it leaves {frame.interface} now"
                points = (*points, Point(text, frame.time_ns, (frame.number,)))
        if telling.kind == "dns" and exchange is not None:
            server = str(telling.facts.get("server", ""))
            waiting[server].append(telling)
        found.append(replace(telling, inside=inside, points=points))
    return found


def _waiting_for(telling: Telling, questions: Sequence[Telling]) -> int | None:
    """The question that had come to the node before this exchange began, and was not answered yet.

    Of several: the latest one with the same name and type, else with the same type, else the latest.
    """
    if telling.kind != "dns" or telling.exchange is None:
        return None
    waiting: list[tuple[int, int]] = []
    for question in questions[-_LOOKED_BACK:]:
        if question.exchange is None:
            continue
        asked = question.exchange.journeys[0].last.time_ns
        answered = question.exchange.answered
        if asked <= telling.began_ns and (answered is None or telling.began_ns <= answered):
            same = [question.facts.get(name) == telling.facts.get(name) for name in ("type", "name")]
            waiting.append((2 * all(same) + same[0], question.number))
    return max(waiting)[1] if waiting else None


def _departures(tellings: Sequence[Telling]) -> dict[tuple[str, str], list[Frame]]:
    """IP packets by the interface from which they were sent and the MAC that they were sent to."""
    found = defaultdict(list)
    for telling in tellings:
        if telling.exchange is None or telling.kind in ("arp", "nd"):
            continue
        for journey in telling.exchange.journeys:
            for frame in journey.sightings:
                if frame.direction == "out" and address(frame, "dst"):
                    found[frame.interface, frame.text("eth.dst")].append(frame)
    for frames in found.values():
        frames.sort(key=lambda frame: frame.time_ns)
    return found


_AT_ONCE_NS: Final = 1_000_000


def _served(
    telling: Telling, exchange: Exchange, departures: Mapping[tuple[str, str], Sequence[Frame]]
) -> Frame | None:
    """The packet that left for the MAC as soon as it was known; of a packet sent earlier to it, it was known before."""
    mac, question = str(telling.facts.get("mac", "")), exchange.journeys[0]
    if not mac or exchange.answered is None:
        return None
    for frame in departures.get((question.first.interface, mac), ()):
        if frame.time_ns < question.first.time_ns:
            return None
        if frame.time_ns >= exchange.answered:
            return frame if frame.time_ns - exchange.answered < _AT_ONCE_NS else None
    return None
