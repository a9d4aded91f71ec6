"""TCP at one interface: the handshake, acknowledgement of every octet, the orderly close (RFC 9293)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from emulator.capture.frame import Frame
from emulator.lab.checks import TcpAcknowledged, TcpClose, TcpHandshake
from emulator.verify.finding import Finding, absent, failed, passed
from emulator.verify.paths import Flow, flow_of
from emulator.verify.view import View
from emulator.verify.wording import at, counted, numbers

_MODULUS = 1 << 32


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
    """The connections whose SYN, seen at `place`, matches the filter `text`; a repeated SYN begins no new one."""
    frames = view.at(place)
    found: dict[tuple[Flow, int], Connection] = {}
    for syn in view.matching(text, frames):
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
