"""DNS: a name's walk from the root down (RFC 1034, section 5.3.3), and the answer from a cache."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from emulator.capture.frame import Frame
from emulator.errors import counted
from emulator.lab.checks.application import AnsweredFromCache, ReferralChain
from emulator.verify.dns_message import Asking, addresses_in, askings, asks, is_message, not_asked, plain, records
from emulator.verify.finding import Finding, failed, passed
from emulator.verify.view import View
from emulator.verify.wording import at, numbers, shown

_AUTHORITATIVE = "an authoritative address"


def _referral(reply: Frame, next_addresses: frozenset[str]) -> str | None:
    """The zone that a reply refers to when its glue leads to one of the addresses (RFC 1034, section 4.2.1)."""
    if reply.number_of("dns.flags.rcode") != 0 or reply.number_of("dns.flags.authoritative") == 1:
        return None
    if records(reply, "answer"):
        return None
    leads = {r.name for r in records(reply, "additional") if r.type == "A" and r.data in next_addresses}
    for record in records(reply, "authority"):
        if record.type == "NS" and plain(record.data) in leads:
            return record.name
    return None


def _final(reply: Frame, name: str) -> str | None:
    """The address of `name` when the reply gives it with authority."""
    good = reply.number_of("dns.flags.rcode") == 0 and reply.number_of("dns.flags.authoritative") == 1
    named = any(record.name == name for record in records(reply, "answer"))
    found = addresses_in(reply)
    return found[0] if good and named and found else None


def _asked_directly(view: View, asker: str, asked: str, name: str, after: int) -> Finding | Asking:
    """The first question for exactly `name` from one node to another that wants recursion (RFC 1034, section 4.3.1)."""
    found = list(askings(view, asker, asked, name, after))
    wanting = [asking for asking in found if asking.question.number_of("dns.flags.recdesired") == 1]
    if not wanting:
        if found:
            return failed(f"expected {at(found[0].question)} to ask for recursion; it does not", found[0].frames)
        return not_asked(view, asker, asked, name, ())
    return next((asking for asking in wanting if asking.reply is not None), wanting[-1])


def _asked_any(view: View, resolver: str, servers: Sequence[str], name: str, after: int) -> list[tuple[str, Asking]]:
    """What the resolver asked any of a zone's servers about the name or one above it, in time order."""
    found = [(s, asking) for s in servers for asking in askings(view, resolver, s, name, after, shorter=True)]
    return sorted(found, key=lambda pair: pair[1].question.number)


def _walk(check: ReferralChain, view: View, name: str, after: int) -> Finding | tuple[list[str], list[Frame], str]:
    """The resolver's way down the servers: each step in words, its frames, and the address at the end."""
    steps: list[str] = []
    frames: list[Frame] = []
    for servers, following in zip(check.servers, [*check.servers[1:], None], strict=True):
        found = _asked_any(view, check.resolver, servers, name, after)
        goal = frozenset(address for node in following or () for address in view.addresses_of(node))
        for server, asking in found:
            result = None
            if asking.reply is not None:
                result = _referral(asking.reply, goal) if following else _final(asking.reply, name)
            if asking.reply is not None and result is not None:
                steps.append(f"{server} (refers to {shown(result + '.')})" if following else server)
                frames += asking.frames
                after = asking.reply.number
                break
        else:
            last = found[-1][0] if found else " or ".join(servers)
            wrong = not_asked(view, check.resolver, last, name, [asking for _, asking in found])
            what = (
                f"a referral to {' or '.join(following)} ({', '.join(sorted(goal))})" if following else _AUTHORITATIVE
            )
            if found and found[-1][1].reply is not None:
                return Finding(wrong.verdict, f"{wrong.reason}; expected {what}", wrong.frames, wrong.whole_at)
            return wrong
    return steps, frames, result or ""


def referral_chain(check: ReferralChain, view: View) -> Finding:
    """The whole walk: down from the root by referrals, and back to the client with the address found at the end."""
    name = plain(view.expand(check.question))
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
        if reply is None or reply.number_of("dns.flags.rcode") != 0 or address not in addresses_in(reply):
            wrong = not_asked(view, asker, server, name, [asking])
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
    name = plain(view.expand(check.question))
    found = list(askings(view, check.client, check.server, name, 0))
    if not found:
        return not_asked(view, check.client, check.server, name, found)
    for asking in found:
        reply = asking.reply
        if reply is None or reply.number_of("dns.flags.rcode") != 0 or not records(reply, "answer"):
            wrong = not_asked(view, check.client, check.server, name, [asking])
            return Finding(wrong.verdict, f"{wrong.reason}; expected an answer", wrong.frames, wrong.whole_at)
    others = [
        frame
        for frame in view.at(*check.quiet)
        if is_message(frame, response=False) and asks(frame, name, shorter=True)
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
        f"{shown(records(first.reply or first.question, 'answer')[-1].data)}); {', '.join(check.quiet)} saw no "
        "question for it",
        [frame for asking in found for frame in asking.frames],
    ).if_whole(*check.quiet)
