"""TCP (RFC 9293): the handshake, acknowledgement of every octet, the orderly close; a stream without gaps; what gets
lost is sent again."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from emulator.capture.frame import Frame
from emulator.errors import counted
from emulator.lab.checks.transport import Retransmission, TcpAcknowledged, TcpClose, TcpHandshake, TcpStream
from emulator.verify.finding import Finding, absent, failed, passed
from emulator.verify.paths import Flow, flow_of
from emulator.verify.view import View
from emulator.verify.wording import at, numbers

_MODULUS = 1 << 32
_MSS_4, _MSS_6 = 536, 1220
"""The maximum segment size towards one that tells none, over IPv4 and over IPv6 (RFC 9293, section 3.7.1)."""


def distance(start: int, number: int) -> int:
    """From one sequence number to another, negative when `number` is older (RFC 9293, section 3.4)."""
    gap = (number - start) % _MODULUS
    return gap - _MODULUS if gap >= _MODULUS // 2 else gap


def _has(frame: Frame, *flags: str) -> bool:
    return all(frame.number_of(f"tcp.flags.{flag}") == 1 for flag in flags)


def _seq(frame: Frame) -> int:
    return frame.number_of("tcp.seq_raw")


def _ack(frame: Frame) -> int:
    return frame.number_of("tcp.ack_raw")


def _octets(frame: Frame) -> int:
    return max(frame.number_of("tcp.len"), 0)


@dataclass(frozen=True)
class Connection:
    """The segments of one connection at one interface, from its SYN on, in time order."""

    place: str
    flow: Flow
    syn: Frame
    segments: Sequence[Frame]

    def sent(self, by_client: bool) -> list[Frame]:
        """The segments of one side."""
        flow = self.flow if by_client else self.flow.reversed
        return [frame for frame in self.segments if flow_of(frame) == flow]

    def initial(self, by_client: bool) -> int | None:
        """The initial sequence number of one side: that of its SYN; None when that side sent none."""
        return next((_seq(frame) for frame in self.sent(by_client) if _has(frame, "syn")), None)

    def name(self, by_client: bool) -> str:
        """The address and port of one side."""
        return self.flow.sender if by_client else self.flow.receiver

    def acknowledging(self, by_client: bool, number: int) -> Frame | None:
        """The first segment of one side that acknowledges everything of the other before sequence number `number`."""
        acks = (frame for frame in self.sent(by_client) if _has(frame, "ack"))
        return next((frame for frame in acks if distance(number, _ack(frame)) >= 0), None)


def connections(view: View, place: str, text: str) -> list[Connection]:
    """The connections whose SYN, seen at `place`, matches the filter `text`; a repeated SYN begins no new one.

    Only the SYN must be in the view's scene: a connection's last segments may come when the next scene has begun.
    """
    frames = view.limited_to(None).at(place)
    found: dict[tuple[Flow, int], Connection] = {}
    for syn in view.matching(text, view.at(place)):
        flow = flow_of(syn)
        if (
            flow is None
            or flow.protocol != "tcp"
            or not _has(syn, "syn")
            or _has(syn, "ack")
            or (flow, _seq(syn)) in found
        ):
            continue
        segments = []
        for frame in frames:
            if frame.number < syn.number or flow_of(frame) not in (flow, flow.reversed):
                continue
            if _has(frame, "syn") and not _has(frame, "ack") and _seq(frame) != _seq(syn):
                break
            segments.append(frame)
        found[flow, _seq(syn)] = Connection(place, flow, syn, segments)
    return list(found.values())


def _first_failure(findings: Sequence[Finding]) -> Finding:
    """The first finding that is no pass; else the first, which says how many more there are."""
    for finding in findings:
        if finding.verdict != "pass":
            return finding
    first, more = findings[0], len(findings) - 1
    frames = tuple(number for finding in findings for number in finding.frames)
    tail = f"; so did {counted(more, 'other connection')}" if more else ""
    return Finding(first.verdict, first.reason + tail, frames, first.whole_at)


def _no_connection(view: View, place: str, text: str) -> Finding:
    return view.lacking(f"a SYN that matches {view.wanted(text)}", place)


def _refused(connection: Connection) -> Finding | None:
    """A failed finding when the connection was never answered with SYN and ACK."""
    if connection.initial(by_client=False) is not None:
        return None
    reset = next((frame for frame in connection.segments if _has(frame, "reset")), None)
    if reset is not None:
        return failed(
            f"expected a SYN,ACK for {at(connection.syn)} ({connection.flow}); it was refused by RST in frame "
            f"{reset.number}",
            [connection.syn, reset],
        )
    return absent(
        f"expected a SYN,ACK for {at(connection.syn)} ({connection.flow}); none came",
        connection.place,
        frames=[connection.syn],
    )


def _handshake(connection: Connection) -> Finding:
    refused = _refused(connection)
    if refused:
        return refused
    syn = connection.syn
    answer = next(frame for frame in connection.sent(by_client=False) if _has(frame, "syn"))
    x, y = _seq(syn), _seq(answer)
    if not _has(answer, "ack") or _ack(answer) != (x + 1) % _MODULUS:
        return failed(
            f"expected SYN,ACK to acknowledge {(x + 1) % _MODULUS}; {at(answer)} acknowledges {_ack(answer)}",
            [syn, answer],
        )
    acks = [
        f for f in connection.sent(by_client=True) if f.number > answer.number and _has(f, "ack") and not _has(f, "syn")
    ]
    if not acks:
        return absent(f"expected an ACK of {at(answer)}; none came", connection.place, frames=[syn, answer])
    third = acks[0]
    if (_seq(third), _ack(third)) != ((x + 1) % _MODULUS, (y + 1) % _MODULUS):
        return failed(
            f"expected ACK with sequence {(x + 1) % _MODULUS}, acknowledging {(y + 1) % _MODULUS}; {at(third)} has "
            f"{_seq(third)} and {_ack(third)}",
            [syn, answer, third],
        )
    return passed(
        f"{connection.flow.sender} → {connection.flow.receiver}: SYN x={x} (frame {syn.number}), SYN,ACK y={y} ack=x+1 "
        f"(frame {answer.number}), ACK seq=x+1 ack=y+1 (frame {third.number})",
        [syn, answer, third],
    )


def tcp_handshake(check: TcpHandshake, view: View) -> Finding:
    """Three segments, each acknowledging the sequence number of the one before."""
    found = connections(view, check.at, check.filter)
    return (
        _first_failure([_handshake(each) for each in found]) if found else _no_connection(view, check.at, check.filter)
    )


def _acknowledged(connection: Connection) -> Finding:
    refused = _refused(connection)
    if refused:
        return refused
    counts, frames = {}, []
    for by_client in (True, False):
        initial = connection.initial(by_client)
        data = [frame for frame in connection.sent(by_client) if _octets(frame)]
        counts[by_client] = 0
        if initial is None or not data:
            continue
        last = max(data, key=lambda frame: distance(initial, _seq(frame)) + _octets(frame))
        end = _seq(last) + _octets(last)
        counts[by_client] = distance(initial, end) - 1
        ack = connection.acknowledging(not by_client, end)
        if ack is None:
            return absent(
                f"expected {connection.name(not by_client)} to acknowledge all {counted(counts[by_client], 'octet')} "
                f"of {connection.name(by_client)}, up to sequence {end % _MODULUS} in {at(last)}; it did not",
                connection.place,
                frames=[last],
            )
        frames += [last, ack]
    if not frames:
        return absent(f"expected data on {connection.flow}; none was sent", connection.place, frames=[connection.syn])
    return passed(
        f"{connection.name(True)} sent {counted(counts[True], 'octet')}, {connection.name(False)} "
        f"{counted(counts[False], 'octet')}, all acknowledged ({numbers(frames)})",
        frames,
    )


def tcp_acknowledged(check: TcpAcknowledged, view: View) -> Finding:
    """In each direction the highest acknowledgement reaches the end of the data."""
    found = connections(view, check.at, check.filter)
    return (
        _first_failure([_acknowledged(each) for each in found])
        if found
        else _no_connection(view, check.at, check.filter)
    )


def _closed(connection: Connection) -> Finding:
    refused = _refused(connection)
    if refused:
        return refused
    reset = next((frame for frame in connection.segments if _has(frame, "reset")), None)
    if reset is not None:
        return failed(f"expected {connection.flow} to close with FIN; {at(reset)} is a RST", [connection.syn, reset])
    closing: list[tuple[Frame, Frame, bool]] = []
    for by_client in (True, False):
        fin = next((frame for frame in connection.sent(by_client) if _has(frame, "fin")), None)
        if fin is None:
            return absent(
                f"expected a FIN of {connection.name(by_client)}; none came at {connection.place}",
                connection.place,
                frames=[connection.syn],
            )
        ack = connection.acknowledging(not by_client, _seq(fin) + _octets(fin) + 1)
        if ack is None:
            return absent(
                f"expected an acknowledgement of the FIN in {at(fin)}; none came", connection.place, frames=[fin]
            )
        closing.append((fin, ack, by_client))
    (first, first_ack, by_client), (second, last_ack, _) = sorted(closing, key=lambda item: item[0].number)
    if first_ack.number == second.number:
        middle = f"answered by ACK and FIN in one (frame {second.number}, the three-frame form)"
    else:
        middle = f"acknowledged (frame {first_ack.number}), FIN of the other side (frame {second.number})"
    return passed(
        f"{connection.name(by_client)} closed with FIN (frame {first.number}), {middle}, acknowledged (frame "
        f"{last_ack.number})",
        [first, first_ack, second, last_ack],
    ).if_whole(connection.place)


def tcp_close(check: TcpClose, view: View) -> Finding:
    """A FIN from each side, each acknowledged, and no reset."""
    found = connections(view, check.at, check.filter)
    return _first_failure([_closed(each) for each in found]) if found else _no_connection(view, check.at, check.filter)


def _streamed(check: TcpStream, connection: Connection) -> Finding:
    refused = _refused(connection)
    if refused:
        return refused
    by_client = check.from_ == "client"
    sender, place = connection.name(by_client), connection.place
    initial = connection.initial(by_client)
    told = next(frame for frame in connection.sent(not by_client) if _has(frame, "syn"))
    mss = told.number_of("tcp.options.mss_val")
    limit = mss if mss > 0 else _MSS_6 if told.fields.get("ipv6.src") else _MSS_4
    said = f"the MSS of {limit:,} octets that {at(told)} tells" if mss > 0 else f"{limit:,} octets, for no MSS was told"
    data = [frame for frame in connection.sent(by_client) if _octets(frame)]
    if initial is None or not data:
        return absent(
            f"expected {counted(check.octets, 'octet')} of {sender} at {place}; no data came",
            place,
            frames=[connection.syn],
        )
    large = [frame for frame in data if _octets(frame) > limit]
    if large:
        return failed(
            f"expected segments within {said}; {at(large[0])} carries {_octets(large[0]):,} octets, "
            f"{counted(len(large), 'such segment')} in all",
            [told, *large],
        )
    start, reached = initial + 1, 0
    repeated: list[Frame] = []
    for frame in sorted(data, key=lambda frame: distance(start, _seq(frame))):
        offset = distance(start, _seq(frame))
        if offset > reached:
            return absent(
                f"expected sequence number {(start + reached) % _MODULUS} after {counted(reached, 'octet')} of "
                f"{sender} at {place}; the next that came is {_seq(frame)} in {at(frame)}: "
                f"{counted(offset - reached, 'octet')} missing",
                place,
                frames=[frame],
            )
        if offset + _octets(frame) <= reached:
            repeated.append(frame)
        reached = max(reached, offset + _octets(frame))
    if reached != check.octets:
        return absent(
            f"expected {counted(check.octets, 'octet')} of {sender} at {place}; {reached:,} came ({numbers(data)})",
            place,
            frames=[data[0], data[-1]],
        )
    again = f"; segments that came again, and count once: {len(repeated):,}" if repeated else ""
    return passed(
        f"{sender} sent {counted(reached, 'octet')} in {counted(len(data) - len(repeated), 'segment')} of at most "
        f"{max(map(_octets, data)):,} octets ({numbers(data)}), within {said}; sequence numbers "
        f"{start % _MODULUS} to {(start + reached - 1) % _MODULUS} without a gap{again}",
        [told, data[0], data[-1]],
    )


def tcp_stream(check: TcpStream, view: View) -> Finding:
    """All octets of one side are there, in segments that the other side is ready to take."""
    found = connections(view, check.at, check.filter)
    if not found:
        return _no_connection(view, check.at, check.filter)
    return _first_failure([_streamed(check, each) for each in found])


def _arrival(view: View, frame: Frame, place: str) -> Frame | None:
    """Where a packet that left arrived at a place; None when it did not."""
    journey = view.sightings.journey(frame)[1:]
    return next((f for f in journey if f.interface == place and f.direction != "out"), None)


def _covers(frame: Frame, lost: Frame) -> bool:
    """Whether a segment carries all the octets of another one, with the same sequence numbers."""
    offset = distance(_seq(frame), _seq(lost))
    if offset < 0 or offset + _octets(lost) > _octets(frame):
        return False
    own, gone = frame.get("tcp.payload"), lost.get("tcp.payload")
    if not isinstance(own, bytes) or not isinstance(gone, bytes):
        return True
    return own[offset : offset + len(gone)] == gone


def _sent_again(check: Retransmission, view: View, lost: Frame, sent: Sequence[Frame]) -> Finding | tuple[Frame, Frame]:
    """The segment that made up for a lost one, as it left and as it arrived, or what is wrong."""
    flow, what = flow_of(lost), f"{at(lost)} (sequence number {_seq(lost)}, {counted(_octets(lost), 'octet')})"
    later = [f for f in sent if f.number > lost.number and flow_of(f) == flow and _covers(f, lost)]
    if not later:
        return absent(
            f"expected {what}, which did not arrive at {check.to}, to be sent again; it never was",
            check.from_,
            frames=[lost],
        )
    for frame in sorted(later, key=lambda frame: _seq(frame) != _seq(lost)):
        arrived = _arrival(view, frame, check.to)
        if arrived is not None:
            return frame, arrived
    return absent(
        f"expected {what} to arrive at {check.to} when it was sent again; {numbers(later)} did not arrive either",
        check.to,
        frames=[lost, *later],
    )


def retransmission(check: Retransmission, view: View) -> Finding:
    """At least one segment gets lost, and every one that does is made up for by another with its sequence number."""
    view.interfaces_at(check.to)
    sent = [f for f in view.at(check.from_, direction="out") if _octets(f) and flow_of(f) is not None]
    chosen = view.matching(check.filter, sent)
    if not chosen:
        return view.lacking(f"segments with data that match {view.wanted(check.filter)}", check.from_)
    lost = [frame for frame in chosen if _arrival(view, frame, check.to) is None]
    if not lost:
        return failed(
            f"expected a segment to get lost between {check.from_} and {check.to}, and to be sent again; all "
            f"{counted(len(chosen), 'segment')} arrived ({numbers(chosen)})",
            chosen,
        )
    pairs: list[tuple[Frame, Frame, Frame]] = []
    for frame in lost:
        again = _sent_again(check, view, frame, sent)
        if isinstance(again, Finding):
            return again
        pairs.append((frame, *again))
    same = [pair for pair in pairs if _seq(pair[0]) == _seq(pair[1])]
    if not same:
        return failed(
            f"expected a lost segment to be sent again with its sequence number {_seq(lost[0])}; its octets came in "
            f"{at(pairs[0][1])}, which begins with {_seq(pairs[0][1])}",
            [frame for pair in pairs for frame in pair],
        )
    gone, left, arrived = same[0]
    wait_us = (left.time_ns - gone.time_ns) / 1e3
    wait = f"{wait_us / 1e3:,.1f} ms" if wait_us >= 1e3 else f"{wait_us:,.0f} µs"
    others = len(pairs) - 1
    rest = f"; so did {counted(others, 'other lost segment')}" if others else ""
    return passed(
        f"{at(gone)} (sequence number {_seq(gone)}, {counted(_octets(gone), 'octet')}) did not arrive at {check.to}; "
        f"it was sent again with the same sequence number {wait} later (frame "
        f"{left.number}) and arrived (frame {arrived.number}){rest}",
        [frame for pair in pairs for frame in pair],
    ).if_whole(check.to)
