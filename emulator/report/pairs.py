"""The result of a pairs test for a person: the matrix where it is small, and in words what is lost. Pure."""

from __future__ import annotations

from typing import Any, Final

from emulator.errors import printable
from emulator.verify.matrix import ANSWERED, SILENT, Group, Matrix

MATRIX_MOST: Final = 40
"""Hosts whose matrix is printed; of more it would be a wall of signs."""

_LINES_MOST: Final = 20
_NAMES_MOST: Final = 8
_SIGNS: Final = {True: {ANSWERED: "+", SILENT: "X"}, False: {ANSWERED: "!", SILENT: "."}}
"""By whether the pair is promised, and by the answer."""

_MEANING: Final = {
    "+": "answered",
    "X": "lost",
    ".": "no answer, and none is promised",
    "!": "answered, though that is not promised",
    "-": "not asked: no address of one IP version",
}


def render(matrix: Matrix, *, width: int = 100) -> str:
    """The matrix, a row for each sender and a sign for each receiver, and a line for each group of lost pairs."""
    lines: list[str] = []
    if len(matrix.nodes) <= MATRIX_MOST:
        names = max(len(printable(name)) for name in matrix.nodes)
        rows = [_signs(matrix, place) for place in range(len(matrix.nodes))]
        gap = " " if names + 4 + 2 * len(rows) <= width else ""
        for name, signs in zip(matrix.nodes, rows, strict=True):
            lines.append(f"  {printable(name):<{names}}  {gap.join(signs)}")
        used = set("".join(rows))
        lines += ["", "  " + "   ".join(f"{sign} {text}" for sign, text in _MEANING.items() if sign in used), ""]
    groups = matrix.groups()
    lines += [f"  {words(group)} ({counted_pairs(group.pairs)})" for group in groups[:_LINES_MOST]]
    if len(groups) > _LINES_MOST:
        rest = sum(group.pairs for group in groups[_LINES_MOST:])
        lines.append(f"  and {counted_pairs(rest)} more; --json has the whole matrix")
    if groups:
        lines.append("")
    if matrix.unpromised:
        lines += [f"  {counted_pairs(matrix.unpromised)} answered though the lab file does not promise it", ""]
    return "".join(f"{line}\n" for line in lines)


def _signs(matrix: Matrix, sender: int) -> str:
    r"""A sign for each receiver; the sender itself is a backslash, so that the diagonal is a line."""
    row = zip(matrix.rows[sender], matrix.promised[sender], strict=True)
    signs = [_SIGNS[promise == ANSWERED].get(answer, "-") for answer, promise in row]
    signs[sender] = "\\"
    return "".join(signs)


def counted_pairs(count: int) -> str:
    """`1 pair`, `1,998 pairs`."""
    return f"{count:,} pair{'' if count == 1 else 's'}"


def words(group: Group) -> str:
    """What a group of lost pairs has in common."""
    senders, receivers = _names(group.senders), _names(group.receivers)
    if group.both:
        them, reach = ("it reaches", "reaches") if len(group.receivers) == 1 else ("they reach", "reaches")
        return f"nobody {reach} {receivers}, and {them} nobody"
    if not group.senders:
        return f"nobody reaches {receivers}"
    verb = "reaches" if len(group.senders) == 1 else "reach"
    if not group.receivers:
        return f"{senders} {verb} nobody"
    return f"{senders} {'does' if len(group.senders) == 1 else 'do'} not reach {receivers}"


def _names(names: tuple[str, ...]) -> str:
    shown = [printable(name) for name in names[:_NAMES_MOST]]
    more = len(names) - len(shown)
    return ", ".join(shown) + (f" and {more:,} more" if more else "")


def as_dict(matrix: Matrix) -> dict[str, Any]:
    """The matrix as plain data: rows of characters, `1` answered, `0` no answer, `-` not asked; and the lost pairs."""
    return {
        "nodes": list(matrix.nodes),
        "reachable": [row.decode("ascii") for row in matrix.rows],
        "promised": [row.decode("ascii") for row in matrix.promised],
        "pairs": matrix.pairs,
        "lost": matrix.lost,
        "unpromised": matrix.unpromised,
        "groups": [
            {"senders": list(group.senders), "receivers": list(group.receivers), "both": group.both,
             "pairs": group.pairs}
            for group in matrix.groups()
        ],
        "pairs_seconds": matrix.seconds,
    }  # fmt: skip
