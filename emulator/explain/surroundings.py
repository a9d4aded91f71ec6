"""What is known of the network around the frames: whose an address is, which interfaces a cable joins."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from emulator.capture.frame import Frame, Interface
from emulator.lab.resolved import ResolvedLab
from emulator.verify.evidence import Tables

_PLACE = re.compile(r"[^:\s]+:[^:\s]+")
_NOWHERE = frozenset({"", "0.0.0.0", "::"})
_FRESH = frozenset({-1, 1, 64, 128, 255})
"""Time to live, or hop limit, of packets that no router has passed on; -1 where there is none."""


@dataclass
class Surroundings:
    """What is known, and what the frames teach meanwhile.

    Attributes:
        by_node: interfaces are named `node:interface`, so that frames are seen at nodes; else at addresses.
        peers: the interface at the other end of the cable, both ways.
        owners: address → nodes; in networks that do not see each other, several have the same one.
        macs: MAC → node:interface.
        switches: nodes that pass frames on as they are.
        captured: the interfaces that were recorded.
        complete: every interface of the network was recorded.
    """

    by_node: bool = False
    peers: Mapping[str, str] = field(default_factory=dict)
    owners: dict[str, tuple[str, ...]] = field(default_factory=dict)
    macs: dict[str, str] = field(default_factory=dict)
    switches: frozenset[str] = frozenset()
    captured: frozenset[str] = frozenset()
    complete: bool = False

    def own(self, address: str, node: str) -> None:
        """`node` has `address`; in other networks others may have the same one."""
        known = self.owners.get(address, ())
        if node not in known:
            self.owners[address] = (*known, node)

    def owner(self, address: str, near: Sequence[str] = ()) -> str:
        """The node that has `address`; of several the one that comes last in `near`. Empty when not known."""
        known = self.owners.get(address, ())
        if len(known) <= 1:
            return known[0] if known else ""
        return next((node for node in reversed(near) if node in known), "")

    def party(self, address: str, near: Sequence[str] = ()) -> str:
        """How the one at `address` is called: its node, or else the address."""
        return self.owner(address, near) or address

    def named(self, address: str, near: Sequence[str] = ()) -> str:
        """`web (192.0.2.80)`, or the address alone."""
        owner = self.owner(address, near)
        return f"{owner} ({address})" if owner else address

    def learn(self, frame: Frame) -> None:
        """Take from a frame, which its sender made itself, whose its source address is."""
        if not self.by_node or frame.direction != "out" or frame.node in self.switches:
            return
        if frame.get("arp.isgratuitous"):
            return  # a claim, and perhaps a wrong one
        if frame.number_of("ip.ttl") not in _FRESH or frame.number_of("ipv6.hlim") not in _FRESH:
            return
        for name in ("ip.src", "ipv6.src", "arp.src.proto_ipv4"):
            values = frame.fields.get(name)
            if values and str(values[0]) not in _NOWHERE:
                self.own(str(values[0]), frame.node)

    def recorded(self, node: str) -> bool:
        """Whether frames at `node` were recorded."""
        return any(place.startswith(f"{node}:") for place in self.captured)


def of_lab(lab: ResolvedLab, before: Tables, interfaces: Iterable[Interface] = ()) -> Surroundings:
    """What a lab and its nodes' tables say; `before` was read when recording began."""
    peers, macs = {}, {}
    found = Surroundings(True)
    for interface in lab.interfaces():
        if interface.peer:
            peers[interface.place] = f"{interface.peer[0]}:{interface.peer[1]}"
        macs[interface.mac] = interface.place
        for address in interface.addresses:
            found.own(str(address.ip), interface.node)
    for node, tables in before.items():
        try:
            entries = json.loads(tables.get("address", "[]"))
        except ValueError:
            continue
        for entry in entries:
            for info in entry.get("addr_info", ()):
                if not str(info.get("local", "")).startswith(("127.", "::1")):
                    found.own(str(info.get("local", "")), node)
    switches = frozenset(node.name for node in lab.nodes.values() if node.kind == "switch")
    captured = frozenset(interface.name for interface in interfaces)
    return Surroundings(True, peers, found.owners, macs, switches, captured, complete=True)


def of_capture(
    interfaces: Iterable[Interface], frames: Iterable[Frame], names: Mapping[str, str] | None = None
) -> Surroundings:
    """What a capture by itself says; `names` are those that it has for addresses.

    A node that never sends from its own MAC is taken for a switch.
    """
    seen = {frame.interface for frame in frames}
    named = [interface for interface in interfaces if interface.name in seen]
    by_node = bool(named) and all(_PLACE.fullmatch(interface.name) for interface in named)
    by_node = by_node and any(frame.direction for frame in frames)
    macs = {interface.mac: interface.name for interface in named if interface.mac} if by_node else {}
    captured = frozenset(interface.name for interface in interfaces)
    known = Surroundings(by_node, {}, {}, macs, frozenset(), captured)
    if by_node:
        nodes = {interface.name.partition(":")[0] for interface in named}
        for address, name in (names or {}).items():
            if name in nodes:
                known.own(address, name)
        own = {mac: place.partition(":")[0] for mac, place in macs.items()}
        speaking = [frame for frame in frames if "stp" not in frame.layers]
        senders = {frame.node for frame in speaking if own.get(frame.text("eth.src")) == frame.node}
        known.switches = frozenset({frame.node for frame in frames} - senders)
    return known
