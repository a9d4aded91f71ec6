"""What a lab asks for that its user has to agree to: to see this machine's files, as they really are, and capabilities
that may be power over the machine. Standard library only."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, NamedTuple

from emulator.errors import UsageError, one_line
from emulator.plan.containers import HARMLESS_CAPABILITIES
from emulator.run.view import Shared

if TYPE_CHECKING:
    from emulator.lab.resolved import Bind


class Wish(NamedTuple):
    """A file or folder that a node is to see: as the lab file names it, and as it resolves."""

    node: str
    bind: Bind
    shared: Shared
    is_folder: bool

    @property
    def text(self) -> str:
        """One line for a person; names are escaped, so that none can pretend to be another line."""
        written = os.path.abspath(self.bind.source)
        here = self.shared.path if self.shared.path == written else f"{self.shared.path} (written {self.bind.source})"
        kind = "folder" if self.is_folder else "file"
        way = "to read" if self.bind.read_only else "to read AND CHANGE"
        return one_line(f"{self.node} gets the {kind} {here} at {self.bind.target}, {way}")


Agreement = bool | Callable[[Sequence[str]], bool]
"""Whether the user agrees to what is asked for; a function is asked, with one line for each wish."""


def look(binds: Iterable[tuple[str, Bind]]) -> list[Wish]:
    """What nodes ask for, found on this machine.

    Raises:
        UsageError: it is not there, or is neither a file nor a folder.
    """
    wishes = []
    for node, bind in binds:
        try:
            path = os.path.realpath(bind.source, strict=True)
            info = os.lstat(path)
        except (OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or "not a path"
            raise UsageError(f"{node} cannot get {bind.source}: {reason}") from None
        if not stat.S_ISDIR(info.st_mode) and not stat.S_ISREG(info.st_mode):
            raise UsageError(f"{node} cannot get {bind.source}: it is neither a file nor a folder")
        shared = Shared(bind.source, path, info.st_dev, info.st_ino)
        wishes.append(Wish(node, bind, shared, stat.S_ISDIR(info.st_mode)))
    return wishes


def agree(binds: Iterable[tuple[str, Bind]], agreement: Agreement) -> list[Shared]:
    """What is shared, each once, if the user agrees to all of it.

    Raises:
        UsageError: the user does not, or something is not there.
    """
    wishes = look(binds)
    if not wishes:
        return []
    _require("files of this machine", [wish.text for wish in wishes], agreement, "--allow-binds")
    return list({wish.shared: None for wish in wishes})


def agree_to_capabilities(asked: Iterable[tuple[str, Iterable[str]]], agreement: Agreement) -> None:
    """See that the user agrees to what containers are to have beyond harmless capabilities.

    Args:
        asked: nodes with what the lab file asks for (`cap-add`).

    Raises:
        UsageError: the user does not.
    """
    lines = []
    for node, names in asked:
        if beyond := [name for name in dict.fromkeys(names) if name not in HARMLESS_CAPABILITIES]:
            lines.append(one_line(f"{node} gets {', '.join(beyond)}"))
    if lines:
        _require("capabilities that may be power over this machine", lines, agreement, "--allow-caps")


def _require(what: str, lines: Sequence[str], agreement: Agreement, option: str) -> None:
    if not (agreement(lines) if callable(agreement) else agreement):
        raise UsageError(
            f"the lab file asks for {what}, and you did not agree:",
            hint=f"{option}, if you trust it with them",
            listed=lines,
        )
