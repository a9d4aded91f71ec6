"""`wirelab exec` on several nodes at once: each line of output says whose it is. Standard library only."""

from __future__ import annotations

import contextlib
import json
import math
import os
import signal
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any, BinaryIO

from emulator.errors import CommandFailed, MachineError, UsageError, printable
from emulator.guard import INTERRUPTED, TERMINATED, Terminated
from emulator.run import execute, running, spawn
from emulator.run.control import Control, enter_lab

GRACE_S = 1.5
"""How long commands that are asked to end by Ctrl-C may take."""

LINE_MAX = 64 << 10
"""Octets of a line that are held until its end comes; a longer one is shown in pieces."""

KEPT_IN_ALL = 64 << 20
"""Octets of output that `--json` keeps of all commands together."""

_TOGETHER = 32
"""Commands that are begun before it is asked whether they run."""


class Part:
    """What became of the command on one node."""

    def __init__(self, node: str) -> None:
        self.node = node
        self.status: int | None = None
        self.error: str | None = None
        self.errno = 0
        self.seconds = 0.0
        self.stdout = b""
        self.stderr = b""
        self.cut = False

    @property
    def failed(self) -> str | None:
        """Why it failed, in words; None when it did not."""
        if self.error is not None:
            return self.error
        return None if self.status == 0 else f"status {self.status}"

    def as_json(self) -> dict[str, Any]:
        """The part as `--json` prints it; what is no UTF-8 becomes U+FFFD."""
        return {
            "node": self.node,
            "status": self.status,
            "error": self.error,
            "stdout": self.stdout.decode(errors="replace"),
            "stderr": self.stderr.decode(errors="replace"),
            "truncated": self.cut,
            "seconds": round(self.seconds, 3),
        }


class Lines:
    """Puts the name of a node before each line of one stream of its command."""

    def __init__(self, label: bytes, target: BinaryIO, *, terminal: bool) -> None:
        self._label = label
        self._target = target
        self._terminal = terminal
        self._held = b""

    def take(self, octets: bytes) -> None:
        """Print the lines that are complete with `octets`, and keep the rest."""
        *lines, self._held = (self._held + octets).split(b"\n")
        while len(self._held) > LINE_MAX:
            lines.append(self._held[:LINE_MAX])
            self._held = self._held[LINE_MAX:]
        self._print(lines)

    def end(self) -> None:
        """Print the last line, if it has no end."""
        self._print([self._held] if self._held else [])
        self._held = b""

    def _print(self, lines: list[bytes]) -> None:
        if self._terminal:  # no node shall drive the terminal, least of all among the lines of others
            lines = [printable(line.decode(errors="replace")).encode() for line in lines]
        if lines:
            self._target.write(b"".join(b"%s%s\n" % (self._label, line) for line in lines))
            self._target.flush()


def chosen(nodes: Sequence[str], text: str) -> list[str]:
    """The nodes that `text` names: a name, a pattern as of the shell, or several of these with commas between.

    Raises:
        UsageError: a name or a pattern is that of no node.
    """
    found: list[str] = []
    for word in text.split(","):
        if is_pattern(word):
            from fnmatch import fnmatchcase

            fitting = [node for node in nodes if fnmatchcase(node, word)]
            if not fitting:
                raise UsageError(f"no node's name fits {word}", hint=f"its nodes: {_some(nodes)}")
        elif word in nodes:
            fitting = [word]
        else:
            raise UsageError(f"there is no node {word}", hint=near(nodes, word))
        found += fitting
    return list(dict.fromkeys(found))


def is_pattern(word: str) -> bool:
    """Whether `word` is a pattern; a node's name never looks like one."""
    return any(sign in word for sign in "*?[")


def near(nodes: Sequence[str], word: str) -> str:
    """What to try instead of `word`."""
    from difflib import get_close_matches

    close = get_close_matches(word, nodes, n=1)
    return f"did you mean {close[0]}?" if close else f"its nodes: {_some(nodes)}"


def _some(names: Sequence[str], most: int = 20) -> str:
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more


def execute_many(lab: str, text: str | None, argv: list[str], *, as_json: bool, timeout_s: float | None) -> int:
    """Run `argv` on several nodes of the running lab `lab` at once. This process enters the lab for good.

    Args:
        text: the nodes, as `chosen` takes them; all when it is None.

    Returns:
        0 when every command ended with 0, otherwise 1; 130 after Ctrl-C, 143 after SIGTERM.

    Raises:
        CommandFailed: some failed; says which. Not with `as_json`.
        MachineError: no node has such a program.
    """
    folder = running.directory(lab)
    facts: dict[str, Any] = running.facts(folder)["nodes"]
    nodes = list(facts) if text is None else chosen(list(facts), text)
    if not nodes:
        raise UsageError(f"the lab {lab} has no nodes")
    began = time.monotonic()
    crew = Crew(nodes, argv, as_json=as_json, timeout_s=timeout_s)
    for node, state in _down(folder).items():
        if node in crew.parts:
            crew.parts[node].error = f"is {state}: nothing runs there"
    with Control(folder) as control:
        enter_lab(control.own_spaces())
        ended = crew.run(control, {node: facts[node].get("env", {}) for node in nodes})
    if as_json:
        parts = [crew.parts[node].as_json() for node in nodes]
        print(json.dumps({"lab": lab, "command": argv, "nodes": parts, "seconds": round(time.monotonic() - began, 3)}))
    failed = [part for part in crew.parts.values() if part.failed is not None]
    if ended is not None:
        return ended
    if failed and all(part.errno == 2 for part in crew.parts.values()):
        from emulator.run import tools

        raise MachineError(f"there is no program {argv[0]}", hint=tools.known_package_hint(argv[0]))
    if failed and not as_json:
        raise CommandFailed(f"{argv[0]} failed on {len(failed)} of {len(nodes)} nodes: {_reasons(failed)}")
    return 1 if failed else 0


def _down(folder: str) -> dict[str, str]:
    """The nodes that do not run: name → `frozen` or `off`."""
    if not os.path.exists(os.path.join(folder, running.FAULTS)):
        return {}
    from emulator.run import fault_file

    return fault_file.states(fault_file.read(folder))


def _reasons(failed: Sequence[Part]) -> str:
    """`a, b: status 1; c: status 2`."""
    by_reason: dict[str, list[str]] = {}
    for part in failed:
        by_reason.setdefault(part.failed or "", []).append(part.node)
    return "; ".join(f"{_some(nodes, 50)}: {reason}" for reason, nodes in by_reason.items())


class Crew:
    """The command on each of `nodes`."""

    def __init__(self, nodes: Sequence[str], argv: list[str], *, as_json: bool, timeout_s: float | None) -> None:
        self.parts = {node: Part(node) for node in nodes}
        self._argv = argv
        self._as_json = as_json
        self._timeout_s = timeout_s
        self._limit = max(16 << 10, KEPT_IN_ALL // (2 * len(nodes)))
        self._crowd = execute.Crowd()
        self._begun: list[tuple[str, execute.Running, tuple[Lines, Lines] | None]] = []
        self._running: dict[execute.Running, tuple[Part, tuple[Lines, Lines] | None]] = {}

    def run(self, control: Control, env: dict[str, dict[str, str]]) -> int | None:
        """Run the commands to their ends. Returns the exit status when a signal ended them, otherwise None."""
        ended = None
        waiting = [node for node, part in self.parts.items() if part.error is None]
        try:
            open_files = spawn.allow_many_files()
            try:
                while waiting:
                    now, waiting = waiting[:_TOGETHER], waiting[_TOGETHER:]
                    self._start(control, now, env, open_files)
                self._wait()
            except KeyboardInterrupt:
                ended = INTERRUPTED
                self._end(signal.SIGINT)
            except Terminated:
                ended = TERMINATED
                self._end(signal.SIGTERM)
        finally:
            for command in self._running:
                command.kill()
        for part in self.parts.values() if ended else ():
            if part.status is None and part.error is None:
                part.error = "was not started"
        return ended

    def _start(
        self, control: Control, nodes: list[str], env: dict[str, dict[str, str]], open_files: tuple[int, int]
    ) -> None:
        found = control.node_spaces(nodes)
        terminal = {"TERM": os.environ["TERM"]} if "TERM" in os.environ else {}
        for node in nodes:
            lines = None if self._as_json else self._lines(node)
            try:
                command = execute.Running(
                    found[node],
                    self._argv,
                    spawn.environment(node, {**terminal, **env[node]}),
                    b"",
                    self._timeout_s or math.inf,
                    "/",
                    output_limit=self._limit,
                    told=_teller(lines) if lines else None,
                    open_files=open_files,
                )
                self._begun.append((node, command, lines))
            except OSError as error:
                self._refuse(node, error)
        for spaces in found.values():
            spaces.close()
        self._confirm()

    def _confirm(self) -> None:
        """See of the commands that have begun whether they run. What a signal interrupts here goes on at the end."""
        while self._begun:
            node, command, lines = self._begun[0]
            try:
                if command.pidfd < 0:
                    command.confirm()
            except OSError as error:
                self._refuse(node, error)
            else:
                if command not in self._running:
                    self._running[command] = (self.parts[node], lines)
                    self._crowd.add(command)
            del self._begun[0]

    def _lines(self, node: str) -> tuple[Lines, Lines]:
        label = f"{node}: ".encode()
        out, err = sys.stdout, sys.stderr
        return Lines(label, out.buffer, terminal=out.isatty()), Lines(label, err.buffer, terminal=err.isatty())

    def _refuse(self, node: str, error: OSError) -> None:
        part = self.parts[node]
        part.errno = error.errno or 0
        part.error = "there is no such program" if error.errno == 2 else f"cannot start: {error.strerror}"

    def _wait(self) -> None:
        while self._running:
            for command, finished in self._crowd.wait():
                part, lines = self._running.pop(command)
                for stream in lines or ():
                    stream.end()
                part.seconds = (finished.ended_ns - finished.began_ns) / 1e9
                part.stdout, part.stderr, part.cut = finished.stdout, finished.stderr, command.cut
                if finished.status is None:
                    part.error = "took too long"
                else:
                    part.status = finished.status if finished.status >= 0 else 128 - finished.status

    def _end(self, number: signal.Signals) -> None:
        """Ask every command to end, show what it still says, and kill it when it does not."""
        with contextlib.suppress(KeyboardInterrupt, Terminated):  # a second time: at once
            self._confirm()
            for command in self._running:
                command.ask_to_end(GRACE_S, number, sweep=True)
            self._wait()


def _teller(lines: tuple[Lines, Lines]) -> Callable[[bool, bytes], None]:
    out, err = lines
    return lambda is_error, octets: (err if is_error else out).take(octets)
