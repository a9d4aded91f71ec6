"""A list of problems that grows while a lab is checked, each at its place in the document."""

from __future__ import annotations

from dataclasses import dataclass, field

from emulator.errors import LabFileError, Problem
from emulator.lab.document import Document, Path


@dataclass
class Problems:
    """Collects problems; `stop` raises them all together."""

    document: Document
    found: list[Problem] = field(default_factory=list)

    def add(self, path: Path, message: str, hint: str | None = None, *, key: bool = False) -> None:
        """Note that what stands at `path` is wrong."""
        self.found.append(self.document.problem(path, message, hint, key=key))

    def stop(self) -> None:
        """Raise LabFileError when anything was noted."""
        if self.found:
            raise LabFileError(self.found)
