"""Many nodes in one line: `h: {count: 100}`, or short for the same `h1..h100`; links and steps can name them together.

Written out here, before kinds and groups are merged in, so that nothing after this knows of ranges. Pure.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from emulator.errors import LabFileError, Problem
from emulator.lab.document import Document, Path

MAX_NODES = 10_000
"""As many nodes as the counts and ranges of a lab file make together."""

MAX_LINKS = 100_000
"""As many links as those of a lab file make together, once their ranges are written out."""

MAX_SETTINGS = 1_000_000
"""As many settings as the nodes of counts and ranges have together."""

_LIKE_A_RANGE = re.compile(r"[A-Za-z0-9-]*\.\.[A-Za-z0-9-]*")
_RANGE = re.compile(r"([A-Za-z0-9-]*?)([0-9]{1,9})\.\.\1([0-9]{1,9})")


class RangeError(ValueError):
    """Not a range; the hint says what one looks like."""

    def __init__(self, message: str, hint: str | None = "h1..h100 is h1, h2 and so on up to h100") -> None:
        super().__init__(message)
        self.hint = hint


def names(text: str) -> list[str] | None:
    """`h1..h100` → h1, h2, …, h100; `h01..h10` keeps its zeros; None when `text` is no more than a name.

    Raises:
        ValueError: it is no range, or a range of more than MAX_NODES names.
    """
    if _LIKE_A_RANGE.fullmatch(text) is None:
        return None
    match = _RANGE.fullmatch(text)
    if match is None:
        raise RangeError(f"'{text}' is not a range of names")
    beginning, first, last = match.groups()
    padded = first.startswith("0") and first != "0"
    if padded and len(first) != len(last):
        raise RangeError(f"'{text}': both numbers have as many digits when they begin with 0")
    low, high = int(first), int(last)
    if high < low:
        raise RangeError(f"'{text}': a range begins with its lowest number", f"{beginning}{last}..{beginning}{first}")
    if high - low >= MAX_NODES:
        raise RangeError(f"'{text}' has {high - low + 1:,} names; at most {MAX_NODES:,} can be", None)
    width = len(first) if padded else 0
    return [f"{beginning}{number:0{width}}" for number in range(low, high + 1)]


def write_out(document: Document) -> tuple[Document, list[Problem]]:
    """`document` with every node and link of its counts and ranges by itself, and what is wrong with these.

    Raises:
        LabFileError: they make too much.
    """
    value = document.value
    if not isinstance(value.get("nodes"), dict):
        return document, []
    writer = _Writer(document)
    value = {**value, "nodes": writer.nodes(value["nodes"])}
    rows: tuple[int, ...] = ()
    if isinstance(value.get("links"), list):
        value["links"], rows = writer.links(value["links"])
    if isinstance(value.get("scenes"), list):
        value["scenes"] = [
            writer.steps(scene, ("scenes", number)) if isinstance(scene, dict) else scene
            for number, scene in enumerate(value["scenes"])
        ]
    if isinstance(value.get("break"), dict):
        value["break"] = {
            name: writer.steps(twin, ("break", name)) if isinstance(twin, dict) else twin
            for name, twin in value["break"].items()
        }
    return replace(document, value=value, sources=writer.sources, rows=rows), writer.problems


class _Writer:
    def __init__(self, document: Document) -> None:
        self.document = document
        self.problems: list[Problem] = []
        self.sources: dict[Path, tuple[Path, ...]] = {}
        self.counted: dict[str, list[str]] = {}
        """What a name with a `count` stands for."""
        self._made = 0
        self._settings = 0

    def _wrong(self, path: Path, message: str, hint: str | None = None, *, key: bool = False) -> None:
        self.problems.append(self.document.problem(path, message, hint, key=key))

    def nodes(self, nodes: Mapping[str, Any]) -> dict[str, Any]:
        """Each node by itself. One that the file names by itself, too, has its own settings over those of the range."""
        shared: dict[str, Any] = {}
        own: dict[str, Any] = {}
        order: dict[str, None] = {}
        for key, node in nodes.items():
            many = self._many(key, node)
            if many is None:
                own[key] = node
                order.setdefault(key)
                continue
            settings = {} if node is None else node  # what is no mapping is wrong in all of them alike
            if isinstance(settings, dict):
                settings = {name: item for name, item in settings.items() if name != "count"}
            self._settings += len(many) * size(settings)
            if self._settings > MAX_SETTINGS:
                text = f"more than {MAX_SETTINGS:,} settings once those of counts and ranges are given to their nodes"
                raise LabFileError([self.document.problem(("nodes", key), text, key=True)])
            for name in many:
                if name in shared:
                    first = self.sources["nodes", name][0][1]
                    self._wrong(("nodes", key), f"'{key}' has {name}, which '{first}' has already", key=True)
                    break
                shared[name] = settings
                self.sources["nodes", name] = (("nodes", key),)
                order.setdefault(name)
        return {name: _both(shared, own, name) for name in order}

    def _many(self, key: str, node: Any) -> list[str] | None:
        """The names that an entry of `nodes` makes; None for a single node, and for what the model will complain of."""
        try:
            many = names(key)
        except RangeError as wrong:
            self._wrong(("nodes", key), str(wrong), wrong.hint, key=True)
            return None
        count = node.get("count") if isinstance(node, dict) else None
        if many is None:
            if not isinstance(count, int) or isinstance(count, bool) or not 1 <= count <= MAX_NODES:
                return None
            many = self.counted[key] = [f"{key}{number}" for number in range(1, count + 1)]
        elif count is not None:
            self._wrong(("nodes", key, "count"), "either a range of names or `count`, not both", key=True)
        if node is not None and not isinstance(node, dict):
            return many[:1]  # it is wrong in all of them alike
        self._made += len(many)
        if self._made > MAX_NODES:
            text = f"counts and ranges make more than {MAX_NODES:,} nodes"
            raise LabFileError([self.document.problem(("nodes", key), text, key=True)])
        return many

    def links(self, links: list[Any]) -> tuple[list[Any], tuple[int, ...]]:
        """Each link by itself, and the place in the file of each."""
        written: list[Any] = []
        rows: list[int] = []
        for number, link in enumerate(links):
            for one in self._link(link, number):
                written.append(one)
                rows.append(number)
                if len(written) > MAX_LINKS:
                    text = f"ranges make more than {MAX_LINKS:,} links"
                    raise LabFileError([self.document.problem(("links", number), text)])
        return written, tuple(rows) if len(written) != len(links) else ()

    def _link(self, link: Any, number: int) -> Iterator[Any]:
        """A link between ranges: pair by pair, or all of one end with the single node at the other."""
        ends = link.get("endpoints") if isinstance(link, dict) else link
        if not isinstance(ends, list) or len(ends) != 2 or not all(isinstance(end, str) for end in ends):
            yield link
            return
        first, second = (self._end(end, number, side) for side, end in enumerate(ends))
        if first is None or second is None:
            yield link
            return
        if len(first) != len(second) and 1 not in (len(first), len(second)):
            text = f"{len(first):,} nodes at one end and {len(second):,} at the other"
            self._wrong(("links", number), text, "as many at both ends, or one node at one end")
            yield link
            return
        most = max(len(first), len(second))
        for a, b in zip(first * (most // len(first)), second * (most // len(second)), strict=True):
            yield link if [a, b] == ends else {**link, "endpoints": [a, b]} if isinstance(link, dict) else [a, b]

    def _end(self, text: str, number: int, side: int) -> list[str] | None:
        """The single ends that `h1..h3`, `h1..h3:eth0` or the name of a node with a `count` stands for."""
        node, colon, interface = text.partition(":")
        try:
            many = self.counted.get(node) or names(node)
        except RangeError as wrong:
            path: Path = ("links", number, side)
            if path not in self.document.places:
                path = ("links", number, "endpoints", side)
            self._wrong(path, str(wrong), wrong.hint)
            return None
        return [text] if many is None else [f"{name}{colon}{interface}" for name in many]

    def steps(self, part: dict[str, Any], path: Path) -> dict[str, Any]:
        """A scene or a twin whose steps name single nodes under `on`."""
        if not isinstance(part.get("steps"), list):
            return part
        return {**part, "steps": [self._step(step, (*path, "steps", n)) for n, step in enumerate(part["steps"])]}

    def _step(self, step: Any, path: Path) -> Any:
        on = step.get("on") if isinstance(step, dict) else None
        given = [on] if isinstance(on, str) else on
        if not isinstance(given, list):
            return step
        written: list[Any] = []
        for name in given:
            try:
                many = (self.counted.get(name) or names(name)) if isinstance(name, str) else None
            except RangeError as wrong:
                self._wrong((*path, "on"), str(wrong), wrong.hint)
                many = []
            written += [name] if many is None else many
            self._settings += 0 if many is None else len(many)
            if self._settings > MAX_SETTINGS:
                text = f"ranges and counts make more than {MAX_SETTINGS:,} settings, the nodes of all steps among them"
                raise LabFileError([self.document.problem((*path, "on"), text)])
        return {**step, "on": written}


def _both(shared: Mapping[str, Any], own: Mapping[str, Any], name: str) -> Any:
    """The settings of a node that a range makes, that the file names by itself, or both."""
    if name not in shared:
        return own[name]
    return override(shared[name], own[name] or {}) if name in own else shared[name]


def size(value: Any) -> int:
    """How many values `value` is made of, itself included."""
    if isinstance(value, dict):
        return 1 + sum(size(item) for item in value.values())
    return 1 + sum(size(item) for item in value) if isinstance(value, list) else 1


def override(settings: Any, own: Any) -> Any:
    """`settings` with `own` merged over them. As in a merge patch null takes an inherited setting away; a null that
    takes nothing away stays and is judged as what it is."""
    if not isinstance(own, dict) or not isinstance(settings, dict):
        return own
    result = dict(settings)
    for key, value in own.items():
        if value is None and settings.get(key) is not None:
            del result[key]
        else:
            result[key] = override(settings.get(key), value)
    return result
