"""A process inside a lab that runs commands in its nodes, many at once. Run as a program, standard library only:

    python -I -S agent.py RUN_DIRECTORY

It takes one JSON object a line on standard input, `{"id", "node", "argv", "env", "stdin", "timeout_s", "cwd",
"unattended", "tools"}`, and gives one a line on standard output for each command that ended, `{"id", "status",
"stdout", "stderr", "began_ns", "ended_ns"}` or `{"id", "error", "errno"}`. `{"stop": id}` asks a command to end
(SIGTERM, and SIGKILL when it does not). When standard input ends, it kills what still runs, but for unattended
commands, and ends. With `tools` a command is one of this machine's own, also where the node is a container.
Octets that are not UTF-8 travel as lone surrogates (PEP 383).
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sys
from pathlib import Path
from typing import Any

if __name__ == "__main__":
    sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))))

from emulator.errors import WirelabError
from emulator.run import execute, spawn
from emulator.run.control import Control, enter_lab

GRACE_S = 2.0
"""How long a command that is asked to end may take."""

AT_ONCE = 128
"""Commands that run at the same time; the others wait their turn."""


class Agent:
    """Takes jobs from one stream, and answers on another, in the order in which they end."""

    def __init__(self, control: Control, jobs: int) -> None:
        self._control = control
        self._jobs = jobs
        self._spaces: dict[str, spawn.Spaces] = {}
        self._tools: dict[str, spawn.Spaces] = {}
        self._epoch = 0
        self._crowd = execute.Crowd()
        self._ids: dict[execute.Running, Any] = {}
        self._waiting: list[dict[str, Any]] = []
        self._buffer = b""
        self._open = True
        self._open_files = spawn.allow_many_files()
        self._crowd.watch(jobs)

    def run(self) -> None:
        """Serve until the jobs end, or nobody listens to the answers any more."""
        while self._open:
            room = AT_ONCE - len(self._ids)
            now, self._waiting = self._waiting[:room], self._waiting[room:]
            self._start(now)
            for running, finished in self._crowd.wait():
                self._answer(self._ids.pop(running), finished)
            if self._crowd.readable:
                self._read()
        for running in list(self._ids):
            if not running.unattended:
                running.kill()

    def _tell(self, message: dict[str, Any]) -> None:
        try:
            _say(message)
        except BrokenPipeError:  # who asked was killed
            self._open = False

    def _read(self) -> None:
        data = os.read(self._jobs, 1 << 20)
        if not data:
            self._open = False
            return
        self._buffer += data
        *lines, self._buffer = self._buffer.split(b"\n")
        messages = [json.loads(line) for line in lines if line]
        self._waiting += [message for message in messages if "stop" not in message]
        self._forget_former()
        for tools in (False, True):
            wanted = [job["node"] for job in self._waiting if job.get("tools", False) is tools]
            known = self._tools if tools else self._spaces
            self._find([node for node in dict.fromkeys(wanted) if node not in known], tools=tools)
        self._stop({message["stop"] for message in messages if "stop" in message})

    def _forget_former(self) -> None:
        """A node that was switched off and on has other namespaces than before."""
        with contextlib.suppress(OSError, WirelabError):
            epoch = self._control.ask("epoch")[0]["epoch"]
            if epoch != self._epoch:
                self._epoch = epoch
                for spaces in (*self._spaces.values(), *self._tools.values()):
                    spaces.close()
                self._spaces.clear()
                self._tools.clear()

    def _find(self, nodes: list[str], *, tools: bool) -> None:
        """Ask for the namespaces of nodes, all at once; one by one when that fails, to refuse only the one."""
        if not nodes:
            return
        try:
            (self._tools if tools else self._spaces).update(self._control.node_spaces(nodes, tools=tools))
            return
        except (OSError, WirelabError) as error:
            if len(nodes) == 1:
                self._refuse([job for job in self._waiting if job["node"] in nodes], error)
                self._waiting = [job for job in self._waiting if job["node"] not in nodes]
                return
        for node in nodes:
            self._find([node], tools=tools)

    def _stop(self, wanted: set[Any]) -> None:
        while any(job["id"] in wanted for job in self._waiting):  # asked to end before it was its turn
            self._start([self._waiting.pop(0)])
        for running, number in self._ids.items():
            if number in wanted:
                running.ask_to_end(GRACE_S)

    def _refuse(self, jobs: list[dict[str, Any]], error: Exception) -> None:
        for job in jobs:
            self._tell({"id": job["id"], "error": str(error), "errno": getattr(error, "errno", None) or 5})

    def _start(self, jobs: list[dict[str, Any]]) -> None:
        """Start jobs; when this returns, each runs its program or was refused."""
        begun = []
        for job in jobs:
            try:
                begun.append((job, self._begin(job)))
            except OSError as error:
                self._refuse([job], error)
        for job, running in begun:
            try:
                running.confirm()
            except OSError as error:
                self._refuse([job], error)
                continue
            self._ids[running] = job["id"]
            self._crowd.add(running)

    def _begin(self, job: dict[str, Any]) -> execute.Running:
        return execute.Running(
            (self._tools if job.get("tools") else self._spaces)[job["node"]],
            job["argv"],
            spawn.environment(job["node"], job.get("env")),
            job.get("stdin", "").encode("utf-8", "surrogateescape"),
            job["timeout_s"],
            job.get("cwd", "/"),
            unattended=job.get("unattended", False),
            open_files=self._open_files,
        )

    def _answer(self, job_id: Any, finished: execute.Finished) -> None:
        self._tell(
            {
                "id": job_id,
                "status": finished.status,
                "stdout": finished.stdout.decode("utf-8", "surrogateescape"),
                "stderr": finished.stderr.decode("utf-8", "surrogateescape"),
                "began_ns": finished.began_ns,
                "ended_ns": finished.ended_ns,
            }
        )


def _say(message: dict[str, Any]) -> None:
    octets = json.dumps(message).encode() + b"\n"
    while octets:
        octets = octets[os.write(1, octets) :]


def main(arguments: list[str]) -> int:
    """Enter the lab and serve."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN if number == signal.SIGINT else signal.SIG_DFL)
    try:
        with Control(Path(arguments[0])) as control:
            enter_lab(control.own_spaces())
            _say({"ready": True})
            Agent(control, 0).run()
    except (WirelabError, OSError) as error:
        with contextlib.suppress(BrokenPipeError):
            _say({"error": str(error)})
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
