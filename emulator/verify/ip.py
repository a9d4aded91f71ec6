"""The network layer between addresses: TTL at each router, silence where nothing listens, private addresses."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Sequence
from ipaddress import AddressValueError, IPv4Address

from emulator.capture.frame import Frame
from emulator.errors import counted
from emulator.lab.checks.network import HopCount, PrivateDropped, Unanswered
from emulator.lab.resolved import is_private
from emulator.verify.finding import Finding, absent, failed, passed
from emulator.verify.paths import flow_of, quoted_flow
from emulator.verify.view import View
from emulator.verify.wording import at, listed, numbers, saw, told

_COUNTER = re.compile(r"^\[(\d+):\d+\] -A \S+ (?P<rule>.*)$", re.MULTILINE)
_PRIVATE_RULE = re.compile(r'--comment "?private"?(?= |$).*-j DROP\b')


def _ttl(frame: Frame) -> int:
    """Time to live (RFC 791, section 3.2), or the hop limit of IPv6 (RFC 8200, section 3)."""
    return frame.number_of("ip.ttl") if frame.fields.get("ip.ttl") else frame.number_of("ipv6.hlim")


def _limit(frame: Frame) -> str:
    """What the field is called that each router counts down."""
    return "hop limit" if frame.fields.get("ipv6.hlim") else "TTL"


def _crossed(view: View, journey: Sequence[Frame]) -> set[str]:
    """Routers that took the packet in and sent it on in another frame. One that the packet is for did not; nor did one
    whose bridge passed the frame on as it was (IEEE 802.1D-2004, section 7.5)."""
    arrived: defaultdict[str, set[bytes]] = defaultdict(set)
    crossed = set()
    for frame in journey:
        if not view.lab.nodes[frame.node].forwards:
            continue
        if frame.direction == "in":
            arrived[frame.node].add(frame.data)
        elif arrived[frame.node] and frame.data not in arrived[frame.node]:
            crossed.add(frame.node)
    return crossed


def _walk(check: HopCount, view: View, start: Frame) -> Finding | list[Frame]:
    """The frames of one packet's way through the routers, or what is wrong with it."""
    journey = view.sightings.journey(start)
    way, ttl, name = [start], _ttl(start), _limit(start)
    if ttl < 0:
        return failed(f"expected IP packets; {at(start)} is none ({told(start)})", [start])
    expected = f"{check.to} with {name} {ttl - len(check.routers)}"
    stops = [(router, direction) for router in check.routers for direction in ("in", "out")]
    for node, direction in [*stops, (check.to, "in")]:
        ttl -= direction == "out"
        passing = [f for f in journey if node in (f.node, f.interface) and f.direction == direction]
        if not passing:
            last = journey[-1]
            return absent(
                f"frame {start.number} left {start.interface} with {name} {_ttl(start)} and was last seen at "
                f"{last.interface} ({last.direction}) with {name} {_ttl(last)}; expected {expected}",
                check.to,
                *check.routers,
                frames=[*way, last],
            )
        way.append(passing[0])
        if _ttl(passing[0]) != ttl:
            return failed(f"{at(passing[0])} has {name} {_ttl(passing[0])}; expected {ttl}, and at {expected}", way)
    others = _crossed(view, journey) - set(check.routers)
    if others:
        told_others = listed(sorted(others))
        return failed(f"{at(start)} also went through {told_others}; expected only {listed(check.routers)}", way)
    return way


def hop_count(check: HopCount, view: View) -> Finding:
    """Each packet arrives, and each router on its way takes one off its TTL, or off the hop limit of IPv6."""
    for place in (check.to, *check.routers):
        view.interfaces_at(place)
    starts = view.matching(check.filter, view.at(check.from_, direction="out"))
    if not starts:
        return view.lacking(f"packets that match {view.wanted(check.filter)}", check.from_)
    ways = []
    for start in starts:
        way = _walk(check, view, start)
        if isinstance(way, Finding):
            return way
        ways.append(way)
    ttls = [f"{_limit(starts[0])} {_ttl(starts[0])}"]
    ttls += [f"{_ttl(ways[0][2 * number])} ({router})" for number, router in enumerate(check.routers, start=1)]
    return passed(
        f"{' → '.join(ttls)}, {counted(len(starts), 'packet')} from {check.from_} to {check.to}: "
        f"{numbers(starts)} became {numbers([way[-1] for way in ways])}",
        [frame for way in ways for frame in way],
    )


def unanswered(check: Unanswered, view: View) -> Finding:
    """Nothing comes back for the matching packets: no reply to their port and no ICMP error about them."""
    frames = view.at(check.at)
    asked = view.matching(check.filter, frames)
    if not asked:
        return view.lacking(f"packets that match {view.wanted(check.filter)}", check.at)
    first: dict[object, Frame] = {}
    for frame in asked:
        flow = flow_of(frame)
        if flow is not None:
            first.setdefault(flow, frame)
    if not first:
        return failed(
            f"expected TCP, UDP or echo packets, to which there can be an answer; {at(asked[0])} is none "
            f"({told(asked[0])})",
            asked,
        )
    for frame in frames:
        flow, quoted = flow_of(frame), quoted_flow(frame)
        question = first.get(flow.reversed) if flow else first.get(quoted)
        if question is not None and frame.number > question.number:
            return failed(
                f"expected no answer to {numbers([question])} ({told(question)}); {at(frame)} is one: {told(frame)}",
                [question, frame],
            )
    return passed(
        f"{counted(len(asked), 'packet')} seen at {check.at} ({numbers(asked)}; {told(asked[0])}), and no answer to "
        "them",
        asked,
    ).if_whole(check.at)


def _has_private_address(frame: Frame) -> bool:
    """Whether an IPv4 frame's own header has a private address (RFC 1918, section 3)."""
    try:
        return any(is_private(IPv4Address(frame.text(name))) for name in ("ip.src", "ip.dst") if frame.text(name))
    except AddressValueError:
        return False


def _counter(view: View, router: str, when: str) -> int | None:
    """Packets that the router's `private` rules had dropped; None when it has no such rules."""
    rules = _COUNTER.finditer(view.table(router, "counters", when))
    counts = [int(rule[1]) for rule in rules if _PRIVATE_RULE.search(rule["rule"])]
    return sum(counts) if counts else None


def private_dropped(check: PrivateDropped, view: View) -> Finding:
    """What comes with a private address goes no further, and the counter of the rule that drops it tells the same.

    The counters cover the whole time of watching, so all frames count here, whatever the scene.
    """
    everything = view.limited_to(None)
    frames = everything.at(check.router)
    leaving = {frame.interface for frame in frames}
    private = [f for f in frames if f.direction == "in" and _has_private_address(f)]
    for frame in private:
        for place in sorted(leaving - {frame.interface}):
            onward = view.sightings.onward(frame, place)
            if onward is not None:
                return failed(
                    f"expected {check.router} to drop packets with a private address; {at(frame)} ({told(frame)}) "
                    f"went on in {at(onward)}",
                    [frame, onward],
                )
    before, after = _counter(view, check.router, "before"), _counter(view, check.router, "after")
    if before is None or after is None:
        return failed(f"expected rules at {check.router} that drop and count private addresses; it has none", private)
    if not frames:
        return absent(f"expected traffic at {check.router}; {saw(frames)}", check.router)
    if after - before != len(private):
        return failed(
            f"expected the drop counter of {check.router} to grow by {len(private)}, as many as packets with a private "
            f"address came in; it grew by {after - before}",
            private,
        ).if_whole(check.router)
    if not private:
        return passed(
            f"no packet with a private address reached {check.router}; its counter stayed at {after:,}"
        ).if_whole(check.router)
    return passed(
        f"{counted(len(private), 'packet')} with a private address reached {check.router} ({numbers(private)}) and "
        f"went no further; its counter grew from {before:,} to {after:,}",
        private,
    ).if_whole(check.router)
