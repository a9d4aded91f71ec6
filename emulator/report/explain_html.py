"""A story as one page that needs nothing else: sequence diagrams, and every frame's octets and fields.

The page has its own style and script (package data), and a content security policy by which it can load nothing and run
nothing else. What comes from packets is escaped here (HTML, JSON), and put in as text by the script.
"""

from __future__ import annotations

import hashlib
import json
from base64 import b64encode
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any, Final

from emulator.capture.frame import Frame
from emulator.errors import counted, one_line
from emulator.explain.exchanges import Exchange
from emulator.explain.journeys import Hop, Journey, Passage
from emulator.explain.octets import fields_by_layer, spans
from emulator.explain.story import Story
from emulator.explain.telling import Point, Remark, Telling, Way, address, duration, ranges
from emulator.report.explain_text import command_line, rewrite_text
from emulator.verify.wording import told

FRAMES_MAX: Final = 2_000
"""Frames in a page; beyond it a browser gets slow. The story is told of all exchanges, up to EXCHANGES_MAX."""
EXCHANGES_MAX: Final = 2_000
OCTETS_MAX: Final = 2_048
"""Octets of a frame in a page."""
_OPENED: Final = 30
"""With more exchanges than these, only the unusual ones are open at first."""
_DEPTH_MAX: Final = 3

_LAYERS: Final[Mapping[str, str]] = {
    **dict.fromkeys(("eth", "vlan", "arp", "llc", "stp", "nd", "router-discovery", "link", "multicast"), "link"),
    **dict.fromkeys(("ip", "ipv6", "icmp", "icmpv6", "ping"), "network"),
    **dict.fromkeys(("tcp", "udp"), "transport"),
    **dict.fromkeys(("dhcp", "dns", "http", "tls"), "application"),
}
"""Protocol or kind of exchange → the layer by whose colour it is shown."""


def render(story: Story) -> str:
    """The page."""
    parts = {name: _part(name) for name in ("html", "css", "js")}
    chosen = _chosen(story)
    command = command_line(story)
    title = command or "What happened on the wire"
    values = {
        "title": _safe(title),
        "heading": _safe(title),
        "summary": _summary(story, chosen),
        "story": "\n".join(_exchanges(story, chosen)),
        "data": _data(story, chosen),
        "style": parts["css"],
        "script": parts["js"],
        "style-hash": _hash(parts["css"]),
        "script-hash": _hash(parts["js"]),
    }
    page = parts["html"]
    pieces = page.split("{{")
    made = [pieces[0]]
    for piece in pieces[1:]:
        name, _, rest = piece.partition("}}")
        made += [values[name], rest]
    return "".join(made)


def _part(kind: str) -> str:
    return Path(__file__).with_name(f"explain.{kind}").read_text(encoding="utf-8")


def _hash(text: str) -> str:
    return "sha256-" + b64encode(hashlib.sha256(text.encode()).digest()).decode()


def _safe(text: str) -> str:
    return escape(one_line(text))


def _chosen(story: Story) -> frozenset[int]:
    """Numbers of the exchanges whose frames are in the page."""
    found: set[int] = set()
    frames = 0
    for telling in story.tellings[:EXCHANGES_MAX]:
        if telling.exchange is None:
            continue
        frames += sum(len(journey.sightings) for journey in telling.exchange.journeys)
        if frames > FRAMES_MAX and found:
            break
        found.add(telling.number)
    return frozenset(found)


def _journeys(exchange: Exchange) -> Sequence[Journey]:
    """Those that are in the page; of one exchange alone there may be too many."""
    found: list[Journey] = []
    frames = 0
    for journey in exchange.journeys:
        frames += len(journey.sightings)
        if frames > FRAMES_MAX:
            break
        found.append(journey)
    return found


def _summary(story: Story, chosen: frozenset[int]) -> str:
    recording = story.recording
    lines = []
    if recording.command is not None:
        command = recording.command
        lines.append(f"The command {command.ending} after {duration(command.ended_ns - command.began_ns)}.")
    lines.append(
        f"{counted(len(recording.frames), 'frame')}, {counted(story.packets, 'packet')}, "
        f"{counted(len(story.tellings), 'exchange')}."
    )
    shown = sum(
        len(journey.sightings)
        for telling in story.tellings
        if telling.number in chosen and telling.exchange
        for journey in _journeys(telling.exchange)
    )
    if shown < len(recording.frames):
        lines.append(f"This page has the first {shown:,} of {len(recording.frames):,} frames; the capture has all.")
    if len(story.tellings) > EXCHANGES_MAX:
        lines.append(f"It tells the first {EXCHANGES_MAX:,} of {len(story.tellings):,} exchanges.")
    text = "".join(f"<p>{_safe(line)}</p>" for line in lines)
    text += "".join(f'<p class="unusual">{_safe(remark.text)}</p>' for remark in story.remarks)
    unusual = story.unusual
    if unusual:
        links = ", ".join(
            f'<a href="#x{number}">{number}</a>' for number in list(dict.fromkeys(t.number for t, _ in unusual))[:40]
        )
        text += f'<p class="unusual">Unusual: {counted(len(unusual), "remark")}, in exchange {links}.</p>'
    else:
        text += "<p>Nothing unusual.</p>"
    return text


def _exchanges(story: Story, chosen: frozenset[int]) -> Iterable[str]:
    depths: dict[int, int] = {}
    few = len(story.tellings) <= _OPENED
    for telling in story.tellings[:EXCHANGES_MAX]:
        depth = min(_DEPTH_MAX, depths.get(telling.inside, -1) + 1 if telling.inside else 0)
        depths[telling.number] = depth
        yield _exchange(telling, story.zero_ns, depth, opened=few or bool(telling.remarks), chosen=chosen)


def _exchange(telling: Telling, zero_ns: int, depth: int, *, opened: bool, chosen: frozenset[int]) -> str:
    layer = _LAYERS.get(telling.kind, "link")
    trip = f", {duration(telling.round_trip_ns)}" if telling.round_trip_ns is not None else ""
    waits = f" <small>(while {telling.inside} waits)</small>" if telling.inside else ""
    mark = ' <span class="unusual">unusual</span>' if telling.remarks or any(p.remarks for p in telling.parts) else ""
    body = _points(telling.points, zero_ns)
    body += "".join(_inner(part, zero_ns) for part in telling.parts)
    body += "<ul>" + "".join(_way(way) for way in telling.ways) + "</ul>" if telling.ways else ""
    body += _remarks(telling.remarks)
    body += f'<div class="diagram" data-n="{telling.number}"></div>' if telling.number in chosen else ""
    return (
        f'<details class="exchange l-{layer} d{depth}" id="x{telling.number}"{" open" if opened else ""}>'
        f'<summary>{telling.number} <b>{_safe(telling.protocol)}</b> <span class="when">'
        f"{_when(telling.began_ns, zero_ns)}{trip}</span> {_safe(telling.title)}{waits}{mark}</summary>"
        f'<div class="body">{body}</div></details>'
    )


def _inner(part: Telling, zero_ns: int) -> str:
    trip = f", {duration(part.round_trip_ns)}" if part.round_trip_ns is not None else ""
    return (
        f'<div class="part l-{_LAYERS.get(part.kind, "link")}"><b>{_safe(part.protocol)}</b> <span class="when">'
        f"{_when(part.began_ns, zero_ns)}{trip}</span> {_safe(part.title)}{_points(part.points, zero_ns)}"
        f"{_remarks(part.remarks)}</div>"
    )


def _points(points: Sequence[Point], zero_ns: int) -> str:
    if not points:
        return ""
    lines = []
    for point in points:
        when = f"{_when(point.at_ns, zero_ns)} " if point.at_ns is not None else ""
        lines.append(f"<li>{when}{_safe(point.text)}{_frames(point.frames)}</li>")
    return f"<ul>{''.join(lines)}</ul>"


def _frames(numbers: Sequence[int]) -> str:
    if not numbers:
        return ""
    return f' <button type="button" class="f" data-f="{numbers[0]}">{ranges(numbers)}</button>'


def _way(way: Way) -> str:
    packets = f", {way.packets:,} packets" if way.packets > 1 else ""
    receiver = "everyone" if way.flooded else way.receiver
    text = f"{way.sender} → {receiver}{packets}: {' → '.join(way.interfaces)}"
    changes = "".join(f"<li>{_safe(rewrite_text(rewrite))}</li>" for rewrite in way.rewrites)
    return f"<li>{_safe(text)}{_frames(way.frames)}{f'<ul>{changes}</ul>' if changes else ''}</li>"


def _remarks(remarks: Sequence[Remark]) -> str:
    if not remarks:
        return ""
    lines = (f'<li class="unusual">{_safe(remark.text)}{_frames(remark.frames)}</li>' for remark in remarks)
    return f"<ul>{''.join(lines)}</ul>"


def _when(at_ns: int, zero_ns: int) -> str:
    gap = at_ns - zero_ns
    return f"{'+' if gap >= 0 else ''}{duration(gap)}"


class _Data:
    """What the script draws from."""

    def __init__(self, story: Story) -> None:
        self._story = story
        self._by_node = story.recording.surroundings.by_node
        self._known: dict[bytes, int] = {}
        self.lanes: dict[str, int] = {}
        self.frames: dict[int, dict[str, Any]] = {}
        self.journeys: list[list[int]] = []
        self.dissections: list[dict[str, Any]] = []
        self.exchanges: dict[int, dict[str, Any]] = {}

    def add(self, exchange: Exchange) -> None:
        """An exchange with its arrows and frames."""
        arrows = [arrow for journey in _journeys(exchange) for arrow in self._journey(journey)]
        arrows.sort(key=lambda arrow: arrow["n"][0])
        used = {lane for arrow in arrows for lane in (arrow["f"], arrow["t"]) if lane is not None}
        self.exchanges[exchange.number] = {"lanes": sorted(used), "arrows": arrows}

    def _lane(self, name: str) -> int:
        return self.lanes.setdefault(one_line(name), len(self.lanes))

    def _journey(self, journey: Journey) -> Iterable[dict[str, Any]]:
        numbers = [frame.number for frame in journey.sightings]
        for frame in journey.sightings:
            self.frames[frame.number] = {
                "d": self._dissection(frame),
                "i": one_line(frame.interface),
                "o": frame.direction or "",
                "t": _when(frame.time_ns, self._story.zero_ns),
                "j": len(self.journeys),
            }
        self.journeys.append(numbers)
        notes = {passage.leaving.number: _note(passage) for passage in journey.passages() if passage.translated}
        said = one_line(told(journey.first))
        for place, hop in enumerate(self._hops(journey)):
            yield self._arrow(hop, said, first=place == 0, notes=notes)

    def _hops(self, journey: Journey) -> list[Hop]:
        return journey.hops(self._story.recording.surroundings.peers)

    def _ends(self, hop: Hop) -> tuple[int | None, int | None]:
        if self._by_node:
            sent = self._lane(hop.sent.node) if hop.sent else None
            return sent, self._lane(hop.arrived.node) if hop.arrived else None
        frame = hop.arrived or hop.sent
        if frame is None:
            return None, None
        source = address(frame, "src") or frame.text("arp.src.proto_ipv4") or frame.text("eth.src") or "?"
        target = address(frame, "dst") or frame.text("arp.dst.proto_ipv4") or frame.text("eth.dst") or "?"
        return self._lane(source), self._lane(target)

    def _arrow(self, hop: Hop, said: str, *, first: bool, notes: Mapping[int, str]) -> dict[str, Any]:
        frames = [frame for frame in (hop.sent, hop.arrived) if frame is not None]
        sent, arrived = self._ends(hop)
        numbers = [frame.number for frame in frames]
        lost = self._by_node and hop.arrived is None
        where = " to ".join(one_line(frame.interface) for frame in frames)
        words = f"{ranges(numbers)}, {where}: {said}" + (", not seen to arrive" if lost else "")
        top = next((layer for layer in reversed(frames[0].layers) if layer in _LAYERS), "eth")
        arrow: dict[str, Any] = {"f": sent, "t": arrived, "n": numbers, "k": _LAYERS[top], "a": words}
        note = notes.get(frames[0].number, "")
        if first or note:
            arrow["l"] = note if note and not first else said
            arrow["m"] = _when(frames[0].time_ns, self._story.zero_ns)
        if lost:
            arrow["x"] = 1
        return arrow

    def _dissection(self, frame: Frame) -> int:
        known = self._known.get(frame.data)
        if known is None:
            known = self._known[frame.data] = len(self.dissections)
            octets = frame.data[:OCTETS_MAX]
            fields = [
                (one_line(layer), [(name, one_line(value)) for name, value in values])
                for layer, values in fields_by_layer(frame)
                if layer != "frame"
            ]
            self.dissections.append(
                {
                    "b": b64encode(octets).decode(),
                    "n": frame.length,
                    "s": [(layer, a, min(b, len(octets))) for layer, a, b in spans(frame) if a < len(octets)],
                    "f": fields,
                    "t": one_line(told(frame)),
                }
            )
        return known


def _note(passage: Passage) -> str:
    parts = [f"{change.before} → {change.after}" for change in passage.changes if change.what in _NAT]
    return f"{one_line(passage.node)}: {', '.join(parts)}"


_NAT: Final = frozenset({"source", "destination", "source port", "destination port", "query id"})


def _data(story: Story, chosen: frozenset[int]) -> str:
    made = _Data(story)
    for telling in story.tellings:
        if telling.number in chosen and telling.exchange is not None:
            made.add(telling.exchange)
    values = {
        "lanes": list(made.lanes),
        "colours": dict(_LAYERS),
        "frames": made.frames,
        "journeys": made.journeys,
        "dissections": made.dissections,
        "exchanges": made.exchanges,
    }
    text = json.dumps(values, separators=(",", ":"))
    # Within <script> nothing may look like its end, or like markup.
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")
