"""`wirelab verify`: what runs is proved."""

from __future__ import annotations

import argparse
import json
import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from emulator.errors import UsageError, printable

if TYPE_CHECKING:
    from emulator.controller import Proof


def verify(options: argparse.Namespace) -> int:
    """Prove a lab: a running one, or an instance of its own that is taken down afterwards. Or prove several labs."""
    _check_pairs(options)
    if options.all or len(options.lab) != 1:
        from emulator.commands import many

        return many.verify(options)
    from emulator import controller
    from emulator.commands.progress import progress
    from emulator.report.json import as_dict
    from emulator.report.junit import render as as_junit
    from emulator.report.text import render as as_text

    with progress() as bus:
        proof = controller.verify(
            options.lab[0],
            twin=options.twin,
            bus=bus,
            keep=options.write,
            pairs=options.pairs,
            version=options.ip,
            backend=options.backend,
            allow_binds=options.allow_binds,
        )
    if proof.note:
        print(printable(f"wirelab: {proof.note}"), file=sys.stderr)
    if options.junit:
        Path(options.junit).write_text(as_junit(proof.report), encoding="utf-8")
    if options.json:
        answer = as_dict(proof.report)
        if options.twin:
            answer["break"] = {"twin": options.twin, "expected": list(proof.expected or ()), "as_meant": proof.as_meant}
        print(json.dumps(answer, indent=2))
    else:
        width = shutil.get_terminal_size((120, 24)).columns if sys.stdout.isatty() else 120
        sys.stdout.write(as_text(proof.report, width=width, colour=sys.stdout.isatty()))
        if proof.expected is not None:
            print(_twin_line(options.twin, proof))
    return 0 if proof.report.success else 1


def _check_pairs(options: argparse.Namespace) -> None:
    if not options.pairs:
        if options.ip:
            raise UsageError("`--ip` goes with `--pairs`", hint=f"wirelab verify LAB --pairs --ip {options.ip}")
        return
    if options.all or len(options.lab) > 1:
        raise UsageError("`--pairs` tests one lab, not several", hint="wirelab verify LAB --pairs")
    if options.twin:
        raise UsageError("`--pairs` does not go with `--break`, which is about checks")
    if options.write:
        raise UsageError("`--pairs` records no packets", hint="wirelab capture LAB -w FILE")


def _twin_line(twin: str, proof: Proof) -> str:
    """Whether the twin broke what it is meant to break."""
    missing, extra = ", ".join(proof.not_broken), ", ".join(proof.broken_too)
    if proof.as_meant:
        return f"broken by {twin}: exactly the checks that it is meant to break fail"
    parts = [
        f"should fail but do not: {missing}" if missing else "",
        f"fail or unknown unexpectedly: {extra}" if extra else "",
    ]
    return f"broken by {twin}: " + "; ".join(part for part in parts if part)
