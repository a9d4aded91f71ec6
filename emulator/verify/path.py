"""The way of a packet: the places that it passes, and whether its addresses are the same at both ends."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from emulator.capture.frame import Frame
from emulator.errors import counted
from emulator.lab.checks.frames import EndToEnd, PacketPath
from emulator.verify.finding import Finding, absent, failed, passed
from emulator.verify.paths import Flow, flow_of
from emulator.verify.view import View
from emulator.verify.wording import at, listed, numbers, told

_FIELDS = {
    "eth.dst": "the destination MAC", "eth.src": "the source MAC", "ip.ttl": "the TTL", "ipv6.hlim": "the hop limit",
    "ip.src": "the source address", "ip.dst": "the destination address", "ipv6.src": "the source address",
    "ipv6.dst": "the destination address", "tcp.srcport": "the source port", "tcp.dstport": "the destination port",
    "udp.srcport": "the source port", "udp.dstport": "the destination port",
}  # fmt: skip
"""Fields that change on the way, where there is a router or translator on it."""


def _is_at(frame: Frame, place: str) -> bool:
    return place in (frame.node, frame.interface)


def _difference(before: Frame, after: Frame) -> str | None:
    """How two sightings of a packet differ, in words; None when they are the same octets."""
    if (before.data, before.length) == (after.data, after.length):
        return None
    changed = [
        f"{words} {before.text(field)} became {after.text(field)}"
        for field, words in _FIELDS.items()
        if before.text(field) != after.text(field)
    ]
    if changed:
        return listed(changed)
    pairs = enumerate(zip(before.data, after.data, strict=False))
    first = next((number for number, (a, b) in pairs if a != b), min(before.length, after.length))
    return f"octet {first} and what follows is not the same ({before.length:,} and {after.length:,} octets)"


def _way(check: PacketPath, journey: Sequence[Frame]) -> Finding | list[Frame]:
    """The sightings of one packet at the places of its path, or what is wrong with it."""
    way, position = [journey[0]], 0
    for place in check.through[1:]:
        following = range(position + 1, len(journey))
        found = next((number for number in following if _is_at(journey[number], place)), None)
        if found is None:
            visited = listed(list(dict.fromkeys(frame.interface for frame in journey)), 12)
            early = " in this order" if any(_is_at(frame, place) for frame in journey) else ""
            return absent(
                f"expected frame {journey[0].number} ({told(journey[0])}) at {listed(check.through, 12)}{early}; "
                f"it was seen at {visited}, last in frame {journey[-1].number}",
                *check.through,
                frames=[*way, journey[-1]],
            )
        position = found
        way.append(journey[found])
    if check.unchanged:
        for frame in way[1:]:
            difference = _difference(way[0], frame)
            if difference is not None:
                return failed(
                    f"expected the octets of {at(way[0])} unchanged at {frame.interface}; in frame {frame.number} "
                    f"{difference}",
                    way,
                )
    return way


def path(check: PacketPath, view: View) -> Finding:
    """Each packet passes all places, one after the other."""
    for place in check.through:
        view.interfaces_at(place)
    starts = view.matching(check.filter, view.at(check.through[0]))
    if not starts:
        return view.lacking(f"packets that match {view.wanted(check.filter)}", check.through[0])
    ways: list[list[Frame]] = []
    known: set[int] = set()
    for start in starts:
        # A node in the place of an interface sees a packet more than once: coming in and going out.
        if start.number in known:
            continue
        journey = view.sightings.journey(start)
        known |= {frame.number for frame in journey}
        way = _way(check, journey)
        if isinstance(way, Finding):
            return way
        ways.append(way)
    same = f", octet for octet the same {counted(ways[0][0].length, 'octet')}" if check.unchanged else ""
    others = len(ways) - 1
    rest = f"; so {'was' if others == 1 else 'were'} {counted(others, 'other packet')}" if others else ""
    places = listed([f"{frame.interface} (frame {frame.number})" for frame in ways[0]], 12)
    return passed(
        f"{told(ways[0][0])} was seen at {places} in this order{same}{rest}",
        [frame for way in ways for frame in way],
    )


def _ends(frame: Frame) -> Flow | None:
    """Both ends as a packet's own headers name them: addresses, and ports where there are any."""
    flow = flow_of(frame)
    source = frame.text("ip.src") or frame.text("ipv6.src")
    if flow is not None or not source:
        return flow
    protocol = max(frame.number_of("ip.proto"), frame.number_of("ipv6.nxt"))
    return Flow(f"protocol {protocol}", source, 0, frame.text("ip.dst") or frame.text("ipv6.dst"), 0)


@dataclass(frozen=True)
class _Delivered:
    """A packet as it left and as it arrived."""

    left: Frame
    arrived: Frame
    ends: Flow


def _deliveries(view: View, sent: Sequence[Frame], to: str) -> Iterator[Finding | _Delivered]:
    """How each of the packets arrived, or what is wrong with it."""
    for frame in sent:
        ends = _ends(frame)
        if ends is None:
            yield failed(f"expected IP packets; {at(frame)} is none ({told(frame)})", [frame])
            continue
        journey = view.sightings.journey(frame)
        arrived = next((f for f in journey[1:] if f.interface == to and f.direction != "out"), None)
        if arrived is None:
            yield absent(
                f"expected {at(frame)} ({ends}) to arrive at {to}; it was last seen at {journey[-1].interface} (frame "
                f"{journey[-1].number})",
                to,
                frames=[frame, journey[-1]],
            )
        elif _ends(arrived) != ends:
            yield failed(
                f"expected the same addresses and ports at both ends; {at(frame)} left as {ends} and arrived as "
                f"{_ends(arrived)} in {at(arrived)}: it was translated on the way",
                [frame, arrived],
            )
        else:
            yield _Delivered(frame, arrived, ends)


def end_to_end(check: EndToEnd, view: View) -> Finding:
    """Nobody on the way changes addresses or ports, neither of the packets nor of the answers to them."""
    view.interfaces_at(check.to)
    sent = view.matching(check.filter, view.at(check.from_, direction="out"))
    if not sent:
        return view.lacking(f"packets that match {view.wanted(check.filter)}", check.from_)
    there: list[_Delivered] = []
    for item in _deliveries(view, sent, check.to):
        if isinstance(item, Finding):
            return item
        there.append(item)
    flows = {item.ends.reversed for item in there}
    first = there[0].arrived.number
    answers = [f for f in view.at(check.to, direction="out") if f.number > first and _ends(f) in flows]
    back: list[_Delivered] = []
    for item in _deliveries(view, answers, check.from_):
        if isinstance(item, Finding):
            return item
        back.append(item)
    ends = there[0].ends
    answered = (
        f"; {counted(len(back), 'answer')} came back as {back[0].ends} ({numbers([back[0].left, back[0].arrived])})"
        if back
        else f"; {check.to} sent no answer"
    )
    return passed(
        f"{ends} at {check.from_} and at {check.to} alike ({numbers([there[0].left, there[0].arrived])}), "
        f"{counted(len(there), 'packet')}{answered}",
        [frame for item in (*there, *back) for frame in (item.left, item.arrived)],
    )
