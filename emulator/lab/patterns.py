"""Regular expressions of a lab file: they come from anywhere, so to look at one must not take for ever. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable
from re import _constants, _parser  # type: ignore[attr-defined]
from typing import Any

MAX_CHARACTERS = 1_000
"""As long as an expression may be."""

MAX_STEPS = 1_000_000
"""As many steps as it may take at most to see whether an expression matches no text and one character."""

_ROUNDS = 3
"""What repeats without a least number goes round so often at most where there is one character."""


def compiled(text: str) -> re.Pattern[str]:
    """`text` as a regular expression.

    Raises:
        ValueError: it is none, or too long.
    """
    if len(text) > MAX_CHARACTERS:
        raise ValueError(f"a regular expression has at most {MAX_CHARACTERS:,} characters")
    try:
        return re.compile(text, re.MULTILINE)
    except (re.error, OverflowError, RecursionError) as error:
        raise ValueError(f"not a regular expression: {error}") from None


def matches_anything(text: str) -> bool:
    """Whether the regular expression `text` matches even no text and a lone control character.

    Raises:
        ValueError: to find that out could take for ever.
    """
    pattern = compiled(text)
    parsed = _parser.parse(text, re.MULTILINE)
    if parsed.getwidth()[0] > 0:
        return False
    steps, ways = _effort(parsed)
    if steps * ways > MAX_STEPS:
        raise ValueError("this regular expression repeats too much within what it repeats")
    return bool(pattern.search("") and pattern.search("\x00"))


def _effort(parts: Iterable[tuple[Any, Any]]) -> tuple[int, int]:
    """At most how many steps it takes to go through `parts` once, and in how many ways, with one character at hand.

    Backtracking may take each of the ways, so both together are the time. Numbers beyond MAX_STEPS are not told apart.
    """
    steps, ways = 1, 1
    for kind, value in parts:
        inner: list[Iterable[tuple[Any, Any]]] = []
        rounds = 1
        if kind in (_constants.MAX_REPEAT, _constants.MIN_REPEAT, _constants.POSSESSIVE_REPEAT):
            least, most, repeated = value
            inner = [repeated]
            rounds = max(least, min(most, _ROUNDS))
        elif kind is _constants.BRANCH:
            inner = value[1]
        elif kind is _constants.SUBPATTERN:
            inner = [value[3]]
        elif kind is _constants.ATOMIC_GROUP:
            inner = [value]
        elif kind in (_constants.ASSERT, _constants.ASSERT_NOT):
            inner = [value[1]]
        elif kind is _constants.GROUPREF_EXISTS:
            inner = [part for part in value[1:] if part is not None]
        found = [_effort(part) for part in inner]
        steps += max(rounds, 1) * sum(each for each, _ in found) + 1
        here = sum(each for _, each in found) or 1
        if rounds > 1 or kind in (_constants.MAX_REPEAT, _constants.MIN_REPEAT):
            here = min(here + 1, MAX_STEPS) ** min(rounds, 20) if here > 1 else 2
        ways *= here
        steps, ways = min(steps, MAX_STEPS + 1), min(ways, MAX_STEPS + 1)
    return steps, ways
