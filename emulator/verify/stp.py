"""The spanning tree that switches make of a network with loops (IEEE 802.1D-1998, section 8).

Two witnesses: the tables of the switches, and the messages on their cables (BPDUs). On a cable between two switches the
end nearer to the root speaks and the other listens, so a forwarding port at which messages come in is the way to the
root.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from emulator.capture.frame import Frame
from emulator.errors import counted
from emulator.lab.checks.link import SpanningTree
from emulator.verify.finding import DisprovedError, Finding, MissingEvidenceError, absent, failed, passed
from emulator.verify.view import View
from emulator.verify.wording import at, listed

_FORWARDING, _BLOCKING, _DISABLED = "forwarding", "blocking", "disabled"


@dataclass(frozen=True)
class _Bridge:
    """A switch as its own kernel describes it. `identifier` is its priority and MAC, as one number."""

    node: str
    name: str
    identifier: int
    has_root_port: bool

    @property
    def mac(self) -> str:
        """The MAC in its identifier."""
        return (self.identifier & 0xFFFF_FFFF_FFFF).to_bytes(6, "big").hex(":")

    @property
    def shown(self) -> str:
        """`8000.02:00:00:00:00:01`: the priority in hexadecimal digits, and the MAC."""
        return f"{self.identifier >> 48:04x}.{self.mac}"


@dataclass(frozen=True)
class _Cable:
    """A cable between two switches: the state of the port at each end, and the last message on it."""

    ends: tuple[str, str]
    states: tuple[str, str]
    last: Frame | None

    @property
    def name(self) -> str:
        """Both ends."""
        return " – ".join(self.ends)

    @property
    def nodes(self) -> tuple[str, str]:
        """The switches at both ends."""
        first, second = (end.partition(":")[0] for end in self.ends)
        return first, second

    @property
    def forwards(self) -> bool:
        """Whether frames of hosts go over it."""
        return self.states == (_FORWARDING, _FORWARDING)

    @property
    def dead(self) -> bool:
        """Whether a port is off or has no carrier."""
        return _DISABLED in self.states

    def leads_up_from(self, node: str) -> bool:
        """Whether `node` hears here, on a forwarding port, what is sent from nearer to the root."""
        if self.last is None or not self.forwards or node not in self.nodes:
            return False
        return self.last.node == node and self.last.direction == "in"


def identifier(text: str) -> int:
    """`8000.2:0:0:0:0:1`, as ip(8) prints an identifier, as a number; ValueError when it is none."""
    priority, _, mac = text.partition(".")
    octets = [int(octet, 16) for octet in mac.split(":")]
    if len(octets) != 6 or any(octet > 0xFF for octet in octets):
        raise ValueError(f"not a bridge identifier: {text}")
    return int(priority, 16) << 48 | int.from_bytes(bytes(octets), "big")


def _bridge(view: View, node: str) -> _Bridge:
    """The bridge of a switch that runs the spanning tree; DisprovedError when it runs none."""
    for entry in view.json_table(node, "stp"):
        info = entry.get("linkinfo") or {}
        data = info.get("info_data") or {}
        if info.get("info_kind") != "bridge" or not data.get("stp_state"):
            continue
        try:
            own, root_port = identifier(str(data["bridge_id"])), int(data["root_port"])
        except (KeyError, ValueError) as error:
            raise MissingEvidenceError(f"the stp table of {node} does not tell its identifier and root port") from error
        # What ip(8) prints as root_id is left out: before iproute2 6.3 it is the bridge's own identifier.
        return _Bridge(node, str(entry.get("ifname")), own, root_port != 0)
    raise DisprovedError(f"expected {node} to run the spanning tree; it has no bridge on which it is on")


def _states(view: View, node: str, bridge: str) -> Mapping[str, str]:
    """The state of each port of a bridge."""
    entries = view.json_table(node, "bridge-link")
    return {str(e.get("ifname")): str(e.get("state")) for e in entries if e.get("master") == bridge}


def _cables(view: View, bridges: Mapping[str, _Bridge]) -> list[_Cable]:
    """The cables between the switches that the lab has and whose ports are in their bridges."""
    states = {node: _states(view, node, bridge.name) for node, bridge in bridges.items()}
    said: defaultdict[str, list[Frame]] = defaultdict(list)
    for frame in view.all_frames:
        if frame.fields.get("stp.root.hw"):
            said[frame.interface].append(frame)
    cables = []
    for link in view.lab.links:
        if link.a.node not in bridges or link.b.node not in bridges:
            continue
        ends = [(end.place, states[end.node].get(end.name)) for end in (link.a, link.b)]
        if None in (state for _, state in ends):
            continue
        frames = sorted((f for place, _ in ends for f in said[place]), key=lambda frame: frame.number)
        heard = [frame for frame in frames if frame.direction == "in"]
        last = (heard or frames)[-1] if frames else None
        (first, first_state), (second, second_state) = ends
        cables.append(_Cable((first, second), (str(first_state), str(second_state)), last))
    return cables


def _reached(root: str, cables: Sequence[_Cable]) -> set[str]:
    """The switches that frames from the root switch reach."""
    reached, pending = {root}, [root]
    while pending:
        node = pending.pop()
        for cable in cables:
            if cable.forwards and node in cable.nodes:
                new = set(cable.nodes) - reached
                reached |= new
                pending.extend(new)
    return reached


def _one_root(bridges: Mapping[str, _Bridge], root: _Bridge, cables: Sequence[_Cable]) -> Finding | None:
    """What is wrong with the root, if anything: its tables, or what is said of it on the cables."""
    heads = [bridge for bridge in bridges.values() if not bridge.has_root_port]
    if heads != [root]:
        told = listed([f"{bridge.node} ({bridge.shown})" for bridge in heads], 4) if heads else "none of them"
        return failed(
            f"expected {root.node} alone to be the root, for it has the lowest identifier ({root.shown}); "
            f"without a root port, as a root is: {told}"
        )
    for cable in cables:
        if cable.last is None:
            return absent(f"expected a BPDU on the cable {cable.name}; none was seen there", *cable.ends)
        said = cable.last.text("stp.root.hw").lower()
        if said != root.mac:
            return failed(
                f"expected every switch to name {root.node} ({root.mac}) as the root; {at(cable.last)}, the last BPDU "
                f"on the cable {cable.name}, names {said}",
                [cable.last],
            )
    return None


def _one_tree(bridges: Mapping[str, _Bridge], root: _Bridge, cables: Sequence[_Cable]) -> Finding | None:
    """What is wrong with the tree, if anything: a port that is not settled, a root port, a loop, an island."""
    for cable in cables:
        odd = [(end, s) for end, s in zip(cable.ends, cable.states, strict=True) if s not in (_FORWARDING, _BLOCKING)]
        if odd:
            end, state = odd[0]
            return failed(f"expected every port between switches to be forwarding or blocking; {end} is {state}")
    tree = [cable for cable in cables if cable.forwards]
    cited = [cable.last for cable in cables if cable.last is not None]
    reached = _reached(root.node, cables)
    if len(reached) < len(bridges):
        cut_off = listed(sorted(set(bridges) - reached), 4)
        return failed(
            f"expected forwarding cables from {root.node} to every other switch; {cut_off} cannot be reached", cited
        )
    if len(tree) > len(bridges) - 1:
        return failed(
            f"expected {counted(len(bridges) - 1, 'forwarding cable')} between {len(bridges)} switches, as a tree has; "
            f"{len(tree)} forward, so there is a loop: {listed([cable.name for cable in tree], 6)}",
            cited,
        )
    for bridge in bridges.values():
        up = [cable for cable in cables if cable.leads_up_from(bridge.node)]
        expected = 0 if bridge is root else 1
        if len(up) != expected:
            told = f"{counted(len(up), 'port')}{': ' + listed([cable.name for cable in up]) if up else ''}"
            return failed(
                f"expected BPDUs to come in at {counted(expected, 'forwarding port')} of {bridge.node}, "
                f"{'the root' if bridge is root else 'its root port'}; they come in at {told}",
                [cable.last for cable in up if cable.last is not None],
            )
    return None


def spanning_tree(check: SpanningTree, view: View) -> Finding:
    """One root, one way to it from each other switch, a tree of forwarding cables, and nothing else forwards."""
    bridges = {node: _bridge(view, node) for node in check.switches}
    all_cables = _cables(view, bridges)
    cables = [cable for cable in all_cables if not cable.dead]
    if not cables:
        return failed(f"expected cables between {listed(sorted(bridges), 5)}; none is plugged in at both ends")
    for place in (end for cable in cables for end in cable.ends):
        view.interfaces_at(place)
    root = min(bridges.values(), key=lambda bridge: bridge.identifier)
    wrong = _one_root(bridges, root, cables) or _one_tree(bridges, root, cables)
    if wrong is not None:
        return wrong
    tree, blocked = ([c.name for c in cables if c.forwards is forwards] for forwards in (True, False))
    dead = [cable.name for cable in all_cables if cable.dead]
    others = f"blocked: {listed(blocked, 4)}" if blocked else "none is blocked"
    others += f"; without carrier: {listed(dead)}" if dead else ""
    return passed(
        f"{len(bridges)} switches agree on {root.node} "
        f"({root.shown}, the lowest identifier) as the root; {counted(len(tree), 'cable')} forward as a tree "
        f"({listed(tree, 4)}), {others}",
        [cable.last for cable in cables if cable.last is not None],
    )
