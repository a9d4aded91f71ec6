"""What is inside a TCP connection: HTTP (RFC 9112), TLS (RFC 8446), DNS (RFC 7766)."""

from __future__ import annotations

from collections.abc import Sequence

from emulator.capture.frame import Frame
from emulator.errors import counted
from emulator.explain.exchanges import Exchange
from emulator.explain.journeys import Journey
from emulator.explain.segments import Side
from emulator.explain.tell_hosts import dns_telling
from emulator.explain.tell_link import round_trip
from emulator.explain.telling import Context, Point, Remark, Telling, address, frames_of, octets, quoted
from emulator.verify.wording import told


def inner_exchanges(exchange: Exchange, client: Side, server: Side, context: Context) -> tuple[Telling, ...]:
    """What is inside the connection, as exchanges of their own."""
    parts = [
        *_tls(exchange, client, server),
        *_http(exchange, client, server),
        *_dns_messages(exchange, client, server, context),
    ]
    return tuple(sorted(parts, key=lambda part: part.began_ns))


def _inner(exchange: Exchange, kind: str, journeys: Sequence[Journey]) -> Exchange:
    return Exchange(exchange.number, kind, list(journeys))


def _told(
    exchange: Exchange,
    protocol: str,
    title: str,
    *,
    points: Sequence[Point] = (),
    remarks: Sequence[Remark] = (),
    facts: dict[str, object] | None = None,
    round_trip_ns: int | None = None,
) -> Telling:
    """A telling of what is inside a connection; how its packets went is told with the connection."""
    last_ns = max(journey.last.time_ns for journey in exchange.journeys)
    return Telling(
        exchange.number, exchange.kind, protocol, title, exchange.began_ns, last_ns, tuple(points), (), tuple(remarks),
        facts or {}, round_trip_ns, exchange.number, (), exchange,
    )  # fmt: skip


def _http(exchange: Exchange, client: Side, server: Side) -> list[Telling]:
    requests = [j for j in client.data if j.first.get("http.request")]
    responses = [
        j for j in server.data if j.first.get("http.response") and j.first.number_of("http.response.code") >= 200
    ]
    found = []
    for number, request in enumerate(requests):
        response = responses[number] if number < len(responses) else None
        found.append(_http_pair(exchange, client, server, request, response))
    if not requests:
        for response in responses:
            title = f"{server.name} answers a request that was not seen: {_status(response.first)}"
            found.append(_told(_inner(exchange, "http", [response]), "HTTP", title))
    return found


def _status(frame: Frame) -> str:
    phrase = frame.text("http.response.phrase")
    return f"{frame.number_of('http.response.code')}" + (f" {quoted(phrase)[1:-1]}" if phrase else "")


def _http_pair(exchange: Exchange, client: Side, server: Side, request: Journey, response: Journey | None) -> Telling:
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
        return _told(_inner(exchange, "http", [request]), "HTTP", title, remarks=remarks, facts=facts, points=points)
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
        inner, "HTTP", title, remarks=remarks, facts=facts, points=points,
        round_trip_ns=round_trip(request, response),
    )  # fmt: skip


_TLS_VERSIONS = {0x0301: "1.0", 0x0302: "1.1", 0x0303: "1.2", 0x0304: "1.3"}
_CLOSE_NOTIFY = 0


def _tls(exchange: Exchange, client: Side, server: Side) -> list[Telling]:
    records = [(side, j) for side in (client, server) for j in side.data if "tls" in j.first.layers]
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
    return [_told(inner, "TLS", title, remarks=remarks, facts=facts, points=points, round_trip_ns=trip)]


def _version(frame: Frame) -> str:
    number = frame.number_of("tls.handshake.extensions.supported_version")
    number = number if number >= 0 else frame.number_of("tls.handshake.version")
    return _TLS_VERSIONS.get(number, f"{number:#06x}")


def _dns_messages(exchange: Exchange, client: Side, server: Side, context: Context) -> list[Telling]:
    found = []
    questions = [j for j in client.data if "dns" in j.first.layers]
    answers = {j.first.number_of("dns.id"): j for j in server.data if "dns" in j.first.layers}
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
