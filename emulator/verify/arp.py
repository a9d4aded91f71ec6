"""From the next hop's address to its MAC: ARP (RFC 826), and the MACs that packets to far networks carry."""

from __future__ import annotations

from collections.abc import Sequence

from emulator.capture.frame import Frame
from emulator.errors import counted
from emulator.lab.checks.link import AddressConflict, ArpResolution, NextHopMac
from emulator.verify.finding import Finding, absent, failed, passed
from emulator.verify.view import View
from emulator.verify.wording import at, numbers

BROADCAST = "ff:ff:ff:ff:ff:ff"
_REQUEST, _REPLY = 1, 2
_NOBODY = "0.0.0.0"
"""The sender's address in a probe, which must not change anybody's table (RFC 5227, section 2.1.1)."""
_USES = 2
"""Packets that must have used the answer before the entry counts as fresh and used."""


def _arp(frames: Sequence[Frame], opcode: int, **fields: str) -> list[Frame]:
    """The ARP messages with `opcode` whose fields (`src_hw_mac` is `arp.src.hw_mac`) have these values."""
    names = {f"arp.{name.replace('_', '.', 1)}": value for name, value in fields.items()}
    return [
        frame
        for frame in frames
        if frame.number_of("arp.opcode") == opcode and all(frame.text(name) == names[name] for name in names)
    ]


def arp_resolution(check: ArpResolution, view: View) -> Finding:
    """One question to everybody, one answer to the asker alone, and traffic that needs no further question.

    Questions that the target asks about the asker (the kernel confirming an old entry of its own) do not count.
    """
    asker, target = view.lab.interface(check.asker), view.lab.interface(check.target)
    address, own = view.address(check.target), view.address(check.asker)
    frames = view.at(check.asker)
    who = f"{check.asker}: who has {address} ({check.target})?"

    questions = _arp(frames, _REQUEST, src_hw_mac=asker.mac, src_proto_ipv4=own, dst_proto_ipv4=address)
    if not questions:
        return view.lacking(f"an ARP question of {who}", check.asker)
    question = questions[0]
    if question.text("eth.dst") != BROADCAST:
        return failed(
            f"expected the question to be broadcast; {at(question)} asks {question.text('eth.dst')} alone", [question]
        )
    replies = [f for f in _arp(frames, _REPLY, src_proto_ipv4=address) if f.time_ns >= question.time_ns]
    if not replies:
        return absent(
            f"expected an answer to the ARP question for {address} in {at(question)}; none came",
            check.asker,
            frames=[question],
        )
    strange = [f for f in replies if f.text("arp.src.hw_mac") != target.mac or f.text("eth.dst") != asker.mac]
    if strange:
        says = f"says {strange[0].text('arp.src.hw_mac')} to {strange[0].text('eth.dst')}"
        return failed(f"expected {target.mac} as the answer, to {asker.mac} alone; {at(strange[0])} {says}", strange)
    if len(replies) > 1 or len(questions) > 1:
        return failed(
            f"expected one question and one answer while the entry is fresh; saw questions in {numbers(questions)} and "
            f"answers in {numbers(replies)} at {check.asker}",
            [*questions, *replies],
        )
    reply = replies[0]
    uses = [
        frame
        for frame in frames
        if frame.text("eth.src") == asker.mac and frame.text("eth.dst") == target.mac and frame.time_ns >= reply.time_ns
        and (frame.text("ip.src") or frame.text("ipv6.src"))
    ]  # fmt: skip
    if len(uses) < _USES:
        return absent(
            f"expected {_USES} or more packets to {target.mac} after the answer in frame {reply.number}; "
            f"saw {counted(len(uses), 'packet')} at {check.asker}",
            check.asker,
            frames=[question, reply, *uses],
        )
    return passed(
        f"who has {address}? asked by broadcast (frame {question.number}), answered to {check.asker} alone with "
        f"{target.mac} (frame {reply.number}); {counted(len(uses), 'packet')} then went there without another question",
        [question, reply, *uses],
    ).if_whole(check.asker)


def next_hop_mac(check: NextHopMac, view: View) -> Finding:
    """On the way to another network MACs go hop by hop, addresses from end to end (RFC 1122, section 3.3.1)."""
    router, far = view.lab.interface(check.router), view.lab.interface(check.to)
    source, target = view.address(check.from_), view.address(check.to)
    sent = [
        frame
        for frame in view.at(check.from_, direction="out")
        if frame.text("ip.src") == source and frame.text("ip.dst") == target
    ]
    if not sent:
        return view.lacking(f"packets {source} → {target}", check.from_)
    wrong = [frame for frame in sent if frame.text("eth.dst") != router.mac]
    if wrong:
        return failed(
            f"expected packets to {target} to be handed to {check.router} ({router.mac}); "
            f"{at(wrong[0])} is for MAC {wrong[0].text('eth.dst')}",
            wrong,
        )
    arrived = [
        sighting
        for frame in sent
        for sighting in view.sightings.journey(frame)
        if sighting.interface == check.to and sighting.direction != "out" and sighting.text("ip.dst") == target
    ]
    if not arrived:
        return absent(
            f"expected the packets of {numbers(sent)} at {check.to}; none arrived there",
            check.to,
            check.from_,
            frames=sent,
        )
    last_hops = {
        interface.mac: interface.place
        for interface in view.lab.interfaces()
        if interface.segment == far.segment and view.lab.nodes[interface.node].forwards
    }
    strange = [frame for frame in arrived if frame.text("eth.src") not in last_hops]
    if strange:
        return failed(
            f"expected packets to reach {check.to} from its own router; {at(strange[0])} comes from "
            f"MAC {strange[0].text('eth.src')}",
            strange,
        )
    return passed(
        f"{counted(len(sent), 'packet')} for {target} left {check.from_} to the MAC of {check.router} "
        f"({numbers(sent)}) and "
        f"reached {check.to} from the MAC of {last_hops[arrived[0].text('eth.src')]} ({numbers(arrived)}), address "
        "unchanged",
        [*sent, *arrived],
    )


def _conflict(view: View, address: str, place: str) -> Finding:
    """The first probe at a place that somebody else answered."""
    frames = view.at(place)
    probes = _arp(frames, _REQUEST, src_proto_ipv4=_NOBODY, dst_proto_ipv4=address)
    if not probes:
        return view.lacking(f"an ARP probe for {address} (who has {address}? tell {_NOBODY})", place)
    replies = _arp(frames, _REPLY, src_proto_ipv4=address)
    for probe in probes:
        prober = probe.text("arp.src.hw_mac")
        for reply in replies:
            holder = reply.text("arp.src.hw_mac")
            if reply.number > probe.number and holder != prober and reply.text("eth.dst") in (prober, BROADCAST):
                names = view.lab.by_mac
                told = [f"{mac} ({names[mac].place})" if mac in names else mac for mac in (prober, holder)]
                return passed(
                    f"{told[0]} probed {address} (frame {probe.number}) and {told[1]} answered that it has it (frame "
                    f"{reply.number}) at {place}: two MACs for one address",
                    [probe, reply],
                )
    own = [reply for reply in replies if reply.number > probes[0].number]
    instead = (
        f"; {at(own[0])} is an answer of {own[0].text('arp.src.hw_mac')} to {own[0].text('eth.dst')}" if own else ""
    )
    return absent(
        f"expected another MAC to answer the probe for {address} of {probes[0].text('arp.src.hw_mac')} in "
        f"{numbers(probes)}; nobody did at {place}, so the address was free{instead}",
        place,
        frames=[*probes, *own],
    )


def _owned(view: View, text: str) -> str:
    """The IPv4 address that `text` stands for: itself, that of node:interface, or the first that a node has."""
    for interface in view.lab.nodes[text].interfaces if text in view.lab.nodes else ():
        if interface.name != "lo" and (interface.dhcp or any(a.version == 4 for a in interface.addresses)):
            return view.address(interface.place)
    return view.literal_address(text, "")


def address_conflict(check: AddressConflict, view: View) -> Finding:
    """At each place the probe is seen, and the answer of the one that has the address already."""
    address = _owned(view, check.address)
    findings = [_conflict(view, address, place) for place in check.at]
    for finding in findings:
        if finding.verdict != "pass":
            return finding
    places = check.at[1:]
    frames = tuple(dict.fromkeys(number for finding in findings for number in finding.frames))
    tail = f"; seen at {', '.join(places)} too" if places else ""
    return Finding(findings[0].verdict, findings[0].reason + tail, frames)
