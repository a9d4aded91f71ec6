"""Whether hosts find each other by ARP or neighbour discovery, where the pairs were asked with pinned entries. Pure.

A host finds others when its question reaches them, and is found when it answers theirs; neither depends on who the
other is. So each host asks one, and is asked by one, with the entries that its own kernel makes. Of a host for which
that fails with several others, each pair is asked again in this way.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Final

from emulator.reach.scheme import Scheme

Pair = tuple[int, int]
"""A sender, and the endpoint that it asks."""

Ask = Callable[[Sequence[Pair]], set[Pair]]
"""Asks without pinned entries; gives the pairs without a reply."""

_SECOND_TRIES: Final = 3


def unresolved(scheme: Scheme, lost: Mapping[int, set[int]], ask: Ask) -> dict[int, set[int]]:
    """Sender → receivers that answer only where the entries are pinned.

    Args:
        lost: sender → receivers that do not answer at all.
    """
    found: dict[int, set[int]] = {}
    for subnet, members in _subnets(scheme).items():
        for sender, endpoint in _in_subnet(scheme, lost, subnet, members, ask):
            found.setdefault(sender, set()).add(scheme.endpoints[endpoint].station)
    return found


def _subnets(scheme: Scheme) -> dict[str, list[int]]:
    members: dict[str, list[int]] = {}
    for station in range(scheme.hosts):
        for subnet in scheme.own[station]:
            members.setdefault(subnet, []).append(station)
    return {subnet: stations for subnet, stations in members.items() if len(stations) > 1}


def _in_subnet(
    scheme: Scheme, lost: Mapping[int, set[int]], subnet: str, members: Sequence[int], ask: Ask
) -> Iterator[Pair]:
    endpoint = {station: scheme.own[station][subnet] for station in members}
    nothing: set[int] = set()

    def answers(sender: int, receiver: int) -> bool:
        if sender == receiver or receiver in lost.get(sender, nothing):
            return False
        return scheme.target(sender, receiver) == endpoint[receiver]

    pairs: list[tuple[int, int]] = []
    for place, sender in enumerate(members):
        after = (members[(place + step) % len(members)] for step in range(1, len(members)))
        receiver = next((other for other in after if answers(sender, other)), None)
        if receiver is not None:
            pairs.append((sender, receiver))
    finds, is_found = _works(pairs, endpoint, ask)
    alive = {station for pair in pairs for station in pair}
    more: list[tuple[int, int]] = []
    for station in sorted(alive - finds):
        choices = [other for other in members if answers(station, other)]
        choices.sort(key=lambda other: other not in is_found)
        more += [(station, other) for other in choices[:_SECOND_TRIES]]
    for station in sorted(alive - is_found):
        choices = [other for other in members if answers(other, station)]
        choices.sort(key=lambda other: other not in finds)
        more += [(other, station) for other in choices[:_SECOND_TRIES]]
    if more:
        found_more = _works(list(dict.fromkeys(more)), endpoint, ask)
        finds, is_found = finds | found_more[0], is_found | found_more[1]
    blind, hidden = alive - finds, alive - is_found
    doubtful = [
        (sender, receiver)
        for sender in (members if hidden else sorted(blind))
        for receiver in (members if sender in blind else sorted(hidden))
        if answers(sender, receiver)
    ]
    for phase in phases(doubtful):
        yield from ask([(sender, endpoint[receiver]) for sender, receiver in phase])


def _works(pairs: Sequence[tuple[int, int]], endpoint: Mapping[int, int], ask: Ask) -> tuple[set[int], set[int]]:
    """The stations that find others, and those that are found."""
    good: list[tuple[int, int]] = []
    for phase in phases(pairs):
        failed = ask([(sender, endpoint[receiver]) for sender, receiver in phase])
        good += [(sender, receiver) for sender, receiver in phase if (sender, endpoint[receiver]) not in failed]
    return {sender for sender, _ in good}, {receiver for _, receiver in good}


def phases(pairs: Sequence[tuple[int, int]]) -> list[list[tuple[int, int]]]:
    """`pairs` in as many parts as are needed for nobody to ask and to be asked in the same part.

    Who waits for an answer learns from a question of the one it waits for, too (RFC 826, "Packet Reception"): a host
    that never answers would be found by its own questions.
    """
    parts: list[tuple[set[int], set[int], list[tuple[int, int]]]] = []
    for sender, receiver in pairs:
        place = next((one for one in parts if sender not in one[1] and receiver not in one[0]), None)
        if place is None:
            place = set(), set(), []
            parts.append(place)
        place[0].add(sender)
        place[1].add(receiver)
        place[2].append((sender, receiver))
    return [part for _, _, part in parts]
