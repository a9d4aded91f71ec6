"""Names in a lab file that refer to something else in it: do they exist, and what do they stand for?"""

from __future__ import annotations

import re
import types
import typing
from collections.abc import Callable, Iterator, Mapping, Sequence
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
    for name, info in type(model).model_fields.items():
        value = getattr(model, name)
        here = (*path, info.alias or name)
        marks = [mark for mark in info.metadata if isinstance(mark, Ref)]
        yield from _walk(info.annotation, value, here, marks)


def _walk(annotation: Any, value: Any, path: Path, marks: Sequence[Ref]) -> Iterator[tuple[str, str, Path]]:
    if value is None:
        return
    origin = typing.get_origin(annotation)
    arguments = typing.get_args(annotation)
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


def template_names(text: str) -> list[str]:
    """The names inside braces in `text`, without those of a run."""
    return [name for name in TEMPLATE.findall(text) if not name.startswith("run.") and name != "gateway"]


def filter_problem(text: str) -> str | None:
    """What is wrong with a display filter, or None."""
    try:
        parse(TEMPLATE.sub(_HARMLESS_RUN, text))
    except FilterError as error:
        return str(error)
    return None


def is_address(text: str) -> bool:
    """Whether `text` is an IP address."""
    try:
        ip_address(text)
    except ValueError:
        return False
    return True
