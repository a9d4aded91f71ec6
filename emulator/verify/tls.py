"""TLS as far as it can be read without the keys (RFC 8446): greetings with a name, alerts, and data both ways."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from hashlib import sha256
from itertools import pairwise

from emulator.capture.frame import Frame
from emulator.errors import counted
from emulator.lab.checks.application import TlsHandshake
from emulator.verify.finding import Finding, absent, failed, passed
from emulator.verify.tcp import distance
from emulator.verify.view import View
from emulator.verify.wording import at, listed, numbers, shown

_CHANGE_CIPHER, _ALERT, _HANDSHAKE, _DATA = 20, 21, 22, 23
"""Content types of records (RFC 8446, section 5.1)."""
_CLIENT_HELLO, _SERVER_HELLO = 1, 2
_RETRY = sha256(b"HelloRetryRequest").digest()
"""The random of a ServerHello that asks for another ClientHello (RFC 8446, section 4.1.3)."""
_HEADER_OCTETS = 5
_ALERT_OCTETS = 2
_HIDDEN_ALERT_OCTETS = 19
"""An alert under TLS 1.3's encryption: two octets, one that tells its type, 16 of the authentication tag (RFC 8446,
section 5.2; RFC 5116, section 5)."""
_ALERTS = {
    0: "close notify", 10: "unexpected message", 40: "handshake failure", 42: "bad certificate",
    43: "unsupported certificate", 44: "certificate revoked", 45: "certificate expired", 46: "certificate unknown",
    47: "illegal parameter", 48: "unknown CA", 50: "decode error", 51: "decrypt error", 70: "protocol version",
    71: "insufficient security", 80: "internal error", 86: "inappropriate fallback", 90: "user canceled",
    109: "missing extension", 112: "unrecognized name", 116: "certificate required", 120: "no application protocol",
}  # fmt: skip
"""Alert descriptions (RFC 8446, section 6)."""


@dataclass(frozen=True)
class _Record:
    """A record, and the frame in which it begins."""

    type: int
    body: bytes
    frame: Frame

    @property
    def message(self) -> int:
        """The type of the handshake message that it begins with, when it is readable."""
        return self.body[0] if self.type == _HANDSHAKE and self.body else -1


def _octets(frame: Frame) -> bytes:
    payload = frame.get("tcp.payload")
    return payload if isinstance(payload, bytes) else b""


def _records(segments: Sequence[Frame], start: int) -> Iterator[_Record]:
    """The whole records of one direction from sequence number `start` up to the first gap.

    Segments may come twice, overlap, or be out of order (RFC 9293, section 3.10.7.4).
    """
    data = b""
    begins: list[int] = []
    frames: list[Frame] = []
    for frame in sorted(segments, key=lambda frame: distance(start, frame.number_of("tcp.seq_raw"))):
        offset, payload = distance(start, frame.number_of("tcp.seq_raw")), _octets(frame)
        if offset > len(data):
            break
        if offset + len(payload) > len(data):
            begins.append(len(data))
            frames.append(frame)
            data += payload[len(data) - offset :]
    position = 0
    while position + _HEADER_OCTETS <= len(data):
        end = position + _HEADER_OCTETS + int.from_bytes(data[position + 3 : position + 5], "big")
        if end > len(data):
            return
        yield _Record(data[position], data[position + _HEADER_OCTETS : end], frames[bisect_right(begins, position) - 1])
        position = end


def _ends(frame: Frame) -> tuple[str, str, str, str]:
    """Source and destination of a segment: address and port of each."""
    addresses = (frame.text(f"ip.{end}") or frame.text(f"ipv6.{end}") for end in ("src", "dst"))
    source, destination = addresses
    return source, frame.text("tcp.srcport"), destination, frame.text("tcp.dstport")


@dataclass(frozen=True)
class _Session:
    """The records of one connection at the client, from the client's greeting on."""

    hello: Frame
    frames: Sequence[Frame]
    client: Sequence[_Record]
    server: Sequence[_Record]

    @property
    def numbers(self) -> set[int]:
        """The numbers of the connection's frames."""
        return {frame.number for frame in self.frames}

    @property
    def greeting(self) -> _Record | None:
        """The ServerHello; a HelloRetryRequest, which looks like one but asks for another ClientHello, is none."""
        hellos = (record for record in self.server if record.message == _SERVER_HELLO)
        return next((hello for hello in hellos if hello.body[6:38] != _RETRY), None)

    @property
    def alerts(self) -> list[_Record]:
        """The alerts that can be told from data, in time order: by their type, or under TLS 1.3 by their size."""
        records = [*self.client, *self.server]
        found = [r for r in records if r.type == _ALERT or (self.hides and r in self._hidden)]
        return sorted(found, key=lambda record: record.frame.number)

    @property
    def hides(self) -> bool:
        """Whether everything after the greetings is encrypted: TLS 1.3 (RFC 8446, section 2)."""
        after = self.greeting
        records = [r for r in self.server if r.type != _CHANGE_CIPHER]
        return after is not None and any(first is after and second.type == _DATA for first, second in pairwise(records))

    @property
    def _hidden(self) -> list[_Record]:
        records = [*self.client, *self.server]
        return [r for r in records if r.type == _DATA and len(r.body) == _HIDDEN_ALERT_OCTETS]

    def data(self, *, by_client: bool) -> list[_Record]:
        """Records of data. Under TLS 1.3 the client's first encrypted record ends its handshake and is none."""
        greeting, hidden = self.greeting, self._hidden if self.hides else []
        if greeting is None:
            return []
        records = [
            record
            for record in (self.client if by_client else self.server)
            if record.type == _DATA and record.frame.number >= greeting.frame.number
        ]
        if self.hides and by_client:
            records = records[1:]
        return [record for record in records if record not in hidden]


def _session(hello: Frame, frames: Sequence[Frame]) -> _Session:
    """The session that begins with the client's greeting in the frame `hello`."""
    there = _ends(hello)
    back = (*there[2:], *there[:2])
    later = [frame for frame in frames if frame.number >= hello.number and _ends(frame) in (there, back)]
    again = (f for f in later[1:] if f.number_of("tcp.flags.syn") == 1)
    last = next((frame.number for frame in again), None)
    own = [frame for frame in later if last is None or frame.number < last]
    client = list(_records([f for f in own if _ends(f) == there], hello.number_of("tcp.seq_raw")))
    server = list(_records([f for f in own if _ends(f) == back], hello.number_of("tcp.ack_raw")))
    return _Session(hello, own, client, server)


def _told(alert: _Record) -> str:
    """An alert in words."""
    if alert.type == _ALERT and len(alert.body) == _ALERT_OCTETS:
        return f'the alert "{_ALERTS.get(alert.body[1], f"number {alert.body[1]}")}" ({alert.body[1]})'
    what = "encrypted, to be told by its size" if alert.type == _DATA else "encrypted"
    return f"an alert ({what}; a client that does not accept the certificate sends one)"


def _ended(session: _Session) -> str:
    """How the connection ended, for a reason that says what is missing."""
    resets = [frame for frame in session.frames if frame.number_of("tcp.flags.reset") == 1]
    if resets:
        return f"; the connection was broken off by RST in frame {resets[0].number}"
    fins = [frame for frame in session.frames if frame.number_of("tcp.flags.fin") == 1]
    return f"; the connection was closed in frame {fins[0].number}" if fins else ""


def _judged(check: TlsHandshake, view: View, session: _Session) -> Finding:
    hello, greeting = session.hello, session.greeting
    client_data, server_data = session.data(by_client=True), session.data(by_client=False)
    answers = [r for r in server_data if client_data and r.frame.number > client_data[0].frame.number]
    until = answers[0].frame.number if answers else None
    alerts = [alert for alert in session.alerts if until is None or alert.frame.number < until]
    if alerts:
        first = alerts[0]
        who = check.client if first in session.client else check.server
        return failed(
            f"expected no alert before data went both ways, after the ClientHello for "
            f"{shown(view.expand(check.server_name))} in {at(hello)}; {who} sent {_told(first)} in frame "
            f"{first.frame.number}",
            [hello, first.frame],
        )
    if not any(f.interface == check.server and f.direction != "out" for f in view.sightings.journey(hello)):
        view.interfaces_at(check.server)
        return absent(
            f"expected the ClientHello of {at(hello)} at {check.server}; it never arrived", check.server, frames=[hello]
        )
    if greeting is None:
        return absent(
            f"expected a ServerHello to the ClientHello in {at(hello)}; none came{_ended(session)}",
            check.client,
            frames=[hello],
        )
    if not client_data:
        return absent(
            f"expected {check.client} to send data after the ServerHello in {at(greeting.frame)}; it sent none"
            f"{_ended(session)}",
            check.client,
            frames=[hello, greeting.frame],
        )
    if not answers:
        return absent(
            f"expected {check.server} to send data after that of {check.client} in {at(client_data[0].frame)}; it sent "
            f"none{_ended(session)}",
            check.client,
            frames=[hello, greeting.frame, client_data[0].frame],
        )
    frames = [hello, greeting.frame, client_data[0].frame, answers[0].frame]
    return passed(
        f"ClientHello for {shown(view.expand(check.server_name))} (frame {hello.number}), ServerHello (frame "
        f"{greeting.frame.number}{', TLS 1.3' if session.hides else ''}), then data encrypted both ways: "
        f"{counted(len(client_data), 'record')} from {check.client} (first in frame {client_data[0].frame.number}), "
        f"{counted(len(answers), 'record')} back (first in frame {answers[0].frame.number}), no alert before",
        frames,
    )


def tls_handshake(check: TlsHandshake, view: View) -> Finding:
    """Every connection that greets the server by that name goes through to data in both directions."""
    name = view.expand(check.server_name).lower()
    frames = view.at(check.client)
    hellos = [
        frame
        for frame in frames
        if frame.direction != "in"
        and frame.number_of("tcp.dstport") == check.port
        and _CLIENT_HELLO in frame.fields.get("tls.handshake.type", ())
    ]
    named = [hello for hello in hellos if hello.text("tls.handshake.extensions_server_name").lower() == name]
    expected = f"a ClientHello for {shown(name)} to port {check.port}"
    if not hellos:
        return view.lacking(expected, check.client)
    if not named:
        names = dict.fromkeys(shown(f.text("tls.handshake.extensions_server_name") or "no name") for f in hellos)
        return absent(
            f"expected {expected} at {check.client}{view.when}; saw {numbers(hellos)} for {listed(list(names))}",
            check.client,
            frames=hellos,
        )
    sessions: list[_Session] = []
    for hello in named:
        # A second greeting on the same connection answers a HelloRetryRequest, or is the first one sent again.
        if not any(hello.number in session.numbers for session in sessions):
            sessions.append(_session(hello, frames))
    findings = [_judged(check, view, session) for session in sessions]
    for finding in findings:
        if finding.verdict != "pass":
            return finding
    first = findings[0]
    tail = f"; likewise {counted(len(findings) - 1, 'other connection')}" if len(findings) > 1 else ""
    return Finding(first.verdict, first.reason + tail, tuple(n for f in findings for n in f.frames), first.whole_at)
