"""What a check looks at: the lab as it should be, and the evidence, limited to the frames of one scene."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from ipaddress import IPv4Address, IPv4Interface
from typing import Any

from emulator import filters
from emulator.capture.frame import Frame
from emulator.lab.resolved import Interface, ResolvedLab
from emulator.verify.evidence import Evidence
from emulator.verify.finding import DisprovedError, Finding, MissingEvidenceError, absent
from emulator.verify.paths import Crossing, Sightings
from emulator.verify.wording import saw

SLACK_NS = 250_000_000
"""How long after a scene's last step its packets may still be under way, unless the next scene begins earlier."""
_FILTER_CHARACTERS = 80
_VARIABLE = re.compile(r"\{(run\.[A-Za-z0-9_-]+)\}")


@dataclass(frozen=True)
class View:
    """The lab, the evidence, and the scene whose frames count (None: all)."""

    lab: ResolvedLab
    evidence: Evidence
    recorded: Sightings
    scene: str | None = None

    @classmethod
    def of(cls, lab: ResolvedLab, evidence: Evidence) -> View:
        """Everything that was recorded."""
        return cls(lab, evidence, Sightings(() if evidence.damaged else evidence.frames))

    @property
    def all_frames(self) -> tuple[Frame, ...]:
        """The frames of all scenes; MissingEvidenceError when the capture cannot be believed. Checks look at frames
        here and nowhere else, so that none can be judged from packets that are not those of the lab."""
        self._must_be_sound()
        return self.evidence.frames

    @property
    def sightings(self) -> Sightings:
        """All frames by the packet that they carry; MissingEvidenceError when the capture cannot be believed."""
        self._must_be_sound()
        return self.recorded

    def _must_be_sound(self) -> None:
        if self.evidence.damaged:
            raise MissingEvidenceError(self.evidence.damaged)

    def limited_to(self, scene: str | None) -> View:
        """The same with only the frames of `scene`."""
        return replace(self, scene=scene)

    @property
    def when(self) -> str:
        """` in scene "walk"`, or nothing."""
        return f' in scene "{self.scene}"' if self.scene else ""

    @cached_property
    def frames(self) -> tuple[Frame, ...]:
        """The frames of the scene, in time order; MissingEvidenceError when the scene never ran."""
        if self.scene is None:
            return self.all_frames
        window = self.evidence.windows.get(self.scene)
        if window is None:
            raise MissingEvidenceError(f'scene "{self.scene}" never ran')
        later = [other.began_ns for other in self.evidence.windows.values() if other.began_ns > window.began_ns]
        end_ns = max(window.ended_ns, min([window.ended_ns + SLACK_NS, *later]))
        return tuple(frame for frame in self.all_frames if window.began_ns <= frame.time_ns <= end_ns)

    @cached_property
    def _captured(self) -> tuple[str, ...]:
        self._must_be_sound()
        return tuple(interface.name for interface in self.evidence.interfaces)

    def interfaces_at(self, place: str) -> tuple[str, ...]:
        """The captured interfaces of a node, or the one that `place` names; MissingEvidenceError without any."""
        found = tuple(n for n in self._captured if n == place or (":" not in place and n.startswith(f"{place}:")))
        if not found:
            raise MissingEvidenceError(f"{place} was not captured")
        return found

    def at(self, *places: str, direction: str | None = None) -> tuple[Frame, ...]:
        """The frames seen at `places`; with `direction`, only those that went that way or whose way is not known."""
        wanted = {name for place in places for name in self.interfaces_at(place)}
        frames = (frame for frame in self.frames if frame.interface in wanted)
        return tuple(frame for frame in frames if direction is None or frame.direction in (direction, None))

    def matching(self, text: str, frames: Iterable[Frame]) -> tuple[Frame, ...]:
        """Those of `frames` that pass the filter `text`."""
        wanted = filters.parse(self.expand(text))
        return tuple(frame for frame in frames if wanted.matches_frame(frame))

    def crossings(self, entry: str, exit_: str, frames: Sequence[Frame] | None = None) -> tuple[Crossing, ...]:
        """What came into a router at `entry`, and where it left by `exit_`; both are node:interface."""
        self.interfaces_at(exit_)
        entering = self.at(entry, direction="in") if frames is None else frames
        return tuple(self.sightings.crossings(entering, entry, exit_))

    def gaps(self, places: tuple[str, ...]) -> str | None:
        """Why the record of `places` (none: all) is not whole, or None when it is."""
        self._must_be_sound()
        if self.evidence.truncated:
            return f"the capture is not whole: {self.evidence.truncated}"
        nodes = {place for place in places if ":" not in place}
        for interface in self.evidence.interfaces:
            asked = not places or interface.name in places or interface.name.partition(":")[0] in nodes
            if asked and interface.dropped:
                return f"the kernel dropped {interface.dropped:,} frames at {interface.name} before they were recorded"
        return None

    def lacking(self, expected: str, *places: str) -> Finding:
        """`expected` was not seen at `places`; says what was seen there instead."""
        return absent(f"expected {expected} at {', '.join(places)}{self.when}; {saw(self.at(*places))}", *places)

    def expand(self, text: str) -> str:
        """`text` with `{run.NAME}` replaced by this run's value; MissingEvidenceError when there is none."""

        def value(match: re.Match[str]) -> str:
            if match[1] not in self.evidence.variables:
                raise MissingEvidenceError(f"the value of {match[0]} was not recorded")
            return self.evidence.variables[match[1]]

        return _VARIABLE.sub(value, text)

    def wanted(self, text: str) -> str:
        """The filter `text` as a reason shows it: expanded, and shortened when it is long."""
        expanded = self.expand(text)
        return expanded if len(expanded) <= _FILTER_CHARACTERS else expanded[: _FILTER_CHARACTERS - 1] + "…"

    def table(self, node: str, name: str, when: str = "after") -> str:
        """The kernel table `name` of `node` as its tool printed it; MissingEvidenceError when it was not read."""
        tables = self.evidence.after if when == "after" else self.evidence.before
        text = tables.get(node, {}).get(name)
        if text is None:
            raise MissingEvidenceError(f"the {name} table of {node} was not read {when} the scenes")
        return text

    def json_table(self, node: str, name: str, when: str = "after") -> list[Mapping[str, Any]]:
        """The entries of a table that a tool printed as JSON; MissingEvidenceError when it is not a list of objects."""
        try:
            entries = json.loads(self.table(node, name, when) or "[]")
        except (ValueError, RecursionError) as error:
            raise MissingEvidenceError(f"the {name} table of {node} is not JSON") from error
        if not isinstance(entries, list):
            raise MissingEvidenceError(f"the {name} table of {node} is not a list")
        return [entry for entry in entries if isinstance(entry, dict)]

    def configured(self, interface: Interface, when: str = "after") -> tuple[IPv4Interface, ...]:
        """The IPv4 addresses that the kernel had on an interface."""
        entries = (e for e in self.json_table(interface.node, "address", when) if e.get("ifname") == interface.name)
        infos = [info for entry in entries for info in entry.get("addr_info", ()) if info.get("family") == "inet"]
        return tuple(IPv4Interface(f"{info['local']}/{info.get('prefixlen', 32)}") for info in infos)

    def address(self, place: str) -> str:
        """The IPv4 address of node:interface: the fixed one, or the one that it got; DisprovedError without any."""
        interface = self.lab.interface(place)
        fixed = [a for a in interface.addresses if isinstance(a, IPv4Interface)]
        got = fixed or self.configured(interface)
        if not got and "address" in self.evidence.before.get(interface.node, {}):
            got = self.configured(interface, "before")
        if not got:
            raise DisprovedError(f"expected {place} to have an IPv4 address; it has none")
        return str(got[0].ip)

    def addresses_of(self, node: str) -> frozenset[str]:
        """All IPv4 addresses of a node; DisprovedError when it has none."""
        found = set()
        for interface in self.lab.nodes[node].interfaces:
            if interface.dhcp or interface.addresses:
                found.add(self.address(interface.place))
                found |= {str(a.ip) for a in interface.addresses}
        if not found:
            raise DisprovedError(f"expected {node} to have an address; it has none")
        return frozenset(found)

    def gateway(self, node: str) -> tuple[str, str] | None:
        """Next hop and interface of the default route of `node`, as the kernel had it; None when there is none."""
        for route in self.json_table(node, "route"):
            if route.get("dst") == "default" and "gateway" in route:
                return str(route["gateway"]), str(route.get("dev", ""))
        return None

    def literal_address(self, text: str, default: str) -> str:
        """An address of the lab file: as it stands, of the node or node:interface that it names, or `default`."""
        if ":" in text and text.partition(":")[0] in self.lab.nodes:
            return self.address(text)
        if text in self.lab.nodes:
            return str(self.lab.nodes[text].addresses[0].ip)
        return str(IPv4Address(text)) if text else default
