"""Asking the user whether a lab may have what its file asks for: files of this machine, capabilities."""

from __future__ import annotations

import argparse
import contextlib
import sys
import termios
from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, TypedDict

if TYPE_CHECKING:
    from emulator.run.consent import Agreement


class Agreements(TypedDict):
    """As `emulator.up` takes them."""

    allow_binds: Agreement
    allow_caps: Agreement


_BINDS = "files of this machine", "Share them?"
_CAPS = "capabilities that may be power over this machine", "Give them?"


def agreements(options: argparse.Namespace) -> Agreements:
    """What the command line says about `binds` and `cap-add`: yes with `--allow-binds` and
    `--allow-caps`; else a question on a terminal, or no."""
    return {
        "allow_binds": _agreement(options.allow_binds, *_BINDS),
        "allow_caps": _agreement(options.allow_caps, *_CAPS),
    }


def _agreement(given: bool, what: str, question: str) -> Agreement:
    if given:
        return True
    return partial(_ask, what, question) if sys.stdin.isatty() and sys.stderr.isatty() else False


def _ask(what: str, question: str, wishes: Sequence[str]) -> bool:
    lines = "".join(f"\n    {wish}" for wish in wishes)
    with contextlib.suppress(termios.error):  # what was typed before the question is no answer to it
        termios.tcflush(sys.stdin.fileno(), termios.TCIFLUSH)
    sys.stderr.write(f"\r\x1b[KThe lab file asks for {what}:{lines}\n{question} [y/N] ")
    sys.stderr.flush()
    return sys.stdin.readline().strip().lower() in ("y", "yes")
