"""A story as text for a terminal: nothing from a packet can drive it, and no line is wider than it."""

from __future__ import annotations

import shlex
import textwrap
from collections.abc import Iterator

from emulator.errors import counted, one_line
from emulator.explain.story import Story
from emulator.explain.telling import Remark, Rewrite, Telling, Way, duration, ranges

_COLOURS = {
    "arp": "33", "nd": "33", "router-discovery": "33", "stp": "33", "multicast": "33", "link": "33",
    "ping": "36", "icmp": "36", "ip": "36", "dhcp": "35", "dns": "34", "tcp": "32", "udp": "32",
    "http": "1;34", "tls": "1;35",
}  # fmt: skip
_UNUSUAL = "31"
_DEPTH_MAX = 3


def render(story: Story, *, width: int = 100, colour: bool = False) -> str:
    """The whole story."""
    lines = [*heading(story, width=width, colour=colour), ""]
    depths: dict[int, int] = {}
    for telling in story.tellings:
        depths[telling.number] = min(_DEPTH_MAX, depths.get(telling.inside, -1) + 1 if telling.inside else 0)
        lines += exchange(telling, story.zero_ns, depth=depths[telling.number], width=width, colour=colour)
    lines += ["", *ending(story, width=width, colour=colour)]
    return "\n".join(lines) + "\n"


def command_line(story: Story) -> str:
    """`pc1 $ curl http://www.example.com/`."""
    command = story.recording.command
    return "" if command is None else f"{command.node} $ {shlex.join(command.argv)}"


def heading(story: Story, *, width: int, colour: bool) -> list[str]:
    """What ran, how it ended, and how much was seen."""
    command = story.recording.command
    frames = len(story.recording.frames)
    places = len({frame.interface for frame in story.recording.frames})
    seen = f"{counted(frames, 'frame')} at {counted(places, 'interface')}: {counted(story.packets, 'packet')} in "
    seen += counted(len(story.tellings), "exchange")
    lines = []
    if command is not None:
        seen = f"{command.ending} after {duration(command.ended_ns - command.began_ns)}; {seen}"
        lines += [_painted(line, "1", colour) for line in _wrapped(one_line(command_line(story)), "", width)]
    lines += _wrapped(seen, "", width)
    for remark in story.remarks:
        lines += _remark(remark, "", width, colour)
    return lines


def ending(story: Story, *, width: int, colour: bool) -> list[str]:
    """What was unusual, all together."""
    unusual = story.unusual
    if not unusual:
        return ["nothing unusual"]
    lines = [f"unusual ({len(unusual)}):"]
    for telling, remark in unusual:
        lines += _unusual(f"! {telling.number} {telling.protocol}: {one_line(remark.text)}", "  ", width, colour)
    return lines


def exchange(telling: Telling, zero_ns: int, *, depth: int, width: int, colour: bool) -> list[str]:
    """One exchange with all that is told of it."""
    indent = "  " * depth
    lines = list(_title(telling, zero_ns, indent, width, colour))
    inner = indent + "      "
    for point in telling.points:
        when = "" if point.at_ns is None else f"{_since(point.at_ns, zero_ns)}  "
        where = f" ({ranges(point.frames)})" if point.frames else ""
        lines += _wrapped(f"{when}{one_line(point.text)}{where}", inner, width)
    for part in telling.parts:
        lines += _title(part, zero_ns, inner[:-4], width, colour)
        for remark in part.remarks:
            lines += _remark(remark, inner, width, colour)
    for way in telling.ways:
        lines += _way(way, inner, width)
    for remark in telling.remarks:
        lines += _remark(remark, inner, width, colour)
    return lines


def _title(telling: Telling, zero_ns: int, indent: str, width: int, colour: bool) -> Iterator[str]:
    own = telling.inside != telling.number
    number = f"{telling.number:>3} " if own else "    "
    trip = f" ({duration(telling.round_trip_ns)})" if telling.round_trip_ns is not None else ""
    after = f" [while {telling.inside} waits]" if telling.inside and own else ""
    head = f"{number}{telling.protocol} {_since(telling.began_ns, zero_ns)}{trip}{after}  "
    for line in _wrapped(head + one_line(telling.title), indent, width, hanging=4):
        yield _painted(line, _COLOURS.get(telling.kind, "0"), colour)


def _remark(remark: Remark, indent: str, width: int, colour: bool) -> list[str]:
    return _unusual(f"! {one_line(remark.text)}", indent, width, colour)


def _unusual(text: str, indent: str, width: int, colour: bool) -> list[str]:
    return [_painted(line, _UNUSUAL, colour) for line in _wrapped(text, indent, width)]


def _way(way: Way, indent: str, width: int) -> list[str]:
    packets = f", {way.packets:,} packets" if way.packets > 1 else ""
    first = "the first in " if way.packets > 1 else ""
    receiver = "everyone" if way.flooded else way.receiver
    text = f"{one_line(way.sender)} → {one_line(receiver)}{packets}: {' → '.join(map(one_line, way.interfaces))} "
    lines = _wrapped(f"{text}({first}{ranges(way.frames)})", indent, width)
    for rewrite in way.rewrites:
        lines += _wrapped(rewrite_text(rewrite), indent + "  ", width)
    return lines


def rewrite_text(rewrite: Rewrite) -> str:
    """What a node changed, in one line."""
    found = {change.what: (change.before, change.after) for change in rewrite.changes}
    parts = []
    macs = [found.pop(what, None) for what in ("source MAC", "destination MAC")]
    nat = [
        f"{what} {found[what][0]} becomes {found[what][1]}"
        for what in ("source", "source port", "destination", "destination port", "query id")
        if what in found
    ]
    if nat and rewrite.translated:
        witness = f" ({rewrite.witness})" if rewrite.witness else ""
        parts.append(f"NAT: {', '.join(nat)}{witness}")
    for what, (before, after) in found.items():
        if what not in ("source", "source port", "destination", "destination port", "query id"):
            parts.append(f"{what} {before} becomes {after}")
    for what, change in zip(("source MAC", "destination MAC"), macs, strict=True):
        if change:
            parts.append(f"{what} {change[0]} becomes {change[1]}")
    node = f"{rewrite.node} " if rewrite.node else ""
    return one_line(f"{node}(frame {rewrite.entering} → {rewrite.leaving}): {'; '.join(parts)}")


def _since(at_ns: int, zero_ns: int) -> str:
    gap = at_ns - zero_ns
    return f"+{duration(gap)}" if gap >= 0 else duration(gap)


def _wrapped(text: str, indent: str, width: int, hanging: int = 2) -> list[str]:
    if len(indent) + len(text) <= width:
        return [indent + text]
    return textwrap.wrap(
        text,
        max(width, 40),
        initial_indent=indent,
        subsequent_indent=indent + " " * hanging,
        break_on_hyphens=False,
    )


def _painted(line: str, code: str, colour: bool) -> str:
    return f"\x1b[{code}m{line}\x1b[0m" if colour else line
