"""Hosts that find nobody, or that nobody finds, once there are no pinned entries."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from emulator.reach.resolution import unresolved
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


@pytest.mark.parametrize("count", [0, 1])
def test_nobody_to_ask(count: int) -> None:
    assert unresolved(on_one_switch(count), {}, Kernel(set(), set()).ask) == {}
