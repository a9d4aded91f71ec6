"""What happened on a TCP connection (RFC 9293), and in it: HTTP (RFC 9112), TLS (RFC 8446), DNS (RFC 7766)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from emulator.capture.frame import Frame
from emulator.explain.exchanges import Exchange
from emulator.explain.journeys import Journey
from emulator.explain.tell_hosts import dns_telling
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
    quoted,
    ranges,
)
from emulator.flows.connection import Row
from emulator.verify.tcp import distance
from emulator.verify.wording import counted, told

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


@dataclass(frozen=True)
class Side:
    """One end: its address, port and segments, and how it is called."""

    address: str
    port: int
    name: str
    segments: tuple[Journey, ...]

    @property
    def end(self) -> str:
        """`192.0.2.80:80`."""
        return f"[{self.address}]:{self.port}" if ":" in self.address else f"{self.address}:{self.port}"


def _is(journey: Journey, *flags: str) -> bool:
    return all(journey.first.get(f"tcp.flags.{flag}") for flag in flags)


def tcp(exchange: Exchange, context: Context, row: Row | None) -> Telling:
    """A connection; `row` is its line in the list of connections."""
    segments = [journey for journey in exchange.journeys if journey.first.fields.get("tcp.seq_raw")]
    client, server = _sides(segments, context, row)
    syn = next((j for j in client.segments if _is(j, "syn") and not _is(j, "ack")), None)
    syn_ack = next((j for j in server.segments if _is(j, "syn", "ack")), None)
    resets = [j for j in segments if _is(j, "reset")]
    ends = f"{client.name} {client.end} → {server.name} {server.end}"
    if client.name == client.address:
        ends = f"{client.end} → {server.end}"
    remarks: list[Remark] = []
    points: list[Point] = []
    trip = None
    if syn is not None and syn_ack is not None:
        trip = round_trip(syn, syn_ack)
        ack = next((j for j in client.segments if _is(j, "ack") and j.first.number > syn_ack.first.number), None)
        three = [syn, syn_ack, *([ack] if ack else [])]
        firsts = ", ".join(
            f"{name} (frame {j.first.number})" for name, j in zip(("SYN", "SYN,ACK", "ACK"), three, strict=False)
        )
        points.append(Point(f"opened by {firsts}; round trip {duration(trip)}", syn.first.time_ns, frames_of(three)))
    elif syn is not None and resets:
        points.append(Point(f"SYN (frame {syn.first.number})", syn.first.time_ns, frames_of([syn])))
    data = {
        side.name + side.end: [j for j in side.segments if j.first.number_of("tcp.len") > 0]
        for side in (client, server)
    }
    for side, other in ((client, server), (server, client)):
        sent = data[side.name + side.end]
        if sent:
            total = _extent(side)
            text = f"{octets(total)} from {side.name} to {other.name} in {counted(len(sent), 'segment')}"
            points.append(Point(text, sent[0].first.time_ns, frames_of(sent)))
    for side in (client, server):
        remarks += _anomalies(side, context)
    points += _closing(client, server, resets)
    sizes = [_extent(client), _extent(server)]
    outcome = _outcome(client, server, syn, syn_ack, resets, sizes)
    if resets and syn is not None and syn_ack is None and not any(data.values()):
        remarks.insert(0, Remark("refused", f"{server.name} refuses the connection (RST)", frames_of(resets)))
    elif resets:
        who = context.sender(resets[0])
        text = f"{who} aborts the connection with RST ({ranges([j.first.number for j in resets])})"
        remarks.append(Remark("reset", text, frames_of(resets)))
    if syn is not None and syn_ack is None and not resets:
        text = f"{counted(_count_syns(client), 'SYN')} and no answer"
        remarks.insert(0, Remark("no-answer", text, frames_of([j for j in client.segments if _is(j, "syn")])))
    facts: dict[str, object] = {
        "client": client.end, "server": server.end, "octets": sizes,
        "segments": [len(client.segments), len(server.segments)],
    }  # fmt: skip
    if row is not None:
        facts |= {"conn_state": row.state, "meaning": STATES[row.state], "history": row.history}
        points.append(Point(f"in Zeek's terms {row.state}: {STATES[row.state]} (history {row.history or '-'})"))
    parts = _parts(exchange, client, server, context)
    title = f"{ends}: {outcome}"
    points.sort(key=lambda point: (point.at_ns is None, point.at_ns or 0))
    return finish(
        exchange, context, "TCP", title, points=points[:_RETOLD], remarks=remarks, facts=facts, round_trip_ns=trip,
        parts=parts,
    )  # fmt: skip


def _sides(segments: Sequence[Journey], context: Context, row: Row | None) -> tuple[Side, Side]:
    """The one who opened the connection, and the other; without a SYN as the list of connections has it."""
    opener = next((j for j in segments if _is(j, "syn") and not _is(j, "ack")), None)
    answer = next((j for j in segments if _is(j, "syn", "ack")), None)
    first, back = segments[0], False
    if opener is not None:
        first = opener
    elif answer is not None:
        first, back = answer, True
    elif row is not None:
        back = (address(first.last, "src"), first.last.number_of("tcp.srcport")) == (row.resp_address, row.resp_port)
        back = back or (address(first.first, "src"), first.first.number_of("tcp.srcport")) == (
            row.resp_address, row.resp_port)  # fmt: skip
    # Who sent a segment: the sender's own port does not change before a translator, and nobody's address does.
    own = address(first.first, "src"), first.first.number_of("tcp.srcport")
    one: list[Journey] = []
    two: list[Journey] = []
    for journey in segments:
        frame = journey.first
        (one if (address(frame, "src"), frame.number_of("tcp.srcport")) == own else two).append(journey)
    seen_by_one = (address(first.first, "dst"), first.first.number_of("tcp.dstport"))
    sides = (
        Side(*own, context.sender(first), tuple(one)),
        Side(*seen_by_one, context.sender(two[0]) if two else context.receiver(first), tuple(two)),
    )
    return (sides[1], sides[0]) if back else sides


def _count_syns(side: Side) -> int:
    return sum(_is(j, "syn") for j in side.segments)


def _extent(side: Side) -> int:
    """Octets that one side sent, each counted once, by the sequence numbers that were seen."""
    low: int | None = None
    reach = covered = 0
    for journey in side.segments:
        frame = journey.first
        size = frame.number_of("tcp.len")
        if size <= 0:
            continue
        start = frame.number_of("tcp.seq_raw") + (1 if _is(journey, "syn") else 0)
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
    sent: dict[tuple[int, int], Journey] = {}
    reach: int | None = None
    holes: list[tuple[int, int]] = []
    window_closed = False
    for journey in side.segments:
        frame = journey.first
        sequence, size = frame.number_of("tcp.seq_raw"), max(frame.number_of("tcp.len"), 0)
        span = size + sum(1 for flag in ("syn", "fin") if _is(journey, flag))
        if not _is(journey, "reset") and not _is(journey, "syn"):
            zero = frame.number_of("tcp.window_size_value") == 0
            if zero and not window_closed:
                text = f"{side.name} closes its window (frame {frame.number}): the other must wait"
                found.append(Remark("zero-window", text, (frame.number,)))
            window_closed = zero
        if not span or _is(journey, "reset"):
            continue
        end = sequence + span
        if reach is not None and distance(reach, end) <= 0:
            new = any(distance(first, end) > 0 and distance(sequence, last) > 0 for first, last in holes)
            found.append(_again(journey, sent.get((sequence, span)), side, context, new=new))
        elif reach is not None and distance(reach, sequence) < 0:
            text = f"{side.name} sends octets again that overlap what it sent before (frame {frame.number})"
            found.append(Remark("retransmission", text, (frame.number,)))
        elif reach is not None and distance(reach, sequence) > 0:
            holes = [*holes[-_HOLES_MAX:], (reach, sequence)]
        sent.setdefault((sequence, span), journey)
        if reach is None or distance(reach, end) > 0:
            reach = end
    return merged(found)


def _again(journey: Journey, before: Journey | None, side: Side, context: Context, *, new: bool) -> Remark:
    """What a segment is that begins before what was seen last; `new` when it fills a hole before that."""
    frame = journey.first
    what = "SYN" if _is(journey, "syn") else "FIN" if _is(journey, "fin") else octets(frame.number_of("tcp.len"))
    if before is None:
        if frame.number_of("tcp.len") == 1:
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
    receiver = context.receiver(before)
    if context.around.by_node and first.direction == "out" and context.around.recorded(receiver):
        if before.arrival_at(receiver) is None:
            text += f"; the first was last seen at {before.last.interface} (frame {before.last.number})"
        else:
            text += "; though the first had arrived"
    return Remark("retransmission", text, (first.number, frame.number))


def _closing(client: Side, server: Side, resets: Sequence[Journey]) -> list[Point]:
    fins = [(side, next((j for j in side.segments if _is(j, "fin")), None)) for side in (client, server)]
    closed = sorted(((j, side) for side, j in fins if j is not None), key=lambda item: item[0].first.number)
    points = []
    if closed:
        order = ", then ".join(f"{side.name} (frame {j.first.number})" for j, side in closed)
        points.append(Point(f"closed (FIN) by {order}", closed[0][0].first.time_ns, frames_of([j for j, _ in closed])))
    if resets:
        points.append(Point(f"RST in frame {resets[0].first.number}", resets[0].first.time_ns, frames_of(resets)))
    return points


def _outcome(
    client: Side,
    server: Side,
    syn: Journey | None,
    syn_ack: Journey | None,
    resets: Sequence[Journey],
    sizes: list[int],
) -> str:
    if syn is not None and syn_ack is None:
        return "refused" if resets else "no answer to the SYN"
    opened = "opened" if syn is not None and syn_ack is not None else "its beginning was not seen"
    moved = f"{octets(sizes[0])} there, {sizes[1]:,} back"
    fins = [any(_is(j, "fin") for j in side.segments) for side in (client, server)]
    end = "closed" if all(fins) else "half closed" if any(fins) else "left open"
    return f"{opened}, {moved}, {'aborted' if resets and not all(fins) else end}"


def _parts(exchange: Exchange, client: Side, server: Side, context: Context) -> tuple[Telling, ...]:
    """What is inside the connection, as exchanges of their own."""
    parts: list[Telling] = []
    parts += _tls(exchange, client, server, context)
    parts += _http(exchange, client, server, context)
    parts += _dns_messages(exchange, client, server, context)
    return tuple(sorted(parts, key=lambda part: part.began_ns))


def _inner(exchange: Exchange, kind: str, journeys: Sequence[Journey]) -> Exchange:
    return Exchange(exchange.number, kind, list(journeys))


def _told(exchange: Exchange, context: Context, protocol: str, title: str, **rest: object) -> Telling:
    telling = finish(exchange, context, protocol, title, **rest)  # type: ignore[arg-type]
    # Ways and what happened to the packets are told once, with the connection.
    own = rest.get("remarks")
    remarks = tuple(own) if isinstance(own, list) else ()
    return Telling(
        telling.number, telling.kind, protocol, title, telling.began_ns, telling.ended_ns, telling.points, (), remarks,
        telling.facts, telling.round_trip_ns, exchange.number, (), exchange,
    )  # fmt: skip


def _fresh(side: Side) -> list[Journey]:
    """The segments of one side without those sent again."""
    seen: set[int] = set()
    found = []
    for journey in side.segments:
        sequence = journey.first.number_of("tcp.seq_raw")
        if journey.first.number_of("tcp.len") > 0 and sequence not in seen:
            seen.add(sequence)
            found.append(journey)
    return found


def _http(exchange: Exchange, client: Side, server: Side, context: Context) -> list[Telling]:
    requests = [j for j in _fresh(client) if j.first.get("http.request")]
    responses = [j for j in _fresh(server) if j.first.get("http.response")]
    found = []
    for number, request in enumerate(requests):
        response = responses[number] if number < len(responses) else None
        found.append(_http_pair(exchange, client, server, request, response, context))
    if not requests:
        for response in responses:
            title = f"{server.name} answers a request that was not seen: {_status(response.first)}"
            found.append(_told(_inner(exchange, "http", [response]), context, "HTTP", title))
    return found


def _status(frame: Frame) -> str:
    phrase = frame.text("http.response.phrase")
    return f"{frame.number_of('http.response.code')}" + (f" {quoted(phrase)[1:-1]}" if phrase else "")


def _http_pair(
    exchange: Exchange, client: Side, server: Side, request: Journey, response: Journey | None, context: Context
) -> Telling:
    frame = request.first
    method, uri, host = (frame.text(f"http.{name}") for name in ("request.method", "request.uri", "host"))
    url = uri if "://" in uri or not host or method == "CONNECT" else f"http://{host}{uri}"
    how = f"{client.name} asks {server.name}: {method} {quoted(url, 160)[1:-1]}"
    facts: dict[str, object] = {"method": method, "host": host, "uri": uri}
    remarks = []
    points = [Point(f"{method} {quoted(uri, 120)[1:-1]}, host {quoted(host)}", frame.time_ns, frames_of([request]))]
    if response is None:
        remarks.append(Remark("no-answer", "no response was seen", frames_of([request])))
        title = f"{how}; no response was seen"
        return _told(
            _inner(exchange, "http", [request]), context, "HTTP", title, remarks=remarks, facts=facts, points=points
        )
    answer = response.first
    code = answer.number_of("http.response.code")
    size, kind = answer.number_of("http.content_length"), answer.text("http.content_type")
    facts |= {"status": code, "type": kind, "octets": size if size >= 0 else None}
    title = f"{how} → {_status(answer)}"
    title += f", {octets(size)}" if size >= 0 else ""
    title += f" of {quoted(kind)[1:-1]}" if kind else ""
    if code >= 400:
        whose = "the request is at fault" if code < 500 else "the server is at fault"
        remarks.append(Remark("http-error", f"status {_status(answer)}: {whose}", frames_of([response])))
    if location := answer.text("http.location"):
        points.append(Point(f"sent on to {quoted(location, 120)}", answer.time_ns, frames_of([response])))
    points.append(Point(f"response {_status(answer)}", answer.time_ns, frames_of([response])))
    inner = _inner(exchange, "http", [request, response])
    return _told(
        inner, context, "HTTP", title, remarks=remarks, facts=facts, points=points,
        round_trip_ns=round_trip(request, response),
    )  # fmt: skip


_TLS_VERSIONS = {0x0301: "1.0", 0x0302: "1.1", 0x0303: "1.2", 0x0304: "1.3"}
_CLOSE_NOTIFY = 0


def _tls(exchange: Exchange, client: Side, server: Side, context: Context) -> list[Telling]:
    records = [(side, j) for side in (client, server) for j in _fresh(side) if "tls" in j.first.layers]
    if not records:
        return []
    journeys = sorted((j for _, j in records), key=lambda j: j.first.number)
    hello = next(
        (j for side, j in records if side is client and 1 in j.first.fields.get("tls.handshake.type", ())), None
    )
    reply = next(
        (j for side, j in records if side is server and 2 in j.first.fields.get("tls.handshake.type", ())), None
    )
    applications = [j for _, j in records if j.first.fields.get("tls.app_data")]
    name = hello.first.text("tls.handshake.extensions_server_name") if hello else ""
    facts: dict[str, object] = {"server_name": name}
    title = f"{client.name} and {server.name}"
    title += f" agree on TLS {_version(reply.first)}" if reply else " speak TLS"
    title += f" for {quoted(name)}" if name else ""
    if reply:
        facts |= {"version": _version(reply.first), "cipher": reply.first.number_of("tls.handshake.ciphersuite")}
    if hello and not reply:
        title = f"{client.name} says hello to {quoted(name) if name else server.name} by TLS; no ServerHello comes"
    remarks = []
    for side, journey in records:
        level, code = (journey.first.number_of(f"tls.alert_message.{part}") for part in ("level", "desc"))
        if level >= 0 and code != _CLOSE_NOTIFY:
            words = told(journey.first).partition(" alert ")[2].rpartition(f" {address(journey.first, 'src')}")[0]
            text = f"{side.name} gives up with the alert {words or code} ({code})"
            remarks.append(Remark("tls-alert", text, frames_of([journey])))
    points = [
        Point(words, j.first.time_ns, frames_of([j]))
        for words, j in (("ClientHello", hello), ("ServerHello", reply))
        if j is not None
    ]
    if applications:
        points.append(
            Point(f"encrypted data in {counted(len(applications), 'segment')}", applications[0].first.time_ns,
                  frames_of(applications))
        )  # fmt: skip
    trip = round_trip(hello, reply) if hello and reply else None
    inner = _inner(exchange, "tls", journeys)
    return [_told(inner, context, "TLS", title, remarks=remarks, facts=facts, points=points, round_trip_ns=trip)]


def _version(frame: Frame) -> str:
    number = frame.number_of("tls.handshake.extensions.supported_version")
    number = number if number >= 0 else frame.number_of("tls.handshake.version")
    return _TLS_VERSIONS.get(number, f"{number:#06x}")


def _dns_messages(exchange: Exchange, client: Side, server: Side, context: Context) -> list[Telling]:
    found = []
    questions = [j for j in _fresh(client) if "dns" in j.first.layers]
    answers = {j.first.number_of("dns.id"): j for j in _fresh(server) if "dns" in j.first.layers}
    for question in questions:
        answer = answers.get(question.first.number_of("dns.id"))
        inner = _inner(exchange, "dns", [question, *([answer] if answer else [])])
        telling = dns_telling(inner, context, [question], [answer] if answer else [])
        found.append(
            Telling(
                telling.number, "dns", "DNS", f"{telling.title} (over TCP)", telling.began_ns, telling.ended_ns,
                telling.points, (), tuple(r for r in telling.remarks if r.kind != "lost"), telling.facts,
                telling.round_trip_ns, exchange.number, (), inner,
            )
        )  # fmt: skip
    return found
