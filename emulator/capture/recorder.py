"""The process that records a running lab: python -S -c … DIRECTORY OUTPUT_FD [NODE[:INTERFACE]…].

It enters the lab for good, so it is a process of its own. It says one line of JSON on standard error when all
interfaces are live (`{"ready": n}`), one at the end (`{"received", "dropped", "interfaces"}`), or `{"error": …}`; it
stops when its standard input ends.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from emulator.capture.record import Source, record
from emulator.errors import CommandFailed, UsageError, WirelabError
from emulator.run import kernel
from emulator.run.control import Control, enter_lab


def main(arguments: Sequence[str]) -> int:
    """Record until standard input ends; returns the exit status."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    directory, output, nodes = Path(arguments[0]), int(arguments[1]), json.loads(arguments[2])
    only = list(arguments[3:])
    try:
        with Control(directory) as control:
            networks = control.node_networks(nodes)
            enter_lab(control.own_spaces())
        sources = [Source(node, descriptor) for node, descriptor in networks.items()]
    except (WirelabError, OSError) as error:
        return _failed(error)
    return _in_child(lambda: _record(sources, output, only))


def _in_child(work: Callable[[], int]) -> int:
    """Do `work` in a child, which is in the lab's PID namespace as well. This process is half-way in it: its children
    belong there but itself does not, and the kernel gives such a process no threads (clone(2), EINVAL)."""
    child = os.fork()
    if child == 0:
        status = 1
        try:
            kernel.die_with_parent(signal.SIGKILL)
            status = work()
        finally:
            os._exit(status)
    _, status = os.waitpid(child, 0)
    return os.waitstatus_to_exitcode(status)


def _failed(error: WirelabError | OSError) -> int:
    _say({"error": getattr(error, "message", None) or str(error), "usage": isinstance(error, UsageError)})
    return 1


def _record(sources: Sequence[Source], output: int, only: Sequence[str]) -> int:
    try:
        figures = record(sources, output, stop_fd=0, ready=lambda count: _say({"ready": count}), only=only or None)
    except (WirelabError, OSError) as error:
        return _failed(error)
    lost = {entry.name: entry.dropped for entry in figures.interfaces if entry.dropped}
    _say(
        {"received": figures.received, "dropped": figures.dropped, "interfaces": len(figures.interfaces), "lost": lost}
    )
    return 0


def _say(message: dict[str, Any]) -> None:
    os.write(2, json.dumps(message).encode() + b"\n")


@dataclass(frozen=True)
class Figures:
    """What was recorded: packets that reached the interfaces, and those of them that are not in the file."""

    received: int
    dropped: int
    interfaces: int


class Recorder:
    """A recording that goes on beside this process; it ends with `stop`, or with this process."""

    def __init__(self, directory: Path, nodes: Sequence[str], output_fd: int, only: Sequence[str] = ()) -> None:
        root = str(Path(__file__).resolve().parents[2])
        code = (
            f"import sys; sys.path.insert(0, {root!r})\n"
            "from emulator.capture.recorder import main; sys.exit(main(sys.argv[1:]))"
        )
        self._process = subprocess.Popen(
            [sys.executable, "-I", "-S", "-c", code, str(directory), str(output_fd), json.dumps(list(nodes)), *only],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            pass_fds=(output_fd,),
            cwd="/",
            start_new_session=True,
        )

    def wait_ready(self) -> int:
        """Wait until every interface is recorded; returns how many there are.

        Raises:
            UsageError, CommandFailed: it cannot be recorded.
        """
        return int(self._read("ready")["ready"])

    def _read(self, key: str) -> dict[str, Any]:
        line = self._process.stderr.readline() if self._process.stderr else b""
        try:
            answer: dict[str, Any] = json.loads(line) if line else {}
        except ValueError:
            rest = self._process.stderr.read() if self._process.stderr else b""
            answer = {"error": (line + rest).decode(errors="replace").strip().rpartition("\n")[2]}
        if key not in answer:
            self.close()
            raise (UsageError if answer.get("usage") else CommandFailed)(answer.get("error", "the recorder has ended"))
        return answer

    def ended(self) -> bool:
        """Whether the recorder ended by itself."""
        return self._process.poll() is not None

    def stop(self) -> Figures:
        """End the recording; everything that had arrived by now is in the file then."""
        if self._process.stdin:
            self._process.stdin.close()
        answer = self._read("received")
        self.close()
        return Figures(answer["received"], answer["dropped"], answer["interfaces"])

    def close(self) -> None:
        """End the recorder, whatever it does."""
        for stream in (self._process.stdin, self._process.stderr):
            if stream:
                stream.close()
        try:
            self._process.wait(5)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
