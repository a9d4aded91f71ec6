"""`wirelab fault`: break a running lab on purpose, see what is broken, heal it."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING

from emulator.errors import EXIT_FAILED, EXIT_OK, UsageError, counted, printable
from emulator.run import fault_file, runs

if TYPE_CHECKING:
    from emulator.run.faults import Faults

_DONE = {
    "unplug": "{}: the cable is pulled",
    "plug": "{}: the cable is plugged in",
    "freeze": "{} is frozen",
    "continue": "{} goes on",
    "kill": "{} is killed",
    "restart": "{} runs again",
}
_WHAT = {"unplug": "NODE:IFACE", "plug": "NODE:IFACE", "freeze": "NODE", "continue": "NODE"}


def fault(options: argparse.Namespace) -> int:
    """Do a fault, take one back, or list them."""
    folder = runs.directory(options.lab)
    status = EXIT_OK
    if options.action is not None:
        status = _act(options)
    found = fault_file.read(folder)
    if options.json:
        print(json.dumps({"lab": folder.name, "faults": [entry.as_json() for entry in found]}))
    elif options.action is None:
        for entry in found:
            print(printable(entry.describe()))
        if not found:
            print(f"{folder.name} has no faults", file=sys.stderr)
    return status


def _act(options: argparse.Namespace) -> int:
    from emulator import controller

    action, what = options.action, options.what
    _check(action, what)
    lab = controller.attach(options.lab)
    say: Callable[[str], None] = (lambda _: None) if options.json else (lambda text: print(printable(text)))
    try:
        late = _do(lab.faults, action, what, say)
    finally:
        lab.close()
    for text in late:
        print(printable(f"wirelab: {text}"), file=sys.stderr)
    return EXIT_FAILED if late else EXIT_OK


def _check(action: str, what: list[str]) -> None:
    if action == "heal" and what:
        raise UsageError("heal takes back all faults", hint="wirelab fault LAB heal")
    if action != "heal" and not what:
        words = "NODE,NODE…" if action == "partition" else f"{_WHAT.get(action, 'NODE or NODE:SERVICE')}…"
        raise UsageError(f"{action} what?", hint=f"wirelab fault LAB {action} {words}")


def _do(faults: Faults, action: str, what: list[str], say: Callable[[str], None]) -> list[str]:
    """Do it; returns what does not answer afterwards."""
    if action == "heal":
        found = faults.now()
        dead = set(faults.failed()) - {fault.target for fault in found}
        late = faults.heal()
        done = [
            f"{counted(len(found), 'fault')} taken back" if found else "",
            f"{counted(len(dead), 'service')} started again" if dead else "",
        ]
        say(f"healed: {', '.join(filter(None, done))}" if any(done) else "nothing was broken")
        return late
    if action == "partition":
        faults.partition([[node for node in group.split(",") if node] for group in what])
        say(faults.now()[-1].describe())
        return []
    late = []
    faults.check(action, what)
    for target in what:
        method = getattr(faults, "continue_" if action == "continue" else action)
        late += method(target) or []
        text = "{} is off" if action == "kill" and ":" not in target else _DONE[action]
        say(text.format(target))
    return late
