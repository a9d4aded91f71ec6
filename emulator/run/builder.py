"""The process that builds a lab: python -m emulator.run.builder DIRECTORY, the plan as JSON on standard input.

It enters the namespaces of the lab's first process for good, so it is a process of its own. It reports on standard
output, one JSON object a line: `{"done": n, "total": n, "text": …}` for progress, then `{"ok": true}` or
`{"error": …}`.
"""

from __future__ import annotations

import gc
import json
import os
import resource
import signal
import sys
import time
from pathlib import Path

from emulator.errors import MachineError, WirelabError
from emulator.plan.ops import Operation, Plan, from_row
from emulator.run import kernel
from emulator.run.apply import apply
from emulator.run.backends.netns import NetnsHands
from emulator.run.control import Control, enter_lab

_EVENT_EVERY_S = 0.02


def main() -> int:
    """Build the lab; returns the exit status."""
    directory = Path(sys.argv[1])
    parent = os.getppid()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    gc.disable()  # much is made here, and nothing in circles
    request = json.load(sys.stdin)
    plan = Plan(request["lab"], tuple(from_row(row) for row in request["operations"]), ())
    try:
        with Control(directory) as control:
            spaces = control.own_spaces()
            enter_lab(spaces)
            kernel.die_with_parent(signal.SIGKILL)
            if os.getppid() != parent and os.getppid() != 0:
                return 1
            _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
            resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
            kernel.unshare(kernel.CLONE_NEWNS)  # ours: it may mount /proc, and nobody sees it
            hands = NetnsHands(control, directory, Path(f"/proc/self/fd/{spaces['private']}"))
            apply(plan, hands, _Progress(hands).tell)
    except WirelabError as error:
        _say({"error": error.message, "hint": error.hint, "machine": isinstance(error, MachineError)})
        return error.exit_status
    except OSError as error:
        _say({"error": f"cannot build the lab: {error.strerror or error}", "hint": None, "machine": False})
        return 1
    except Exception as error:  # a boundary: what is wrong here is told in one line, and the lab is taken back
        _say({"error": f"the builder failed: {type(error).__name__}: {error}", "hint": None, "machine": False})
        return 1
    _say({"ok": True})
    return 0


class _Progress:
    """Tells about operations, but not more often than a person can see. What the hands have taken and kept for later is
    not done yet."""

    def __init__(self, hands: NetnsHands) -> None:
        self._next = 0.0
        self._taken = self._total = 0
        self._hands = hands
        hands.moved = self._say

    def tell(self, operation: Operation, number: int, total: int) -> None:
        self._taken, self._total = number, total
        self._say(operation)

    def _say(self, operation: Operation) -> None:
        now = time.monotonic()
        if now >= self._next:
            self._next = now + _EVENT_EVERY_S
            done = max(0, self._taken - self._hands.kept)
            _say({"done": done, "total": self._total, "text": operation.describe()})


def _say(message: dict[str, object]) -> None:
    sys.stdout.write(json.dumps(message) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
