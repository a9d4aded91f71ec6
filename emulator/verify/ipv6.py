"""From an IPv6 neighbour's address to its MAC: neighbour discovery (RFC 4861), what ARP is to IPv4."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from ipaddress import AddressValueError, IPv6Address, IPv6Interface
from typing import Any

from emulator.capture.frame import Frame
from emulator.errors import counted
from emulator.lab.checks.network import NeighbourDiscovery
from emulator.lab.resolved import Interface
from emulator.verify.finding import DisprovedError, Finding, absent, failed, passed
from emulator.verify.view import View
from emulator.verify.wording import at, listed, numbers

SOLICITATION, ADVERTISEMENT = 135, 136
_DISCOVERY = frozenset(range(133, 138))
"""ICMPv6 types of neighbour discovery (RFC 4861, section 4)."""
HOP_LIMIT = 255
"""What no router has forwarded; other neighbour discovery messages are thrown away (RFC 4861, section 7.1)."""
_SOLICITED_NODE = int(IPv6Address("ff02::1:ff00:0"))
"""The group of all nodes whose address ends in the same 24 bits (RFC 4291, section 2.7.1)."""
UNSPECIFIED = IPv6Address("::")
_USES = 2
"""Packets that must have used the answer before the entry counts as fresh and used."""


def address_in(text: str) -> IPv6Address | None:
    try:
        return IPv6Address(text)
    except AddressValueError:
        return None


def solicited_node(address: IPv6Address) -> IPv6Address:
    """The multicast group in which `address` is asked for (RFC 4291, section 2.7.1)."""
    return IPv6Address(_SOLICITED_NODE | (int(address) & 0xFFFFFF))


def group_mac(group: IPv6Address) -> str:
    """The MAC that frames to a multicast group carry: 33:33 and its last four octets (RFC 2464, section 7)."""
    return "33:33:" + group.packed[-4:].hex(":")


def messages(frames: Sequence[Frame], kind: int) -> list[Frame]:
    return [frame for frame in frames if frame.number_of("icmpv6.type") == kind]


def target_of(frame: Frame) -> IPv6Address | None:
    """The address that a neighbour solicitation or advertisement is about."""
    side = "ns" if frame.number_of("icmpv6.type") == SOLICITATION else "na"
    return address_in(frame.text(f"icmpv6.nd.{side}.target_address"))


def configured(view: View, interface: Interface) -> list[Mapping[str, Any]]:
    """The IPv6 addresses that the kernel had on an interface after the scenes, as `ip -json address` tells them."""
    entries = (e for e in view.json_table(interface.node, "address") if e.get("ifname") == interface.name)
    infos = (info for entry in entries for info in entry.get("addr_info", ()))
    return [info for info in infos if info.get("family") == "inet6" and address_in(str(info.get("local")))]


def _addresses(view: View, place: str) -> set[IPv6Address]:
    """All IPv6 addresses of an interface, fixed and found by itself; DisprovedError when it has none."""
    interface = view.lab.interface(place)
    found = {IPv6Address(str(info["local"])) for info in configured(view, interface)}
    found |= {address.ip for address in interface.addresses if isinstance(address, IPv6Interface)}
    if not found:
        raise DisprovedError(f"expected {place} to have an IPv6 address; it has none")
    return found


def _resolved(check: NeighbourDiscovery, view: View, address: IPv6Address, questions: Sequence[Frame]) -> Finding:
    """Whether one address of the target was found as RFC 4861 says. `questions` begin with the one to the group."""
    asker, target = view.lab.interface(check.asker), view.lab.interface(check.target)
    frames, question = view.at(check.asker), questions[0]
    group = solicited_node(address)
    if address_in(question.text("ipv6.dst")) != group or question.text("eth.dst") != group_mac(group):
        return failed(
            f"expected the question for {address} to go to its solicited-node group {group} ({group_mac(group)}); "
            f"{at(question)} goes to {question.text('ipv6.dst')} ({question.text('eth.dst')})",
            [question],
        )
    answers = [
        frame
        for frame in messages(frames, ADVERTISEMENT)
        if frame.number > question.number and frame.direction != "out" and target_of(frame) == address
    ]
    if not answers:
        return absent(
            f"expected a neighbour advertisement for {address} after the question in {at(question)}; none came",
            check.asker,
            frames=questions,
        )
    answer = answers[0]
    asked_from = question.text("ipv6.src")
    if answer.text("eth.dst") != asker.mac or answer.text("ipv6.dst") != asked_from:
        return failed(
            f"expected the answer to go to {check.asker} alone ({asked_from}, {asker.mac}); {at(answer)} goes to "
            f"{answer.text('ipv6.dst')}, {answer.text('eth.dst')}",
            [question, answer],
        )
    strange = [f for f in answers if f.text("icmpv6.opt.linkaddr") != target.mac]
    if strange:
        return failed(
            f"expected {target.mac} ({check.target}) as the MAC of {address}; {at(strange[0])} tells "
            f"{strange[0].text('icmpv6.opt.linkaddr') or 'none'}",
            [question, strange[0]],
        )
    if len(questions) > 1 or len(answers) > 1:
        return failed(
            f"expected one question for {address} and one answer while the entry is fresh; saw questions in "
            f"{numbers(questions)} and answers in {numbers(answers)} at {check.asker}",
            [*questions, *answers],
        )
    wrong = next((f for f in (question, answer) if f.number_of("ipv6.hlim") != HOP_LIMIT), None)
    if wrong is not None:
        return failed(
            f"expected hop limit 255, which shows that no router forwarded it; {at(wrong)} has "
            f"{wrong.number_of('ipv6.hlim')}",
            [wrong],
        )
    uses = [
        frame
        for frame in frames
        if frame.number > answer.number
        and frame.text("eth.src") == asker.mac
        and frame.text("eth.dst") == target.mac
        and (frame.text("ipv6.src") or frame.text("ip.src"))
        and frame.number_of("icmpv6.type") not in _DISCOVERY
    ]
    if len(uses) < _USES:
        return absent(
            f"expected {_USES} or more packets to {target.mac} after the answer in frame {answer.number}; "
            f"saw {counted(len(uses), 'packet')} at {check.asker}",
            check.asker,
            frames=[question, answer, *uses],
        )
    return passed(
        f"who has {address}? asked of the group {group} (frame {question.number}), answered to {check.asker} alone "
        f"with {target.mac} (frame {answer.number}); {counted(len(uses), 'packet')} then went there without another "
        "question",
        [question, answer, *uses],
    ).if_whole(check.asker)


def neighbour_discovery(check: NeighbourDiscovery, view: View) -> Finding:
    """One multicast question, one unicast answer, and traffic that needs no further question.

    Questions from :: (duplicate address detection) and what the target asks do not count; nor do unicast ones before
    the first to a group: they confirm an entry that was there already (RFC 4861, section 7.3.3).
    """
    asker, known = view.lab.interface(check.asker), _addresses(view, check.target)
    asked: dict[IPv6Address, list[Frame]] = {}
    unicast: list[Frame] = []
    for frame in messages(view.at(check.asker), SOLICITATION):
        address = target_of(frame)
        if address not in known or address is None or frame.text("eth.src") != asker.mac:
            continue
        if address_in(frame.text("ipv6.src")) == UNSPECIFIED:
            continue
        destination = address_in(frame.text("ipv6.dst"))
        if address in asked or (destination is not None and destination.is_multicast):
            asked.setdefault(address, []).append(frame)
        else:
            unicast.append(frame)
    if not asked and unicast:
        return failed(
            f"expected {check.asker} to ask the solicited-node group of {check.target}; {at(unicast[0])} asks "
            f"{unicast[0].text('ipv6.dst')} alone, which only confirms a MAC that was known before",
            unicast,
        ).if_whole(check.asker)
    if not asked:
        told = listed([str(address) for address in sorted(known)])
        return view.lacking(f"a neighbour solicitation of {check.asker} for {told} ({check.target})", check.asker)
    findings = [_resolved(check, view, address, questions) for address, questions in asked.items()]
    for finding in findings:
        if finding.verdict != "pass":
            return finding
    first = findings[0]
    rest = [str(address) for address in asked][1:]
    tail = f"; likewise {listed(rest)}" if rest else ""
    frames = tuple(number for finding in findings for number in finding.frames)
    return Finding(first.verdict, first.reason + tail, frames, first.whole_at)
