"""One packet's way: all places where it was seen, in order, and what each node on the way changed of it.

Nothing is guessed: a packet is recognised by what no router and no translator changes (`verify.paths.identity`), and it
is joined to a journey only where it can have come from: by the cable from the node before, or through the node itself.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Final

from emulator.capture.frame import Frame
from emulator.explain.surroundings import Surroundings
from emulator.verify.paths import Flow, flow_of, identity

OPEN_NS: Final = 30_000_000_000
"""A packet that was last seen so long ago does not come any further."""
_OPEN_AT_ONCE: Final = 8
"""Journeys of exact repetitions that are compared; a storm has thousands, and of those only the last ones go on."""
_LOOP_NS: Final = 50_000_000
"""Nobody sends the very same frame again so soon; when it comes by again, it went round in a loop."""

_COMPARED: Final[Mapping[str, str]] = {
    "eth.src": "source MAC",
    "eth.dst": "destination MAC",
    "vlan.id": "VLAN",
    "ip.src": "source",
    "ip.dst": "destination",
    "ipv6.src": "source",
    "ipv6.dst": "destination",
    "tcp.srcport": "source port",
    "tcp.dstport": "destination port",
    "udp.srcport": "source port",
    "udp.dstport": "destination port",
    "icmp.ident": "query id",
    "icmpv6.echo.identifier": "query id",
    "ip.ttl": "TTL",
    "ipv6.hlim": "hop limit",
    "ip.dsfield": "DS field",
    "tcp.options.mss_val": "MSS",
    "wirelab.icmp.ip.src": "quoted source",
    "wirelab.icmp.ip.dst": "quoted destination",
}
"""What a node on the way may change. Checksums follow from it, and are not told."""
_TRANSLATED: Final = frozenset({"source", "destination", "source port", "destination port", "query id"})


@dataclass(frozen=True)
class Change:
    """A field of a packet before and after a node."""

    what: str
    field: str
    before: str
    after: str


@dataclass(frozen=True)
class Passage:
    """A packet through a node: as it came in, as it went out, and what differs. `node` is empty when not known."""

    node: str
    entering: Frame
    leaving: Frame
    changes: tuple[Change, ...]

    @property
    def translated(self) -> bool:
        """Whether addresses, ports or the query id were rewritten."""
        return any(change.what in _TRANSLATED for change in self.changes)


@dataclass(frozen=True)
class Hop:
    """A packet over one cable. `sent` or `arrived` is None where nobody recorded."""

    sent: Frame | None
    arrived: Frame | None


@dataclass(eq=False)
class Journey:
    """One packet and its sightings so far, in time order.

    Attributes:
        number: journeys counted from 1 by their first frame.
        looped: it is the same packet once more, coming round in a loop.
    """

    number: int
    sightings: list[Frame]
    looped: bool = False
    _places: set[tuple[str, str | None]] = field(default_factory=set)

    @property
    def first(self) -> Frame:
        """The packet as it was sent, or where it was seen first."""
        return self.sightings[0]

    @property
    def last(self) -> Frame:
        """Where it was seen last."""
        return self.sightings[-1]

    @cached_property
    def flow(self) -> Flow | None:
        """Its flow as its sender has it."""
        return flow_of(self.first)

    def add(self, frame: Frame) -> None:
        """It was seen once more."""
        self.sightings.append(frame)
        self._places.add((frame.interface, frame.direction))

    def was_at(self, interface: str, direction: str | None) -> bool:
        """Whether it was seen there."""
        return (interface, direction) in self._places

    def arrival_at(self, node: str) -> Frame | None:
        """Where it came to `node`; the last such sighting."""
        return next((f for f in reversed(self.sightings) if f.node == node and f.direction != "out"), None)

    def passages(self) -> Iterator[Passage]:
        """What each node did with it, also those that changed nothing."""
        came: dict[str, Frame] = {}
        before: Frame | None = None
        for frame in self.sightings:
            if frame.direction == "in":
                came[frame.node] = frame
            elif frame.direction == "out":
                if frame.node in came:
                    yield Passage(frame.node, came[frame.node], frame, changes(came[frame.node], frame))
            elif before is not None and before.direction is None:
                yield Passage("", before, frame, changes(before, frame))
            before = frame

    def hops(self, peers: Mapping[str, str]) -> list[Hop]:
        """The cables that it went over, in the order of sending; also what was sent and arrived nowhere."""
        unclaimed: list[Frame] = []
        hops: list[tuple[int, Hop]] = []
        inside: set[str] = set()
        for frame in self.sightings:
            if frame.direction == "out":
                unclaimed.append(frame)
                inside.discard(frame.node)
            elif frame.direction == "in":
                peer = peers.get(frame.interface)
                others = [f for f in unclaimed if f.node != frame.node]
                fitting = [f for f in others if f.interface == peer] or others
                if fitting:
                    unclaimed.remove(fitting[-1])
                    hops.append((fitting[-1].number, Hop(fitting[-1], frame)))
                elif frame.node not in inside:
                    hops.append((frame.number, Hop(None, frame)))
                inside.add(frame.node)
            else:
                hops.append((frame.number, Hop(None, frame)))
        hops += [(frame.number, Hop(frame, None)) for frame in unclaimed]
        return [hop for _, hop in sorted(hops, key=lambda item: item[0])]

    @property
    def nodes(self) -> tuple[str, ...]:
        """The nodes at which it was seen, in order."""
        return tuple(dict.fromkeys(frame.node for frame in self.sightings))

    @property
    def way(self) -> tuple[str, ...]:
        """The interfaces in order."""
        return tuple(frame.interface for frame in self.sightings)


def changes(before: Frame, after: Frame) -> tuple[Change, ...]:
    """The fields in which two sightings of a packet differ, in the order of the headers."""
    if before.data == after.data:
        return ()
    found = []
    for name, what in _COMPARED.items():
        old, new = before.fields.get(name, ()), after.fields.get(name, ())
        if old != new:
            found.append(Change(what, name, _shown(old), _shown(new)))
    return tuple(found)


def _shown(values: Sequence[object]) -> str:
    return ", ".join(map(str, values)) or "none"


class Journeys:
    """Puts frames together to journeys, one frame after the other, in time order."""

    def __init__(self, surroundings: Surroundings) -> None:
        self._around = surroundings
        self._open: dict[Hashable, list[Journey]] = {}
        self.all: list[Journey] = []

    def add(self, frame: Frame) -> tuple[Journey, bool]:
        """The journey that `frame` belongs to, and whether it begins with it."""
        key = identity(frame)
        if key is None:
            key = frame.data
        known = self._open.setdefault(key, [])
        for certain in (True, False):
            for journey in reversed(known):
                if self._continues(journey, frame, certain=certain):
                    journey.add(frame)
                    return journey, False
        looped = any(
            frame.direction == "in" and journey.was_at(frame.interface, "in") and _soon(journey, frame)
            for journey in known
        )
        journey = Journey(len(self.all) + 1, [], looped)
        journey.add(frame)
        self.all.append(journey)
        known.append(journey)
        del known[:-_OPEN_AT_ONCE]
        return journey, True

    def _continues(self, journey: Journey, frame: Frame, *, certain: bool) -> bool:
        """Whether the packet of `journey` can be the one in `frame`; unless `certain`, with a sighting missing."""
        if journey.was_at(frame.interface, frame.direction) or frame.time_ns - journey.last.time_ns > OPEN_NS:
            return False
        if frame.direction is None:
            return journey.first.direction is None
        here = any(seen.node == frame.node and seen.direction == "in" for seen in journey.sightings)
        if here or frame.direction == "out":
            return here
        peer = self._around.peers.get(frame.interface)
        if certain and peer and peer in self._around.captured:
            return journey.was_at(peer, "out")
        return any(seen.direction == "out" and seen.node != frame.node for seen in journey.sightings)


def _soon(journey: Journey, frame: Frame) -> bool:
    return frame.time_ns - journey.last.time_ns < _LOOP_NS
