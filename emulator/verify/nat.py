"""Network address translation (RFC 3022): the same packet on both sides of the router."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from emulator.capture.frame import Frame
from emulator.errors import counted
from emulator.lab.checks.network import DestinationNat, PortTranslation, SourceNat
from emulator.verify.finding import Finding, absent, failed, passed
from emulator.verify.paths import Crossing, Flow, flow_of
from emulator.verify.view import View
from emulator.verify.wording import at, listed, numbers


def _flow(frame: Frame) -> Flow:
    """The flow of a frame that is known to have one."""
    flow = flow_of(frame)
    if flow is None:
        raise ValueError(f"frame {frame.number} is neither TCP, UDP nor ICMP echo")
    return flow


def _answers(view: View, entry: str, exit_: str, mapping: Mapping[Flow, Flow]) -> Finding | dict[Flow, list[Crossing]]:
    """What came back at `entry` for the flows as they look there (keys), by flow as it began (values).

    A failed finding when an answer was not forwarded, was not translated back, or never came.
    """
    back = {outside.reversed: inside for outside, inside in mapping.items()}
    entering = [f for f in view.at(entry, direction="in") if flow_of(f) in back]
    found: dict[Flow, list[Crossing]] = {}
    for crossing in view.crossings(entry, exit_, entering):
        expected = back[_flow(crossing.entering)].reversed
        if crossing.leaving is None:
            return absent(
                f"expected the answer {at(crossing.entering)} to go on to {expected.receiver} by {exit_}; it did not "
                "leave there",
                entry,
                exit_,
                frames=[crossing.entering],
            )
        if flow_of(crossing.leaving) != expected:
            return failed(
                f"expected the answer {at(crossing.entering)} to leave by {exit_} as {expected}; "
                f"{at(crossing.leaving)} is {flow_of(crossing.leaving)}",
                [crossing.entering, crossing.leaving],
            )
        found.setdefault(expected.reversed, []).append(crossing)
    for outside, inside in mapping.items():
        if inside not in found:
            return absent(f"expected an answer to {outside} at {entry}{view.when}; none came", entry)
    return found


def _both(crossings: Sequence[Crossing]) -> list[Frame]:
    """The frames on both sides."""
    return [frame for crossing in crossings for frame in (crossing.entering, crossing.leaving) if frame is not None]


def source_nat(check: SourceNat, view: View) -> Finding:
    """Going out, the source is the router's outside address; the answer comes back to the inside address."""
    inside, outside = f"{check.router}:{check.inside}", f"{check.router}:{check.outside}"
    public = view.address(outside)
    sent = [f for f in view.matching(check.filter, view.at(inside, direction="in")) if flow_of(f) is not None]
    if not sent:
        return view.lacking(f"packets that match {view.wanted(check.filter)}", inside)
    crossings = view.crossings(inside, outside, sent)
    mapping: dict[Flow, Flow] = {}
    for crossing in crossings:
        before = _flow(crossing.entering)
        if crossing.leaving is None:
            return absent(
                f"expected {at(crossing.entering)} ({before}) to leave by {outside}; it was not forwarded",
                inside,
                outside,
                frames=[crossing.entering],
            )
        after, pair = _flow(crossing.leaving), [crossing.entering, crossing.leaving]
        if after.source != public:
            return failed(f"{at(crossing.leaving)} went out with source {after.source}, expected {public}", pair)
        if (after.target, after.target_port) != (before.target, before.target_port):
            return failed(f"{at(crossing.leaving)} went out to {after.receiver}, expected {before.receiver}", pair)
        mapping[after] = before
    answers = _answers(view, outside, inside, mapping)
    if isinstance(answers, Finding):
        return answers
    outgoing, incoming = crossings[0], next(iter(answers.values()))[0]
    went, came = _flow(outgoing.entering), _both([incoming])
    return passed(
        f"{went.sender} became {next(iter(mapping)).sender} on the way to {went.receiver} "
        f"({numbers(_both([outgoing]))}), and the "
        f"answer was turned back ({numbers(came)}); {counted(len(crossings), 'packet')} out, "
        f"{counted(sum(map(len, answers.values())), 'packet')} back",
        [*_both(crossings), *(frame for each in answers.values() for frame in _both(each))],
    )


def port_translation(check: PortTranslation, view: View) -> Finding:
    """Equal ports inside, different ports outside, and each client gets its own answer with data."""
    inside, outside = f"{check.router}:{check.inside}", f"{check.router}:{check.outside}"
    public = view.address(outside)
    sent = view.matching(check.filter, view.at(inside, direction="in"))
    flows: dict[str, Flow] = {}
    mapping: dict[Flow, Flow] = {}
    frames: list[Frame] = []
    for client in check.clients:
        address = view.address(client)
        own = [f for f in sent if f.text("ip.src") == address and flow_of(f) is not None]
        if not own:
            return view.lacking(f"packets of {client} ({address}) that match {view.wanted(check.filter)}", inside)
        crossing = view.crossings(inside, outside, own[:1])[0]
        flows[client] = _flow(crossing.entering)
        if crossing.leaving is None:
            return absent(
                f"expected {at(crossing.entering)} of {client} to leave by {outside}; it was not forwarded",
                inside,
                outside,
                frames=[crossing.entering],
            )
        after = _flow(crossing.leaving)
        frames += [crossing.entering, crossing.leaving]
        if after.source != public:
            return failed(f"{at(crossing.leaving)} went out with source {after.source}, expected {public}", frames)
        if after in mapping:
            return failed(f"expected a port of its own for {client} outside; {after.sender} is used twice", frames)
        mapping[after] = flows[client]
    if len({(flow.source_port, flow.target, flow.target_port) for flow in flows.values()}) != 1:
        told = listed([str(flow) for flow in flows.values()])
        return failed(f"expected the clients to use one source port to one server; saw {told}", frames)
    answers = _answers(view, outside, inside, mapping)
    if isinstance(answers, Finding):
        return answers
    for client, flow in flows.items():
        delivered = [
            sighting
            for crossing in answers[flow]
            if crossing.leaving is not None
            and (crossing.leaving.get("tcp.payload") or crossing.leaving.get("udp.payload"))
            for sighting in view.sightings.journey(crossing.leaving)
            if sighting.interface == client and flow_of(sighting) == flow.reversed
        ]
        if not delivered:
            return absent(
                f"expected an answer with data to {flow} at {client}{view.when}; none came", client, frames=frames
            )
        frames.append(delivered[0])
    shared = next(iter(flows.values()))
    told = listed([f"{flow.sender} is {after.sender} outside" for after, flow in mapping.items()], 4)
    return passed(f"port {shared.source_port} to {shared.receiver} twice: {told}; each got its own answer", frames)


def destination_nat(check: DestinationNat, view: View) -> Finding:
    """A request to the published port goes to the server inside, the answer comes from the published port."""
    inside, outside = f"{check.router}:{check.inside}", f"{check.router}:{check.outside}"
    public, private = view.address(outside), view.address(check.server)
    published, behind = f"{public}:{check.port}", f"{private}:{check.server_port}"
    asked = [
        frame
        for frame in view.at(outside, direction="in")
        if (flow := flow_of(frame)) and (flow.protocol, flow.receiver) == (check.protocol, published)
    ]
    if not asked:
        return view.lacking(f"{check.protocol.upper()} packets to {published}", outside)
    crossings = view.crossings(outside, inside, asked)
    mapping: dict[Flow, Flow] = {}
    for crossing in crossings:
        before = _flow(crossing.entering)
        if crossing.leaving is None:
            return absent(
                f"expected {at(crossing.entering)} ({before}) to go on to {behind}; it did not leave by {inside}",
                inside,
                outside,
                frames=[crossing.entering],
            )
        after = _flow(crossing.leaving)
        if (after.receiver, after.sender) != (behind, before.sender):
            return failed(
                f"{at(crossing.leaving)} went inside as {after}, expected {before.sender} → {behind}",
                [crossing.entering, crossing.leaving],
            )
        mapping[after] = before
    answers = _answers(view, inside, outside, mapping)
    if isinstance(answers, Finding):
        return answers
    first, answer = crossings[0], next(iter(answers.values()))[0]
    return passed(
        f"{_flow(first.entering).sender} asked {published} and reached {check.server} at {behind} "
        f"({numbers(_both([first]))}); the answer came from {published} ({numbers(_both([answer]))})",
        [*_both(crossings), *(frame for each in answers.values() for frame in _both(each))],
    )
