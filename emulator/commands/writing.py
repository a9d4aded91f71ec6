"""Files that a command writes beside what it prints."""

from __future__ import annotations

import os
from pathlib import Path

from emulator.errors import CommandFailed, UsageError


def check_writable(file: str | None) -> None:
    """Make sure, before anything is done, that a file can be written at the end.

    Raises:
        UsageError: it cannot.
    """
    if file is None:
        return
    path = Path(file)
    if not file or path.is_dir():
        raise UsageError(f"cannot write '{file}': it is no file", hint="name a file")
    place = path if path.exists() else path.parent
    if not os.access(place, os.W_OK):
        why = "Permission denied" if place.exists() else f"there is no folder {place}"
        raise UsageError(f"cannot write {file}: {why}")


def write(file: str, text: str) -> None:
    """Write what a person asked for beside what is printed.

    Raises:
        CommandFailed: it cannot be written.
    """
    try:
        Path(file).write_text(text, encoding="utf-8")
    except OSError as error:
        raise CommandFailed(f"cannot write {file}: {error.strerror}") from None
