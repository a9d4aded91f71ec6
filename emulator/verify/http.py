"""HTTP/1.1: the page that was asked for is the page that came (RFC 9110, RFC 9112)."""

from __future__ import annotations

import re
from dataclasses import dataclass

from emulator.capture.frame import Frame
from emulator.errors import counted
from emulator.lab.checks.application import HttpPage
from emulator.verify.finding import DisprovedError, Finding, MissingEvidenceError, absent, failed, passed
from emulator.verify.ipv6 import configured
from emulator.verify.paths import Flow, flow_of
from emulator.verify.tcp import distance
from emulator.verify.view import View
from emulator.verify.wording import at, numbers, shown

_STATUS = re.compile(rb"HTTP/1\.[01] (\d{3})")
_LENGTH = re.compile(rb"^content-length:[ \t]*(\d{1,15})[ \t]*\r?$", re.IGNORECASE | re.MULTILINE)
_OK = 200


def _octets(frame: Frame) -> bytes:
    """The octets that a segment carries."""
    payload = frame.get("tcp.payload")
    return payload if isinstance(payload, bytes) else b""


def stream(frames: list[Frame], start: int) -> tuple[bytes, list[Frame]]:
    """The octets of a direction from sequence number `start` up to the first gap, and the frames that carry them.

    Segments may come twice, overlap, or be out of order (RFC 9293, section 3.10.7.4).
    """
    data = b""
    used = []
    for frame in sorted(frames, key=lambda frame: distance(start, frame.number_of("tcp.seq_raw"))):
        offset = distance(start, frame.number_of("tcp.seq_raw"))
        payload = _octets(frame)
        if offset > len(data):
            break
        if offset + len(payload) > len(data):
            data += payload[len(data) - offset :]
            used.append(frame)
    return data, used


@dataclass(frozen=True)
class Response:
    """A response as its octets tell."""

    status: int
    body: bytes
    length: int | None
    """What Content-Length promises."""


def response(octets: bytes) -> Response | None:
    """The response at the start of `octets` (RFC 9112, sections 4 and 6.2); None when there is none."""
    head, blank, body = octets.partition(b"\r\n\r\n")
    status = _STATUS.match(head)
    if status is None or not blank:
        return None
    promised = _LENGTH.search(head)
    length = int(promised[1]) if promised else None
    return Response(int(status[1]), body[:length], length)


def _difference(found: bytes, expected: bytes) -> str:
    """Where two pages part, in words."""
    if len(found) != len(expected) and (found.startswith(expected) or expected.startswith(found)):
        return f"it has {counted(len(found), 'octet')}, expected {len(expected):,}"
    at_ = next((i for i, (a, b) in enumerate(zip(found, expected, strict=False)) if a != b), 0)
    return (
        f"from octet {at_} on it is {shown(found[at_ : at_ + 30], 30)}, expected {shown(expected[at_ : at_ + 30], 30)}"
    )


def _page(check: HttpPage, view: View) -> bytes:
    """The page that the lab gives the server."""
    node = check.server.partition(":")[0]
    http = view.lab.nodes[node].services.http
    if http is None or check.path not in http.pages:
        raise DisprovedError(f"expected {node} to have a page {shown(check.path)}; the lab gives it none")
    return view.expand(http.pages[check.path]).encode()


def _addresses(view: View, place: str) -> set[str]:
    """The addresses of an interface, of both kinds; DisprovedError when it has none."""
    interface = view.lab.interface(place)
    own = {str(address.ip) for address in interface.addresses if address.version == 6}
    if interface.slaac:
        own |= {str(info["local"]) for info in configured(view, interface)}
    if interface.dhcp or not own or any(address.version == 4 for address in interface.addresses):
        own.add(view.address(place))
    return own


def _requests(check: HttpPage, view: View) -> list[tuple[Frame, Flow]]:
    """The client's requests for the page, with their flows, as seen at the client."""
    own = _addresses(view, check.client)
    host = view.expand(check.host) if check.host else None
    return [
        (frame, flow)
        for frame in view.at(check.client)
        if frame.text("http.request.method") == "GET"
        and frame.text("http.request.uri") == check.path
        and (frame.text("ip.src") or frame.text("ipv6.src")) in own
        and (host is None or frame.text("http.host") == host)
        and (flow := flow_of(frame)) is not None
    ]


def _received(check: HttpPage, view: View, request: Frame, flow: Flow, page: bytes) -> Finding:
    """Whether the request reached the server and the right page came back to the client."""
    arrived = [
        frame
        for frame in view.sightings.journey(request)
        if frame.interface == check.server and frame.direction != "out"
    ]
    if not arrived:
        view.interfaces_at(check.server)
        return absent(
            f"expected the request of {at(request)} at {check.server}; it never arrived", check.server, frames=[request]
        )
    back = [
        frame
        for frame in view.at(check.client)
        if flow_of(frame) == flow.reversed and frame.number > request.number and _octets(frame)
    ]
    octets, used = stream(back, request.number_of("tcp.ack_raw"))
    answer = response(octets)
    if answer is None:
        what = f"{counted(len(octets), 'octet')} that begin {shown(octets, 30)}" if octets else "no octet"
        return absent(f"expected an HTTP response to {at(request)}; saw {what}", check.client, frames=[request, *used])
    if answer.status != _OK:
        return failed(
            f"expected status 200 for {shown(check.path)}; {at(used[0])} says {answer.status}", [request, *used]
        )
    if answer.length is not None and len(answer.body) < answer.length:
        return absent(
            f"expected {counted(answer.length, 'octet')} of page after {at(request)}; {len(answer.body):,} came",
            check.client,
            frames=[request, *used],
        )
    if answer.body != page:
        return failed(
            f"expected the page of {check.server} in {numbers(used)} at {check.client}; "
            f"{_difference(answer.body, page)}",
            used,
        )
    return passed(
        f"GET {shown(check.path)} ({at(request)}, {at(arrived[0])}) brought {counted(len(page), 'octet')} with status "
        f"200 ({numbers(used)}): the page of {check.server}",
        [request, arrived[0], *used],
    )


def http_page(check: HttpPage, view: View) -> Finding:
    """The page in the packets and the page that the client's program printed are the server's page."""
    page = _page(check, view)
    requests = _requests(check, view)
    if not requests:
        host = f" of {view.expand(check.host)}" if check.host else ""
        return view.lacking(f"a GET request for {shown(check.path)}{host}", check.client)
    findings = [_received(check, view, request, flow, page) for request, flow in requests]
    for finding in findings:
        if finding.verdict != "pass":
            return finding
    node = check.client.partition(":")[0]
    output = view.evidence.output(check.step, node)
    if output is None:
        raise MissingEvidenceError(f'step "{check.step}" never ran on {node}')
    if output.stdout.encode("utf-8", "surrogateescape") != page:
        got = output.stdout.encode("utf-8", "surrogateescape")
        return failed(
            f'expected the page from step "{check.step}" on {node}; {_difference(got, page)}', requests[0][:1]
        )
    last = findings[-1]
    return Finding(
        last.verdict, f"{last.reason}, and what {output.argv[0]} printed on {node}", last.frames, last.whole_at
    )
