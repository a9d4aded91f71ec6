"""Every operation of every shipped lab's plan fails once: what was done before is taken back in reverse, once, nothing
else is, and the error names the operation, the node and the kernel's reason.

First with hands that only write down what they do, at once or later as `Hands` allows; then with the real ones and a
kernel that refuses one message after another.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from emulator.errors import CommandFailed, MachineError, WirelabError
from emulator.lab.load import build, read_document
from emulator.lab.resolve import resolve
from emulator.plan import ops
from emulator.plan.compile import compile_plan
from emulator.plan.ops import Operation, Plan
from emulator.run import kernel, netlink
from emulator.run.apply import apply
from emulator.run.backends import netns

LABS = sorted(folder.parent for folder in (Path(__file__).parents[3] / "labs").glob("*/lab.yml"))
REASONS = (errno.ENOMEM, errno.ENOSPC, errno.EMFILE, errno.EPERM, errno.EIO)
LATE = (ops.CreateLink, ops.AddAddress, ops.SetUp, ops.AddRoute)
"""What hands may keep until something needs the network."""


class Machine:
    """Hands that do everything at once; the operation at `fails` fails, after half of it was done or before."""

    def __init__(self, plan: Plan, fails: int, trouble: BaseException, *, half: bool = False) -> None:
        self.wrong = plan.operations[fails]
        self.trouble = trouble
        self.half = half
        self.undoes = [(undo, operation) for operation in plan.operations if (undo := operation.undo())]
        self.kinds = {type(undo) for undo, _ in self.undoes}
        self.there: list[Operation] = []
        self.undone: list[Operation] = []
        self.stubborn: Operation | None = None

    def execute(self, operation: Operation) -> None:
        if type(operation) not in self.kinds:
            self.do(operation)
            return
        made = next(made for undo, made in self.undoes if undo == operation)
        self.undone.append(operation)
        if made in self.there:
            self.there.remove(made)

    def do(self, operation: Operation) -> None:
        if operation is not self.wrong or self.half:
            self.there.append(operation)
        if operation is self.wrong:
            raise self.trouble

    def flush(self) -> None:
        pass

    @property
    def left(self) -> list[Operation]:
        """What is there and would not go with its node."""
        return [operation for operation in self.there if operation.undo()]


class Late(Machine):
    """Hands that keep what concerns the network until something else is to be done, cables first."""

    def __init__(self, plan: Plan, fails: int, trouble: BaseException, *, half: bool = False) -> None:
        super().__init__(plan, fails, trouble, half=half)
        self.kept: list[Operation] = []

    def execute(self, operation: Operation) -> None:
        if isinstance(operation, LATE):
            self.kept.append(operation)
            return
        if not isinstance(operation, ops.CreateNode):
            self.flush()
        super().execute(operation)

    def flush(self) -> None:
        kept, self.kept = self.kept, []
        for operation in sorted(kept, key=lambda one: not isinstance(one, ops.CreateLink)):
            try:
                self.do(operation)
            except OSError as error:
                raise CommandFailed(f"cannot {operation.describe()}: {error.strerror}") from error


def plan_of(folder: Path, backend: Any) -> Plan:
    return compile_plan(resolve(build(read_document(folder / "lab.yml")), backend=backend))


@pytest.fixture(scope="module", params=LABS, ids=lambda folder: folder.name)
def plans(request: pytest.FixtureRequest) -> list[Plan]:
    """A shipped lab's plan, of namespaces and of containers."""
    return [plan_of(request.param, backend) for backend in ("netns", "docker")]


def undoing(operations: Sequence[Operation]) -> list[Operation]:
    """What takes `operations` back, in reverse."""
    return [undo for operation in reversed(operations) if (undo := operation.undo())]


@pytest.mark.parametrize("half", [False, True], ids=["not-done", "done-in-part"])
def test_every_operation_fails_once(plans: list[Plan], half: bool) -> None:
    for plan in plans:
        assert len(set(undoing(plan.operations))) == len(undoing(plan.operations))
        for number, operation in enumerate(plan.operations):
            reason = REASONS[number % len(REASONS)]
            hands = Machine(plan, number, OSError(reason, os.strerror(reason)), half=half)
            with pytest.raises(WirelabError) as failed:
                apply(plan, hands, lambda *_: None)
            assert failed.value.message == f"cannot {operation.describe()}: {os.strerror(reason)}"
            assert operation.node in failed.value.message
            assert hands.undone == undoing(plan.operations[: number + 1]), "each once, in reverse, and no other"
            assert hands.left == []


def test_every_operation_fails_late(plans: list[Plan]) -> None:
    """Hands that do things later and in another order: all that they did is gone, and nothing twice."""
    for plan in plans:
        for number, operation in enumerate(plan.operations):
            reason = REASONS[number % len(REASONS)]
            hands = Late(plan, number, OSError(reason, os.strerror(reason)), half=number % 2 == 0)
            with pytest.raises(WirelabError) as failed:
                apply(plan, hands, lambda *_: None)
            assert failed.value.message == f"cannot {operation.describe()}: {os.strerror(reason)}"
            assert hands.left == []
            assert len(set(hands.undone)) == len(hands.undone)
            everything = undoing(plan.operations)
            assert hands.undone == everything[len(everything) - len(hands.undone) :], "in reverse, without a gap"
            assert hands.kept == []


@pytest.mark.parametrize("trouble", [KeyboardInterrupt, MachineError])
def test_whatever_is_raised_is_told_and_all_is_undone(plans: list[Plan], trouble: type[BaseException]) -> None:
    for plan in plans:
        for number in range(len(plan.operations)):
            raised = trouble("of this kind")
            hands = Machine(plan, number, raised)
            with pytest.raises(trouble) as failed:
                apply(plan, hands, lambda *_: None)
            assert failed.value is raised
            assert hands.undone == undoing(plan.operations[: number + 1])
            assert hands.left == []


@pytest.mark.parametrize("trouble", [OSError(errno.EBUSY, "busy"), CommandFailed("no"), KeyError("x"), ValueError("y")])
def test_undoing_fails_too(plans: list[Plan], trouble: Exception) -> None:
    """One thing cannot be taken back: all others are, and the first failure is what is told."""

    class Stubborn(Machine):
        def execute(self, operation: Operation) -> None:
            super().execute(operation)
            if operation == self.stubborn:
                raise trouble

    for plan in plans:
        last = len(plan.operations) - 1
        everything = undoing(plan.operations)
        for stubborn in everything:
            hands = Stubborn(plan, last, OSError(errno.EIO, os.strerror(errno.EIO)))
            hands.stubborn = stubborn
            with pytest.raises(CommandFailed) as failed:
                apply(plan, hands, lambda *_: None)
            assert failed.value.message == f"cannot {plan.operations[last].describe()}: {os.strerror(errno.EIO)}"
            assert hands.undone == everything


def test_who_listens_fails(plans: list[Plan]) -> None:
    """What is told about the progress goes through a pipe, which may be gone."""
    for plan in plans:
        for number in range(0, len(plan.operations), 7):
            hands = Machine(plan, len(plan.operations) - 1, OSError())

            def told(_operation: Operation, at: int, _total: int, *, number: int = number) -> None:
                if at == number:
                    raise BrokenPipeError(errno.EPIPE, os.strerror(errno.EPIPE))

            with pytest.raises(BrokenPipeError):
                apply(plan, hands, told)
            assert hands.undone == undoing(plan.operations[:number])
            assert hands.left == []


class Kernel:
    """Counts netlink messages, and refuses the one whose number is `refuses`."""

    def __init__(self) -> None:
        self.messages = 0
        self.refuses = -1

    def ask(self, _do: str, _fds: tuple[int, ...] = (), **_values: Any) -> tuple[dict[str, Any], list[int]]:
        return {}, []

    def view_of_proc(self) -> int:
        raise OSError(errno.EPERM, os.strerror(errno.EPERM))

    def send(self, messages: Sequence[bytes]) -> list[netlink.Failure]:
        at = self.refuses - self.messages
        self.messages += len(messages)
        return [netlink.Failure(at, errno.ENOBUFS)] if 0 <= at < len(messages) else []


@pytest.fixture
def refusing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[[], tuple[Kernel, netns.NetnsHands]]:
    """A new kernel that only counts, and the real hands that speak to it; what is no netlink is left out."""

    def make() -> tuple[Kernel, netns.NetnsHands]:
        counted = Kernel()

        class Socket:
            def __enter__(self) -> Socket:
                return self

            def __exit__(self, *_: object) -> None:
                pass

            def send(self, messages: Sequence[bytes]) -> list[netlink.Failure]:
                return counted.send(messages)

            def no_offload(self, interface: str) -> None:
                pass

        monkeypatch.setattr(netlink, "Socket", Socket)
        return counted, netns.NetnsHands(counted, tmp_path, tmp_path)  # type: ignore[arg-type]

    def create(hands: netns.NetnsHands, operation: ops.CreateNode) -> None:
        hands._add_node(operation, 100_001 + len(hands._nodes))

    now = netns.NetnsHands._execute_now

    def only_removing(hands: netns.NetnsHands, operation: Operation) -> None:
        if isinstance(operation, (ops.RemoveNode, ops.RemoveLink)):
            now(hands, operation)

    monkeypatch.setattr(kernel, "setns", lambda *_: None)
    monkeypatch.setattr(netns.os, "close", lambda _: None)
    monkeypatch.setattr(netns.NetnsHands, "_create_node", create)
    monkeypatch.setattr(netns.NetnsHands, "_write_file", lambda *_: None)
    monkeypatch.setattr(netns.NetnsHands, "_execute_now", only_removing)
    return make


def test_the_kernel_refuses_one_message_after_another(
    plans: list[Plan], refusing: Callable[[], tuple[Kernel, netns.NetnsHands]]
) -> None:
    plan = plans[0]
    descriptions = {operation.describe(): operation for operation in plan.operations}
    counted, hands = refusing()
    apply(plan, hands, lambda *_: None)
    assert counted.messages > 5
    named = set()
    for number in range(0, counted.messages, max(1, counted.messages // 40)):
        now, hands = refusing()
        now.refuses = number
        undone: list[Operation] = []
        execute = hands.execute

        def watched(operation: Operation, *, undone: list[Operation] = undone, execute: Any = execute) -> None:
            if isinstance(operation, (ops.RemoveNode, ops.RemoveLink)):
                undone.append(operation)
            execute(operation)

        hands.execute = watched  # type: ignore[method-assign]
        with pytest.raises(CommandFailed) as failed:
            apply(plan, hands, lambda *_: None)
        what, _, reason = failed.value.message.removeprefix("cannot ").rpartition(": ")
        assert reason == os.strerror(errno.ENOBUFS)
        named.add(descriptions[what].node)
        assert len(set(undone)) == len(undone)
        everything = undoing(plan.operations)
        assert undone == everything[len(everything) - len(undone) :]
        assert hands.kept == 0 and not hands._nodes, "no namespace is held any more"
    assert len(named) > 1
