"""Asking the user whether a lab may see the files of this machine that its file names."""

from __future__ import annotations

import argparse
import contextlib
import sys
import termios
from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from emulator.run.consent import Agreement


def agreement(options: argparse.Namespace) -> Agreement:
    """What the command line says about `binds`: yes with `--allow-binds`; else a question on a terminal, or no."""
    if options.allow_binds:
        return True
    return _ask if sys.stdin.isatty() and sys.stderr.isatty() else False


def _ask(wishes: Sequence[str]) -> bool:
    lines = "".join(f"\n    {wish}" for wish in wishes)
    with contextlib.suppress(termios.error):  # what was typed before the question is no answer to it
        termios.tcflush(sys.stdin.fileno(), termios.TCIFLUSH)
    sys.stderr.write(f"\r\x1b[KThe lab file asks for files of this machine:{lines}\nShare them? [y/N] ")
    sys.stderr.flush()
    return sys.stdin.readline().strip().lower() in ("y", "yes")
