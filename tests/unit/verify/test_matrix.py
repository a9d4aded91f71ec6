"""The matrix of a pairs test: what is lost, in groups that hold every lost pair once."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from emulator.verify.matrix import Group, Matrix, result
from emulator.verify.verdict import Verdict


def matrix(*rows: str, promised: tuple[str, ...] = ()) -> Matrix:
    nodes = tuple(f"h{place + 1}" for place in range(len(rows)))
    full = promised or tuple("1" * place + "-" + "1" * (len(rows) - place - 1) for place in range(len(rows)))
    return Matrix("lab", nodes, tuple(row.encode() for row in rows), tuple(row.encode() for row in full), 0.5)


def test_whole() -> None:
    made = matrix("-11", "1-1", "11-")
    assert (made.pairs, made.lost, made.unpromised, made.success, made.groups()) == (6, 0, 0, True, [])
    assert made.reaches("h1", "h3")
    assert result(made).verdict is Verdict.PASS
    assert result(made).reason == "6 of 6 pairs of 3 hosts answered"


def test_nothing_promised_proves_nothing() -> None:
    made = matrix("--", "--", promised=("--", "--"))
    assert not made.success
    assert result(made).verdict is Verdict.UNKNOWN
    assert "promises no pair of its 2 hosts" in result(made).reason


def test_cut_off() -> None:
    made = matrix("-011", "0-00", "10-1", "101-")
    assert made.groups() == [Group((), ("h2",), 6, both=True)]
    assert result(made).verdict is Verdict.FAIL
    assert result(made).reason == "6 of 12 pairs of 4 hosts answered"


def test_one_way() -> None:
    assert matrix("-011", "1-11", "10-1", "101-").groups() == [Group((), ("h2",), 3)]
    assert matrix("-111", "0-00", "11-1", "111-").groups() == [Group(("h2",), (), 3)]


def test_halves() -> None:
    made = matrix("-100", "1-00", "00-1", "001-")
    assert made.groups() == [Group(("h1", "h2"), ("h3", "h4"), 4), Group(("h3", "h4"), ("h1", "h2"), 4)]


def test_what_is_not_promised_is_not_lost() -> None:
    made = matrix("-0", "1-", promised=("-0", "0-"))
    assert (made.pairs, made.lost, made.unpromised, made.success) == (0, 0, 1, False)  # nothing is proved


@given(st.integers(2, 9), st.data())
def test_groups_hold_every_lost_pair_once(count: int, data: st.DataObject) -> None:
    signs = st.lists(st.sampled_from("01"), min_size=count, max_size=count)

    def draw() -> tuple[str, ...]:
        rows = [data.draw(signs) for _ in range(count)]
        for place, row in enumerate(rows):
            row[place] = "-"
        return tuple("".join(row) for row in rows)

    made = matrix(*draw(), promised=draw())
    lost = set(made.lost_pairs())
    assert made.lost == len(lost)
    groups = made.groups()
    assert sum(group.pairs for group in groups) == len(lost)
    covered: set[tuple[str, str]] = set()
    for group in groups:
        senders, receivers = group.senders or made.nodes, group.receivers or made.nodes
        covered |= {(a, b) for a in senders for b in receivers} & lost
        if group.both:
            covered |= {(b, a) for a in senders for b in receivers} & lost
    assert covered == lost


def test_pairs_that_were_not_asked_prove_nothing() -> None:
    made = matrix("--", "1-", promised=("-1", "1-"))
    assert made.unasked == 1
    assert result(made).verdict is Verdict.UNKNOWN
    assert result(made).reason == "nothing was proved: 1 of 2 pairs were not asked"


def test_pairs_that_the_machine_may_have_lost_are_unknown() -> None:
    made = replace(matrix("-0", "1-"), doubt="the machine's neighbour table was full")
    assert result(made).verdict is Verdict.UNKNOWN
    assert result(made).reason.endswith(
        "answered, and the others may be able to: the machine's neighbour table was full"
    )
    assert result(replace(made, doubt="")).verdict is Verdict.FAIL
    assert result(replace(matrix("-1", "1-"), doubt="full")).verdict is Verdict.PASS
