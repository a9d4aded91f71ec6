"""Whether nodes find their neighbours where pairs of different subnets were asked with pinned entries. Pure.

Each host asks one in another subnet, some near and some far, with the entries that the kernels of all nodes on the way
make. Where one of these is not answered, the steps of its way that no answered one has are in doubt, and each pair with
such a step on its way is asked, or, of very many, some for each step.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Final

from emulator.reach.resolution import ALL_ASKED, Hosts, Pair, some
from emulator.reach.scheme import Scheme

Step = tuple[str, str]
"""A node that looks for a neighbour, and that neighbour."""

Steps = Callable[[int, int], Sequence[Step]]
"""The steps of a sender's request to a receiver, and of the reply."""

Ask = Callable[[Sequence[tuple[Pair, Sequence[Step]]]], set[Pair]]
"""Asks pairs, whose steps are beside them, without pinned entries; gives those without a reply."""

ENTRIES_AT_ONCE: Final = 256
"""Neighbour entries that the pairs of one part make, at most."""

_OPEN: Final = 16
_LOOKED_AT: Final = 4096


def unrouted(scheme: Scheme, lost: Mapping[int, set[int]], steps: Steps, ask: Ask) -> dict[int, set[int]]:
    """Sender → receivers in other subnets that answer only where the entries are pinned.

    Args:
        lost: sender → receivers that do not answer at all.
    """
    known: dict[Hosts, Sequence[Step]] = {}
    answers: dict[Hosts, bool] = {}

    def on_way(pair: Hosts) -> Sequence[Step]:
        if pair not in known:
            known[pair] = steps(*pair)
        return known[pair]

    def try_them(pairs: Sequence[Hosts]) -> None:
        asked = {pair: _pair(scheme, pair) for pair in dict.fromkeys(pairs) if pair not in answers}
        failed = ask([(each, on_way(pair)) for pair, each in asked.items()])
        answers.update((pair, each not in failed) for pair, each in asked.items())

    def dead() -> set[Step]:
        """The steps of pairs without an answer that no answered pair has."""
        good = {step for pair, answered in answers.items() if answered for step in on_way(pair)}
        return {step for pair, answered in answers.items() if not answered for step in on_way(pair)} - good

    try_them(list(_one_each(scheme, lost)))
    if all(answers.values()):
        return {}
    doubtful: dict[Step, list[Hosts]] = {step: [] for step in dead()}
    for pair in _far(scheme, lost):
        for step in doubtful.keys() & on_way(pair):
            doubtful[step].append(pair)
    found: set[Hosts] = set()
    if sum(map(len, doubtful.values())) <= ALL_ASKED:
        try_them([pair for pairs in doubtful.values() for pair in pairs])
    else:
        try_them([pair for pairs in doubtful.values() for pair in some(pairs)])
        gone = dead()
        for step in gone & doubtful.keys():
            found.update(pair for pair in doubtful[step] if pair not in answers)
        unexplained = [pair for pair, answered in answers.items() if not answered and not gone & set(on_way(pair))]
        odd = {step for pair in unexplained for step in on_way(pair)}
        try_them([pair for step in odd & doubtful.keys() for pair in doubtful[step] if pair not in found])
    found.update(pair for pair, answered in answers.items() if not answered)
    result: dict[int, set[int]] = {}
    for sender, receiver in found:
        result.setdefault(sender, set()).add(receiver)
    return result


def parts(pairs: Sequence[tuple[Pair, Sequence[Step]]]) -> list[list[tuple[Pair, Sequence[Step]]]]:
    """`pairs` in parts that make at most `ENTRIES_AT_ONCE` entries, in each of which no node looks for one that looks
    for it: that would learn of it by its question (RFC 826, "Packet Reception")."""
    done: list[list[tuple[Pair, Sequence[Step]]]] = []
    filling: list[tuple[set[Step], list[tuple[Pair, Sequence[Step]]]]] = []
    for pair, steps in pairs:
        turned = {(other, one) for one, other in steps}
        place = next((each for each in filling if not turned & each[0]), None)
        if place is None:
            place = set(), []
            filling.append(place)
            done.append(place[1])
        place[0].update(steps)
        place[1].append((pair, steps))
        full = 2 * sum(len(each) for _, each in place[1]) + 2 * len(steps) > ENTRIES_AT_ONCE
        if full:
            filling.remove(place)
        elif len(filling) > _OPEN:
            del filling[0]
    return done


def _pair(scheme: Scheme, hosts: Hosts) -> Pair:
    target = scheme.target(*hosts)
    return hosts[0], -1 if target is None else target


def _is_far(scheme: Scheme, lost: Mapping[int, set[int]], sender: int, receiver: int) -> bool:
    """Whether the sender asks the receiver in a subnet that it is not in itself, and has an answer."""
    if sender == receiver or receiver in lost.get(sender, ()):
        return False
    target = scheme.target(sender, receiver)
    return target is not None and scheme.endpoints[target].subnet not in scheme.own[sender]


def _far(scheme: Scheme, lost: Mapping[int, set[int]]) -> Iterator[Hosts]:
    hosts = range(scheme.hosts)
    return ((a, b) for a in hosts for b in hosts if _is_far(scheme, lost, a, b))


def _one_each(scheme: Scheme, lost: Mapping[int, set[int]]) -> Iterator[Hosts]:
    """For each host one in another subnet: the first host of a subnet asks in the next one, the second half the way
    round, the third a quarter, and so on; and one that asks each host that nobody asked yet."""
    groups: dict[tuple[str, ...], list[int]] = {}
    for host in range(scheme.hosts):
        groups.setdefault(tuple(scheme.own[host]), []).append(host)
    subnets = list(groups.values())
    count = len(subnets)
    if count < 2:
        return
    strides = [1, *itertools.takewhile(lambda stride: stride > 1, (count >> shift for shift in range(1, 32)))]
    asked: set[int] = set()
    for place, members in enumerate(subnets):
        for number, host in enumerate(members):
            start = place + strides[number % len(strides)]
            others = (subnets[(start + more) % count] for more in range(count))
            turned = (each for other in others for each in (*other[number:], *other[:number]))
            for receiver in itertools.islice(turned, _LOOKED_AT):
                if _is_far(scheme, lost, host, receiver):
                    asked.add(receiver)
                    yield host, receiver
                    break
    for receiver in range(scheme.hosts):
        if receiver not in asked:
            senders = (sender for sender in range(scheme.hosts) if _is_far(scheme, lost, sender, receiver))
            yield from ((sender, receiver) for sender in itertools.islice(senders, 1))
