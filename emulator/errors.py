"""Every error that a user can meet. Imports nothing of the project.

    WirelabError                 exit status 1
    ├── CommandFailed            1  a program in a node, or a stage of ours, did not do its work
    ├── UsageError               2  wrong arguments, or a lab that is (not) running
    ├── LabFileError             2  a wrong lab file: all its problems at once
    └── MachineError             3  the machine lacks something: a tool, a right, a kernel feature
        └── RightsLacking        3  this process lacks rights that another of the same user may get

Errors are raised low with facts and worded once, by `render`, at the door.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from typing import NamedTuple

EXIT_OK = 0
EXIT_FAILED = 1
EXIT_USAGE = 2
EXIT_MACHINE = 3


class WirelabError(Exception):
    """A failure with a message for a person, and what to do about it.

    Args:
        message: what is wrong, in one sentence, without a final full stop.
        hint: what to type or change next.
    """

    exit_status = EXIT_FAILED

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


class CommandFailed(WirelabError):  # noqa: N818 — it names an event, not a kind of mistake
    """A program or a step of a build failed."""


class UsageError(WirelabError):
    """The command line, or the moment, is wrong; `listed` are the single things that the message speaks of."""

    exit_status = EXIT_USAGE

    def __init__(self, message: str, *, hint: str | None = None, listed: Sequence[str] = ()) -> None:
        super().__init__(message, hint=hint)
        self.listed = tuple(listed)

    def __str__(self) -> str:
        return self.message + "".join(f"\n    {line}" for line in self.listed)


class MachineError(WirelabError):
    """This machine cannot do what was asked: a tool, a right or a kernel feature is missing."""

    exit_status = EXIT_MACHINE


class RightsLacking(MachineError):  # noqa: N818 — it names a state, not a kind of mistake
    """This process lacks capabilities; which ones are wanted beyond the usual ones is in `extra`."""

    def __init__(self, message: str, *, hint: str | None = None, extra: Sequence[str] = ()) -> None:
        super().__init__(message, hint=hint)
        self.extra = tuple(extra)


class Problem(NamedTuple):
    """One thing that is wrong in a lab file, and where: line and column count from 1."""

    file: str
    line: int
    column: int
    message: str
    hint: str | None = None

    def __str__(self) -> str:
        place = f"{self.file}:{self.line}:{self.column}" if self.line else self.file
        return one_line(f"{place}: {self.message}" + (f" ({self.hint})" if self.hint else ""))


class LabFileError(WirelabError):
    """A lab file is wrong; `problems` holds every place."""

    exit_status = EXIT_USAGE

    def __init__(self, problems: Sequence[Problem]) -> None:
        self.problems = tuple(sorted(set(problems), key=_by_place))
        super().__init__("\n".join(str(problem) for problem in self.problems))


def _by_place(problem: Problem) -> tuple[str, int, int, str, str]:
    return problem.file, problem.line, problem.column, problem.message, problem.hint or ""


def is_shown(character: str) -> bool:
    """Whether a terminal shows `character` as itself: no control, no change of direction; every kind of space is."""
    return character.isprintable() or unicodedata.category(character) == "Zs"


def printable(text: str) -> str:
    """`text` with control characters shown as escapes, so that no name or payload can drive a terminal."""
    if text.isprintable():
        return text
    return "".join(c if is_shown(c) or c in "\n\t" else c.encode("unicode_escape").decode("ascii") for c in text)


def one_line(text: str) -> str:
    """`text` as `printable` shows it, its line ends and tabs escaped too, so that no name can pretend to be a line."""
    return printable(text).replace("\n", "\\n").replace("\t", "\\t")


def render(error: WirelabError) -> str:
    """The text that a user sees for `error`."""
    if isinstance(error, LabFileError):
        count = len(error.problems)
        tail = f"{count} problem{'s' if count > 1 else ''}; nothing was built"
        return printable(f"{error.message}\n{tail}")
    # What a user types, or has in a file, makes no lines of its own; what a program says may have several.
    shown = one_line if isinstance(error, UsageError) else printable
    hint = f"\n  hint: {shown(error.hint)}" if error.hint else ""
    listed = "".join(f"\n    {one_line(line)}" for line in error.listed) if isinstance(error, UsageError) else ""
    return f"wirelab: {shown(error.message)}{listed}{hint}"


def counted(number: int, noun: str) -> str:
    """`1 frame`, `1,204 frames`."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"
