"""A list of problems that grows while a lab is checked, each at its place in the document."""

from __future__ import annotations

import difflib
from collections.abc import Collection
from dataclasses import dataclass, field

from emulator.errors import LabFileError, Problem
from emulator.lab.document import Document, Path

MAX_PROBLEMS = 100
"""A file with more problems than this is not looked at any further: it takes time, and nobody reads them all."""

_NOTED_MAX = 10 * MAX_PROBLEMS
"""Nor one in which the same ones come up again and again: a range repeats what is wrong with it."""

_FEW = 12
_MANY = 500


@dataclass
class Problems:
    """Collects problems; `stop` raises them all together."""

    document: Document
    found: list[Problem] = field(default_factory=list)
    noted: int = 0

    def add(self, path: Path, message: str, hint: str | None = None, *, key: bool = False, offset: int = 0) -> None:
        """Note that what stands at `path` is wrong; see `Document.problem`."""
        self.note(self.document.problem(path, message, hint, key=key, offset=offset))

    def note(self, problem: Problem) -> None:
        """Note `problem`, once."""
        if problem not in self.found:
            self.found.append(problem)
        self.noted += 1
        if len(self.found) >= MAX_PROBLEMS or self.noted >= _NOTED_MAX:
            self.stop()

    def stop(self) -> None:
        """Raise LabFileError when anything was noted."""
        if self.found:
            raise LabFileError(self.found)


def near(word: str, known: Collection[str]) -> str | None:
    """A hint with the known word nearest to `word`, or the known words when they are few."""
    candidates = known if len(known) <= _MANY else [other for other in known if other[:1] == word[:1]][:_MANY]
    close = difflib.get_close_matches(word[:100], candidates, n=1, cutoff=0.6)
    if close:
        return f"did you mean '{close[0]}'?"
    return f"known: {', '.join(dict.fromkeys(known))}" if 0 < len(known) <= _FEW else None
