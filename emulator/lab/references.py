"""Names in a lab file that refer to something else in it: do they exist, and what do they stand for?"""

from __future__ import annotations

import functools
import re
import types
import typing
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from ipaddress import ip_address
from typing import Any

from pydantic import BaseModel

from emulator.filters import FilterError, parse
from emulator.lab.base import Ref
from emulator.lab.document import Path

TEMPLATE = re.compile(r"\{(gateway|[A-Za-z0-9-]+(?:\.[A-Za-z0-9_-]+)+)\}")
_HARMLESS_RUN = "0"


def references(model: BaseModel, path: Path) -> Iterator[tuple[str, str, Path]]:
    """Every marked text in `model`: (what it refers to, the text, where it stands)."""
    for name, key, annotation, marks in _fields(type(model)):
        yield from _walk(annotation, getattr(model, name), (*path, key), marks)


@functools.cache
def _fields(model: type[BaseModel]) -> list[tuple[str, str, Any, Sequence[Ref]]]:
    """The fields of a model that may hold marked texts: (attribute, key in the file, annotation, marks)."""
    fields = [
        (name, info.alias or name, info.annotation, [mark for mark in info.metadata if isinstance(mark, Ref)])
        for name, info in model.model_fields.items()
    ]
    return [field for field in fields if field[3] or _may_hold(field[2])]


def _may_hold(annotation: Any) -> bool:
    """Whether marks may be found inside of `annotation`. (What is in a model is looked at when one is there.)"""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return True
    _, arguments = _parts(annotation)
    return any(isinstance(argument, Ref) or _may_hold(argument) for argument in arguments)


@functools.lru_cache(maxsize=1000)
def _parts(annotation: Any) -> tuple[Any, tuple[Any, ...]]:
    """What is before the brackets of an annotation, and what is in them."""
    return typing.get_origin(annotation), typing.get_args(annotation)


def _walk(annotation: Any, value: Any, path: Path, marks: Sequence[Ref]) -> Iterator[tuple[str, str, Path]]:
    if value is None:
        return
    origin, arguments = _parts(annotation)
    if origin is typing.Annotated:
        inner = [mark for mark in arguments[1:] if isinstance(mark, Ref)]
        yield from _walk(arguments[0], value, path, [*marks, *inner])
    elif origin in (typing.Union, types.UnionType):
        for argument in arguments:
            if argument is not type(None):
                yield from _walk(argument, value, path, marks)
    elif isinstance(value, BaseModel):
        if isinstance(annotation, type) and isinstance(value, annotation):
            yield from references(value, path)
    elif isinstance(value, tuple):
        for index, item in enumerate(value):
            chosen = arguments[0] if arguments and (len(arguments) != len(value) or arguments[-1] is ...) else None
            yield from _walk(chosen or (arguments[index] if arguments else None), item, (*path, index), marks)
    elif isinstance(value, Mapping):
        for key, item in value.items():
            if arguments:
                yield from _walk(arguments[0], key, (*path, key), ())
                yield from _walk(arguments[1], item, (*path, key), marks)
    elif isinstance(value, str):
        for mark in marks:
            yield mark.to, value, path


def expand(text: str, lookup: Callable[[str], str | None]) -> str:
    """`text` with each `{name}` that `lookup` knows replaced by its value; the others stay as they are.

    `{run.…}` stays too: it is known only when the lab is verified.
    """

    def value(match: re.Match[str]) -> str:
        found = lookup(match[1])
        return match[0] if found is None else found

    return TEMPLATE.sub(value, text)


@dataclass(frozen=True)
class WrongFilter:
    """What is wrong with a filter; `offset` is the character of its text, from 0."""

    message: str
    hint: str | None
    offset: int


def filter_problem(text: str, lookup: Callable[[str], str | None]) -> WrongFilter | None:
    """What is wrong with a display filter once its templates are filled in; those that only a run knows are numbers."""
    filled = ""
    written = [0]
    end = 0
    for match in TEMPLATE.finditer(text):
        value = lookup(match[1]) or _HARMLESS_RUN
        filled += text[end : match.start()] + value
        written += [*range(end + 1, match.start() + 1), *[match.start()] * (len(value) - 1), match.end()]
        end = match.end()
    filled += text[end:]
    written += range(end + 1, len(text) + 1)
    try:
        parse(filled)
    except FilterError as error:
        return WrongFilter(error.message, error.hint, written[min(error.column - 1, len(written) - 1)])
    return None


def is_address(text: str) -> bool:
    """Whether `text` is an IP address."""
    try:
        ip_address(text)
    except ValueError:
        return False
    return True
