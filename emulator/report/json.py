"""A report as JSON for a program."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from emulator.report import pairs
from emulator.verify.verdict import Report, Result, Verdict


def as_dict(report: Report) -> dict[str, Any]:
    """The report as plain data; `capture` is there when it is known where the packets are, and the
    keys of `pairs.as_dict` when pairs of hosts were tested."""
    data: dict[str, Any] = {
        "lab": report.lab,
        "checks": [
            {
                "name": result.name,
                "layer": result.layer,
                "verdict": result.verdict.value,
                "reason": result.reason,
                "frames": list(result.frames),
            }
            for result in report.results
        ],
        **{verdict.value: report.count(verdict) for verdict in Verdict},
        "seconds": round(report.seconds, 3),
    }
    if report.capture is not None:
        data["capture"] = report.capture
    if report.matrix is not None:
        data |= pairs.as_dict(report.matrix)
    return data


def from_dict(data: Mapping[str, Any]) -> Report:
    """The report that `as_dict` made plain data of.

    Raises:
        KeyError, ValueError: the data is no report.
    """
    results = (
        Result(check["name"], check["layer"], Verdict(check["verdict"]), check["reason"], tuple(check["frames"]))
        for check in data["checks"]
    )
    return Report(data["lab"], tuple(results), data["seconds"], data.get("capture"))


def render(report: Report) -> str:
    """The report as one JSON object, indented, with a final newline. Only ASCII, so any terminal and file takes it."""
    return json.dumps(as_dict(report), indent=2) + "\n"
