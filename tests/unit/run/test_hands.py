"""What the hands keep and when they say it, with a kernel that only writes down what it is told."""

from __future__ import annotations

import errno
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from emulator.errors import CommandFailed
from emulator.plan import ops
from emulator.run import kernel, netlink
from emulator.run.apply import apply
from emulator.run.backends import netns


class Told:
    """The namespaces in the order in which they were visited, and how many messages each visit brought."""

    def __init__(self) -> None:
        self.here = 0
        self.visits: list[tuple[int, int]] = []
        self.quiet: list[tuple[int, str]] = []
        self.asked: list[tuple[str, Any]] = []
        self.refuse: tuple[int, int] | None = None

    def ask(self, do: str, fds: tuple[int, ...] = (), **values: Any) -> tuple[dict[str, Any], list[int]]:
        self.asked.append((do, values))
        return {}, []

    def view_of_proc(self) -> int:
        raise OSError(errno.EPERM, "no view")


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> Iterator[Told]:
    """A kernel whose namespaces have the descriptors 1001, 1002, … in the order in which nodes are made."""
    record = Told()

    class Socket:
        def __enter__(self) -> Socket:
            return self

        def __exit__(self, *_: object) -> None:
            pass

        def send(self, messages: Sequence[bytes]) -> list[netlink.Failure]:
            record.visits.append((record.here, len(messages)))
            wrong = record.refuse if record.refuse and record.refuse[0] == record.here else None
            return [netlink.Failure(wrong[1], errno.EEXIST)] if wrong and wrong[1] < len(messages) else []

        def no_offload(self, interface: str) -> None:
            record.quiet.append((record.here, interface))

    def create(hands: netns.NetnsHands, operation: ops.CreateNode) -> None:
        hands._add_node(operation, 1001 + len(hands._nodes))

    monkeypatch.setattr(netlink, "Socket", Socket)
    monkeypatch.setattr(kernel, "setns", lambda fd, _: setattr(record, "here", fd))
    monkeypatch.setattr(netns.NetnsHands, "_create_node", create)
    monkeypatch.setattr(netns.os, "close", lambda _: None)
    yield record


def star(hosts: int) -> list[ops.Operation]:
    """Hosts on one switch, which is made last."""
    names = [f"h{number}" for number in range(1, hosts + 1)]
    return [
        *(ops.CreateNode(name) for name in [*names, "s1"]),
        ops.CreateBridge("s1", "br0"),
        *(
            ops.CreateLink(name, "eth0", "02:00:00:00:00:01", "s1", name, "02:00:00:00:00:02", peer_bridge="br0")
            for name in names
        ),
        *(ops.AddAddress(name, "eth0", f"10.0.0.{number}/24") for number, name in enumerate(names, 1)),
        *(ops.SetUp(name, "eth0") for name in names),
        *(ops.SetUp("s1", name) for name in names),
    ]


def build(operations: Sequence[ops.Operation], told: Told, tmp_path: Path) -> netns.NetnsHands:
    hands = netns.NetnsHands(told, tmp_path, tmp_path)  # type: ignore[arg-type]
    apply(ops.Plan("star", tuple(operations), ()), hands, lambda *_: None)
    return hands


def test_cables_first_then_each_host_once(told: Told, tmp_path: Path) -> None:
    hands = build(star(3), told, tmp_path)
    assert told.visits == [(1004, 5), (1001, 3), (1002, 3), (1003, 3)]  # lo, br0, cables; lo, address, up
    assert told.quiet == [(1004, "h1"), (1004, "h2"), (1004, "h3"), (1001, "eth0"), (1002, "eth0"), (1003, "eth0")]
    assert hands.kept == 0


def test_a_large_switch_is_visited_a_batch_at_a_time(told: Told, tmp_path: Path) -> None:
    build(star(2 * netlink.MESSAGES_A_BATCH + 1), told, tmp_path)
    switch = [count for place, count in told.visits if place == 1002 + 2 * netlink.MESSAGES_A_BATCH]
    assert switch == [netlink.MESSAGES_A_BATCH + 2, netlink.MESSAGES_A_BATCH, 1]


def test_a_port_that_takes_part_in_the_spanning_tree_is_switched_on_with_the_others(told: Told, tmp_path: Path) -> None:
    operations = star(2)
    operations[3] = ops.CreateBridge("s1", "br0", stp=True)
    build(operations, told, tmp_path)
    assert told.visits == [(1003, 4), (1001, 3), (1002, 3), (1003, 2)]


def test_what_needs_the_network_comes_after_it(told: Told, tmp_path: Path) -> None:
    hands = netns.NetnsHands(told, tmp_path, tmp_path)  # type: ignore[arg-type]
    for operation in star(1):
        hands.execute(operation)
    hands.execute(ops.WriteFile("h1", "/etc/hosts", "127.0.0.1 localhost\n"))
    assert hands.kept == 3
    hands.execute(ops.StartProcess("h1", "web", ("httpd",)))
    assert hands.kept == 0
    assert told.visits == [(1002, 3), (1001, 3)]
    assert [do for do, _ in told.asked] == ["start"]
    assert (tmp_path / "h1/etc/hosts").read_text() == "127.0.0.1 localhost\n"


@pytest.mark.parametrize(
    ("place", "index", "said"),
    [
        (1003, 1, "cannot make the bridge br0 in s1: File exists"),
        (1003, 3, "cannot connect h2:eth0 to s1:h2: File exists"),
        (1002, 0, "cannot create the node h2: File exists"),
        (1002, 2, "cannot switch h2:eth0 on: File exists"),
    ],
)
def test_a_refusal_names_its_operation_and_all_is_undone_once_in_reverse(
    told: Told, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: int, index: int, said: str
) -> None:
    undone: list[str] = []
    execute = netns.NetnsHands.execute

    def watched(hands: netns.NetnsHands, operation: ops.Operation) -> None:
        if isinstance(operation, (ops.RemoveNode, ops.RemoveLink)):
            undone.append(operation.node)
            assert hands.kept == 0, "what was kept is forgotten"
        execute(hands, operation)

    monkeypatch.setattr(netns.NetnsHands, "execute", watched)
    told.refuse = (place, index)
    with pytest.raises(CommandFailed) as failed:
        build(star(2), told, tmp_path)
    assert failed.value.message == said
    assert undone == ["h2", "h1", "s1", "h2", "h1"]
