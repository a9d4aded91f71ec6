"""How a lab begins: its first process is started. Standard library only, and little of it: `up` does this first of all,
so that the lab's namespaces are made while it imports the rest. What is wanted later is imported then.
"""

from __future__ import annotations

import contextlib
import errno
import os
import sys
import time

from emulator.errors import CommandFailed, MachineError, UsageError
from emulator.names import LAB_NAME
from emulator.run import running

TYPE_CHECKING = False  # the module `typing` costs milliseconds
if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path
    from typing import Any

    from emulator.run import view

_END_WITHIN_S = 10.0


class Start:
    """A lab that is being started: its first process runs, and ends with `close` unless `commit` was said. As a context
    manager it is closed by what goes wrong.

    `engine_socket` is where the Docker Engine listens, for a lab with containers. `shared` is what the user agreed to
    share with the lab's nodes.
    """

    def __init__(self, name: str, engine_socket: str | None = None, shared: Sequence[view.Shared] = ()) -> None:
        base = running.base()
        if not LAB_NAME.fullmatch(name):
            raise UsageError(f"'{name}' cannot be the name of a lab", hint="letters, digits, and inner . _ -")
        self.name = name
        self.began = time.time()
        parts = [part for part in f"{base}/{name}".split("/") if part not in ("", ".")]
        self._place = f"/{'/'.join(parts)}"  # as `pathlib` would write it, whose import takes longer than this
        if os.path.lexists(self._place):
            self._tidy()
            if os.path.exists(self._place):
                raise UsageError(f"the lab {name} is running already", hint=f"wirelab down {name}, or up --name OTHER")
        lifeline, self._lifeline = os.pipe2(os.O_CLOEXEC)
        self._ready, ready_write = os.pipe2(os.O_CLOEXEC)
        program = os.path.join(os.path.dirname(os.path.abspath(__file__)), "init.py")
        # Not as an argument: those of a process are shown to all users of the machine.
        told = {"WIRELAB_SHARED": _json(shared) if shared else "[]"}
        try:
            # Straight to the kernel: to import `subprocess` takes a third of the time that the new process needs.
            null = [(os.POSIX_SPAWN_OPEN, number, os.devnull, os.O_RDWR, 0) for number in (0, 1, 2)]
            handed = [(os.POSIX_SPAWN_DUP2, number, number) for number in (lifeline, ready_write)]
            argv = [sys.executable, "-I", "-S", program, self._place, name, str(lifeline), str(ready_write)]
            self._keeper = os.posix_spawn(
                sys.executable,
                [*argv, engine_socket or ""],
                {**os.environ, **told},
                file_actions=null + handed,
                setsid=True,
            )
        finally:
            os.close(lifeline)
            os.close(ready_write)

    def __enter__(self) -> Start:
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        if kind is not None:
            self.close()

    @property
    def folder(self) -> Path:
        """The lab's run directory."""
        from pathlib import Path

        return Path(self._place)

    def _tidy(self) -> None:
        """Remove the run directory if it is that of a lab that has ended."""
        from emulator.run.runs import tidy_one

        tidy_one(self.folder)

    def _tidy_others(self) -> None:
        """Remove what labs that were killed have left, as every command does that begins or ends labs."""
        base, own = os.path.split(self._place)
        with contextlib.suppress(OSError):
            if others := [name for name in os.listdir(base) if name != own]:
                from emulator.run.runs import tidy_one

                for name in others:
                    tidy_one(self.folder.parent / name)

    def wait_ready(self) -> None:
        """Wait until the namespaces are there.

        Raises:
            MachineError, UsageError: with the kernel's reason.
        """
        import json

        self._tidy_others()
        said = os.read(self._ready, 1 << 16)
        self._close_ready()
        answer: dict[str, Any] = json.loads(said) if said else {}
        if answer.get("ok"):
            return
        self.close()
        self._tidy()  # whoever has no open file to spare cannot remove a folder
        with contextlib.suppress(OSError):
            self.folder.parent.rmdir()
        if not answer:
            raise CommandFailed("the lab's first process was killed while it started", hint="wirelab doctor")
        if answer["error"] == "directory" and answer["errno"] in (17, 39):
            raise UsageError(f"the lab {self.name} is running already", hint=f"wirelab down {self.name}")
        no_room = answer["errno"] in (errno.ENOSPC, errno.EDQUOT) and "unshare" not in answer["text"]
        if answer["error"] == "directory" or no_room:  # else it is a limit of namespaces that gives ENOSPC
            raise CommandFailed(
                f"cannot make the run directory {self._place}: {os.strerror(answer['errno'])}",
                hint=f"make room in {self.folder.parent.parent}, or set XDG_RUNTIME_DIR to another folder of yours",
            )
        from emulator.run.machine import namespace_hint

        raise MachineError(f"cannot make namespaces: {answer['text']}", hint=namespace_hint(answer["errno"]))

    def forsake(self) -> None:
        """In a process forked from this one: it does not hold the lab."""
        os.close(self._lifeline)
        self._lifeline = -1

    def commit(self) -> None:
        """From now on the lab lives without this process."""
        from emulator.run.control import Control

        with Control(self._place) as link:
            link.ask("commit")
        self._close_lifeline()

    def _close_ready(self) -> None:
        if self._ready >= 0:
            os.close(self._ready)
            self._ready = -1

    def _close_lifeline(self) -> None:
        with contextlib.suppress(OSError):
            os.close(self._lifeline)
        self._lifeline = -1

    def close(self) -> None:
        """Take back everything, unless the lab was committed; returns when it is gone."""
        self._close_ready()
        if self._lifeline < 0:
            return
        self._close_lifeline()
        import select

        with contextlib.suppress(OSError):
            keeper = os.pidfd_open(self._keeper)
            try:
                watched = select.poll()
                watched.register(keeper, select.POLLIN)
                watched.poll(_END_WITHIN_S * 1000)
            finally:
                os.close(keeper)
            os.waitpid(self._keeper, os.WNOHANG)


def _json(value: object) -> str:
    import json

    return json.dumps(value)
