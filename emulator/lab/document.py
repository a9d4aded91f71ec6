"""A YAML document with the place of every key and value; the only import of the YAML library.

A lab file is data from anywhere, so the document is built from parser events under limits (size, depth, aliases
expanded) instead of by a general loader. Scalars follow the YAML 1.2 core schema: `on`, `yes` and `22:22` are text.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import yaml

from emulator.errors import LabFileError, Problem, is_shown

MAX_OCTETS = 1 << 20
MAX_DEPTH = 40
MAX_VALUES = 200_000

Path = tuple[str | int, ...]
Place = tuple[int, int]

_LINE_END = re.compile(r"\r\n|\r|\n")
"""YAML 1.2, section 5.4; the parser's others are refused as characters that cannot be seen."""

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
    """The plain values of a file, and where each path stands (line and column from 1).

    Attributes:
        text_places: the first character of a scalar that stands in the file letter by letter, behind its quote.
        sources: path → other paths from which settings were merged into it (a node's range, group and kind).
        rows: the place in the file of each link, once ranges are written out; empty when each stands for itself.
        twin: the name of the twin whose patch was merged into `value`; the patch stands at `break`, name, `patch`.
    """

    file: str
    value: Any
    places: Mapping[Path, Place]
    key_places: Mapping[Path, Place]
    text_places: Mapping[Path, Place] = field(default_factory=dict)
    sources: Mapping[Path, tuple[Path, ...]] = field(default_factory=dict)
    twin: str | None = None
    rows: tuple[int, ...] = ()

    def written(self, path: Path) -> Path:
        """`path` with the number that a link has in the file."""
        if self.rows and path[:1] == ("links",) and len(path) > 1 and isinstance(path[1], int):
            return ("links", self.rows[path[1]], *path[2:])
        return path

    def problem(
        self, path: Path, message: str, hint: str | None = None, *, key: bool = False, offset: int = 0
    ) -> Problem:
        """A problem at `path`, or at its nearest parent that stands in the file.

        Args:
            key: the key is wrong, not its value.
            offset: the character of the value's text that is wrong, from 0.
        """
        if self.twin is not None:
            message = f"with the twin '{self.twin}': {message}"
        path = self.written(path)
        if offset and path in self.text_places and self.twin is None:
            line, column = self.text_places[path]
            return Problem(self.file, line, column + offset, message, hint)
        tables = (self.key_places, self.places) if key else (self.places, self.key_places)
        for variant in self._candidates(path):
            for table in tables:
                if place := table.get(variant):
                    return Problem(self.file, *place, message, hint)
        return Problem(self.file, 1, 1, message, hint)

    def _candidates(self, path: Path) -> Iterator[Path]:
        """`path` as the patch, the file, or a group may have written it, then its parents, the nearest first."""
        if self.twin is not None:
            for length in range(len(path), min(len(path), 2) - 1, -1):
                yield ("break", self.twin, "patch", *path[:length])
        for length in range(len(path), -1, -1):
            yield path[:length]
            for source in self.sources.get(path[:2], ()) if length >= 2 else ():
                yield (*source, *path[2:length])


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

    def wrong(message: str, hint: str | None = None, line: int = 1, column: int = 1) -> LabFileError:
        return LabFileError([Problem(file, line, column, message, hint)])

    if len(octets) > MAX_OCTETS:
        raise wrong(f"the file is too large: a lab file has at most {MAX_OCTETS:,} octets")
    try:
        text = octets.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        rows = error.object[: error.start].decode("utf-8").split("\n")
        said = f"not UTF-8: octet 0x{error.object[error.start]:02x}"
        raise wrong(said, "save the file as UTF-8", len(rows), len(rows[-1]) + 1) from None
    written = _LINE_END.split(text)
    for number, row in enumerate(written, 1):
        if row.isprintable():
            continue
        for column, character in enumerate(row, 1):
            if not is_shown(character) and character != "\t":
                said = f"a character that cannot be seen: U+{ord(character):04X}"
                raise wrong(said, 'remove it, or write it as an escape in "quotes"', number, column)
    builder = _Builder(file)
    try:
        for event in yaml.parse(text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader)):
            builder.take(event)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line, column = (mark.line + 1, mark.column + 1) if mark else (1, 1)
        if line > len(written):  # the parser's end of the file
            line, column = len(written), len(written[-1]) + 1
        raise wrong(*_wording(error, written[line - 1]), line, column) from None
    except yaml.YAMLError as error:
        raise wrong(f"not YAML: {error}".splitlines()[0]) from None
    if builder.problems:
        raise LabFileError(builder.problems)
    if builder.root is None or builder.root[0] is None:
        raise wrong("the file is empty", hint="a lab file has at least `name`, `nodes` and `links`")
    return Document(file, builder.root[0], builder.places, builder.key_places, builder.text_places)


_WORDINGS = (
    ("cannot start any token", "a value cannot begin with this character", 'put the text in "quotes"'),
    ("mapping values are not allowed", "a `key: value` cannot stand here",
     'indent it like the keys around it, or put the text in "quotes"'),
    ("could not find expected ':'", "this line needs a `:` after its key", None),
    ("did not find expected key", "neither a key that lines up with those above it, nor part of the value before it",
     "keys of one mapping start in one column"),
    ("did not find expected '-' indicator", "this does not line up with the list above it",
     "items of one list start in one column"),
    ("did not find expected ',' or", "a comma or the closing bracket is missing before this", "opened in line {line}"),
    ("did not find expected node content", "a value is missing before this", None),
    ("unexpected end of stream", "a quoted text is not closed", "opened in line {line}"),
)  # fmt: skip
"""What the parser says, and what that means for who wrote the file."""


def _wording(error: yaml.MarkedYAMLError, row: str) -> tuple[str, str | None]:
    if "\t" in row[: len(row) - len(row.lstrip())]:
        return "not YAML: a tab in the indentation", "indent with spaces"
    said = " ".join(part for part in (error.context, error.problem) if part) or "cannot be read"
    for part, meaning, hint in _WORDINGS:
        if part in said:
            opened = error.context_mark.line + 1 if error.context_mark else 1
            return f"not YAML: {meaning}", hint.format(line=opened) if hint else None
    return f"not YAML: {said}", None


class _Builder:
    """Builds values from YAML events without recursion over the file's depth."""

    def __init__(self, file: str) -> None:
        self.file = file
        self.problems: list[Problem] = []
        self.places: dict[Path, Place] = {}
        self.key_places: dict[Path, Place] = {}
        self.text_places: dict[Path, Place] = {}
        self.root: tuple[Any] | None = None
        self._stack: list[_Open] = []
        self._anchors: dict[str, tuple[Any, int, int]] = {}
        self._count = 0
        self._documents = 0

    def _stop(self, event: Any, message: str, hint: str | None = None) -> LabFileError:
        return LabFileError([Problem(self.file, *_place(event), message, hint)])

    def take(self, event: Any) -> None:
        if isinstance(event, yaml.DocumentStartEvent):
            self._documents += 1
            if self._documents > 1:
                raise self._stop(event, "a second YAML document", "one lab a file")
        elif isinstance(event, yaml.ScalarEvent):
            if event.tag not in (None, "!", "tag:yaml.org,2002:str"):
                raise self._stop(event, f"the tag {event.tag} is not part of a lab file")
            plain = event.implicit[0] and event.style in (None, "")
            if "\0" in event.value:
                raise self._stop(event, "a NUL character, which no name, argument or file here can have")
            value = scalar(event.value) if plain else event.value
            self._add(event, value, 1, event.value)
            if event.anchor:
                self._anchors[event.anchor] = (value, 1, 0)
        elif isinstance(event, yaml.AliasEvent):
            if event.anchor not in self._anchors:
                raise self._stop(event, f"the alias *{event.anchor} has no anchor before it")
            value, size, depth = self._anchors[event.anchor]
            if len(self._stack) + depth > MAX_DEPTH:
                raise self._stop(event, f"nested more than {MAX_DEPTH} deep once its aliases are expanded")
            if self._stack:
                self._stack[-1].depth = max(self._stack[-1].depth, depth)
            self._add(event, value, size, value if isinstance(value, str) else "")
        elif isinstance(event, (yaml.MappingStartEvent, yaml.SequenceStartEvent)):
            if event.tag not in (None, "!"):
                raise self._stop(event, f"the tag {event.tag} is not part of a lab file")
            if len(self._stack) >= MAX_DEPTH:
                raise self._stop(event, f"nested more than {MAX_DEPTH} deep", "a lab needs less than ten levels")
            container: Any = {} if isinstance(event, yaml.MappingStartEvent) else []
            if self._stack and self._stack[-1].wants_key:
                raise self._stop(event, "a key must be a plain word")
            path = self._child_path()
            self.places[path] = _place(event)
            self._stack.append(_Open(container, path, event.anchor, self._count))
        elif isinstance(event, (yaml.MappingEndEvent, yaml.SequenceEndEvent)):
            done = self._stack.pop()
            self._count += 1
            if self._stack:
                self._stack[-1].depth = max(self._stack[-1].depth, done.depth + 1)
            if done.anchor:
                self._anchors[done.anchor] = (done.value, self._count - done.count_before, done.depth + 1)
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
        place = _place(event)
        if self._stack and self._stack[-1].wants_key:
            top = self._stack[-1]
            if isinstance(value, (dict, list)):
                raise self._stop(event, "a key must be a plain word")
            if value is None and not written:
                raise self._stop(event, "the key is missing before the `:`")
            key = written if written else str(value)
            path = (*top.path, key)
            if key in top.value:
                first = self.key_places[path]
                hint = f"first in line {first[0]}"
                self.problems.append(Problem(self.file, *place, f"key '{key}' given twice", hint))
            else:
                self.key_places[path] = place
            top.key, top.wants_key = key, False
            top.value.setdefault(key, None)
            return
        path = self._child_path()
        self.places[path] = place
        if written:
            width = (
                event.end_mark.column - event.start_mark.column if event.end_mark.line == event.start_mark.line else 0
            )
            if width - len(written) in (0, 2):
                self.text_places[path] = (place[0], place[1] + (width - len(written)) // 2)
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


def _place(event: Any) -> Place:
    return event.start_mark.line + 1, event.start_mark.column + 1


class _Open:
    """A mapping or sequence that is not closed yet."""

    def __init__(self, value: Any, path: Path, anchor: str | None, count_before: int) -> None:
        self.value = value
        self.path = path
        self.anchor = anchor
        self.count_before = count_before
        self.depth = 0
        self.key = ""
        self.wants_key = isinstance(value, dict)
