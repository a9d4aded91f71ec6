"""UDP sends and does not ask (RFC 768): what gets lost stays lost."""

from __future__ import annotations

from collections.abc import Hashable

from emulator.capture.frame import Frame
from emulator.errors import counted
from emulator.lab.checks.transport import Lost
from emulator.verify.finding import Finding, MissingEvidenceError, failed, passed
from emulator.verify.paths import flow_of, ip_payload
from emulator.verify.view import View
from emulator.verify.wording import at, numbers, told


def _message(frame: Frame) -> Hashable:
    """What a packet says, however often it is sent: the octets above IP; of TCP, the flow and sequence number."""
    if frame.fields.get("tcp.seq_raw"):
        return (flow_of(frame), frame.number_of("tcp.seq_raw"), frame.get("tcp.payload"))
    return (flow_of(frame), ip_payload(frame) or frame.data)


def lost(check: Lost, view: View) -> Finding:
    """None of the packets arrives, and none of them is sent a second time. Others arrive, or nothing is proved."""
    sent = view.at(check.from_, direction="out")
    arrived = view.at(check.to, direction="in")
    gone = view.matching(check.filter, sent)
    if not gone:
        return view.lacking(f"packets that match {view.wanted(check.filter)}", check.from_)
    for frame in gone:
        there = [f for f in view.sightings.journey(frame)[1:] if f.interface == check.to and f.direction != "out"]
        if there:
            return failed(
                f"expected {at(frame)} ({told(frame)}) to get lost; it arrived in {at(there[0])}", [frame, there[0]]
            )
        again = [other for other in sent if other.number > frame.number and _message(other) == _message(frame)]
        if again:
            return failed(
                f"expected {at(frame)} ({told(frame)}) never to be sent again; {at(again[0])} says the same",
                [frame, *again],
            )
    if not arrived:
        raise MissingEvidenceError(
            f"{check.to} got no frame at all{view.when}, so nothing can be said of what it lacks"
        )
    return passed(
        f"{told(gone[0])} left {check.from_} ({numbers(gone)}, {counted(len(gone), 'packet')}), did not arrive at "
        f"{check.to}, where {counted(len(arrived), 'other frame')} came in, and was not sent again",
        gone,
    ).if_whole(check.to, check.from_)
