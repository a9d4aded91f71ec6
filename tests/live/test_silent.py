"""A lab whose first process does not answer: `ps` says so, and `down` ends it all the same."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable

from tests.conftest import Person
from tests.live.conftest import processes

PATIENT = """
import sys
from emulator.commands import lifecycle
from emulator.run import runs
lifecycle.PATIENCE_S = runs._HEEDS_WITHIN_S = 0.3
from emulator.cli import main
sys.exit(main())
"""
"""The command line with less patience, so that the test is short."""


def test_a_first_process_that_is_stopped(person: Person, lab_name: str, nothing_left: Callable[[], None]) -> None:
    impatient = [person.python, "-c", PATIENT]
    person.wirelab("up", "ping", "--name", lab_name)
    assert f"\n{lab_name} " in person.run([*impatient, "ps"]).stdout, "the twin: one that answers is in time"
    init = max(processes(f"init.py {person.runs / lab_name} "))
    os.kill(init, signal.SIGSTOP)
    told = f"wirelab: the lab {lab_name} does not answer\n  hint: wirelab down {lab_name}\n"
    shown = person.run([*impatient, "ps"])
    assert (shown.returncode, told in shown.stderr) == (0, True), shown.stderr
    assert lab_name not in shown.stdout
    one = person.run([*impatient, "ps", lab_name])
    assert (one.returncode, one.stderr) == (1, told)
    down = person.run([*impatient, "down", lab_name])
    assert (down.returncode, down.stdout) == (0, f"{lab_name} is down\n"), down.stderr
    nothing_left()
