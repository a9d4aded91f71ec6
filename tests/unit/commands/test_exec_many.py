"""A crew of commands that is interrupted while they begin: each of them is asked to end."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from emulator.commands import exec_many
from emulator.guard import INTERRUPTED


class Command:
    """A command that has begun; `interrupts` of them raise what Ctrl-C raises when they are first waited for."""

    made: list[Command]
    interrupts: set[int]

    def __init__(self, *_: object, **__: object) -> None:
        if len(self.made) in self.interrupts and -1 in self.interrupts:
            raise KeyboardInterrupt
        self.number = len(self.made)
        self.made.append(self)
        self.pidfd = -1
        self.asked = False
        self.cut = False

    def confirm(self) -> None:
        if self.number in self.interrupts:
            self.interrupts.discard(self.number)
            raise KeyboardInterrupt
        self.pidfd = 99

    def ask_to_end(self, *_: object, **__: object) -> None:
        self.asked = True

    def kill(self) -> None:
        pytest.fail("it ended by itself")


class Crowd:
    def __init__(self) -> None:
        self.commands: list[Command] = []

    def add(self, command: Command) -> None:
        self.commands.append(command)

    def wait(self) -> list[tuple[Command, Any]]:
        ended, self.commands = self.commands, []
        finished = SimpleNamespace(began_ns=0, ended_ns=0, stdout=b"", stderr=b"")
        return [(each, SimpleNamespace(**vars(finished), status=-2 if each.asked else 0)) for each in ended]


def run(monkeypatch: pytest.MonkeyPatch, interrupts: set[int]) -> tuple[exec_many.Crew, int | None]:
    Command.made, Command.interrupts = [], interrupts
    monkeypatch.setattr(exec_many.execute, "Running", Command)
    monkeypatch.setattr(exec_many.execute, "Crowd", Crowd)
    nodes = [f"h{number}" for number in range(40)]
    crew = exec_many.Crew(nodes, ["true"], as_json=True, timeout_s=None)
    spaces = SimpleNamespace(close=lambda: None)
    control: Any = SimpleNamespace(node_spaces=lambda wanted: dict.fromkeys(wanted, spaces))
    return crew, crew.run(control, {node: {} for node in nodes})


def test_nobody_interrupts(monkeypatch: pytest.MonkeyPatch) -> None:
    crew, ended = run(monkeypatch, set())
    assert ended is None
    assert all(part.status == 0 for part in crew.parts.values())


@pytest.mark.parametrize("at", [0, 5, 31])
def test_interrupted_while_they_are_confirmed(monkeypatch: pytest.MonkeyPatch, at: int) -> None:
    crew, ended = run(monkeypatch, {at})
    assert ended == INTERRUPTED
    assert all(command.asked for command in Command.made)
    assert len(Command.made) == 32
    said = [part.failed for part in crew.parts.values()]
    assert said == ["status 130"] * 32 + ["was not started"] * 8


def test_interrupted_while_they_begin(monkeypatch: pytest.MonkeyPatch) -> None:
    crew, ended = run(monkeypatch, {-1, 5})
    assert ended == INTERRUPTED
    assert [command.asked for command in Command.made] == [True] * 5
    assert [part.failed for part in crew.parts.values()] == ["status 130"] * 5 + ["was not started"] * 35
