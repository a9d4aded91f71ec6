"""Whether hosts find each other by ARP or neighbour discovery, where the pairs were asked with pinned entries. Pure.

A question goes from a host through cables and switches to all, and its answer comes back: whether one host finds
another depends on the one that asks, the one that answers and what is between them. So the members of a subnet ask in
a circle, each the next one, with the entries that its own kernel makes: whatever part of the subnet no question leaves,
or none enters, one of these is about to. Where all of them are answered, all find each other.

Where one is not, hosts that find each other both ways are put together: what such a group can do, each of its members
can do. Of two groups of which one does not find the other, each pair is asked, or, of very many, some of each group.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Final, TypeVar

from emulator.reach.scheme import Scheme

Pair = tuple[int, int]
"""A sender, and the endpoint that it asks."""

Hosts = tuple[int, int]
"""A sender and a receiver."""

_Each = TypeVar("_Each")

Ask = Callable[[Sequence[Pair]], set[Pair]]
"""Asks without pinned entries; gives the pairs without a reply."""

ALL_ASKED: Final = 1024
"""So many pairs of groups that do not find each other are all asked. Of more, `SOME_ASKED` of every two groups are, and
the others only if one of them answers: each that does not costs a second, of which few can be waited for at once."""

SOME_ASKED: Final = 16

_GOLDEN: Final = (math.sqrt(5) - 1) / 2
_LOOKED_AT: Final = 256
"""Pairs of two groups among which one is looked for that can be asked."""


def unresolved(scheme: Scheme, lost: Mapping[int, set[int]], ask: Ask) -> dict[int, set[int]]:
    """Sender → receivers that answer only where the entries are pinned.

    Args:
        lost: sender → receivers that do not answer at all.
    """
    found: dict[int, set[int]] = {}
    for subnet, members in _subnets(scheme).items():
        for sender, receiver in _Subnet(scheme, lost, subnet, members, ask).unresolved():
            found.setdefault(sender, set()).add(receiver)
    return found


def _subnets(scheme: Scheme) -> dict[str, list[int]]:
    members: dict[str, list[int]] = {}
    for station in range(scheme.hosts):
        for subnet in scheme.own[station]:
            members.setdefault(subnet, []).append(station)
    return {subnet: stations for subnet, stations in members.items() if len(stations) > 1}


class _Subnet:
    """The hosts of one subnet, and which of them have been seen to find which."""

    def __init__(
        self, scheme: Scheme, lost: Mapping[int, set[int]], subnet: str, members: Sequence[int], ask: Ask
    ) -> None:
        self._scheme = scheme
        self._lost = lost
        self._members = members
        self._endpoint = {station: scheme.own[station][subnet] for station in members}
        self._ask = ask
        self._finds: dict[Hosts, bool] = {}

    def unresolved(self) -> Iterator[Hosts]:
        self._try(self._circle())
        if all(self._finds.values()):
            return
        groups, between = self._groups()
        place = {station: number for number, group in enumerate(groups) for station in group}
        alone = [pair for pair, finds in self._finds.items() if not finds and place[pair[0]] == place[pair[1]]]
        doubtful = [self._across(groups[one], groups[other]) for one, other in between]
        if sum(map(len, doubtful)) > ALL_ASKED:
            self._try([pair for pairs in doubtful for pair in some(pairs)])
            dead = [all(not self._finds[pair] for pair in some(pairs)) for pairs in doubtful]
        else:
            dead = [False] * len(doubtful)
        self._try([pair for pairs, known in zip(doubtful, dead, strict=True) if not known for pair in pairs])
        # Two that do not find each other though others find both: of these two hosts nothing is taken for granted.
        ends = dict.fromkeys(station for pair in alone for station in pair)
        self._try([pair for one in ends for other in self._members for pair in ((one, other), (other, one))
                   if self._answers(*pair)])  # fmt: skip
        yield from (pair for pairs, known in zip(doubtful, dead, strict=True) if known for pair in pairs
                    if self._finds.get(pair) is None)  # fmt: skip
        yield from (pair for pair, finds in self._finds.items() if not finds)

    def _answers(self, sender: int, receiver: int) -> bool:
        """Whether `receiver` is asked in this subnet, and answers when the entries are pinned."""
        if sender == receiver or receiver in self._lost.get(sender, ()):
            return False
        return self._scheme.target(sender, receiver) == self._endpoint[receiver]

    def _circle(self) -> list[Hosts]:
        """Each host and the next one that answers it; for one that nobody has asked then, the one before."""
        members, count = self._members, len(self._members)
        pairs: list[Hosts] = []
        for place, sender in enumerate(members):
            after = (members[(place + step) % count] for step in range(1, count))
            pairs += itertools.islice(((sender, other) for other in after if self._answers(sender, other)), 1)
        asked = {receiver for _, receiver in pairs}
        for place, receiver in enumerate(members):
            if receiver not in asked:
                before = (members[place - step] for step in range(1, count))
                pairs += itertools.islice(((other, receiver) for other in before if self._answers(other, receiver)), 1)
        return pairs

    def _groups(self) -> tuple[list[list[int]], list[Hosts]]:
        """Hosts that find each other both ways, in groups; and of which groups the first does not find the second."""
        self._try([(b, a) for (a, b), finds in self._finds.items() if finds and self._answers(b, a)])
        alive = {station for pair in self._finds for station in pair}
        group = {station: [station] for station in self._members if station in alive}
        for (a, b), finds in list(self._finds.items()):
            if finds and self._finds.get((b, a)) and group[a] is not group[b]:
                _join(group, group[a], group[b])
        rest = list({id(each): each for each in group.values()}.values())
        done: list[list[int]] = []
        while rest:
            head, *rest = rest
            asked = [(self._representatives(head, other), self._representatives(other, head)) for other in rest]
            self._try([pair for both in asked for pair in both if pair is not None])
            apart = []
            for other, (out, back) in zip(rest, asked, strict=True):
                if out and back and self._finds[out] and self._finds[back]:
                    _join(group, head, other)
                else:
                    apart.append(other)
            done.append(head)
            rest = apart
        place = {station: number for number, each in enumerate(done) for station in each}
        between = {(place[a], place[b]) for (a, b), finds in self._finds.items() if not finds and place[a] != place[b]}
        return done, sorted(between)

    def _representatives(self, senders: Sequence[int], receivers: Sequence[int]) -> Hosts | None:
        pairs = itertools.islice(itertools.product(senders, receivers), _LOOKED_AT)
        return next((pair for pair in pairs if self._answers(*pair)), None)

    def _across(self, senders: Sequence[int], receivers: Sequence[int]) -> list[Hosts]:
        return [pair for pair in itertools.product(senders, receivers) if self._answers(*pair)]

    def _try(self, pairs: Sequence[Hosts]) -> None:
        """Find out of `pairs` what is not known yet."""
        for phase in phases([pair for pair in dict.fromkeys(pairs) if pair not in self._finds]):
            failed = self._ask([(sender, self._endpoint[receiver]) for sender, receiver in phase])
            for sender, receiver in phase:
                self._finds[sender, receiver] = (sender, self._endpoint[receiver]) not in failed


def _join(group: dict[int, list[int]], one: list[int], other: list[int]) -> None:
    one += other
    for station in other:
        group[station] = one


def some(pairs: Sequence[_Each], count: int = SOME_ASKED) -> Sequence[_Each]:
    """`count` of `pairs`, from all over them and in no rhythm (multiples of the golden ratio)."""
    if len(pairs) <= count:
        return pairs
    return [pairs[int(number * _GOLDEN % 1 * len(pairs))] for number in range(count)]


def phases(pairs: Sequence[tuple[int, int]]) -> list[list[tuple[int, int]]]:
    """`pairs` in few parts, in each of which nobody asks and is asked.

    Who waits for an answer learns from a question of the one it waits for, too (RFC 826, "Packet Reception"): a host
    that never answers would be found by its own questions. In a part, all that ask differ from all that are asked in
    the same binary digit of their numbers.
    """
    parts: dict[tuple[int, int], list[tuple[int, int]]] = {}
    for sender, receiver in pairs:
        digit = (sender ^ receiver) & -(sender ^ receiver)
        parts.setdefault((digit, sender & digit), []).append((sender, receiver))
    return list(parts.values())
