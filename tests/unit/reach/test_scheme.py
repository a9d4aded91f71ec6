"""Who asks whom at which address, in which order, and what neighbour entries that takes."""

from __future__ import annotations

import json

from hypothesis import given
from hypothesis import strategies as st

from emulator.reach.scheme import Endpoint, Scheme, blocks
from emulator.reach.tester import entries_needed


def endpoint(station: int, subnet: str, version: int = 4) -> Endpoint:
    return Endpoint(station, subnet, version, "00" * (4 if version == 4 else 16), "02574c000000", 4)


@given(st.integers(2, 60), st.integers(1, 20))
def test_blocks_have_each_pair_once(count: int, size: int) -> None:
    seen: list[tuple[int, int]] = []
    for first, second in blocks(count, size):
        if first == second:
            seen += [(a, b) for a in first for b in first if a < b]
        else:
            seen += [(a, b) for a in first for b in second]
    assert sorted(seen) == [(a, b) for a in range(count) for b in range(a + 1, count)]


def test_target_is_near_and_by_ipv4_where_it_can() -> None:
    scheme = Scheme(
        "00" * 8,
        ("a", "b", "c", "d"),
        4,
        (
            endpoint(0, "x"),
            endpoint(1, "y"),
            endpoint(1, "x"),
            endpoint(1, "z", 6),
            endpoint(2, "z", 6),
            endpoint(3, "w"),
        ),
    )
    assert scheme.target(0, 1) == 2, "the address in the subnet that both are in"
    assert scheme.target(3, 1) == 1, "the first one"
    assert scheme.target(2, 1) == 3, "by IPv6, which alone both have"
    assert scheme.target(0, 2) is None
    assert scheme.targets(0, range(4)) == [2, 5]
    assert Scheme.from_json(json.loads(json.dumps(scheme.to_json()))) == scheme


@given(st.lists(st.integers(0, 3), min_size=2, max_size=12), st.integers(0, 2))
def test_entries_needed(subnets: list[int], routers: int) -> None:
    """Each host needs one for each other host and router of its subnet, each router one for each host and router."""
    hosts = [endpoint(number, str(subnet)) for number, subnet in enumerate(subnets)]
    count = len(hosts)
    gates = [endpoint(count + number, str(subnet)) for number in range(routers) for subnet in set(subnets)]
    names = tuple(f"n{number}" for number in range(count + routers))
    scheme = Scheme("", names, count, (*hosts, *gates))
    sizes = [subnets.count(subnet) + routers for subnet in set(subnets)]
    assert entries_needed(scheme) == sum(size * (size - 1) for size in sizes)
