"""Walking a plan: each operation once, in order; when one fails, what was done is undone in reverse order."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Protocol

from emulator.errors import CommandFailed
from emulator.plan.ops import Operation, Plan


class Hands(Protocol):
    """What carries operations out. Several may be done together: `execute` may keep an operation until another one
    needs it, or until `flush`; these then raise what it did not. When one has raised, what was kept is forgotten.

    An operation that failed may be done in part. To take back what was not done changes nothing."""

    def execute(self, operation: Operation) -> None:
        """Do `operation`, now or later."""

    def flush(self) -> None:
        """Do everything that was kept."""


def apply(plan: Plan, hands: Hands, told: Callable[[Operation, int, int], None]) -> None:
    """Do every operation of `plan` with `hands`.

    Args:
        told: called before each operation with it, its number from 0, and how many there are.

    Raises:
        WirelabError: an operation failed, which it names with its node and the reason; all that was done before has
            been undone.
    """
    done: list[Operation] = []
    try:
        for number, operation in enumerate(plan.operations):
            told(operation, number, len(plan.operations))
            done.append(operation)
            _execute(operation, hands)
        hands.flush()
    except BaseException:
        roll_back(done, hands)
        raise


def _execute(operation: Operation, hands: Hands) -> None:
    try:
        hands.execute(operation)
    except OSError as error:  # hands that keep operations word it themselves, for it may be another one that failed
        raise CommandFailed(f"cannot {operation.describe()}: {error.strerror or error}") from error


def roll_back(done: list[Operation], hands: Hands) -> None:
    """Undo `done` in reverse; one that cannot be undone does not stop the others."""
    for operation in reversed(done):
        undo = operation.undo()
        if undo is not None:
            with contextlib.suppress(Exception):  # whatever it is, the first failure is told, and the rest is undone
                hands.execute(undo)
                hands.flush()
