"""A report as a table for a person: one line a check, by layer."""

from __future__ import annotations

import textwrap
from itertools import groupby

from emulator.errors import printable
from emulator.report import pairs
from emulator.verify.verdict import Report, Result, Verdict

_COLOURS = {Verdict.PASS: "32", Verdict.FAIL: "31;1", Verdict.UNKNOWN: "33;1"}
_WORD_CHARACTERS = max(len(verdict) for verdict in Verdict)
_LEAST_REASON_CHARACTERS = 24


def render(report: Report, *, width: int = 100, colour: bool = False) -> str:
    """The report as lines of at most `width` characters where words allow it, with a final newline.

    Args:
        report: the verdicts.
        width: columns of the terminal.
        colour: paint the verdicts with ANSI colours.
    """
    names = max((len(result.name) for result in report.results), default=0)
    lines: list[str] = []
    for layer, results in groupby(report.results, key=lambda result: result.layer):
        lines += [
            printable(layer),
            *(line for result in results for line in check_lines(result, names, width, colour)),
            "",
        ]
    if report.matrix:
        lines.append(pairs.render(report.matrix, width=width).removesuffix("\n"))
    if report.capture:
        lines.append(f"packets: {printable(report.capture)}")
    return "\n".join([*lines, summary(report)]) + "\n"


def summary(report: Report) -> str:
    """`31 passed in 3.2 s`; with anything else, `29 passed, 2 failed, 0 unknown in 3.2 s`."""
    count = f"{report.count(Verdict.PASS)} passed"
    if not report.success:
        count += f", {report.count(Verdict.FAIL)} failed, {report.count(Verdict.UNKNOWN)} unknown"
    return f"{count} in {report.seconds:.1f} s"


def wrapped(text: str, room: int) -> list[str]:
    """`text` as one or more lines of at most `room` characters, and of 24 where there is less room."""
    shown = " ".join(printable(text).split())
    return textwrap.wrap(shown, max(room, _LEAST_REASON_CHARACTERS), break_on_hyphens=False) or [""]


def check_lines(result: Result, names: int, width: int, colour: bool) -> list[str]:
    """A check's line, wrapped so that the reason stays in its column; `names` is the width of the names' column."""
    head = f"  {result.verdict.upper():<{_WORD_CHARACTERS}}  {printable(result.name):<{names}}  "
    indent = " " * len(head)
    first, *rest = wrapped(result.reason, width - len(head))
    if colour:
        word = result.verdict.upper()
        head = head.replace(word, f"\x1b[{_COLOURS[result.verdict]}m{word}\x1b[0m", 1)
    return [(head + first).rstrip(), *(indent + line for line in rest)]
