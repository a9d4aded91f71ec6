"""Walking a plan: each operation once, in order; when one fails, what was done is undone in reverse order."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Protocol

from emulator.errors import WirelabError
from emulator.plan.ops import Operation, Plan


class Hands(Protocol):
    """What carries operations out. Several may be done together: `execute` may keep an operation until another one
    needs it, or until `flush`; these then raise what it did not. When one has raised, what was kept is forgotten."""

    def execute(self, operation: Operation) -> None:
        """Do `operation`, now or later."""

    def flush(self) -> None:
        """Do everything that was kept."""


def apply(plan: Plan, hands: Hands, told: Callable[[Operation, int, int], None]) -> None:
    """Do every operation of `plan` with `hands`.

    Args:
        told: called before each operation with it, its number from 0, and how many there are.

    Raises:
        WirelabError: an operation failed; all that was done before has been undone.
    """
    done: list[Operation] = []
    try:
        for number, operation in enumerate(plan.operations):
            told(operation, number, len(plan.operations))
            done.append(operation)
            hands.execute(operation)
        hands.flush()
    except BaseException:
        roll_back(done, hands)
        raise


def roll_back(done: list[Operation], hands: Hands) -> None:
    """Undo `done` in reverse; one that cannot be undone does not stop the others."""
    for operation in reversed(done):
        undo = operation.undo()
        if undo is not None:
            with contextlib.suppress(WirelabError, OSError, KeyError):
                hands.execute(undo)
                hands.flush()
