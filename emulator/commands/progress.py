"""Progress on standard error, and only on a terminal."""

from __future__ import annotations

import contextlib
import shutil
import sys
from collections.abc import Iterator

from emulator.errors import printable
from emulator.events import Bus, Event


@contextlib.contextmanager
def progress() -> Iterator[Bus]:
    """A bus whose events are shown in one line that is wiped at the end."""
    bus = Bus()
    if not sys.stderr.isatty():
        yield bus
        return
    bus.listen(_show)
    try:
        yield bus
    finally:
        sys.stderr.write("\r\x1b[K")
        sys.stderr.flush()


def _show(event: Event) -> None:
    width = shutil.get_terminal_size().columns
    share = f"{event.done}/{event.total} " if event.total else ""
    line = printable(f"{event.stage}: {share}{event.text}")[: max(10, width - 1)]
    sys.stderr.write(f"\r\x1b[K{line}")
    sys.stderr.flush()
