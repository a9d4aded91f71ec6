"""The verdict of one check, the report of all of them, and the proof that a report is."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from emulator.verify.matrix import Matrix


class Verdict(StrEnum):
    """PASS, FAIL, or UNKNOWN when evidence is missing or the check itself failed. UNKNOWN is not success."""

    PASS = "pass"  # noqa: S105  not a password
    FAIL = "fail"
    UNKNOWN = "unknown"


@dataclass(frozen=True)
class Result:
    """A check's verdict with its one-line reason and the numbers of the frames that show it."""

    name: str
    layer: str
    verdict: Verdict
    reason: str
    frames: tuple[int, ...] = ()


@dataclass(frozen=True)
class Report:
    """All verdicts of one verification."""

    lab: str
    results: tuple[Result, ...]
    seconds: float
    capture: str | None = None
    matrix: Matrix | None = None
    """Where the pairs of hosts were tested, which reach which."""

    def count(self, verdict: Verdict) -> int:
        """How many checks have `verdict`."""
        return sum(result.verdict is verdict for result in self.results)

    @property
    def success(self) -> bool:
        """Whether there are checks and every one passed."""
        return bool(self.results) and self.count(Verdict.PASS) == len(self.results)


@dataclass(frozen=True)
class Proof:
    """A verification: its report, and with a twin the checks that it is meant to break."""

    report: Report
    expected: tuple[str, ...] | None = None
    twin: str | None = None
    note: str | None = None
    """What a person should know of the machine and this lab."""

    @property
    def not_broken(self) -> list[str]:
        """Checks that the twin should have turned to FAIL and did not."""
        failed = {result.name for result in self.report.results if result.verdict is Verdict.FAIL}
        return sorted(set(self.expected or ()) - failed)

    @property
    def broken_too(self) -> list[str]:
        """Checks that do not pass though the twin does not name them."""
        others = {result.name for result in self.report.results if result.verdict is not Verdict.PASS}
        return sorted(others - set(self.expected or ()))

    @property
    def as_meant(self) -> bool:
        """Whether exactly the checks that the twin names fail, and all others pass."""
        return not self.not_broken and not self.broken_too
