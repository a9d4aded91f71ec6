"""DNS messages as they were captured: records, questions with their replies, and a reply in words (RFC 1035)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from emulator.capture.frame import Frame
from emulator.verify.finding import Finding, absent, failed
from emulator.verify.paths import flow_of
from emulator.verify.view import View
from emulator.verify.wording import at, shown

_ROOT = "<root>"
"""How a captured message names the root."""
_CODES = {0: "no error", 1: "format error", 2: "server failure", 3: "no such name", 4: "not implemented", 5: "refused"}
"""Response codes (RFC 1035, section 4.1.1)."""
_TYPES = {"1": "A", "2": "NS", "5": "CNAME", "28": "AAAA"}


def plain(name: str) -> str:
    """A name as it is compared: without the final dot, in small letters (RFC 4343); the root is empty."""
    found = name.rstrip(".").lower()
    return "" if found == _ROOT else found


@dataclass(frozen=True)
class Record:
    """A resource record of a message; names without the final dot, `ttl` in seconds."""

    name: str
    type: str
    ttl: int
    data: str


def records(frame: Frame, section: str) -> list[Record]:
    """The records of one section: answer, authority or additional."""
    found = []
    for value in frame.fields.get(f"wirelab.dns.{section}", ()):
        words = str(value).split(None, 3)
        if len(words) == 4 and words[2].isdecimal():
            kind = _TYPES.get(words[1], words[1])
            found.append(Record(plain(words[0]), kind, int(words[2]), words[3].strip()))
    return found


def addresses_in(frame: Frame) -> list[str]:
    """The IPv4 addresses in the answer section."""
    return [record.data for record in records(frame, "answer") if record.type == "A"]


def is_message(frame: Frame, *, response: bool) -> bool:
    """Whether a frame holds a DNS question, or with `response` a reply."""
    return bool(frame.fields.get("dns.id")) and (frame.number_of("dns.flags.response") == 1) is response


def asks(frame: Frame, name: str, *, shorter: bool = False) -> bool:
    """Whether a question is for `name`; with `shorter`, also for a name above it (RFC 9156), but not for the root."""
    asked = plain(frame.text("dns.qry.name"))
    return asked == name or (shorter and asked != "" and name.endswith(f".{asked}"))


def _reply_to(question: Frame, frames: Sequence[Frame]) -> Frame | None:
    """The first message with the question's id, from where it was asked to where it came from (RFC 5452, section "
    "9.1)."""
    flow = flow_of(question)
    for frame in frames:
        if (
            frame.number > question.number
            and is_message(frame, response=True)
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


def _was_sent(frame: Frame) -> bool:
    """Whether the node where a frame was seen sent it. On loopback each packet is recorded once, as it arrives."""
    return frame.direction != "in" or frame.interface.endswith(":lo")


def askings(view: View, asker: str, asked: str, name: str, after: int, *, shorter: bool = False) -> Iterator[Asking]:
    """What `asker` asked `asked` about `name` after frame number `after`."""
    frames, servers = view.at(asker), view.addresses_of(asked)
    for frame in frames:
        if (
            frame.number > after
            and _was_sent(frame)
            and is_message(frame, response=False)
            and (frame.text("ip.dst") or frame.text("ipv6.dst")) in servers
            and asks(frame, name, shorter=shorter)
        ):
            yield Asking(frame, _reply_to(frame, frames))


def described(reply: Frame) -> str:
    """A reply in words."""
    code = reply.number_of("dns.flags.rcode")
    if code != 0:
        return _CODES.get(code, f"error {code}")
    answers = [record for record in records(reply, "answer") if record.type != "RRSIG"]
    if answers:
        kind = "authoritative" if reply.number_of("dns.flags.authoritative") == 1 else "not authoritative"
        return f"{kind} answer {shown(answers[-1].data)}"
    referred = [record for record in records(reply, "authority") if record.type == "NS"]
    if referred:
        glue = [record.data for record in records(reply, "additional") if record.type in ("A", "AAAA")]
        return f"referral to {shown(referred[0].name + '.')} with glue {', '.join(map(shown, glue)) or 'missing'}"
    return "empty answer"


def not_asked(view: View, asker: str, asked: str, name: str, found: Sequence[Asking]) -> Finding:
    """A failed finding: `asker` did not get from `asked` what it should, with what was found instead."""
    if not found:
        return view.lacking(f"a question of {asker} to {asked} for {shown(name or '.')}", asker)
    last = found[-1]
    if last.reply is None:
        return absent(f"expected a reply of {asked} to {at(last.question)}; none came", asker, frames=last.frames)
    return failed(f"{asked} replied in {at(last.reply)}: {described(last.reply)}", last.frames)
