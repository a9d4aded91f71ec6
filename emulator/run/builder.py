"""What the process that builds a lab does. It enters the namespaces of the lab's first process for good.

It says what it does, one JSON object a line: `{"done": n, "total": n, "text": …}` for progress, then `{"ok": true}` or
`{"error": …}`. As a program: python -m emulator.run.builder DIRECTORY PARENT ENGINE_SOCKET, the plan as JSON on
standard input; the socket is empty for a lab without containers.
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import json
import os
import resource
import signal
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from emulator.errors import MachineError, WirelabError
from emulator.plan.ops import Operation, Plan, from_row
from emulator.run import kernel
from emulator.run.apply import apply
from emulator.run.backends.netns import NetnsHands
from emulator.run.control import Control, enter_lab

_EVENT_EVERY_S = 0.02

Say = Callable[[dict[str, Any]], None]
Make = Callable[[Control, Path, Path], NetnsHands]


def main() -> int:
    """Build the lab; returns the exit status."""
    request = json.load(sys.stdin)
    engine_socket = sys.argv[3] or None
    if engine_socket:
        importlib.import_module("emulator.plan.containers")  # brings the operation
    plan = Plan(request["lab"], tuple(from_row(row) for row in request["operations"]), ())
    return work(Path(sys.argv[1]), plan, int(sys.argv[2]), 1, engine_socket)


def work(
    directory: Path,
    plan: Plan,
    parent: int,
    writing: int,
    engine_socket: str | None = None,
    make: Make | None = None,
) -> int:
    """Build the lab of the run directory.

    Args:
        parent: the process that asked for it; without it there is nothing to do.
        writing: the descriptor to which is written how it goes.
        engine_socket: where the Docker Engine listens, for a lab with containers.
        make: makes the hands that do it; default: those that build a lab from nothing.

    Returns:
        The exit status.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    make = make or partial(_hands, engine_socket)
    if engine_socket:
        kernel.use_capabilities()  # a deputy's command, of which this is a fork, leaves its power over files unused
    gc.disable()  # much is made here, and nothing in circles

    def say(message: dict[str, Any]) -> None:
        with contextlib.suppress(BrokenPipeError):  # who asked was killed, and so is this process in a moment
            os.write(writing, f"{json.dumps(message)}\n".encode())

    try:
        with Control(directory) as control:
            spaces = control.own_spaces()
            enter_lab(spaces)
            kernel.die_with_parent(signal.SIGKILL)
            if os.getppid() not in (parent, 0):
                return 1
            _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
            resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
            private = Path(f"/proc/self/fd/{spaces['private']}")
            hands = make(control, directory, private)
            apply(plan, hands, _Progress(hands, say).tell)
            control.settle()
    except WirelabError as error:
        say({"error": error.message, "hint": error.hint, "machine": isinstance(error, MachineError)})
        return error.exit_status
    except OSError as error:
        say({"error": f"cannot build the lab: {error.strerror or error}", "hint": None, "machine": False})
        return 1
    except Exception as error:  # a boundary: what is wrong here is told in one line, and the lab is taken back
        say({"error": f"the builder failed: {type(error).__name__}: {error}", "hint": None, "machine": False})
        return 1
    say({"ok": True, **hands.result()})
    return 0


def _hands(engine_socket: str | None, control: Control, directory: Path, private: Path) -> NetnsHands:
    if engine_socket is None:
        return NetnsHands(control, directory, private)
    from emulator.run.backends.docker import DockerHands

    return DockerHands(control, directory, private, engine_socket, os.geteuid())


class _Progress:
    """Tells about operations, but not more often than a person can see. What the hands have taken and kept for later is
    not done yet."""

    def __init__(self, hands: NetnsHands, say: Say) -> None:
        self._next = 0.0
        self._say = say
        self._taken = self._total = 0
        self._hands = hands
        hands.moved = self._moved

    def tell(self, operation: Operation, number: int, total: int) -> None:
        self._taken, self._total = number, total
        self._moved(operation)

    def _moved(self, operation: Operation) -> None:
        now = time.monotonic()
        if now >= self._next:
            self._next = now + _EVENT_EVERY_S
            done = max(0, self._taken - self._hands.kept)
            self._say({"done": done, "total": self._total, "text": operation.describe()})


if __name__ == "__main__":
    sys.exit(main())
