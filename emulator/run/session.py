"""Running commands in the nodes of a running lab from outside it, many at once."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from emulator.errors import CommandFailed, MachineError
from emulator.run import control, tools


@dataclass(frozen=True)
class Job:
    """A command for a node; with `tools` it is this machine's own program, also where the node is a container."""

    node: str
    argv: tuple[str, ...]
    stdin: str = ""
    timeout_s: float = 60.0
    env: Mapping[str, str] | None = None
    cwd: str = "/"
    unattended: bool = False
    tools: bool = False


@dataclass(frozen=True)
class Result:
    """How a job ended: `status` is None when its time was over, 127 when the program is not there."""

    node: str
    argv: tuple[str, ...]
    status: int | None
    stdout: str
    stderr: str
    began_ns: int = 0
    ended_ns: int = 0


class Session:
    """An agent inside a lab, and the way to talk to it. A context manager; safe to use from several threads."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._number = 0
        self._jobs: dict[int, Job] = {}
        self._results: dict[int, dict[str, Any]] = {}
        self._lock = threading.Lock()
        self._agent = subprocess.Popen(
            [sys.executable, "-I", "-S", str(Path(__file__).with_name("agent.py")), str(directory)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            cwd="/",
            start_new_session=True,
        )
        first = self._read()
        if not first.get("ready"):
            self.close()
            raise CommandFailed(first.get("error", f"cannot enter the lab {directory.name}"))

    def __enter__(self) -> Session:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End the agent, and with it what still runs."""
        with contextlib.suppress(OSError):
            if self._agent.stdin:
                self._agent.stdin.close()
        self._agent.wait(10)
        if self._agent.stdout:
            self._agent.stdout.close()

    def _read(self) -> dict[str, Any]:
        line = self._agent.stdout.readline() if self._agent.stdout else b""
        answer: dict[str, Any] = json.loads(line) if line else {}
        return answer

    def run(self, jobs: Iterable[Job]) -> list[Result]:
        """Run `jobs` at the same time; the results come in the order of the jobs.

        Raises:
            control.LabGone: the lab ended meanwhile.
        """
        with self._lock:
            return self._wait(self._start(jobs))

    def start(self, jobs: Iterable[Job]) -> list[int]:
        """Start `jobs` and return at once; the numbers are for `stop` and `wait`."""
        with self._lock:
            return self._start(jobs)

    def stop(self, numbers: Iterable[int]) -> None:
        """Ask started jobs to end: SIGTERM, and SIGKILL when they do not within two seconds."""
        with self._lock:
            self._send([{"stop": number} for number in numbers if number not in self._results])

    def wait(self, numbers: Iterable[int]) -> list[Result]:
        """Wait until started jobs have ended; the results come in the order of the numbers."""
        with self._lock:
            return self._wait(list(numbers))

    def _start(self, jobs: Iterable[Job]) -> list[int]:
        numbers = []
        for job in jobs:
            self._number += 1
            self._jobs[self._number] = job
            numbers.append(self._number)
        self._send([{"id": number, **_as_json(self._jobs[number])} for number in numbers])
        return numbers

    def _send(self, messages: list[dict[str, Any]]) -> None:
        if not messages:
            return
        try:
            if self._agent.stdin:
                self._agent.stdin.write("".join(json.dumps(message) + "\n" for message in messages).encode())
                self._agent.stdin.flush()
        except OSError:
            raise control.LabGone(f"the lab {self._directory.name} has ended") from None

    def _wait(self, numbers: list[int]) -> list[Result]:
        while any(number not in self._results for number in numbers):
            answer = self._read()
            if "id" not in answer:
                raise control.LabGone(f"the lab {self._directory.name} has ended")
            self._results[answer["id"]] = answer
        answers = [(self._jobs.pop(number), self._results.pop(number)) for number in numbers]
        return [_result(job, answer) for job, answer in answers]

    def run_one(self, node: str, argv: Sequence[str], **options: Any) -> Result:
        """Run one command and wait for its end."""
        return self.run([Job(node, tuple(argv), **options)])[0]


def _as_json(job: Job) -> dict[str, Any]:
    return {
        "node": job.node,
        "argv": job.argv,
        "stdin": job.stdin,
        "timeout_s": job.timeout_s,
        "env": dict(job.env or {}),
        "cwd": job.cwd,
        "unattended": job.unattended,
        "tools": job.tools,
    }


def _result(job: Job, answer: dict[str, Any]) -> Result:
    if "error" in answer:
        if answer["errno"] == 2:
            raise MachineError(f"there is no program {job.argv[0]}", hint=tools.known_package_hint(job.argv[0]))
        raise CommandFailed(f"cannot run {job.argv[0]} on {job.node}: {os.strerror(answer['errno'])}")
    return Result(
        job.node,
        job.argv,
        answer["status"],
        answer["stdout"],
        answer["stderr"],
        answer["began_ns"],
        answer["ended_ns"],
    )
