"""Hosts that find nobody, or that nobody finds, once there are no pinned entries."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from emulator.reach.resolution import ALL_ASKED, phases, unresolved
from emulator.reach.scheme import Endpoint, Scheme


def on_one_switch(count: int) -> Scheme:
    endpoints = tuple(Endpoint(n, "lan|10.0.0.0/24", 4, f"0a0000{n:02x}", "02574c000000", 4) for n in range(count))
    return Scheme("", tuple(f"h{n}" for n in range(count)), count, endpoints)


class Kernel:
    """ARP of a lab in which some hosts ask in vain, and some do not answer."""

    def __init__(self, blind: set[int], hidden: set[int]) -> None:
        self.blind, self.hidden, self.asked = blind, hidden, 0

    def ask(self, pairs: Sequence[tuple[int, int]]) -> set[tuple[int, int]]:
        self.asked += len(pairs)
        assert not {a for a, _ in pairs} & {b for _, b in pairs}, "who is asked must not ask at the same time"
        return {(a, b) for a, b in pairs if a in self.blind or b in self.hidden}


@given(st.integers(3, 30), st.data())
def test_exactly_the_pairs_that_do_not_find_each_other(count: int, data: st.DataObject) -> None:
    some = st.sets(st.integers(0, count - 1), max_size=2)
    dead, blind, hidden = data.draw(some), data.draw(some), data.draw(some)
    lost = {a: {b for b in range(count) if b != a and (a in dead or b in dead)} for a in range(count)}
    found = unresolved(on_one_switch(count), lost, Kernel(blind, hidden).ask)
    assert found == {
        a: pairs
        for a in range(count)
        if (pairs := {b for b in range(count) if b != a and b not in lost[a] and (a in blind or b in hidden)})
    }


def test_a_lab_in_order_asks_each_host_once() -> None:
    kernel = Kernel(set(), set())
    assert unresolved(on_one_switch(100), {}, kernel.ask) == {}
    assert kernel.asked == 100


class Trunks(Kernel):
    """ARP of a tree of switches: `switch` of each host, and trunks by the switch below, some of which let no question
    up or down."""

    def __init__(self, switch: Sequence[int], above: dict[int, int], dead: set[tuple[int, int]]) -> None:
        super().__init__(set(), set())
        self.switch, self.above, self.dead = switch, above, dead

    def finds(self, sender: int, receiver: int) -> bool:
        up, down = self._to_root(self.switch[sender]), self._to_root(self.switch[receiver])
        while len(up) > 1 and len(down) > 1 and up[-2] == down[-2]:
            up.pop()
            down.pop()
        down.reverse()
        way = [*itertools.pairwise(up), *itertools.pairwise(down)]
        return not self.dead.intersection(way)

    def _to_root(self, switch: int) -> list[int]:
        way = [switch]
        while way[-1] in self.above:
            way.append(self.above[way[-1]])
        return way

    def ask(self, pairs: Sequence[tuple[int, int]]) -> set[tuple[int, int]]:
        super().ask(pairs)
        return {(a, b) for a, b in pairs if not self.finds(a, b)}

    def truth(self) -> dict[int, set[int]]:
        hosts = range(len(self.switch))
        rows = {a: {b for b in hosts if a != b and not self.finds(a, b)} for a in hosts}
        return {a: row for a, row in rows.items() if row}


@pytest.mark.parametrize("dealt", ["in-order", "round-robin"])
@pytest.mark.parametrize("dead", [{(1, 0)}, {(0, 1)}, {(2, 0), (0, 2)}, "all"], ids=["up", "down", "both", "all"])
def test_trunks_that_let_no_question_through(dealt: str, dead: set[tuple[int, int]] | str) -> None:
    """Ten switches around one, with ten hosts each: 9,000 pairs are dead when all trunks are."""
    above = dict.fromkeys(range(1, 11), 0)
    switch = [1 + (host // 10 if dealt == "in-order" else host % 10) for host in range(100)]
    broken = {each for n in above for each in ((n, 0), (0, n))} if isinstance(dead, str) else dead
    kernel = Trunks(switch, above, broken)
    found = unresolved(on_one_switch(100), {}, kernel.ask)
    assert found == kernel.truth()
    assert sum(map(len, found.values())) == {1: 900, 2: 1800, 20: 9000}[len(broken)]
    assert kernel.asked < 4 * ALL_ASKED


@given(st.integers(2, 24), st.integers(1, 7), st.data())
def test_exactly_the_pairs_that_a_tree_parts(count: int, switches: int, data: st.DataObject) -> None:
    above = {n: data.draw(st.integers(0, n - 1)) for n in range(1, switches)}
    trunks = [each for n, up in above.items() for each in ((n, up), (up, n))]
    dead = data.draw(st.sets(st.sampled_from(trunks))) if trunks else set()
    switch = data.draw(st.lists(st.integers(0, switches - 1), min_size=count, max_size=count))
    kernel = Trunks(switch, above, dead)
    assert unresolved(on_one_switch(count), {}, kernel.ask) == kernel.truth()


def test_many_pairs_of_which_some_answer_are_all_asked() -> None:
    """What is inferred is asked when a sample of it answers: here some hosts are found from everywhere."""

    class Mixed(Trunks):
        def finds(self, sender: int, receiver: int) -> bool:
            return receiver % 4 == 3 or super().finds(sender, receiver)

    kernel = Mixed([1 if host < 40 else 2 for host in range(80)], {1: 0, 2: 0}, {(1, 0), (2, 0)})
    assert unresolved(on_one_switch(80), {}, kernel.ask) == kernel.truth()


@given(st.lists(st.tuples(st.integers(0, 2000), st.integers(0, 2000)).filter(lambda pair: pair[0] != pair[1])))
def test_nobody_asks_and_is_asked_in_one_phase(pairs: list[tuple[int, int]]) -> None:
    made = phases(pairs)
    assert sorted(pair for phase in made for pair in phase) == sorted(pairs)
    assert len(made) <= 22
    assert all(not {a for a, _ in phase} & {b for _, b in phase} for phase in made)


@pytest.mark.parametrize("count", [0, 1])
def test_nobody_to_ask(count: int) -> None:
    assert unresolved(on_one_switch(count), {}, Kernel(set(), set()).ask) == {}
