"""A story for programs. Times are in milliseconds after its beginning; frame numbers are those of the capture."""

from __future__ import annotations

from typing import Any

from emulator.explain.journeys import Journey
from emulator.explain.story import Story
from emulator.explain.telling import Remark, Rewrite, Telling, Way
from emulator.verify.wording import told

_MS = 1e6


def as_dict(story: Story) -> dict[str, Any]:
    """Everything that the text says, and every packet's journey."""
    recording, command = story.recording, story.recording.command
    answer: dict[str, Any] = {
        "began_ns": story.zero_ns,
        "packets": len(recording.frames),
        "journeys": story.packets,
        "truncated": recording.truncated,
        "remarks": [_remark(remark) for remark in story.remarks],
        "exchanges": [_telling(telling, story.zero_ns) for telling in story.tellings],
        "unusual": [{"exchange": telling.number, **_remark(remark)} for telling, remark in story.unusual],
        "connections": [row.to_json() for row in story.rows],
    }
    if command is not None:
        answer["command"] = {
            "node": command.node,
            "argv": list(command.argv),
            "status": command.status,
            "stdout": command.stdout,
            "stderr": command.stderr,
            "ms": _ms(command.ended_ns, command.began_ns),
        }
    return answer


def _ms(at_ns: int, zero_ns: int) -> float:
    return round((at_ns - zero_ns) / _MS, 6)


def _telling(telling: Telling, zero_ns: int) -> dict[str, Any]:
    made: dict[str, Any] = {
        "number": telling.number,
        "kind": telling.kind,
        "protocol": telling.protocol,
        "title": telling.title,
        "began_ms": _ms(telling.began_ns, zero_ns),
        "ended_ms": _ms(telling.ended_ns, zero_ns),
        "round_trip_ms": None if telling.round_trip_ns is None else _ms(telling.round_trip_ns, 0),
        "inside": telling.inside,
        "points": [
            {
                "text": point.text,
                "at_ms": None if point.at_ns is None else _ms(point.at_ns, zero_ns),
                "frames": list(point.frames),
            }
            for point in telling.points
        ],
        "ways": [_way(way) for way in telling.ways],
        "unusual": [_remark(remark) for remark in telling.remarks],
        "facts": telling.facts,
        "parts": [_telling(part, zero_ns) for part in telling.parts],
    }
    if telling.exchange is not None:
        made["journeys"] = [_journey(journey) for journey in telling.exchange.journeys]
    return made


def _journey(journey: Journey) -> dict[str, Any]:
    return {
        "says": told(journey.first),
        "frames": [frame.number for frame in journey.sightings],
        "interfaces": list(journey.way),
    }


def _way(way: Way) -> dict[str, Any]:
    return {
        "from": way.sender,
        "to": way.receiver,
        "interfaces": list(way.interfaces),
        "frames": list(way.frames),
        "packets": way.packets,
        "flooded": way.flooded,
        "changes": [_rewrite(rewrite) for rewrite in way.rewrites],
    }


def _rewrite(rewrite: Rewrite) -> dict[str, Any]:
    return {
        "node": rewrite.node,
        "frames": [rewrite.entering, rewrite.leaving],
        "translated": rewrite.translated,
        "witness": rewrite.witness,
        "fields": [
            {"field": change.field, "before": change.before, "after": change.after} for change in rewrite.changes
        ],
    }


def _remark(remark: Remark) -> dict[str, Any]:
    return {"kind": remark.kind, "text": remark.text, "frames": list(remark.frames)}
