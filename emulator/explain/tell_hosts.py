"""What hosts ask each other: DHCP, DNS, echo, ICMP errors, other datagrams."""

from __future__ import annotations

from collections.abc import Sequence

from emulator.capture.frame import Frame
from emulator.errors import counted
from emulator.explain.exchanges import Exchange
from emulator.explain.journeys import Journey
from emulator.explain.tell_link import finish, round_trip, waited
from emulator.explain.telling import (
    Context,
    Point,
    Remark,
    Telling,
    address,
    duration,
    frames_of,
    icmp_error,
    octets,
    quoted,
    ranges,
    times,
)
from emulator.verify.wording import DHCP_MESSAGES, listed

_DISCOVER, _OFFER, _REQUEST, _DECLINE, _ACK, _NAK, _RELEASE, _INFORM = range(1, 9)
RCODES = {
    0: "NOERROR", 1: "FORMERR", 2: "SERVFAIL", 3: "NXDOMAIN", 4: "NOTIMP", 5: "REFUSED", 6: "YXDOMAIN",
    7: "YXRRSET", 8: "NXRRSET", 9: "NOTAUTH", 10: "NOTZONE", 16: "BADVERS",
}  # fmt: skip
_RCODE_WORDS = {
    1: "the server did not understand the question", 2: "the server failed", 3: "there is no such name",
    4: "the server does not do that", 5: "the server refuses to answer",
}  # fmt: skip
"""Response codes (IANA, DNS parameters; RFC 1035, section 4.1.1)."""
TYPES = {
    1: "A", 2: "NS", 5: "CNAME", 6: "SOA", 12: "PTR", 15: "MX", 16: "TXT", 28: "AAAA", 33: "SRV", 43: "DS",
    46: "RRSIG", 47: "NSEC", 48: "DNSKEY", 50: "NSEC3", 65: "HTTPS", 255: "ANY",
}  # fmt: skip
_WANTED = {
    1: "the IPv4 address of", 28: "the IPv6 address of", 2: "the name servers of", 15: "the mail servers of",
    12: "the name behind", 6: "the zone of", 48: "the keys of", 43: "the delegation signer of", 16: "the texts of",
}  # fmt: skip


def dhcp(exchange: Exchange, context: Context) -> Telling:
    """A lease asked for, given, renewed or refused (RFC 2131)."""
    messages = [journey for journey in exchange.journeys if "dhcp" in journey.first.layers]
    kinds = [journey.first.number_of("dhcp.option.dhcp") for journey in messages]
    sample = messages[0].first
    mac = sample.text("dhcp.hw.mac_addr")
    client = context.around.macs.get(mac, "").partition(":")[0] or mac
    points, remarks = [], []
    for journey, kind in zip(messages, kinds, strict=True):
        words = (
            f"{DHCP_MESSAGES.get(kind, f'message {kind}')} from {context.sender(journey)}{_dhcp_detail(journey.first)}"
        )
        points.append(Point(words, journey.first.time_ns, frames_of([journey])))
    final = next((j for j, kind in zip(messages, kinds, strict=True) if kind in (_ACK, _NAK)), None)
    facts: dict[str, object] = {"client": client, "mac": mac, "messages": [DHCP_MESSAGES.get(k, str(k)) for k in kinds]}
    trip = round_trip(messages[0], final) if final is not None else None
    for kind, name, text in (
        (_NAK, "dhcp-nak", "the server refuses (Nak): the client must begin anew"),
        (_DECLINE, "duplicate-address", "the client declines the address: somebody else has it already"),
    ):
        found = [j for j, k in zip(messages, kinds, strict=True) if k == kind]
        if found:
            remarks.append(Remark(name, text, frames_of(found)))
    for kind in (_DISCOVER, _REQUEST):
        again = [j for j, k in zip(messages, kinds, strict=True) if k == kind]
        origins = [j for j in again if context.sender(j) == client] if context.around.by_node else again
        if len(origins) > 1:
            text = f"{DHCP_MESSAGES[kind]} was sent {times(len(origins))}"
            remarks.append(Remark("retransmission", text, frames_of(origins)))
    if final is not None and final.first.number_of("dhcp.option.dhcp") == _ACK:
        given = final.first.text("dhcp.ip.your")
        lease = final.first.number_of("dhcp.option.ip_address_lease_time")
        if given and given != "0.0.0.0":
            title = f"{client} gets {given} from {context.sender(final)}"
        else:
            title = f"{client} is told its settings by {context.sender(final)}"
        title += f" for {lease:,} s" if lease > 0 else ""
        title += {1: "", 2: ""}.get(kinds[0], "") if _DISCOVER in kinds else " (a lease renewed, or asked for again)"
        facts |= {"address": given, "lease_s": lease}
    elif final is not None:
        title = f"{client} asks for an address and {context.sender(final)} refuses"
    elif kinds == [_RELEASE] * len(kinds):
        title = f"{client} gives its address {sample.text('dhcp.ip.client')} back"
    else:
        asked = "Offer" if _OFFER not in kinds and _DISCOVER in kinds else "Ack"
        title = f"{client} asks for an address; no {asked} comes"
        remarks.insert(0, Remark("no-answer", f"no {asked} {waited(exchange, context)}", frames_of(messages)))
    return finish(exchange, context, "DHCP", title, points=points, remarks=remarks, facts=facts, round_trip_ns=trip)


def _dhcp_detail(frame: Frame) -> str:
    kind = frame.number_of("dhcp.option.dhcp")
    if kind in (_OFFER, _ACK):
        told = [f"{frame.text('dhcp.ip.your')}"]
        for field, word in (
            ("dhcp.option.subnet_mask", "mask"), ("dhcp.option.router", "router"),
            ("dhcp.option.domain_name_server", "DNS server"), ("dhcp.option.ip_address_lease_time", "lease in s"),
        ):  # fmt: skip
            if values := frame.fields.get(field):
                told.append(f"{word} {', '.join(map(str, values))}")
        return f": {', '.join(told)}"
    if wanted := frame.text("dhcp.option.requested_ip_address"):
        return f", wanting {wanted}"
    return f": {quoted(message)}" if (message := frame.text("dhcp.option.message")) else ""


def dns(exchange: Exchange, context: Context) -> Telling:
    """A question and its answer over UDP (RFC 1035)."""
    questions = [j for j in exchange.journeys if "dns" in j.first.layers and not j.first.get("dns.flags.response")]
    answers = [j for j in exchange.journeys if "dns" in j.first.layers and j.first.get("dns.flags.response")]
    return dns_telling(exchange, context, questions, answers)


def dns_telling(
    exchange: Exchange, context: Context, questions: Sequence[Journey], answers: Sequence[Journey]
) -> Telling:
    """A question that was asked (several times, perhaps) and the answers to it."""
    sample = (questions or answers)[0].first
    name, number = sample.text("dns.qry.name"), sample.number_of("dns.qry.type")
    kind = TYPES.get(number, f"TYPE{number}")
    asker = context.sender(questions[0]) if questions else context.receiver(answers[0])
    server = context.receiver(questions[0]) if questions else context.sender(answers[0])
    if questions and context.around.by_node:
        server = context.around.party(address(questions[0].last, "dst"), questions[0].nodes)
    wanted = _WANTED.get(number, f"the {kind} records of")
    how = f"{asker} asks {server} for {wanted} {'the root' if name == '<Root>' else quoted(name)}"
    facts: dict[str, object] = {"asker": asker, "server": server, "name": name, "type": kind}
    remarks: list[Remark] = []
    points: list[Point] = []
    if questions:
        again = "" if sample.get("dns.flags.recdesired") else ", no recursion wanted"
        points.append(Point(f"question {kind} {quoted(name)}{again}", sample.time_ns, frames_of(questions)))
    if len(questions) > 1:
        text = f"the question was sent {times(len(questions))} ({ranges([j.first.number for j in questions])})"
        remarks.append(Remark("retransmission", text, frames_of(questions)))
    if not answers:
        errors = [j for j in exchange.journeys if icmp_error(j.first)]
        outcome = f"{context.sender(errors[0])} says {icmp_error(errors[0].first)}" if errors else "no answer comes"
        if not errors:
            remarks.insert(0, Remark("no-answer", f"no answer {waited(exchange, context)}", frames_of(questions)))
        return finish(exchange, context, "DNS", f"{how}; {outcome}", points=points, remarks=remarks, facts=facts)
    answer = answers[0]
    frame = answer.first
    code = frame.number_of("dns.flags.rcode")
    outcome = dns_outcome(frame)
    facts |= {
        "rcode": RCODES.get(code, str(code)),
        "answers": [str(v) for v in frame.fields.get("wirelab.dns.answer", ())],
    }
    if code > 0:
        text = f"{RCODES.get(code, f'response code {code}')}: {_RCODE_WORDS.get(code, 'an error')}"
        remarks.append(Remark(RCODES.get(code, "dns-error").lower(), text, frames_of(answers)))
    if frame.get("dns.flags.truncated"):
        remarks.append(Remark("truncated", "the answer is cut short; it must be asked for by TCP", frames_of(answers)))
    if len(answers) > 1:
        remarks.append(Remark("repeated-answer", f"answered {times(len(answers))}", frames_of(answers)))
    if questions and frame.text("dns.qry.name").lower() != name.lower():
        remarks.append(Remark("mismatch", "the answer repeats another question", frames_of(answers)))
    flags = [word for field, word in (("authoritative", "authoritative"), ("authenticated", "authenticated")) if
             frame.get(f"dns.flags.{field}")]  # fmt: skip
    tail = f" ({', '.join(flags)})" if flags else ""
    points.append(Point(f"answer: {outcome}{tail}", frame.time_ns, frames_of(answers)))
    trip = round_trip(questions[-1], answer) if questions else None
    return finish(
        exchange, context, "DNS", f"{how}: {outcome}", points=points, remarks=remarks, facts=facts, round_trip_ns=trip
    )


def dns_outcome(frame: Frame) -> str:
    """What an answer says, in a few words."""
    code = frame.number_of("dns.flags.rcode")
    if code > 0:
        return f"{RCODES.get(code, f'response code {code}')}, {_RCODE_WORDS.get(code, 'an error')}"
    records = [str(value).split(None, 3) for value in frame.fields.get("wirelab.dns.answer", ())]
    told = [
        (f"alias of {quoted(words[3])}" if words[1] == "CNAME" else words[3] if words[1] in ("A", "AAAA") else
         f"{words[1]} {quoted(words[3])}")
        for words in records
        if len(words) == 4 and words[1] != "RRSIG"
    ]  # fmt: skip
    if told:
        return listed(told, 4)
    referred = [str(value).split(None, 3) for value in frame.fields.get("wirelab.dns.authority", ())]
    servers = [words for words in referred if len(words) == 4 and words[1] == "NS"]
    if servers and not frame.get("dns.flags.authoritative"):
        zone = servers[0][0]
        return f"ask the name servers of {quoted(zone)}: {listed([quoted(words[3]) for words in servers])}"
    kind = frame.number_of("dns.qry.type")
    return f"the name exists, but has no {TYPES.get(kind, f'TYPE{kind}')} record"


def ping(exchange: Exchange, context: Context) -> Telling:
    """Echo requests and replies (RFC 792, RFC 4443)."""
    requests: dict[int, list[Journey]] = {}
    replies: dict[int, list[Journey]] = {}
    for journey in exchange.journeys:
        frame = journey.first
        if frame.number_of("icmp.type") == 8 or frame.number_of("icmpv6.type") == 128:
            requests.setdefault(_sequence(frame), []).append(journey)
        elif frame.number_of("icmp.type") == 0 or frame.number_of("icmpv6.type") == 129:
            replies.setdefault(_sequence(frame), []).append(journey)
    errors = [journey for journey in exchange.journeys if icmp_error(journey.first)]
    sample = next(iter((requests or replies).values()))[0]
    asker, whom = (context.sender(sample), address(sample.first, "dst"))
    if not requests:
        asker, whom = context.receiver(sample), address(sample.first, "src")
    trips = [round_trip(requests[n][0], replies[n][0]) for n in requests if n in replies]
    unanswered = [n for n in requests if n not in replies]
    sent, came = sum(map(len, requests.values())), sum(map(len, replies.values()))
    title = f"{asker} pings {context.around.named(whom, sample.nodes)}: {counted(sent, 'echo request')}, "
    title += "1 reply" if came == 1 else f"{came:,} replies" if came else "no reply"
    if trips:
        fastest, slowest = min(trips), max(trips)
        title += f", round trip {duration(fastest)}"
        title += f" to {duration(slowest)}" if len(trips) > 1 else ""
    remarks: list[Remark] = []
    lost = [j for n in unanswered for j in requests[n]]
    if lost and not errors:
        few = f"request {listed([str(n) for n in unanswered], 5)} got no reply"
        remarks.append(Remark("no-answer", few, frames_of(lost)))
    repeated = [n for n in replies if len(replies[n]) > len(requests.get(n, ()))]
    if requests and repeated:
        again = [j for n in repeated for j in replies[n]]
        text = f"more replies than requests (number {listed([str(n) for n in repeated], 5)})"
        remarks.append(Remark("repeated-answer", text, frames_of(again)))
    points = []
    for number in list(requests)[:20]:
        answer = replies.get(number, [])
        tail = f", reply after {duration(round_trip(requests[number][0], answer[0]))}" if answer else ", no reply"
        points.append(
            Point(f"request {number}{tail}", requests[number][0].first.time_ns, frames_of([*requests[number], *answer]))
        )
    if len(requests) > len(points):
        points.append(Point(f"and {len(requests) - len(points):,} more requests"))
    facts: dict[str, object] = {"asker": asker, "target": whom, "requests": sent, "replies": came}
    return finish(
        exchange,
        context,
        "ICMP",
        title,
        points=points,
        remarks=remarks,
        facts=facts,
        round_trip_ns=trips[0] if trips else None,
    )


def _sequence(frame: Frame) -> int:
    return max(frame.number_of("icmp.seq"), frame.number_of("icmpv6.echo.sequence_number"))


def icmp(exchange: Exchange, context: Context) -> Telling:
    """ICMP that is no echo, and belongs to nothing else that was seen."""
    first = exchange.journeys[0]
    what = icmp_error(first.first)
    about = first.first.text("wirelab.icmp.ip.dst") or first.first.text("wirelab.icmpv6.ipv6.dst")
    kind = max(first.first.number_of("icmp.type"), first.first.number_of("icmpv6.type"))
    what = f"{what}, about a packet to {about}" if what and about else what or f"ICMP type {kind}"
    title = f"{context.sender(first)} tells {context.receiver(first)}: {what}"
    if len(exchange.journeys) > 1:
        title += f", {times(len(exchange.journeys))}"
    return finish(exchange, context, "ICMP", title)


def udp(exchange: Exchange, context: Context) -> Telling:
    """Datagrams of a program that is not looked into."""
    data = [j for j in exchange.journeys if not icmp_error(j.first)]
    first = (data or exchange.journeys)[0]
    asker, source = context.sender(first), address(first.first, "src")
    there: list[Journey] = []
    back: list[Journey] = []
    for journey in data:
        frame = journey.first
        same = address(frame, "src") == source and frame.get("udp.srcport") == first.first.get("udp.srcport")
        (there if same else back).append(journey)
    port = first.first.text("udp.dstport")
    whom = context.around.named(address(first.first, "dst"), first.nodes)
    sizes = [sum(max(0, j.first.number_of("udp.length") - 8) for j in side) for side in (there, back)]
    title = f"{asker} sends {counted(len(there), 'datagram')} ({octets(sizes[0])}) to {whom} port {port}; "
    title += f"{counted(len(back), 'datagram')} ({octets(sizes[1])}) come back" if back else "none comes back"
    facts: dict[str, object] = {"sent": len(there), "received": len(back), "port": first.first.number_of("udp.dstport")}
    trip = round_trip(there[0], back[0]) if there and back and back[0].first.time_ns > there[0].first.time_ns else None
    return finish(exchange, context, "UDP", title, facts=facts, round_trip_ns=trip)


def ip(exchange: Exchange, context: Context) -> Telling:
    """Packets of a protocol over IP that is not looked into, and fragments without their first."""
    first = exchange.journeys[0]
    frame = first.first
    later = frame.number_of("ip.frag_offset") > 0 or frame.number_of("ipv6.fraghdr.offset") > 0
    protocol = frame.number_of("ip.proto") if frame.fields.get("ip.src") else frame.number_of("ipv6.nxt")
    what = "later fragment" if later else "packet"
    title = f"{counted(len(exchange.journeys), what)} of IP protocol {protocol} between {context.sender(first)} and "
    return finish(exchange, context, "IP", title + context.receiver(first))
