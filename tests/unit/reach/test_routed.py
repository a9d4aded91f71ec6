"""Hosts and routers that do not find their neighbours on the way to other subnets, once there are no pinned entries."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import pytest

from emulator.reach.resolution import Pair
from emulator.reach.routed import ENTRIES_AT_ONCE, Step, parts, unrouted
from emulator.reach.scheme import Endpoint, Scheme


class Star:
    """Subnets with a router each, and one router in the middle. `blind` are steps that nobody answers."""

    def __init__(self, subnets: int, hosts: int, blind: set[Step]) -> None:
        self.hosts = hosts
        names = [f"h{number}" for number in range(subnets * hosts)]
        endpoints = tuple(
            Endpoint(number, f"lan{number // hosts}", 4, f"0a00{number // hosts:02x}{number % hosts:02x}", "02" * 6, 4)
            for number in range(len(names))
        )
        self.scheme = Scheme("", tuple(names), len(names), endpoints)
        self.blind, self.asked = blind, 0

    def steps(self, sender: int, receiver: int) -> tuple[Step, ...]:
        one, other = sender // self.hosts, receiver // self.hosts
        return tuple(itertools.pairwise([f"h{sender}", f"r{one}", "core", f"r{other}", f"h{receiver}"]))

    def ask(self, pairs: Sequence[tuple[Pair, Sequence[Step]]]) -> set[Pair]:
        self.asked += len(pairs)
        return {pair for pair, steps in pairs if self.blind.intersection(steps)}

    def truth(self) -> dict[int, set[int]]:
        everybody = range(self.scheme.hosts)
        rows = {
            a: {b for b in everybody if a // self.hosts != b // self.hosts and self.blind & set(self.steps(a, b))}
            for a in everybody
        }
        return {a: row for a, row in rows.items() if row}


def test_a_lab_in_order_asks_each_host_once() -> None:
    star = Star(8, 5, set())
    assert unrouted(star.scheme, {}, star.steps, star.ask) == {}
    assert star.asked == 40


@pytest.mark.parametrize(
    ("blind", "pairs"),
    [
        ({("core", "r3")}, 5 * 35),
        ({("r3", "core")}, 5 * 35),
        ({(f"h{number}", "r3") for number in range(15, 20)}, 5 * 35),
        ({("h15", "r3")}, 35),
        ({("r3", "h15"), ("core", "r1")}, 35 + 5 * 35),
    ],
    ids=["into", "out", "gateway", "one-host", "two"],
)
def test_exactly_the_pairs_with_a_dead_step(blind: set[Step], pairs: int) -> None:
    star = Star(8, 5, blind)
    found = unrouted(star.scheme, {}, star.steps, star.ask)
    assert found == star.truth()
    assert sum(map(len, found.values())) == pairs


def test_of_very_many_some_are_asked() -> None:
    star = Star(30, 5, {(f"r{number}", "core") for number in range(15)})
    found = unrouted(star.scheme, {}, star.steps, star.ask)
    assert found == star.truth()
    assert sum(map(len, found.values())) == 15 * 5 * 29 * 5
    assert star.asked < 4000


def test_what_is_lost_already_is_not_asked() -> None:
    star = Star(3, 2, {("core", "r1")})
    lost = {a: {2, 3} for a in (0, 1, 4, 5)}
    assert unrouted(star.scheme, lost, star.steps, star.ask) == {}


def test_no_other_subnet() -> None:
    star = Star(1, 20, {("h1", "h2")})
    assert unrouted(star.scheme, {}, star.steps, star.ask) == {}
    assert star.asked == 0


def test_parts_are_small_and_go_one_way() -> None:
    star = Star(8, 4, set())
    pairs = [((a, b), star.steps(a, b)) for a in range(32) for b in range(32) if a // 4 != b // 4]
    made = parts(pairs)
    assert sorted(pair for part in made for pair, _ in part) == sorted(pair for pair, _ in pairs)
    for part in made:
        steps = {step for _, steps in part for step in steps}
        assert not steps & {(other, one) for one, other in steps}
        assert 2 * sum(len(steps) for _, steps in part) <= ENTRIES_AT_ONCE
