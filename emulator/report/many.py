"""The report of several labs: one table, what failed below it, and the totals."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from emulator.errors import EXIT_FAILED, EXIT_MACHINE, EXIT_OK, one_line
from emulator.report.json import as_dict
from emulator.report.text import check_lines, wrapped
from emulator.verify.verdict import Report, Verdict

_HEAD = ("LAB", "PASSED", "FAILED", "UNKNOWN", "SECONDS")
_ORDER = (Verdict.PASS, Verdict.FAIL, Verdict.UNKNOWN)
_RED = "31;1"


@dataclass(frozen=True)
class Outcome:
    """What became of one lab: its report, or why there is none.

    Attributes:
        lab: the lab's name.
        error: why it could not be verified, as a user sees it; may have several lines.
        status: the exit status that the verification of this lab alone would have had.
        seconds: how long it took where there is no report.
    """

    lab: str
    report: Report | None = None
    error: str = ""
    status: int = EXIT_OK
    seconds: float = 0.0

    @property
    def success(self) -> bool:
        """Whether the lab was verified and every check passed."""
        return self.report is not None and self.report.success


def count(outcomes: Sequence[Outcome], verdict: Verdict) -> int:
    """How many checks of all labs have `verdict`."""
    return sum(outcome.report.count(verdict) for outcome in outcomes if outcome.report)


def exit_status(outcomes: Sequence[Outcome]) -> int:
    """0 when every check of every lab passed, 3 when the machine lacks what a lab needs, else 1."""
    if outcomes and all(outcome.success for outcome in outcomes):
        return EXIT_OK
    lacking = any(outcome.report is None and outcome.status == EXIT_MACHINE for outcome in outcomes)
    return EXIT_MACHINE if lacking else EXIT_FAILED


def as_data(outcomes: Sequence[Outcome], seconds: float) -> dict[str, Any]:
    """All reports as plain data, each as `verify --json` prints it, and the totals.

    A lab that could not be verified has `error` and `status` beside an empty list of checks.

    Args:
        seconds: how long all of it took.
    """
    labs = []
    for outcome in outcomes:
        report = as_dict(outcome.report or Report(outcome.lab, (), outcome.seconds))
        if outcome.report is None:
            report |= {"error": outcome.error, "status": outcome.status}
        labs.append(report)
    total = {
        "labs": len(outcomes),
        **{verdict.value: count(outcomes, verdict) for verdict in _ORDER},
        "errors": sum(outcome.report is None for outcome in outcomes),
        "seconds": round(seconds, 3),
    }
    return {"labs": labs, "total": total}


def render(outcomes: Sequence[Outcome], seconds: float, *, width: int = 100, colour: bool = False) -> str:
    """A row for each lab, then what did not pass, with the reasons, then a line of totals.

    Args:
        seconds: how long all of it took.
        width: columns of the terminal.
        colour: paint what is wrong with ANSI colours.
    """
    lines = _table(outcomes, colour)
    for outcome in outcomes:
        if not outcome.success:
            lines += ["", _name(outcome), *_wrong(outcome, width, colour)]
    return "\n".join([*lines, "", summary(outcomes, seconds)]) + "\n"


def _wrong(outcome: Outcome, width: int, colour: bool) -> list[str]:
    """Why the lab was not verified, or its checks that did not pass."""
    if outcome.report is None:
        return [f"  {line}" for text in outcome.error.splitlines() for line in wrapped(text, width - 2)]
    bad = [result for result in outcome.report.results if result.verdict is not Verdict.PASS]
    names = max((len(result.name) for result in bad), default=0)
    return [line for result in bad for line in check_lines(result, names, width, colour)] or ["  no checks"]


def summary(outcomes: Sequence[Outcome], seconds: float) -> str:
    """`19 labs: 231 passed in 40.1 s`; with anything else, `…, 2 failed, 0 unknown, 1 lab not verified in 40.1 s`."""
    said = f"{_labs(len(outcomes))}: {count(outcomes, Verdict.PASS)} passed"
    if exit_status(outcomes) != EXIT_OK:
        said += f", {count(outcomes, Verdict.FAIL)} failed, {count(outcomes, Verdict.UNKNOWN)} unknown"
    lacking = sum(outcome.report is None for outcome in outcomes)
    if lacking:
        said += f", {_labs(lacking)} not verified"
    return f"{said} in {seconds:.1f} s"


def _labs(number: int) -> str:
    return f"{number} lab{'' if number == 1 else 's'}"


def _table(outcomes: Sequence[Outcome], colour: bool) -> list[str]:
    names = max([len(_HEAD[0]), *(len(_name(outcome)) for outcome in outcomes)])
    lines = [_row(_HEAD, names)]
    for outcome in outcomes:
        report = outcome.report
        counts = [str(report.count(verdict)) if report else "-" for verdict in _ORDER]
        row = _row((_name(outcome), *counts, f"{report.seconds if report else outcome.seconds:.1f}"), names)
        lines.append(_painted(row if report else f"{row}  not verified", colour and not outcome.success))
    return lines


def _name(outcome: Outcome) -> str:
    return one_line(outcome.lab)


def _row(cells: Sequence[str], names: int) -> str:
    first, *numbers = cells
    return "  ".join([f"{first:<{names}}", *(f"{cell:>{len(head)}}" for cell, head in zip(numbers, _HEAD[1:]))])


def _painted(line: str, bad: bool) -> str:
    return f"\x1b[{_RED}m{line}\x1b[0m" if bad else line
