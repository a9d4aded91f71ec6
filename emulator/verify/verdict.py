"""The verdict of one check, and the report of all of them."""

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
