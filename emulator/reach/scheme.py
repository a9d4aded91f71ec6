"""What is to be tested: the hosts, their endpoints, and which endpoint stands for a pair. Pure, standard library only.

It goes to the processes that test as JSON, so it holds numbers and texts alone.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any


@dataclass(frozen=True)
class Endpoint:
    """An address of a station: which station (its number), in which subnet, the address and MAC in hexadecimal digits,
    and the index of the interface."""

    station: int
    subnet: str
    version: int
    address: str
    mac: str
    index: int


@dataclass(frozen=True)
class Scheme:
    """Who asks whom.

    Attributes:
        nonce: what marks this test's requests, in hexadecimal digits.
        stations: the nodes that take part; hosts come first, then routers, which are neighbours and are not asked.
        hosts: how many of the stations are hosts.
        endpoints: all addresses of all stations.
        shared: the endpoints whose address is not at their station alone.
    """

    nonce: str
    stations: tuple[str, ...]
    hosts: int
    endpoints: tuple[Endpoint, ...]
    shared: tuple[int, ...] = ()

    @cached_property
    def own(self) -> list[dict[str, int]]:
        """Of each station: subnet → its own first endpoint there."""
        found: list[dict[str, int]] = [{} for _ in self.stations]
        for number, endpoint in enumerate(self.endpoints):
            found[endpoint.station].setdefault(endpoint.subnet, number)
        return found

    @cached_property
    def by_version(self) -> list[dict[int, list[int]]]:
        """Of each station: IP version → its endpoints."""
        found: list[dict[int, list[int]]] = [{} for _ in self.stations]
        for number, endpoint in enumerate(self.endpoints):
            found[endpoint.station].setdefault(endpoint.version, []).append(number)
        return found

    def target(self, sender: int, receiver: int) -> int | None:
        """The endpoint that `sender` asks to reach `receiver`: by IPv4 where both have it, else by IPv6; the one in a
        subnet that they share, else the first. None when they have no IP version in common."""
        mine, theirs = self.by_version[sender], self.by_version[receiver]
        for version in (4, 6):
            if version in mine and version in theirs:
                choices = theirs[version]
                if len(choices) > 1:
                    near = self.own[sender]
                    return next((each for each in choices if self.endpoints[each].subnet in near), choices[0])
                return choices[0]
        return None

    @cached_property
    def _only(self) -> list[int] | None:
        """The endpoint of each host when each has one, all of the same IP version; else None."""
        found = [endpoints for host in self.by_version[: self.hosts] for endpoints in host.values()]
        versions = {version for host in self.by_version[: self.hosts] for version in host}
        if len(versions) > 1 or len(found) != self.hosts or any(len(endpoints) != 1 for endpoints in found):
            return None
        return [endpoint for (endpoint,) in found]

    def targets(self, sender: int, receivers: Sequence[int]) -> list[int]:
        """The endpoints that `sender` asks to reach `receivers`, without itself and those it cannot ask."""
        only = self._only
        if only is not None:
            return [only[receiver] for receiver in receivers if receiver != sender]
        found = (self.target(sender, receiver) for receiver in receivers if receiver != sender)
        return [endpoint for endpoint in found if endpoint is not None]

    def routers(self) -> Iterator[tuple[int, int]]:
        """Two endpoints, one of which is a router's, in one subnet: each pair both ways."""
        members: dict[str, list[int]] = {}
        for number, endpoint in enumerate(self.endpoints):
            members.setdefault(endpoint.subnet, []).append(number)
        for numbers in members.values():
            routers = [number for number in numbers if self.endpoints[number].station >= self.hosts]
            for router in routers:
                for other in numbers:
                    if self.endpoints[other].station != self.endpoints[router].station:
                        yield router, other
                        if self.endpoints[other].station < self.hosts:
                            yield other, router

    def to_json(self) -> dict[str, Any]:
        """Plain data."""
        return asdict(self)

    @staticmethod
    def from_json(data: Mapping[str, Any]) -> Scheme:
        """What `to_json` made plain data of."""
        endpoints = tuple(Endpoint(**each) for each in data["endpoints"])
        return Scheme(data["nonce"], tuple(data["stations"]), data["hosts"], endpoints, tuple(data["shared"]))


def blocks(count: int, size: int) -> list[tuple[range, range]]:
    """All pairs of `count` things in blocks: each unordered pair of things is in exactly one block, in which the first
    thing is in one range and the second in the other."""
    tiles = [range(start, min(start + size, count)) for start in range(0, count, size)]
    return [(first, second) for place, first in enumerate(tiles) for second in tiles[place:]]
