"""The order in which packets of many interfaces are written."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import pytest

from emulator.capture.order import Order, Port
from emulator.capture.ring import Arrival, Block, Ring


class _Ring:
    """A ring whose blocks hold what the test says."""

    def __init__(self, arrivals: Sequence[Arrival]) -> None:
        self._arrivals = list(arrivals)

    def packets(self, _block: Block, _number: int, _snaplen: int) -> list[Arrival]:
        return list(self._arrivals)


def written(*ports: tuple[str, list[int]]) -> list[str]:
    """The interfaces in the order in which their packets, which came at these times, are written."""
    order = Order(0, 0)
    for number, (name, times) in sorted(enumerate(ports), key=lambda entry: entry[1][0]):
        ring = _Ring([(time_ns, name.encode()) for time_ns in times])
        block = Block(octets=b"", count=len(times), opened_ns=times[0], newest_ns=times[-1], first=0)
        order.add(0, Port(number, name, cast(Ring, ring)), [block])
    found: list[str] = []
    while arrivals := order.rest(10**9):
        found += [octets.decode() for _time_ns, octets in arrivals]
    return found


def test_packets_are_written_in_time_order() -> None:
    assert written(("a", [1, 4, 9]), ("b", [2, 3])) == ["a", "b", "b", "a", "a"]


@pytest.mark.parametrize("names", [("a-bridge", "port"), ("z-bridge", "port")])
def test_of_one_instant_the_port_comes_before_its_bridge(names: tuple[str, str]) -> None:
    bridge, port = names
    assert written((bridge, [5, 8]), (port, [5, 7, 8])) == [port, bridge, port, port, bridge]
