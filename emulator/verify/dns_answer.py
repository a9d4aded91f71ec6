"""DNS answers as a client gets them: what they say, how their lifetime runs down, how their order changes."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, ip_address

from emulator.capture.frame import Frame
from emulator.errors import counted
from emulator.lab.checks.application import DnsAnswer, DnsRotates, DnsTtlFalls
from emulator.verify.dns_message import Asking, Record, askings, described, not_asked, plain, records
from emulator.verify.finding import Finding, absent, failed, passed
from emulator.verify.view import View
from emulator.verify.wording import at, listed, numbers, shown

_NUMBER_OF = {"A": 1, "NS": 2, "MX": 15, "TXT": 16, "AAAA": 28}
"""Resource record types (RFC 1035, section 3.2.2; RFC 3596, section 2.1)."""
_CODE_OF = {"NOERROR": 0, "SERVFAIL": 2, "NXDOMAIN": 3, "REFUSED": 5}
"""Response codes (RFC 1035, section 4.1.1)."""
_NAME_OF = {code: name for name, code in _CODE_OF.items()}
_QUOTED = re.compile(r'"([^"]*)"')
_COUNTDOWN_S = 1.1
"""How far a countdown in whole seconds may be off: a second, and the time that answering takes."""
_SECOND_NS = 1_000_000_000


def _value(kind: str, data: str) -> str:
    """A record's data in one spelling: names without the final dot in small letters, text without quotes."""
    text = data.strip()
    if kind in ("A", "AAAA"):
        try:
            return str(ip_address(text))
        except ValueError:
            return text
    if kind == "TXT":
        return "".join(_QUOTED.findall(text)) if text.startswith('"') else text
    preference, _, name = text.rpartition(" ")
    return f"{preference.strip()} {plain(name)}".strip()


@dataclass(frozen=True)
class _Question:
    """A name and a type that one node asks of another."""

    name: str
    kind: str
    client: str
    server: str

    def __str__(self) -> str:
        return f"{self.name or '.'} {self.kind}"

    def askings(self, view: View) -> list[Asking]:
        """Each time that it was asked."""
        return [
            asking
            for asking in askings(view, self.client, self.server, self.name, 0)
            if asking.question.number_of("dns.qry.type") == _NUMBER_OF[self.kind]
        ]

    def in_answer(self, reply: Frame) -> list[Record]:
        """The records of its type in a reply's answer section."""
        return [record for record in records(reply, "answer") if record.type == self.kind]

    def values(self, reply: Frame) -> list[str]:
        """Their data, in order."""
        return [_value(self.kind, record.data) for record in self.in_answer(reply)]

    def unanswered(self, view: View, found: Sequence[Asking]) -> Finding:
        """A failed finding: it was never asked, or nobody replied."""
        if found:
            return not_asked(view, self.client, self.server, self.name, found)
        others = {
            f"{plain(asking.text('dns.qry.name')) or '.'} of type {asking.text('dns.qry.type')}"
            for asking in view.at(self.client, direction="out")
            if asking.fields.get("dns.id") and asking.number_of("dns.flags.response") != 1
        }
        instead = f"it asked for {listed(sorted(others))}" if others else "it asked for nothing"
        return absent(
            f"expected a question of {self.client} to {self.server} for {shown(str(self))}{view.when}; {instead}",
            self.client,
        )


def _flags(reply: Frame) -> dict[str, tuple[str, bool]]:
    """The flags that a check may name: what they are called, and whether they are set."""
    return {
        "authoritative": ("AA", reply.number_of("dns.flags.authoritative") == 1),
        "authenticated": ("AD", reply.number_of("dns.flags.authenticated") == 1),
    }


def _difference(check: DnsAnswer, view: View, question: _Question, reply: Frame) -> str | None:
    """Where a reply is not what the check expects, or None."""
    code = reply.number_of("dns.flags.rcode")
    if code != _CODE_OF[check.rcode]:
        got = f"{_NAME_OF.get(code, f'code {code}')} ({described(reply)})"
        return f"response code {check.rcode} to {shown(str(question))}; {at(reply)} says {got}"
    for field, (name, is_set) in _flags(reply).items():
        wanted = getattr(check, field)
        if wanted is not None and wanted is not is_set:
            what = field if wanted else f"not {field}"
            return f"an answer that is {what} ({name} flag {wanted:d}); {at(reply)} has {name} flag {is_set:d}"
    values = question.values(reply)
    has = f"{at(reply)} has {listed([shown(value) for value in values], 8) if values else 'none'}"
    if check.answers is not None:
        wanted_values = {_value(check.type, view.expand(text)) for text in check.answers}
        if set(values) != wanted_values:
            told = listed([shown(value) for value in sorted(wanted_values)], 8) if wanted_values else "no record"
            return f"{told} as the answer to {shown(str(question))}; {has}"
    elif check.rcode == "NOERROR" and not values:
        return f"an answer to {shown(str(question))}; {at(reply)} holds no record of type {check.type}"
    if check.count is not None and len(values) != check.count:
        return f"{counted(check.count, 'record')} of type {check.type}; {at(reply)} holds {len(values)}"
    return None


def dns_answer(check: DnsAnswer, view: View) -> Finding:
    """Every reply to the question is the expected one."""
    question = _Question(plain(view.expand(check.question)), check.type, check.client, check.server)
    found = question.askings(view)
    answered = [(asking, asking.reply) for asking in found if asking.reply is not None]
    if not answered:
        return question.unanswered(view, found)
    for asking, reply in answered:
        wrong = _difference(check, view, question, reply)
        if wrong:
            return failed(f"expected {wrong}", asking.frames)
    first = answered[0][1]
    flags = [field for field in _flags(first) if getattr(check, field)]
    flags += [f"not {field}" for field in _flags(first) if getattr(check, field) is False]
    values = question.values(first)
    says = listed([shown(value) for value in values], 5) if values else f"no record of type {check.type}"
    frames = [frame for asking, _ in answered for frame in asking.frames]
    return passed(
        f"{check.server} answered {check.client} {check.rcode} to {shown(str(question))}: {says}"
        f"{', ' + ' and '.join(flags) if flags else ''}; {counted(len(answered), 'answer')} ({numbers(frames)})",
        frames,
    )


def dns_ttl_falls(check: DnsTtlFalls, view: View) -> Finding:
    """From the last answer in the first scene to the first one in the second, TTL and clock agree."""
    question = _Question(plain(view.expand(check.question)), check.type, check.client, check.server)
    replies: list[Frame] = []
    for scene, which in zip(check.scenes, (-1, 0), strict=True):
        limited = view.limited_to(scene)
        found = question.askings(limited)
        answered = [asking.reply for asking in found if asking.reply is not None]
        if not answered:
            return question.unanswered(limited, found)
        replies.append(answered[which])
    earlier, later = replies
    passed_s = (later.time_ns - earlier.time_ns) / _SECOND_NS
    if passed_s <= 0:
        return failed(
            f'expected the answer of scene "{check.scenes[1]}" after that of scene "{check.scenes[0]}"; '
            f"{at(later)} came before {at(earlier)}",
            replies,
        )
    before = {(record.name, record.data): record.ttl for record in question.in_answer(earlier)}
    after = {(record.name, record.data): record.ttl for record in question.in_answer(later)}
    both = [key for key in after if key in before]
    if not both:
        return failed(
            f"expected the same record of type {check.type} in both answers; {at(earlier)} has {described(earlier)}, "
            f"{at(later)} has {described(later)}",
            replies,
        )
    for name, data in both:
        was, now = before[name, data], after[name, data]
        if now >= was or abs((was - now) - passed_s) > _COUNTDOWN_S:
            return failed(
                f"expected the TTL of {shown(f'{name} {check.type} {data}')} to fall by {passed_s:.1f} s from "
                f"{was:,} s in {at(earlier)}; it is {now:,} s in {at(later)}",
                replies,
            )
    was, now = before[both[0]], after[both[0]]
    return passed(
        f"the TTL of {shown(str(question))} fell from {was:,} s (frame {earlier.number}) to {now:,} s (frame "
        f"{later.number}) in {passed_s:.1f} s: {check.server} answered {check.client} from its cache",
        replies,
    )


def _address(view: View, text: str) -> IPv4Address | IPv6Address:
    """An address of the lab file: as it stands, or of the node or node:interface that it names."""
    try:
        return ip_address(text)
    except ValueError:
        return ip_address(view.literal_address(text, ""))


def dns_rotates(check: DnsRotates, view: View) -> Finding:
    """The same addresses in each answer, in more than one order."""
    addresses = [_address(view, text) for text in check.addresses]
    wanted = [str(address) for address in addresses]
    kind = "AAAA" if addresses[0].version == 6 else "A"
    question = _Question(plain(view.expand(check.question)), kind, check.client, check.server)
    found = question.askings(view)
    answered = [(asking, asking.reply) for asking in found if asking.reply is not None]
    if not answered:
        return question.unanswered(view, found)
    frames = [frame for asking, _ in answered for frame in asking.frames]
    orders = []
    for asking, reply in answered:
        values = question.values(reply)
        if sorted(values) != sorted(wanted):
            return failed(
                f"expected {listed(sorted(wanted), 8)} in every answer to {shown(str(question))}; {at(reply)} has "
                f"{listed(values, 8) if values else described(reply)}",
                asking.frames,
            )
        orders.append(tuple(values))
    if len(orders) == 1:
        return absent(
            f"expected several answers to {shown(str(question))}; saw one, in {numbers(frames)}",
            check.client,
            frames=frames,
        )
    if len(set(orders)) == 1:
        return failed(
            f"expected the addresses of {shown(str(question))} in changing order; all {len(orders)} answers "
            f"({numbers(frames)}) say {', '.join(orders[0])}",
            frames,
        )
    other = next(order for order in orders if order != orders[0])
    return passed(
        f"{counted(len(orders), 'answer')} to {shown(str(question))} with the same {len(wanted)} addresses in "
        f"{len(set(orders))} orders: {', '.join(orders[0])} (frame {answered[0][1].number}), "
        f"{', '.join(other)} (frame {answered[orders.index(other)][1].number})",
        frames,
    )
