"""What happened on a TCP connection (RFC 9293)."""

from __future__ import annotations

from collections.abc import Sequence

from emulator.errors import counted
from emulator.explain.exchanges import Exchange
from emulator.explain.segments import ACK, FIN, RST, SYN, Segment, Side, segment_of
from emulator.explain.tell_inner import inner_exchanges
from emulator.explain.tell_link import finish, round_trip
from emulator.explain.telling import (
    Context,
    Point,
    Remark,
    Telling,
    address,
    duration,
    frames_of,
    merged,
    octets,
    ranges,
)
from emulator.flows.connection import Row
from emulator.verify.tcp import distance

STATES = {
    "S0": "a connection attempt that was not answered",
    "S1": "established, and still open at the end",
    "SF": "established and closed by both sides",
    "REJ": "the attempt was rejected",
    "S2": "established; the originator closed its side, the responder did not answer that",
    "S3": "established; the responder closed its side, the originator did not answer that",
    "RSTO": "established, and aborted by the originator with RST",
    "RSTR": "established, and aborted by the responder with RST",
    "RSTOS0": "the originator sent a SYN and then RST; the responder never answered",
    "RSTRH": "the responder sent SYN,ACK and then RST; no SYN of the originator was seen",
    "SH": "the originator sent a SYN and then FIN; the responder never answered",
    "SHR": "the responder sent SYN,ACK and then FIN; no SYN of the originator was seen",
    "OTH": "no SYN was seen: the middle of a connection",
}
"""Zeek's conn_state in words (base/protocols/conn)."""

_HOLES_MAX = 64
"""Holes in the sequence numbers that are remembered."""

_RETOLD = 200
"""Points that a connection may have; a download has more segments than anybody reads."""


def tcp(exchange: Exchange, context: Context, row: Row | None) -> Telling:
    """A connection; `row` is its line in the list of connections."""
    segments = [segment_of(journey) for journey in exchange.journeys if journey.first.fields.get("tcp.seq_raw")]
    client, server = _sides(segments, context, row)
    syn = next((j for j in client.segments if j.has(SYN) and not j.has(ACK)), None)
    syn_ack = next((j for j in server.segments if j.has(SYN | ACK)), None)
    resets = [j for j in segments if j.has(RST)]
    ends = f"{client.name} {client.end} → {server.name} {server.end}"
    if client.name == client.address:
        ends = f"{client.end} → {server.end}"
    remarks: list[Remark] = []
    points: list[Point] = []
    trip = None
    if syn is not None and syn_ack is not None:
        trip = round_trip(syn.journey, syn_ack.journey)
        ack = next((j for j in client.segments if j.has(ACK) and j.first.number > syn_ack.first.number), None)
        three = [syn, syn_ack, *([ack] if ack else [])]
        firsts = ", ".join(
            f"{name} (frame {j.first.number})" for name, j in zip(("SYN", "SYN,ACK", "ACK"), three, strict=False)
        )
        points.append(
            Point(
                f"opened by {firsts}; round trip {duration(trip)}",
                syn.first.time_ns,
                frames_of(j.journey for j in three),
            )
        )
    elif syn is not None and resets:
        points.append(Point(f"SYN (frame {syn.first.number})", syn.first.time_ns, frames_of([syn.journey])))
    data = {side.name + side.end: [j for j in side.segments if j.octets] for side in (client, server)}
    for side, other in ((client, server), (server, client)):
        sent = data[side.name + side.end]
        if sent:
            total = _extent(side)
            text = f"{octets(total)} from {side.name} to {other.name} in {counted(len(sent), 'segment')}"
            points.append(Point(text, sent[0].first.time_ns, frames_of(j.journey for j in sent)))
    for side in (client, server):
        remarks += _anomalies(side, context)
    points += _closing(client, server, resets)
    sizes = [_extent(client), _extent(server)]
    outcome = _outcome(client, server, syn, syn_ack, resets, sizes)
    if resets and syn is not None and syn_ack is None and not any(data.values()):
        remarks.insert(
            0, Remark("refused", f"{server.name} refuses the connection (RST)", frames_of(j.journey for j in resets))
        )
    elif resets:
        who = context.sender(resets[0].journey)
        text = f"{who} aborts the connection with RST ({ranges([j.first.number for j in resets])})"
        remarks.append(Remark("reset", text, frames_of(j.journey for j in resets)))
    if syn is not None and syn_ack is None and not resets:
        text = f"{counted(_count_syns(client), 'SYN')} and no answer"
        remarks.insert(0, Remark("no-answer", text, frames_of(j.journey for j in client.segments if j.has(SYN))))
    facts: dict[str, object] = {
        "client": client.end, "server": server.end, "octets": sizes,
        "segments": [len(client.segments), len(server.segments)],
    }  # fmt: skip
    if row is not None:
        facts |= {"conn_state": row.state, "meaning": STATES[row.state], "history": row.history}
        points.append(Point(f"in Zeek's terms {row.state}: {STATES[row.state]} (history {row.history or '-'})"))
    parts = inner_exchanges(exchange, client, server, context)
    title = f"{ends}: {outcome}"
    points.sort(key=lambda point: (point.at_ns is None, point.at_ns or 0))
    return finish(
        exchange, context, "TCP", title, points=points[:_RETOLD], remarks=remarks, facts=facts, round_trip_ns=trip,
        parts=parts,
    )  # fmt: skip


def _sides(segments: Sequence[Segment], context: Context, row: Row | None) -> tuple[Side, Side]:
    """The one who opened the connection, and the other; without a SYN as the list of connections has it."""
    opener = next((j for j in segments if j.has(SYN) and not j.has(ACK)), None)
    answer = next((j for j in segments if j.has(SYN | ACK)), None)
    first, back = segments[0], False
    if opener is not None:
        first = opener
    elif answer is not None:
        first, back = answer, True
    elif row is not None:
        sources = [(address(f, "src"), f.number_of("tcp.srcport")) for f in (first.journey.last, first.first)]
        back = (row.resp_address, row.resp_port) in sources
    # Who sent a segment: the sender's own port does not change before a translator, and nobody's address does.
    own = address(first.first, "src"), first.first.number_of("tcp.srcport")
    one: list[Segment] = []
    two: list[Segment] = []
    for segment in segments:
        frame = segment.first
        (one if (address(frame, "src"), frame.number_of("tcp.srcport")) == own else two).append(segment)
    seen_by_one = (address(first.first, "dst"), first.first.number_of("tcp.dstport"))
    sides = (
        Side(*own, context.sender(first.journey), tuple(one)),
        Side(*seen_by_one, context.sender(two[0].journey) if two else context.receiver(first.journey), tuple(two)),
    )
    return (sides[1], sides[0]) if back else sides


def _count_syns(side: Side) -> int:
    return sum(j.has(SYN) for j in side.segments)


def _extent(side: Side) -> int:
    """Octets that one side sent, each counted once, by the sequence numbers that were seen."""
    low: int | None = None
    reach = covered = 0
    for segment in side.segments:
        size = segment.octets
        if not size:
            continue
        start = segment.sequence + (1 if segment.has(SYN) else 0)
        if low is None:
            low, reach = start, 0
        begin = distance(low, start)
        if begin + size > reach:
            covered += begin + size - max(reach, begin)
            reach = begin + size
    return covered


def _anomalies(side: Side, context: Context) -> list[Remark]:
    """Segments sent again, out of order, and windows that closed, of one side."""
    found: list[Remark] = []
    sent: dict[tuple[int, int], Segment] = {}
    reach: int | None = None
    holes: list[tuple[int, int]] = []
    window_closed = False
    for segment in side.segments:
        frame, sequence = segment.first, segment.sequence
        span = segment.octets + segment.has(SYN) + segment.has(FIN)
        if not segment.has(RST) and not segment.has(SYN):
            zero = frame.number_of("tcp.window_size_value") == 0
            if zero and not window_closed:
                text = f"{side.name} closes its window (frame {frame.number}): the other must wait"
                found.append(Remark("zero-window", text, (frame.number,)))
            window_closed = zero
        if not span or segment.has(RST):
            continue
        end = sequence + span
        if reach is not None and distance(reach, end) <= 0:
            new = any(distance(first, end) > 0 and distance(sequence, last) > 0 for first, last in holes)
            found.append(_again(segment, sent.get((sequence, span)), side, context, new=new))
        elif reach is not None and distance(reach, sequence) < 0:
            text = f"{side.name} sends octets again that overlap what it sent before (frame {frame.number})"
            found.append(Remark("retransmission", text, (frame.number,)))
        elif reach is not None and distance(reach, sequence) > 0:
            holes = [*holes[-_HOLES_MAX:], (reach, sequence)]
        sent.setdefault((sequence, span), segment)
        if reach is None or distance(reach, end) > 0:
            reach = end
    return merged(found)


def _again(segment: Segment, before: Segment | None, side: Side, context: Context, *, new: bool) -> Remark:
    """What a segment is that begins before what was seen last; `new` when it fills a hole before that."""
    frame = segment.first
    what = "SYN" if segment.has(SYN) else "FIN" if segment.has(FIN) else octets(segment.octets)
    if before is None:
        if segment.octets == 1:
            return Remark("keep-alive", f"{side.name} probes whether the other is still there", (frame.number,))
        if not new:
            text = f"{side.name} sends {what} again, cut in another way (frame {frame.number})"
            return Remark("retransmission", text, (frame.number,))
        text = f"{side.name}: {what} (frame {frame.number}) fill a hole: late, or their first copy was not seen"
        return Remark("out-of-order", text, (frame.number,))
    first = before.first
    same = first.data == frame.data and first.interface == frame.interface
    if same and first.direction is None and frame.time_ns - first.time_ns < 1_000_000:
        return Remark(
            "duplicate", f"frame {frame.number} is frame {first.number} seen twice", (first.number, frame.number)
        )
    later = duration(frame.time_ns - first.time_ns)
    text = f"{side.name} sends {what} again (frame {frame.number}, {later} after frame {first.number})"
    earlier = before.journey
    receiver = context.receiver(earlier)
    if context.around.by_node and first.direction == "out" and context.around.recorded(receiver):
        if earlier.arrival_at(receiver) is None:
            text += f"; the first was last seen at {earlier.last.interface} (frame {earlier.last.number})"
        else:
            text += "; though the first had arrived"
    return Remark("retransmission", text, (first.number, frame.number))


def _closing(client: Side, server: Side, resets: Sequence[Segment]) -> list[Point]:
    fins = [(side, next((j for j in side.segments if j.has(FIN)), None)) for side in (client, server)]
    closed = sorted(((j, side) for side, j in fins if j is not None), key=lambda item: item[0].first.number)
    points = []
    if closed:
        order = ", then ".join(f"{side.name} (frame {j.first.number})" for j, side in closed)
        points.append(
            Point(f"closed (FIN) by {order}", closed[0][0].first.time_ns, frames_of(j.journey for j, _ in closed))
        )
    if resets:
        points.append(
            Point(
                f"RST in frame {resets[0].first.number}", resets[0].first.time_ns, frames_of(j.journey for j in resets)
            )
        )
    return points


def _outcome(
    client: Side,
    server: Side,
    syn: Segment | None,
    syn_ack: Segment | None,
    resets: Sequence[Segment],
    sizes: list[int],
) -> str:
    if syn is not None and syn_ack is None:
        return "refused" if resets else "no answer to the SYN"
    opened = "opened" if syn is not None and syn_ack is not None else "its beginning was not seen"
    moved = f"{octets(sizes[0])} there, {sizes[1]:,} back"
    fins = [any(j.has(FIN) for j in side.segments) for side in (client, server)]
    end = "closed" if all(fins) else "half closed" if any(fins) else "left open"
    return f"{opened}, {moved}, {'aborted' if resets and not all(fins) else end}"
