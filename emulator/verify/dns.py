"""DNS: a name's walk from the root down (RFC 1034, section 5.3.3), and the answer from a cache."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

from emulator.capture.frame import Frame
from emulator.lab.checks import AnsweredFromCache, ReferralChain
from emulator.verify.finding import Finding, absent, failed, passed
from emulator.verify.paths import flow_of
from emulator.verify.view import View
from emulator.verify.wording import at, counted, numbers, shown

_ROOT = ("", "<root>")
_CODES = {0: "no error", 1: "format error", 2: "server failure", 3: "no such name", 4: "not implemented", 5: "refused"}
"""Response codes (RFC 1035, section 4.1.1)."""
_TYPES = {"1": "A", "2": "NS", "5": "CNAME", "28": "AAAA"}


def _plain(name: str) -> str:
    """A name as it is compared: without the final dot, in small letters (RFC 4343)."""
    return name.rstrip(".").lower()


@dataclass(frozen=True)
class Record:
    """A resource record of a message; names without the final dot."""

    name: str
    type: str
    data: str


def _records(frame: Frame, section: str) -> list[Record]:
    """The records of one section: answer, authority or additional."""
    found = []
    for value in frame.fields.get(f"wirelab.dns.{section}", ()):
        words = str(value).split(None, 3)
        if len(words) == 4:
            found.append(Record(_plain(words[0]), _TYPES.get(words[1], words[1]), words[3].strip()))
    return found


def _addresses(frame: Frame) -> list[str]:
    """The IPv4 addresses in the answer section."""
    return [record.data for record in _records(frame, "answer") if record.type == "A"]


def _is_message(frame: Frame, *, response: bool) -> bool:
    return bool(frame.fields.get("dns.id")) and (frame.number_of("dns.flags.response") == 1) is response


def _asks(frame: Frame, name: str, *, shorter: bool = False) -> bool:
    """Whether a question is for `name`; with `shorter`, also for a name above it (RFC 9156), but not for the root."""
    asked = _plain(frame.text("dns.qry.name"))
    return asked == name or (shorter and asked not in _ROOT and name.endswith(f".{asked}"))


def _reply_to(question: Frame, frames: Sequence[Frame]) -> Frame | None:
    """The first message with the question's id, from where it was asked to where it came from (RFC 5452, section "
    "9.1)."""
    flow = flow_of(question)
    for frame in frames:
        if (
            frame.number > question.number
            and _is_message(frame, response=True)
            and frame.number_of("dns.id") == question.number_of("dns.id")
            and flow is not None
            and flow_of(frame) == flow.reversed
        ):
            return frame
    return None


@dataclass(frozen=True)
class Asking:
    """A question at the node that asked it, and the reply that it got."""

    question: Frame
    reply: Frame | None

    @property
    def frames(self) -> list[Frame]:
        """Both, as far as they are there."""
        return [self.question] + ([self.reply] if self.reply else [])


def _askings(view: View, asker: str, asked: str, name: str, after: int, *, shorter: bool = False) -> Iterator[Asking]:
    """What `asker` asked `asked` about `name` after frame number `after`."""
    frames, servers = view.at(asker), view.addresses_of(asked)
    for frame in frames:
        if (
            frame.number > after
            and frame.direction != "in"
            and _is_message(frame, response=False)
            and frame.text("ip.dst") in servers
            and _asks(frame, name, shorter=shorter)
        ):
            yield Asking(frame, _reply_to(frame, frames))


def _described(reply: Frame) -> str:
    """A reply in words."""
    code = reply.number_of("dns.flags.rcode")
    if code != 0:
        return _CODES.get(code, f"error {code}")
    answers = _records(reply, "answer")
    if answers:
        kind = "authoritative" if reply.number_of("dns.flags.authoritative") == 1 else "not authoritative"
        return f"{kind} answer {shown(answers[-1].data)}"
    referred = [record for record in _records(reply, "authority") if record.type == "NS"]
    if referred:
        glue = [record.data for record in _records(reply, "additional") if record.type in ("A", "AAAA")]
        return f"referral to {shown(referred[0].name + '.')} with glue {', '.join(map(shown, glue)) or 'missing'}"
    return "empty answer"


def _referral(reply: Frame, next_addresses: frozenset[str]) -> str | None:
    """The zone that a reply refers to when its glue leads to one of the addresses (RFC 1034, section 4.2.1)."""
    if reply.number_of("dns.flags.rcode") != 0 or reply.number_of("dns.flags.authoritative") == 1:
        return None
    if _records(reply, "answer"):
        return None
    leads = {r.name for r in _records(reply, "additional") if r.type == "A" and r.data in next_addresses}
    for record in _records(reply, "authority"):
        if record.type == "NS" and _plain(record.data) in leads:
            return record.name
    return None


def _final(reply: Frame, name: str) -> str | None:
    """The address of `name` when the reply gives it with authority."""
    good = reply.number_of("dns.flags.rcode") == 0 and reply.number_of("dns.flags.authoritative") == 1
    named = any(record.name == name for record in _records(reply, "answer"))
    addresses = _addresses(reply)
    return addresses[0] if good and named and addresses else None


def _not_asked(view: View, asker: str, asked: str, name: str, found: Sequence[Asking]) -> Finding:
    """A failed finding: `asker` did not get from `asked` what it should, with what was found instead."""
    if not found:
        return view.lacking(f"a question of {asker} to {asked} for {shown(name)}", asker)
    last = found[-1]
    if last.reply is None:
        return absent(f"expected a reply of {asked} to {at(last.question)}; none came", asker, frames=last.frames)
    return failed(f"{asked} replied in {at(last.reply)}: {_described(last.reply)}", last.frames)


def _asked_directly(view: View, asker: str, asked: str, name: str, after: int) -> Finding | Asking:
    """The first question for exactly `name` from one node to another that wants recursion (RFC 1034, section 4.3.1)."""
    found = list(_askings(view, asker, asked, name, after))
    wanting = [asking for asking in found if asking.question.number_of("dns.flags.recdesired") == 1]
    if not wanting:
        if found:
            return failed(f"expected {at(found[0].question)} to ask for recursion; it does not", found[0].frames)
        return _not_asked(view, asker, asked, name, ())
    return next((asking for asking in wanting if asking.reply is not None), wanting[-1])


def _walk(check: ReferralChain, view: View, name: str, after: int) -> Finding | tuple[list[str], list[Frame], str]:
    """The resolver's way down the servers: each step in words, its frames, and the address at the end."""
    steps: list[str] = []
    frames: list[Frame] = []
    for server, following in zip(check.servers, [*check.servers[1:], None], strict=True):
        found = list(_askings(view, check.resolver, server, name, after, shorter=True))
        goal = view.addresses_of(following) if following else frozenset[str]()
        for asking in found:
            result = None
            if asking.reply is not None:
                result = _referral(asking.reply, goal) if following else _final(asking.reply, name)
            if asking.reply is not None and result is not None:
                steps.append(f"{server} (refers to {shown(result + '.')})" if following else server)
                frames += asking.frames
                after = asking.reply.number
                break
        else:
            wrong = _not_asked(view, check.resolver, server, name, found)
            what = f"a referral to {following} ({', '.join(sorted(goal))})" if following else "an authoritative address"
            if found and found[-1].reply is not None:
                return Finding(wrong.verdict, f"{wrong.reason}; expected {what}", wrong.frames, wrong.whole_at)
            return wrong
    return steps, frames, result or ""


def referral_chain(check: ReferralChain, view: View) -> Finding:
    """The whole walk: down from the root by referrals, and back to the client with the address found at the end."""
    name = _plain(view.expand(check.question))
    hops = [check.client, *([check.forwarder] if check.forwarder else []), check.resolver]
    asked: list[Asking] = []
    for asker, server in pairwise(hops):
        asking = _asked_directly(view, asker, server, name, asked[-1].question.number if asked else 0)
        if isinstance(asking, Finding):
            return asking
        asked.append(asking)
    walked = _walk(check, view, name, asked[-1].question.number)
    if isinstance(walked, Finding):
        return walked
    steps, frames, address = walked
    last = frames[-1].number
    for asking, (asker, server) in reversed(list(zip(asked, pairwise(hops), strict=True))):
        reply = asking.reply
        if reply is None or reply.number_of("dns.flags.rcode") != 0 or address not in _addresses(reply):
            wrong = _not_asked(view, asker, server, name, [asking])
            return Finding(wrong.verdict, f"{wrong.reason}; expected {address}", wrong.frames, wrong.whole_at)
        if reply.number < last:
            return failed(f"{at(reply)} answered {asker} before the name servers had; expected it later", asking.frames)
        last = reply.number
    everything = [
        asked[0].question,
        *(a.question for a in asked[1:]),
        *frames,
        *(a.reply for a in asked[::-1] if a.reply),
    ]
    return passed(
        f"{' → '.join([*hops, *steps])}: {address} authoritative, and back to {check.client}; {numbers(everything)}",
        everything,
    )


def answered_from_cache(check: AnsweredFromCache, view: View) -> Finding:
    """An answer without a question to anybody else, for the name or a name above it (RFC 1034, section 4.3.2).

    Questions for the root itself do not count: resolvers ask them at any time to prime their hints (RFC 8109).
    """
    name = _plain(view.expand(check.question))
    found = list(_askings(view, check.client, check.server, name, 0))
    if not found:
        return _not_asked(view, check.client, check.server, name, found)
    for asking in found:
        reply = asking.reply
        if reply is None or reply.number_of("dns.flags.rcode") != 0 or not _records(reply, "answer"):
            wrong = _not_asked(view, check.client, check.server, name, [asking])
            return Finding(wrong.verdict, f"{wrong.reason}; expected an answer", wrong.frames, wrong.whole_at)
    others = [
        frame
        for frame in view.at(*check.quiet)
        if _is_message(frame, response=False) and _asks(frame, name, shorter=True)
    ]
    if others:
        return failed(
            f"expected no question for {shown(name)} at {', '.join(check.quiet)}; {at(others[0])} asks for "
            f"{shown(others[0].text('dns.qry.name'))}, {counted(len(others), 'question')} in all",
            others,
        )
    first = found[0]
    return passed(
        f"{check.server} answered {check.client} by itself ({numbers(first.frames)}, "
        f"{shown(_records(first.reply or first.question, 'answer')[-1].data)}); {', '.join(check.quiet)} saw no "
        "question for it",
        [frame for asking in found for frame in asking.frames],
    ).if_whole(*check.quiet)
