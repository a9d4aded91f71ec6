"""What is lost by the machine is not taken for lost by the lab, and the other way round."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import pytest

from emulator.events import Bus
from emulator.reach import tester
from emulator.reach.scheme import Endpoint, Scheme
from emulator.verify.matrix import ANSWERED

HOSTS = 20
ALL = {(a, b) for a in range(HOSTS) for b in range(HOSTS) if a != b}

Pairs = set[tuple[int, int]]


class Machine:
    """A lab on one switch, and a machine that loses what it is sent, in the place of the workers.

    `dead` are the pairs that the lab loses; `hidden` those that only ARP loses. The first `times` that many
    pairs are asked again or without pinned entries, the machine loses them all, and of those that are asked alone those
    of the first `alone` times.
    """

    def __init__(self, dead: Pairs, hidden: Pairs, times: int, alone: int = 0) -> None:
        self.dead, self.hidden, self.times, self.alone = dead, hidden, times, alone
        self.dropped = 0
        self.left: Pairs = set()

    def __len__(self) -> int:
        return 2

    def _asked(self, pairs: Iterable[Sequence[int]], dead: Pairs) -> Pairs:
        asked = {(pair[0], pair[1]) for pair in pairs}
        few = len(asked) == 1
        if asked and (self.alone if few else self.times) > 0:
            self.times -= not few
            self.alone -= few
            self.dropped += 1
            return asked
        return asked & dead

    def ask(self, number: int, do: str, **values: Any) -> dict[str, Any]:
        if do == "alone":
            return {"answered": any(not self._asked([pair], self.dead) for pair in values["pairs"])}
        return {}

    def all(self, do: str, **values: Any) -> list[dict[str, Any]]:
        assert do == "finish"
        self.left = self._asked(self.left, self.dead)
        lost: dict[str, list[int]] = {}
        for sender, receiver in self.left:
            lost.setdefault(str(sender), []).append(receiver)
        return [{"lost": lost, "starved": 0}, {"lost": {}, "starved": 0}]

    def share(self, do: str, tasks: Iterable[dict[str, Any]], numbers: object = None) -> Iterator[dict[str, Any]]:
        for task in tasks:
            if do == "resolve":
                failed = self._asked(task["pairs"], self.dead | self.hidden)
                yield {"asked": len(task["pairs"]), "failed": list(failed)}
                continue
            first, second = range(*task["first"]), range(*task["second"])
            pairs = {pair for a in first for b in second if a != b for pair in ((a, b), (b, a))}
            self.left |= pairs if self.times else pairs & self.dead  # a first attempt that the machine does not count
            yield {**task, "tested": len(pairs)}


def run(monkeypatch: pytest.MonkeyPatch, machine: Machine) -> tester._Test:
    endpoints = tuple(Endpoint(n, "lan|10.0.0.0/24", 4, f"0a0000{n:02x}", "02574c000000", 4) for n in range(HOSTS))
    scheme = Scheme("", tuple(f"h{n}" for n in range(HOSTS)), HOSTS, endpoints)
    monkeypatch.setattr(tester, "tables_full", lambda: 0)
    monkeypatch.setattr(tester.softnet, "dropped", lambda: machine.dropped)
    monkeypatch.setattr(tester._Test, "_routed", lambda _: {})
    test = tester._Test(machine, scheme, None, [bytes([ANSWERED] * HOSTS)] * HOSTS, Bus())  # type: ignore[arg-type]
    assert not test.natural
    test.run()
    return test


def lost(test: tester._Test) -> Pairs:
    return {(a, b) for a, receivers in test.lost.items() for b in receivers}


COLUMN = {(a, 3) for a in range(HOSTS) if a != 3}


@pytest.mark.parametrize("times", range(3))
@pytest.mark.parametrize("dead", [set(), {(1, 2)}, COLUMN], ids=["whole", "one", "column"])
def test_what_the_machine_loses_now_and_then_is_found(monkeypatch: pytest.MonkeyPatch, dead: Pairs, times: int) -> None:
    test = run(monkeypatch, Machine(dead, set(), times))
    assert (lost(test), test.doubt) == (dead, "")


@pytest.mark.parametrize("times", range(3))
@pytest.mark.parametrize("hidden", [set(), {(1, 2)}, COLUMN, ALL], ids=["whole", "one", "column", "all"])
def test_so_is_what_only_arp_loses(monkeypatch: pytest.MonkeyPatch, hidden: Pairs, times: int) -> None:
    test = run(monkeypatch, Machine(set(), hidden, times))
    if hidden == {(1, 2)}:
        hidden = hidden & lost(test)  # of a host that others find, it is not always asked
    assert (lost(test), test.doubt) == (hidden, "")


def test_what_it_always_loses_is_in_doubt(monkeypatch: pytest.MonkeyPatch) -> None:
    """But not what is lost alone, too."""
    test = run(monkeypatch, Machine(set(), set(), 1000))
    assert lost(test) == ALL
    assert "netdev_max_backlog" in test.doubt
    test = run(monkeypatch, Machine(ALL, set(), 1000))
    assert (lost(test), test.doubt) == (ALL, "")


def test_so_is_what_it_always_loses_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    machine = Machine(set(), {(4, 5)}, 0, 1000)
    assert "netdev_max_backlog" in run(monkeypatch, machine).doubt
