"""`wirelab doctor` and `wirelab completion`."""

from __future__ import annotations

import argparse
import contextlib
import json
import sys

from emulator.errors import EXIT_MACHINE, EXIT_OK, UsageError
from emulator.run import machine, runs, tools


def doctor(options: argparse.Namespace) -> int:
    """Show what this machine has and lacks; 0 when the shipped labs can run."""
    from emulator.plan.compile import compile_plan
    from emulator.sources import load_lab

    programs = {tool for folder in runs.sources() for tool in compile_plan(load_lab(folder)[0]).tools}
    findings = [*machine.examine(programs), *_neighbours()]
    ok = all(finding.ok for finding in findings)
    if options.json:
        fields = ("name", "ok", "text", "hint")
        rows = [{field: getattr(finding, field) for field in fields} for finding in findings]
        print(json.dumps({"ok": ok, "findings": rows}))
        return EXIT_OK if ok else EXIT_MACHINE
    for finding in findings:
        hint = f"  → {finding.hint}" if finding.hint and not finding.ok else ""
        print(f"{'ok     ' if finding.ok else 'MISSING'} {finding.name:<17} {finding.text}{hint}")
    lacking = tools.missing(programs)
    if lacking:
        print(f"\ninstall what is missing: {tools.package_hint(lacking)}")
    print("\nlabs can run" if ok else "\nlabs cannot run yet")
    return EXIT_OK if ok else EXIT_MACHINE


def _neighbours() -> list[machine.Finding]:
    """How many hosts can talk with one another, where the machine says; and running labs that may need more."""
    from emulator import controller
    from emulator.commands.up import warn
    from emulator.reach.capacity import hosts_that_fit, room, setting

    for name in runs.names():
        with contextlib.suppress(UsageError):  # it has ended meanwhile
            warn(controller.attach(name).lab)
    limit = room(4)
    if limit is None:
        return []
    text = (
        f"{limit:,} neighbour entries for all labs together ({setting(4)}): {hosts_that_fit(limit)} hosts on one switch"
    )
    return [machine.Finding("neighbours", True, f"{text} can all talk with one another")]


def completion(options: argparse.Namespace) -> int:
    """Print what a shell needs to complete wirelab's arguments."""
    import argcomplete

    sys.stdout.write(argcomplete.shellcode(["wirelab"], shell=options.shell))
    return EXIT_OK
