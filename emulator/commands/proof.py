"""`wirelab verify`: what runs is proved, and what was kept is judged again."""

from __future__ import annotations

import argparse
import json
import shutil
import sys
from typing import TYPE_CHECKING, Any

from emulator.commands.writing import check_writable, write
from emulator.errors import UsageError, one_line, printable

if TYPE_CHECKING:
    from emulator.verify.verdict import Proof


def verify(options: argparse.Namespace) -> int:
    """Prove a lab: a running one, or an instance of its own that is taken down afterwards. Or prove several labs, or
    judge again what was kept."""
    check_writable(options.junit)
    if options.replay is not None:
        return _replay(options)
    _check_pairs(options)
    if options.all or len(options.lab) != 1:
        from emulator.commands import many

        return many.verify(options)
    from emulator import controller
    from emulator.commands.consent import agreements
    from emulator.commands.progress import progress

    with progress() as bus:
        proof = controller.verify(
            options.lab[0],
            twin=options.twin,
            bus=bus,
            capture=options.write,
            keep=options.keep,
            pairs=options.pairs,
            version=options.ip,
            backend=options.backend,
            **agreements(options),
        )
    return show(options, proof)


def _replay(options: argparse.Namespace) -> int:
    """Judge again what is kept in a folder, of one lab or of several."""
    given = {
        "LAB": options.lab, "--all": options.all, "--break": options.twin, "-w": options.write, "--keep": options.keep,
        "--pairs": options.pairs, "--ip": options.ip,
    }  # fmt: skip
    for name, value in given.items():
        if value:
            raise UsageError(
                f"`--replay` judges what was kept: {name} does not go with it", hint="wirelab verify --replay DIR"
            )
    from emulator import kept

    labs = kept.labs_of(options.replay)
    if labs is not None:
        from emulator.commands import many

        return many.replay(options, labs)
    return show(options, kept.replay(options.replay, note=note))


def note(text: str) -> None:
    """Say something beside the verdicts."""
    print(one_line(f"wirelab: {text}"), file=sys.stderr)


def show(options: argparse.Namespace, proof: Proof) -> int:
    """Print a proof as the command line asks for it; returns the exit status."""
    from emulator.report.json import as_dict
    from emulator.report.junit import render as as_junit
    from emulator.report.text import render as as_text

    if proof.note:
        print(printable(f"wirelab: {proof.note}"), file=sys.stderr)
    if options.json:
        answer: dict[str, Any] = as_dict(proof.report)
        if proof.twin is not None:
            answer["break"] = {"twin": proof.twin, "expected": list(proof.expected or ()), "as_meant": proof.as_meant}
        print(json.dumps(answer, indent=2))
    else:
        width = shutil.get_terminal_size((120, 24)).columns if sys.stdout.isatty() else 120
        sys.stdout.write(as_text(proof.report, width=width, colour=sys.stdout.isatty()))
        if proof.twin is not None:
            print(_twin_line(proof.twin, proof))
    if options.junit:
        write(options.junit, as_junit(proof.report))
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
    if options.keep:
        raise UsageError("`--pairs` has no evidence to keep", hint="wirelab verify LAB --pairs --json")


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
