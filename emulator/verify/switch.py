"""What a switch learns, and that it forwards by what it learned (IEEE 802.1D-2004, sections 7.7 and 7.8)."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from emulator.capture.frame import Frame
from emulator.errors import counted
from emulator.lab.checks.link import MacTable, NoFlooding
from emulator.verify.finding import Finding, absent, failed, passed
from emulator.verify.view import View
from emulator.verify.wording import at, listed

_AGEING_NS = 300_000_000_000
"""How long a learned entry lasts unless it is heard again (IEEE 802.1D-2004, table 7-5)."""


def _learned(view: View, switch: str) -> dict[str, set[str]]:
    """MAC → ports where the switch learned it; entries that a person or the kernel made by itself do not count."""
    found: defaultdict[str, set[str]] = defaultdict(set)
    for entry in view.json_table(switch, "fdb"):
        flags = entry.get("flags") or ()
        if "master" in entry and entry.get("state") not in ("permanent", "static") and "self" not in flags:
            found[str(entry.get("mac", "")).lower()].add(str(entry.get("ifname", "")))
    return found


def mac_table(check: MacTable, view: View) -> Finding:
    """Each host's and router's MAC is on the port where its cable leads, and no strange MAC is there."""
    lab = view.lab
    segments = {interface.segment for interface in lab.nodes[check.switch].interfaces}
    members = [lab.interface(f"{node}:{name}") for s in sorted(segments) for node, name in lab.segments[s].members]
    learned = _learned(view, check.switch)
    wrong = []
    for member in members:
        port = lab.port_towards(check.switch, member)
        ports = sorted(learned.get(member.mac, ()))
        if not ports:
            wrong.append(f"{member.place} ({member.mac}) not learned, expected on port {port}")
        elif ports != [port]:
            wrong.append(f"{member.place} ({member.mac}) on port {' and '.join(ports)}, expected on {port}")
    known = {member.mac for member in members}
    for mac in sorted(set(learned) - known):
        neighbour = lab.by_mac.get(mac)
        if neighbour is None or lab.port_towards(check.switch, neighbour) not in learned[mac]:
            ports = sorted(learned[mac])
            wrong.append(f"MAC {mac} on port {' and '.join(ports)}, expected no such MAC")
    if wrong:
        return failed(f"{check.switch} learned otherwise than the cables lead: {'; '.join(wrong[:3])}")
    if not members:
        return failed(f"expected hosts on the network of {check.switch}; the lab has none there")
    pairs = [f"{member.node} on port {lab.port_towards(check.switch, member)}" for member in members]
    return passed(f"{check.switch} learned {counted(len(pairs), 'MAC')}, each where its cable is: {listed(pairs, 6)}")


@dataclass(frozen=True)
class _Forwarded:
    """A unicast frame that came into the switch, the port where its target was heard last, and where it left."""

    entering: Frame
    port: str
    leaving: Sequence[Frame]


def _is_group(mac: str) -> bool:
    """Whether a MAC is a multicast or the broadcast address: the first octet is odd (IEEE 802, section 8.2)."""
    return mac[1:2].lower() in set("13579bdf")


def _port(frame: Frame) -> str:
    return frame.interface.partition(":")[2]


def _replay(frames: Sequence[Frame]) -> Iterator[_Forwarded]:
    """Learn from `frames` of one switch as it did, and yield each one whose target was known by then."""
    copies: defaultdict[bytes, list[Frame]] = defaultdict(list)
    for frame in frames:
        copies[frame.data].append(frame)
    heard: dict[str, tuple[str, int]] = {}
    for frame in frames:
        if frame.direction != "in":
            continue
        source, target = frame.text("eth.src"), frame.text("eth.dst")
        port, when_ns = heard.get(target, ("", 0))
        heard[source] = (_port(frame), frame.time_ns)
        if not port or _is_group(target) or port == _port(frame) or frame.time_ns - when_ns > _AGEING_NS:
            continue
        leaving = []
        for copy in copies[frame.data]:
            if copy.number > frame.number and copy.direction == "in":
                break
            if copy.number > frame.number and copy.direction == "out":
                leaving.append(copy)
        yield _Forwarded(frame, port, leaving)


def no_flooding(check: NoFlooding, view: View) -> Finding:
    """Frames to a learned MAC leave by its port only; the whole capture teaches, the scene's frames are judged."""
    # The bridge itself is an interface too, where it hears what is for everybody; only its ports forward.
    ports = [interface.place for interface in view.lab.nodes[check.switch].interfaces]
    everything = view.limited_to(None).at(*ports)
    counting = {frame.number for frame in view.at(*ports)}
    judged = [item for item in _replay(everything) if item.entering.number in counting]
    for item in judged:
        target = item.entering.text("eth.dst")
        used = sorted({_port(frame) for frame in item.leaving})
        if set(used) - {item.port}:
            return failed(
                f"expected {at(item.entering)} to leave by port {item.port} only, where {target} was learned; it left "
                f"by {listed(used, 4)}",
                [item.entering, *item.leaving],
            )
        if not used:
            return absent(
                f"expected {at(item.entering)} to leave by port {item.port}, where {target} was learned; it left by "
                "none",
                check.switch,
                frames=[item.entering],
            )
    if not judged:
        return view.lacking("unicast frames to a learned MAC", check.switch)
    return passed(
        f"{counted(len(judged), 'unicast frame')} through {check.switch} left by the one port where the target was "
        f"learned, frames {judged[0].entering.number} to {judged[-1].entering.number}",
        [judged[0].entering, judged[-1].entering],
    ).if_whole(check.switch)
