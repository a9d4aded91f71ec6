"""The result of a pairs test, and what it says in few words. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

from emulator.verify.verdict import Result, Verdict

ANSWERED = ord("1")
SILENT = ord("0")
UNTESTED = ord("-")


@dataclass(frozen=True)
class Group:
    """Pairs that are lost for the same reason, as it seems: none of `senders` reaches any of `receivers`.

    An empty tuple stands for everybody; with `both` nobody reaches `receivers`, and they reach nobody.
    """

    senders: tuple[str, ...]
    receivers: tuple[str, ...]
    pairs: int
    both: bool = False


@dataclass(frozen=True)
class Matrix:
    """Which host reaches which.

    Attributes:
        lab: the lab's name.
        nodes: the hosts, in the order of the lab file.
        rows: a row for each sender with a character for each receiver: `1` it answered, `0` it did not answer, `-` it
            was not asked, since it is the same host or has no address of an IP version that the sender has.
        promised: the same of what the lab file says: `1` there is a way there and back, `0` there is none.
        seconds: how long the test took.
        natural: whether all pairs found each other by the lab's own ARP or neighbour discovery.
        doubt: why the machine and not the lab may have lost pairs; nothing where it did not.
    """

    lab: str
    nodes: tuple[str, ...]
    rows: tuple[bytes, ...]
    promised: tuple[bytes, ...]
    seconds: float
    natural: bool = True
    doubt: str = ""

    @cached_property
    def pairs(self) -> int:
        """Ordered pairs of hosts that the lab promises."""
        return sum(row.count(ANSWERED) for row in self.promised)

    @cached_property
    def lost(self) -> int:
        """Pairs that the lab promises and that do not answer."""
        return sum(1 for _ in self.lost_pairs())

    @cached_property
    def unasked(self) -> int:
        """Pairs that the lab promises and that were not asked."""
        return sum(
            answer == UNTESTED and promise == ANSWERED
            for row, promises in zip(self.rows, self.promised, strict=True)
            if row != promises
            for answer, promise in zip(row, promises, strict=True)
        )

    @cached_property
    def unpromised(self) -> int:
        """Pairs that answer though the lab does not promise it."""
        return sum(
            answer == ANSWERED and promise != ANSWERED
            for row, promises in zip(self.rows, self.promised, strict=True)
            if row != promises
            for answer, promise in zip(row, promises, strict=True)
        )

    @property
    def success(self) -> bool:
        """Whether every pair that the lab promises answered; not if it promises none, which proves nothing."""
        return self.pairs > 0 and self.lost == 0

    def reaches(self, sender: str, receiver: str) -> bool:
        """Whether `receiver` answered `sender`; KeyError when one of them is no host of the lab."""
        return self.rows[self._place[sender]][self._place[receiver]] == ANSWERED

    @cached_property
    def _place(self) -> dict[str, int]:
        return {node: place for place, node in enumerate(self.nodes)}

    def lost_pairs(self) -> Iterator[tuple[str, str]]:
        """The pairs that the lab promises and that do not answer, by sender."""
        for sender, receivers in enumerate(self._lost_rows):
            for receiver in receivers:
                yield self.nodes[sender], self.nodes[receiver]

    @cached_property
    def _lost_rows(self) -> list[list[int]]:
        return [
            []
            if row == promises
            else [
                place
                for place, (answer, promise) in enumerate(zip(row, promises, strict=True))
                if promise == ANSWERED and answer != ANSWERED
            ]
            for row, promises in zip(self.rows, self.promised, strict=True)
        ]

    def groups(self) -> list[Group]:
        """The lost pairs, each in one group: hosts that are cut off, hosts that nobody reaches, hosts that reach
        nobody, and then senders that lose the same receivers."""
        lost = [set(row) for row in self._lost_rows]
        columns: list[set[int]] = [set() for _ in self.nodes]
        for sender, receivers in enumerate(lost):
            for receiver in receivers:
                columns[receiver].add(sender)
        expected_out = [row.count(ANSWERED) for row in self.promised]
        expected_in = [sum(row[place] == ANSWERED for row in self.promised) if columns[place] else 0
                       for place in range(len(self.nodes))]  # fmt: skip
        silent = {place for place, count in enumerate(expected_out) if count and len(lost[place]) == count}
        unreached = {place for place, count in enumerate(expected_in) if count and len(columns[place]) == count}
        if len(silent) == len(self.nodes):
            unreached = set()
        found: list[Group] = []

        def take(pairs: set[tuple[int, int]], group: tuple[Sequence[int], Sequence[int]], *, both: bool) -> None:
            for sender, receiver in pairs:
                lost[sender].discard(receiver)
            found.append(Group(self._names(group[0]), self._names(group[1]), len(pairs), both))

        def pairs_of(senders: set[int], receivers: set[int]) -> set[tuple[int, int]]:
            return {(a, b) for a in senders for b in lost[a]} | {
                (a, b) for b in receivers for a in columns[b] if b in lost[a]
            }

        for both, places in ((True, silent & unreached), (False, unreached - silent)):
            if places:
                take(pairs_of(places if both else set(), places), ((), sorted(places)), both=both)
        if silent - unreached and (pairs := pairs_of(silent - unreached, set())):
            take(pairs, (sorted(silent - unreached), ()), both=False)
        alike: dict[frozenset[int], list[int]] = {}
        for sender, receivers in enumerate(lost):
            if receivers:
                alike.setdefault(frozenset(receivers), []).append(sender)
        for receivers_set, senders in alike.items():
            count = len(senders) * len(receivers_set)
            found.append(Group(self._names(senders), self._names(sorted(receivers_set)), count))
        return found

    def _names(self, places: Sequence[int]) -> tuple[str, ...]:
        return tuple(self.nodes[place] for place in places)


def result(matrix: Matrix) -> Result:
    """The matrix as the verdict of one check of the network layer."""
    if not matrix.pairs:
        nothing = f"nothing was proved: the lab promises no pair of its {len(matrix.nodes):,} hosts an answer"
        return Result("pairs", "network", Verdict.UNKNOWN, nothing)
    if matrix.unasked and matrix.unasked == matrix.lost:
        some = f"nothing was proved: {matrix.unasked:,} of {matrix.pairs:,} pairs were not asked"
        return Result("pairs", "network", Verdict.UNKNOWN, some)
    if matrix.lost and matrix.doubt:
        text = f"{matrix.pairs - matrix.lost:,} of {matrix.pairs:,} pairs answered, and the others may be able to: "
        return Result("pairs", "network", Verdict.UNKNOWN, text + matrix.doubt)
    pairs = f"pair{'' if matrix.pairs == 1 else 's'}"
    text = f"{matrix.pairs - matrix.lost:,} of {matrix.pairs:,} {pairs} of {len(matrix.nodes):,} hosts answered"
    return Result("pairs", "network", Verdict.PASS if matrix.success else Verdict.FAIL, text)
