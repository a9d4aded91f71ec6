"""The process that builds a lab, seen from the one that asked for it."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sys
from collections.abc import Callable
from typing import Any

from emulator.errors import CommandFailed, MachineError
from emulator.plan.ops import Plan, to_row
from emulator.run import builder
from emulator.run.starting import Start


class Building:
    """A builder at work on a plan.

    A process that has one thread is simply forked: all that is needed is there. Another one starts an interpreter
    anew, since what its other threads hold would be held for ever in a copy of it.

    A context manager: at the end the builder has ended too, by force when something went wrong.
    """

    def __init__(self, start: Start, plan: Plan, engine_socket: str | None = None) -> None:
        reading, writing = os.pipe2(os.O_CLOEXEC)
        self._words = open(reading, encoding="utf-8")  # noqa: SIM115 - `__exit__` closes it
        try:
            alone = len(os.listdir("/proc/self/task")) == 1
            made = _fork if alone else _spawn
            self._pid = made(start, plan, writing, engine_socket)
        except BaseException:
            self._words.close()
            raise
        finally:
            os.close(writing)

    def __enter__(self) -> Building:
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        if kind is not None:
            self.kill()
        else:
            self._end()
        self._words.close()

    def wait(self, told: Callable[[dict[str, Any]], None]) -> None:
        """Wait until the lab is built. The builder's own end, which takes a while, is not waited for.

        Args:
            told: called with what the builder says about its progress.

        Raises:
            MachineError, CommandFailed: it could not be built; what was done has been undone.
        """
        answer: dict[str, Any] = {}
        for line in self._words:
            answer = json.loads(line)
            if answer.get("ok"):
                return
            if "done" in answer:
                told(answer)
        code = os.waitstatus_to_exitcode(self._end())
        kind = MachineError if answer.get("machine") else CommandFailed
        raise kind(answer.get("error", f"the builder ended with status {code}"), hint=answer.get("hint"))

    def _end(self) -> int:
        """Wait for the builder's end; its status as waitpid(2) gives it."""
        _, status = os.waitpid(self._pid, 0)
        self._pid = 0
        return status

    def kill(self) -> None:
        """End it now; the lab's first process takes back what it did."""
        if self._pid:
            with contextlib.suppress(OSError):
                os.kill(self._pid, signal.SIGKILL)
                os.waitpid(self._pid, 0)
            self._pid = 0


def _fork(start: Start, plan: Plan, writing: int, engine_socket: str | None) -> int:
    parent = os.getpid()
    pid = os.fork()
    if pid:
        return pid
    status = 1
    try:
        start.forsake()
        os.setsid()
        for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGALRM):
            signal.signal(number, signal.SIG_DFL)
        status = builder.work(start.folder, plan, parent, writing, engine_socket)
    finally:
        os._exit(status)


def _spawn(start: Start, plan: Plan, writing: int, engine_socket: str | None) -> int:
    """An interpreter that has the packages of this one, and nothing to start with but the builder."""
    code = f"import sys; sys.path[:] = {sys.path!r}; from emulator.run.builder import main; sys.exit(main())"
    request = json.dumps({"lab": plan.lab, "operations": [to_row(operation) for operation in plan.operations]})
    descriptor = os.memfd_create("plan", os.MFD_CLOEXEC)
    try:
        with open(descriptor, "w", encoding="utf-8", closefd=False) as stream:
            stream.write(request)
        os.lseek(descriptor, 0, os.SEEK_SET)
        return os.posix_spawn(
            sys.executable,
            [sys.executable, "-I", "-S", "-c", code, str(start.folder), str(os.getpid()), engine_socket or ""],
            os.environ,
            file_actions=[(os.POSIX_SPAWN_DUP2, descriptor, 0), (os.POSIX_SPAWN_DUP2, writing, 1)],
            setsid=True,
        )
    finally:
        os.close(descriptor)
