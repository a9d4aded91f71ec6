"""The faults of a running lab, as its run directory remembers them. Standard library only.

A fault is written down before it is done, and crossed out after it is undone. So whoever is killed in between leaves a
fault that is on the list, and taking back what is on the list undoes it.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from emulator.errors import CommandFailed
from emulator.run.running import FAULTS

Kind = Literal["unplug", "freeze", "kill", "partition"]

_STATES = {"freeze": "frozen", "kill": "off"}


@dataclass(frozen=True)
class Fault:
    """One fault: `target` is `node:interface` (unplug), a node (freeze, kill) or `node:service` (kill); a partition has
    `groups` instead."""

    kind: Kind
    target: str = ""
    groups: tuple[tuple[str, ...], ...] = ()

    def describe(self) -> str:
        """The state that it is, in words."""
        if self.kind == "partition":
            rest = " | the others" if len(self.groups) == 1 else ""
            return "partition: " + " | ".join(", ".join(group) for group in self.groups) + rest
        if self.kind == "unplug":
            return f"{self.target}: the cable is pulled"
        if self.kind == "freeze":
            return f"{self.target} is frozen"
        return f"{self.target} is {'killed' if ':' in self.target else 'off'}"

    def as_json(self) -> dict[str, Any]:
        """What `--json` shows."""
        return {key: value for key, value in asdict(self).items() if value} | {"text": self.describe()}


def read(directory: str | os.PathLike[str]) -> tuple[Fault, ...]:
    """The faults of the lab in `directory`, the oldest first.

    Raises:
        CommandFailed: the list is there, but cannot be read. (Taken for empty it would be written anew, and nobody knew
            what to undo.)
    """
    try:
        entries = json.loads(Path(directory, FAULTS).read_text(encoding="utf-8"))
        return tuple(
            Fault(entry["kind"], entry["target"], tuple(tuple(group) for group in entry["groups"])) for entry in entries
        )
    except FileNotFoundError:
        return ()
    except (OSError, ValueError, KeyError, TypeError) as error:
        why = error.strerror if isinstance(error, OSError) else "it is garbled"
        lab = os.path.basename(directory)
        raise CommandFailed(f"cannot read which faults the lab {lab} has: {why}", hint=f"wirelab down {lab}") from None


def states(faults: Iterable[Fault]) -> dict[str, str]:
    """The nodes that do not run: name → `frozen` or `off`."""
    return {fault.target: _STATES[fault.kind] for fault in faults if fault.kind in _STATES and ":" not in fault.target}


def check_runs(directory: str | os.PathLike[str], node: str) -> None:
    """Refuse to start anything on a node that is frozen or off.

    Raises:
        CommandFailed: it is.
    """
    state = states(read(directory)).get(node)
    if state:
        word = "continue" if state == "frozen" else "restart"
        hint = f"wirelab fault {os.path.basename(directory)} {word} {node}"
        raise CommandFailed(f"{node} is {state}: nothing runs there", hint=hint)


class Ledger:
    """The list, open for one change of the lab at a time: who comes second waits."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    @contextlib.contextmanager
    def held(self) -> Iterator[None]:
        """Nobody else changes anything until the end."""
        descriptor = os.open(self._directory / "faults.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
        finally:
            os.close(descriptor)

    def read(self) -> tuple[Fault, ...]:
        """The faults by now."""
        return read(self._directory)

    def add(self, fault: Fault) -> bool:
        """Write a fault down. Returns whether it was not on the list already."""
        if fault in (known := self.read()):
            return False
        self._write([*known, fault])
        return True

    def remove(self, *faults: Fault) -> None:
        """Cross faults out."""
        self._write([fault for fault in self.read() if fault not in faults])

    def _write(self, faults: Sequence[Fault]) -> None:
        fresh = self._directory / f"{FAULTS}.new"
        fresh.write_text(json.dumps([asdict(fault) for fault in faults]), encoding="utf-8")
        fresh.replace(self._directory / FAULTS)
