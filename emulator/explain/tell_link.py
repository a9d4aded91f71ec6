"""What happened between neighbours: ARP, neighbour discovery, router discovery, spanning tree, groups."""

from __future__ import annotations

from collections import Counter

from emulator.capture.frame import Frame
from emulator.errors import counted
from emulator.explain.exchanges import Exchange
from emulator.explain.journeys import Journey
from emulator.explain.telling import (
    Context,
    Point,
    Remark,
    Telling,
    address,
    common_remarks,
    duration,
    frames_of,
    ranges,
    times,
    ways,
)
from emulator.verify.wording import listed

_REQUEST = 1
_NS, _RS = 135, 133


def finish(
    exchange: Exchange,
    context: Context,
    protocol: str,
    title: str,
    *,
    points: list[Point] | None = None,
    remarks: list[Remark] | None = None,
    facts: dict[str, object] | None = None,
    round_trip_ns: int | None = None,
    parts: tuple[Telling, ...] = (),
) -> Telling:
    """A telling of `exchange` with what all kinds have in common."""
    return Telling(
        number=exchange.number,
        kind=exchange.kind,
        protocol=protocol,
        title=title,
        began_ns=exchange.began_ns,
        ended_ns=max(journey.last.time_ns for journey in exchange.journeys),
        points=tuple(points or ()),
        ways=ways(exchange.journeys, context),
        remarks=(*(remarks or ()), *common_remarks(exchange, context)),
        facts=facts or {},
        round_trip_ns=round_trip_ns,
        parts=parts,
        exchange=exchange,
    )


def waited(exchange: Exchange, context: Context) -> str:
    """How long nothing came after the last question, in words."""
    return f"in the {duration(context.last_ns - exchange.journeys[-1].first.time_ns)} that were recorded after it"


def _arrival(answer: Journey, question: Journey) -> Frame:
    """The answer as the asker saw it: at the interface where the question was first seen, or where it was seen last."""
    place = question.first.interface
    return next((frame for frame in answer.sightings if frame.interface == place), answer.last)


def round_trip(question: Journey, answer: Journey) -> int:
    """From the question to its answer, both at the one who asked; nanoseconds."""
    return _arrival(answer, question).time_ns - question.first.time_ns


def arp(exchange: Exchange, context: Context) -> Telling:
    """Address resolution (RFC 826), probes and announcements (RFC 5227)."""
    requests = [j for j in exchange.journeys if j.first.number_of("arp.opcode") == _REQUEST]
    replies = [j for j in exchange.journeys if j.first.number_of("arp.opcode") != _REQUEST]
    first = exchange.journeys[0].first
    sender, target = first.text("arp.src.proto_ipv4"), first.text("arp.dst.proto_ipv4")
    asker = context.sender(exchange.journeys[0])
    macs = Counter(j.first.text("arp.src.hw_mac") for j in replies)
    facts: dict[str, object] = {"asker": asker, "target": target, "answers": sorted(macs)}
    remarks = []
    if len(macs) > 1:
        who = listed([f"{mac} ({_place(mac, context)})" for mac in macs])
        text = f"{len(macs)} hosts say that {target} is theirs: {who}: a duplicate address"
        remarks.append(Remark("duplicate-address", text, frames_of(replies)))
    if first.get("arp.isgratuitous"):
        return _announcement(exchange, context, asker, sender, remarks, facts)
    if first.get("arp.isprobe"):
        title = f"{asker} asks whether anybody has {target} already (a probe); nobody answers, so it is free"
        if replies:
            title = (
                f"{asker} asks whether anybody has {target} already (a probe); {_place(next(iter(macs)), context)} has"
            )
            text = f"{target} is in use by {next(iter(macs))}: a duplicate address"
            remarks.insert(0, Remark("duplicate-address", text, frames_of(replies)))
        return finish(exchange, context, "ARP", title, remarks=remarks, facts=facts)
    if not requests:
        owner, mac = replies[0].first.text("arp.src.proto_ipv4"), replies[0].first.text("arp.src.hw_mac")
        title = f"{context.sender(replies[0])} says that {owner} is at {mac}, though nobody was seen asking"
        return finish(exchange, context, "ARP", title, remarks=remarks, facts=facts)
    return _resolution(exchange, context, requests, replies, remarks, facts)


def _resolution(
    exchange: Exchange,
    context: Context,
    requests: list[Journey],
    replies: list[Journey],
    remarks: list[Remark],
    facts: dict[str, object],
) -> Telling:
    first = requests[0].first
    target, asker = first.text("arp.dst.proto_ipv4"), context.sender(requests[0])
    whose = context.around.owner(target, requests[0].nodes)
    named = f"{target} ({whose})" if whose and whose != asker else target
    broadcast = first.text("eth.dst") == "ff:ff:ff:ff:ff:ff"
    how = f"{asker} asks everyone on its link who has {named}"
    if not broadcast:
        how = f"{asker} asks {first.text('eth.dst')} whether it still has {named}"
    if len(requests) > 1:
        text = f"asked {times(len(requests))} ({ranges([j.first.number for j in requests])})"
        remarks.append(Remark("retransmission", text, frames_of(requests)))
    if not replies:
        remarks.insert(0, Remark("no-answer", f"nobody answers {waited(exchange, context)}", frames_of(requests)))
        return finish(exchange, context, "ARP", f"{how}; nobody answers", remarks=remarks, facts=facts)
    reply = replies[0]
    question = next((j for j in reversed(requests) if j.first.time_ns <= reply.first.time_ns), requests[0])
    trip = round_trip(question, reply)
    mac = reply.first.text("arp.src.hw_mac")
    facts["mac"] = mac
    points = [
        Point(
            f"request: who has {target}? tell {first.text('arp.src.proto_ipv4')}", first.time_ns, frames_of(requests)
        ),
        Point(f"reply: {target} is at {mac}", reply.first.time_ns, frames_of(replies)),
    ]
    title = f"{how}; {context.sender(reply)} answers: {mac}"
    return finish(exchange, context, "ARP", title, points=points, remarks=remarks, facts=facts, round_trip_ns=trip)


def _place(mac: str, context: Context) -> str:
    return context.around.macs.get(mac, "").partition(":")[0] or mac


def _announcement(
    exchange: Exchange, context: Context, asker: str, sender: str, remarks: list[Remark], facts: dict[str, object]
) -> Telling:
    mac = exchange.journeys[0].first.text("arp.src.hw_mac")
    title = f"{asker} announces that {sender} is at {mac}"
    if len(exchange.journeys) > 1:
        title += f", {times(len(exchange.journeys))}"
    known = context.around.owners.get(sender, ())
    reached = {node for journey in exchange.journeys for node in journey.nodes}
    others = [node for node in known if node != asker and (node in reached or len(known) == 1)]
    if others:
        text = f"{sender} belongs to {listed(others)}: a duplicate address"
        remarks.append(Remark("duplicate-address", text, frames_of(exchange.journeys)))
    return finish(exchange, context, "ARP", title, remarks=remarks, facts=facts)


def neighbour(exchange: Exchange, context: Context) -> Telling:
    """Neighbour solicitation and advertisement (RFC 4861, section 7.2), duplicate address detection (RFC 4862)."""
    asks = [j for j in exchange.journeys if j.first.number_of("icmpv6.type") == _NS]
    answers = [j for j in exchange.journeys if j.first.number_of("icmpv6.type") != _NS]
    sample = exchange.journeys[0].first
    target = sample.text("icmpv6.nd.ns.target_address") or sample.text("icmpv6.nd.na.target_address")
    who = context.sender(exchange.journeys[0])
    macs = Counter(_link_address(j.first) for j in answers)
    facts: dict[str, object] = {"asker": who, "target": target, "answers": sorted(macs)}
    remarks = []
    if not asks:
        title = f"{who} says that {target} is at {_link_address(sample)}"
        return finish(exchange, context, "ND", title, facts=facts)
    if asks[0].first.text("ipv6.src") == "::":
        title = (
            f"{who} asks whether anybody has {target} already (duplicate address detection); nobody answers: it is free"
        )
        if answers:
            title = f"{who} asks whether anybody has {target} already; {context.sender(answers[0])} has"
            text = f"{target} is in use by {next(iter(macs))}: a duplicate address"
            remarks.append(Remark("duplicate-address", text, frames_of(answers)))
        return finish(exchange, context, "ND", title, remarks=remarks, facts=facts)
    group = asks[0].first.text("ipv6.dst").startswith("ff")
    how = f"{who} asks {'the group of' if group else ''} {target}".replace("  ", " ") + " for its MAC"
    if len(macs) > 1:
        text = f"{len(macs)} hosts say that {target} is theirs ({listed(list(macs))}): a duplicate address"
        remarks.append(Remark("duplicate-address", text, frames_of(answers)))
    if len(asks) > 1:
        text = f"asked {times(len(asks))} ({ranges([j.first.number for j in asks])})"
        remarks.append(Remark("retransmission", text, frames_of(asks)))
    if not answers:
        remarks.insert(0, Remark("no-answer", f"nobody answers {waited(exchange, context)}", frames_of(asks)))
        return finish(exchange, context, "ND", f"{how}; nobody answers", remarks=remarks, facts=facts)
    question = next((j for j in reversed(asks) if j.first.time_ns <= answers[0].first.time_ns), asks[0])
    mac = _link_address(answers[0].first)
    facts["mac"] = mac
    points = [
        Point(
            f"solicitation for {target}, to {asks[0].first.text('ipv6.dst')}", asks[0].first.time_ns, frames_of(asks)
        ),
        Point(f"advertisement: {target} is at {mac}", answers[0].first.time_ns, frames_of(answers)),
    ]
    title = f"{how}; {context.sender(answers[0])} answers: {mac}"
    trip = round_trip(question, answers[0])
    return finish(exchange, context, "ND", title, points=points, remarks=remarks, facts=facts, round_trip_ns=trip)


def _link_address(frame: Frame) -> str:
    return frame.text("icmpv6.opt.target_linkaddr") or frame.text("eth.src")


def router_discovery(exchange: Exchange, context: Context) -> Telling:
    """Router solicitation and advertisement (RFC 4861, section 6)."""
    asks = [j for j in exchange.journeys if j.first.number_of("icmpv6.type") == _RS]
    answers = [j for j in exchange.journeys if j.first.number_of("icmpv6.type") != _RS]
    who = context.sender(exchange.journeys[0])
    remarks = []
    said, trip = "", None
    facts: dict[str, object] = {}
    if answers:
        first = answers[0].first
        prefixes = [
            f"{prefix!s}/{length!s}"
            for prefix, length in zip(
                first.fields.get("icmpv6.opt.prefix", ()),
                first.fields.get("icmpv6.opt.prefix.length", ()),
                strict=False,
            )
        ]
        router = context.sender(answers[0])
        lifetime = first.number_of("icmpv6.nd.ra.router_lifetime")
        facts = {"router": router, "prefixes": prefixes, "lifetime_s": lifetime}
        said = f"{router} advertises itself as a router for {lifetime:,} s"
        said = said if lifetime else f"{router} advertises that it is no default router"
        said += f", prefix {listed(prefixes)}" if prefixes else ""
        servers = [str(server) for server in first.fields.get("icmpv6.opt.rdnss", ())]
        said += f", DNS server {listed(servers)}" if servers else ""
        said += f", {times(len(answers))}" if len(answers) > 1 else ""
    if asks:
        title = f"{who} asks for a router; " + (said or "none answers")
        if answers:
            trip = round_trip(asks[-1], answers[0])
        else:
            remarks.append(Remark("no-answer", f"no router answers {waited(exchange, context)}", frames_of(asks)))
    else:
        title = said
    return finish(exchange, context, "ND", title, remarks=remarks, facts=facts, round_trip_ns=trip)


def spanning_tree(exchange: Exchange, context: Context) -> Telling:
    """BPDUs (IEEE 802.1D, section 9)."""
    first = exchange.journeys[0].first
    senders = sorted({context.sender(journey) for journey in exchange.journeys})
    changed = [j for j in exchange.journeys if j.first.get("stp.flags.tc") or j.first.number_of("stp.type") == 0x80]
    root = first.text("stp.root.hw")
    whose = context.around.macs.get(root, "").partition(":")[0]
    about = f"the root is {root}" + (f" ({whose})" if whose else "") if root else "a topology change is notified"
    title = (
        f"bridges talk about the spanning tree: {about}; {counted(len(exchange.journeys), 'BPDU')} by {listed(senders)}"
    )
    remarks = []
    if changed:
        text = (
            f"a topology change: {counted(len(changed), 'BPDU')} say so ({ranges([j.first.number for j in changed])})"
        )
        remarks.append(Remark("topology-change", text, frames_of(changed)))
    return finish(exchange, context, "STP", title, remarks=remarks, facts={"root": root, "senders": senders})


def multicast(exchange: Exchange, context: Context) -> Telling:
    """Group membership: IGMP (RFC 3376) and MLD (RFC 3810)."""
    who = sorted({context.sender(journey) for journey in exchange.journeys})
    title = f"{listed(who, 5)} {'tells' if len(who) == 1 else 'tell'} which multicast groups they listen to"
    if len(who) == 1:
        title = title.replace("they listen", "it listens")
    return finish(exchange, context, "MLD" if ":" in address(exchange.journeys[0].first, "src") else "IGMP", title)


def other_frames(exchange: Exchange, context: Context) -> Telling:
    """Frames of protocols that are not looked into."""
    first = exchange.journeys[0].first
    kind = first.number_of("eth.type")
    what = f"EtherType {kind:#06x}" if kind >= 0 else "LLC" if "llc" in first.layers else "an unknown link layer"
    if not first.layers:
        what = "a link layer that is not decoded"
    title = f"{counted(len(exchange.journeys), 'frame')} of {what}"
    return finish(exchange, context, "link", title)
