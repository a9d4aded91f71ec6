"""A YAML document with the place of every key and value; the only import of the YAML library.

A lab file is data from anywhere, so the document is built from parser events under limits (size, depth, aliases
expanded) instead of by a general loader. Scalars follow the YAML 1.2 core schema: `on`, `yes` and `22:22` are text.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import yaml

from emulator.errors import LabFileError, Problem

MAX_OCTETS = 1 << 20
MAX_DEPTH = 40
MAX_VALUES = 200_000

Path = tuple[str | int, ...]
Place = tuple[int, int]

_INTEGER = re.compile(r"[-+]?[0-9]{1,19}\Z")
_HEX = re.compile(r"0x[0-9a-fA-F]{1,16}\Z")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]{1,3})?\Z")
_WORDS: Mapping[str, bool | None] = {
    **dict.fromkeys(("true", "True", "TRUE"), True),
    **dict.fromkeys(("false", "False", "FALSE"), False),
    **dict.fromkeys(("", "~", "null", "Null", "NULL"), None),
}


@dataclass(frozen=True)
class Document:
    """The plain values of a file, and where each path stands (line and column from 1)."""

    file: str
    value: Any
    places: Mapping[Path, Place]
    key_places: Mapping[Path, Place]

    def problem(self, path: Path, message: str, hint: str | None = None, *, key: bool = False) -> Problem:
        """A problem at `path`, or at its nearest parent that stands in the file."""
        tables = (self.key_places, self.places) if key else (self.places, self.key_places)
        for length in range(len(path), -1, -1):
            for table in tables:
                if place := table.get(path[:length]):
                    return Problem(self.file, *place, message, hint)
        return Problem(self.file, 1, 1, message, hint)


def scalar(text: str) -> str | int | float | bool | None:
    """A plain scalar's value by the YAML 1.2 core schema (section 10.3.2), without octal, infinity and NaN."""
    if text in _WORDS:
        return _WORDS[text]
    if _INTEGER.match(text):
        return int(text)
    if _HEX.match(text):
        return int(text, 16)
    if _FLOAT.match(text) and math.isfinite(number := float(text)):
        return number
    return text


def parse(octets: bytes, file: str) -> Document:
    """The document in `octets`.

    Raises:
        LabFileError: not UTF-8, not YAML, empty, too large, too deep, too many aliases, a key given twice, …
    """

    def wrong(message: str, line: int = 1, column: int = 1, hint: str | None = None) -> LabFileError:
        return LabFileError([Problem(file, line, column, message, hint)])

    if len(octets) > MAX_OCTETS:
        raise wrong(f"the file is larger than {MAX_OCTETS:,} octets, the most that a lab file may have")
    try:
        text = octets.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        before = octets[: error.start]
        line = before.count(b"\n") + 1
        column = error.start - (before.rfind(b"\n") + 1) + 1
        raise wrong(f"not UTF-8: octet 0x{octets[error.start]:02x}", line, column, "save the file as UTF-8") from None
    for number, row in enumerate(text.split("\n"), 1):
        for column, character in enumerate(row, 1):
            if not character.isprintable() and character not in "\t\r":
                raise wrong(f"a character that cannot be shown: U+{ord(character):04X}", number, column)
    builder = _Builder(file)
    try:
        for event in yaml.parse(text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader)):
            builder.take(event)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line, column = (mark.line + 1, mark.column + 1) if mark else (1, 1)
        raise wrong(f"not YAML: {error.problem or error.context or 'cannot be read'}", line, column) from None
    except yaml.YAMLError as error:
        raise wrong(f"not YAML: {error}".splitlines()[0]) from None
    if builder.problems:
        raise LabFileError(builder.problems)
    if builder.root is None or builder.root[0] is None:
        raise wrong("the file is empty", hint="a lab file has at least `name`, `nodes` and `links`")
    return Document(file, builder.root[0], builder.places, builder.key_places)


class _Builder:
    """Builds values from YAML events without recursion over the file's depth."""

    def __init__(self, file: str) -> None:
        self.file = file
        self.problems: list[Problem] = []
        self.places: dict[Path, Place] = {}
        self.key_places: dict[Path, Place] = {}
        self.root: tuple[Any] | None = None
        self._stack: list[_Open] = []
        self._anchors: dict[str, tuple[Any, int]] = {}
        self._count = 0
        self._documents = 0

    def _stop(self, event: Any, message: str, hint: str | None = None) -> LabFileError:
        place = (event.start_mark.line + 1, event.start_mark.column + 1)
        return LabFileError([Problem(self.file, *place, message, hint)])

    def take(self, event: Any) -> None:
        if isinstance(event, yaml.DocumentStartEvent):
            self._documents += 1
            if self._documents > 1:
                raise self._stop(event, "a second YAML document", "one lab a file")
        elif isinstance(event, yaml.ScalarEvent):
            if event.tag not in (None, "!", "tag:yaml.org,2002:str"):
                raise self._stop(event, f"the tag {event.tag} is not part of a lab file")
            plain = event.implicit[0] and event.style in (None, "")
            value = scalar(event.value) if plain else event.value
            self._add(event, value, 1, event.value)
            if event.anchor:
                self._anchors[event.anchor] = (value, 1)
        elif isinstance(event, yaml.AliasEvent):
            if event.anchor not in self._anchors:
                raise self._stop(event, f"the alias *{event.anchor} has no anchor before it")
            value, size = self._anchors[event.anchor]
            self._add(event, value, size, "")
        elif isinstance(event, (yaml.MappingStartEvent, yaml.SequenceStartEvent)):
            if event.tag not in (None, "!"):
                raise self._stop(event, f"the tag {event.tag} is not part of a lab file")
            if len(self._stack) >= MAX_DEPTH:
                raise self._stop(event, f"nested more than {MAX_DEPTH} deep")
            container: Any = {} if isinstance(event, yaml.MappingStartEvent) else []
            if self._stack and self._stack[-1].wants_key:
                raise self._stop(event, "a key must be a plain word")
            path = self._child_path()
            self.places[path] = (event.start_mark.line + 1, event.start_mark.column + 1)
            self._stack.append(_Open(container, path, event.anchor, self._count))
        elif isinstance(event, (yaml.MappingEndEvent, yaml.SequenceEndEvent)):
            done = self._stack.pop()
            self._count += 1
            if done.anchor:
                self._anchors[done.anchor] = (done.value, self._count - done.count_before)
            self._put(done.value)

    def _child_path(self) -> Path:
        if not self._stack:
            return ()
        top = self._stack[-1]
        return (*top.path, len(top.value) if isinstance(top.value, list) else top.key)

    def _add(self, event: Any, value: Any, size: int, written: str) -> None:
        self._count += size
        if self._count > MAX_VALUES:
            raise self._stop(event, f"more than {MAX_VALUES:,} values once its aliases are expanded")
        place = (event.start_mark.line + 1, event.start_mark.column + 1)
        if self._stack and self._stack[-1].wants_key:
            top = self._stack[-1]
            if isinstance(value, (dict, list)):
                raise self._stop(event, "a key must be a plain word")
            key = written if written else str(value)
            path = (*top.path, key)
            if key in top.value:
                first = self.key_places[path]
                self.problems.append(Problem(self.file, *place, f"key '{key}' given twice", f"first in line {first[0]}"))
            self.key_places[path] = place
            top.key, top.wants_key = key, False
            top.value.setdefault(key, None)
            return
        self.places[self._child_path()] = place
        self._put(value)

    def _put(self, value: Any) -> None:
        if not self._stack:
            self.root = (value,)
            return
        top = self._stack[-1]
        if isinstance(top.value, list):
            top.value.append(value)
        else:
            top.value[top.key] = value
            top.wants_key = True


class _Open:
    """A mapping or sequence that is not closed yet."""

    def __init__(self, value: Any, path: Path, anchor: str | None, count_before: int) -> None:
        self.value = value
        self.path = path
        self.anchor = anchor
        self.count_before = count_before
        self.key = ""
        self.wants_key = isinstance(value, dict)
