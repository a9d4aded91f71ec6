"""What is wrong with the form of a lab file, in words for its author instead of those of the validating library."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, get_args, get_origin

from pydantic import BaseModel

from emulator.errors import Problem
from emulator.lab.base import PATTERNS
from emulator.lab.checks import CHECK_KINDS
from emulator.lab.document import Document, Path
from emulator.lab.model import LabSpec
from emulator.lab.problems import near

_EXPECTED = {
    "string_type": "text",
    "int_type": "a whole number",
    "int_parsing": "a whole number",
    "int_parsing_size": "a smaller number",
    "int_from_float": "a whole number",
    "bool_type": "true or false",
    "bool_parsing": "true or false",
    "dict_type": "a mapping",
    "mapping_type": "a mapping",
    "model_type": "a mapping",
    "model_attributes_type": "a mapping",
    "tuple_type": "a list",
    "list_type": "a list",
    "ip_v4_address": "an IPv4 address such as 192.168.1.1",
    "ip_v4_network": "an IPv4 network such as 192.168.1.0/24",
}
_HINTS = {"<<": "YAML's merge keys are not used here; give the nodes a `group`"}


def problem(document: Document, value: Any, error: Mapping[str, Any]) -> Problem:
    """One of pydantic's error details as a problem at its place.

    Args:
        value: what was validated: the document's value with the settings of groups and kinds merged in.
    """
    location: tuple[str | int, ...] = error["loc"]
    kind: str = error["type"]
    given = error.get("input")
    path = _document_path(value, location)
    if kind == "extra_forbidden":
        key = str(location[-1])
        hint = _HINTS.get(key) or near(key, _keys_beside(location))
        return document.problem(path, f"unknown key '{key}'", hint, key=True)
    if kind == "missing" and isinstance(location[-1], str):
        return document.problem(path, f"the key '{location[-1]}' is missing")
    if kind in ("union_tag_not_found", "union_tag_invalid"):
        return _check_kind(document, path, given)
    if location[-1] == "[key]":
        return document.problem(path, f"'{path[-1]}': {_reason(error)}", _hint(error), key=True)
    name = next((token for token in reversed(location) if isinstance(token, str)), "")
    where = f"'{name}': " if name else ""
    return document.problem(path, f"{where}{_reason(error)}", _hint(error))


def is_echo(error: Mapping[str, Any]) -> bool:
    """Whether the error only says that other errors left a list too short."""
    given = error.get("input")
    return (
        error["type"] == "too_short" and isinstance(given, (list, tuple)) and len(given) >= error["ctx"]["min_length"]
    )


def _check_kind(document: Document, path: Path, given: Any) -> Problem:
    if not isinstance(given, dict):
        return document.problem(path, f"expected a mapping, not {shown(given)}")
    if "check" not in given:
        return document.problem(path, "the key 'check' is missing")
    kind = given["check"]
    if not isinstance(kind, str):
        return document.problem((*path, "check"), f"'check': expected text, not {shown(kind)}")
    return document.problem((*path, "check"), f"no kind of check '{kind}'", near(kind, sorted(CHECK_KINDS)))


def _reason(error: Mapping[str, Any]) -> str:
    kind, context, given = error["type"], error.get("ctx", {}), error.get("input")
    if kind == "value_error":
        return str(context["error"])
    if kind == "literal_error":
        return f"expected {context['expected']}, not {shown(given)}"
    if kind == "string_pattern_mismatch":
        return f"expected {PATTERNS.get(context['pattern'], context['pattern'])}, not {shown(given)}"
    if kind in ("greater_than_equal", "less_than_equal"):
        bound = f"at least {context['ge']}" if "ge" in context else f"at most {context['le']}"
        return f"expected {bound}, not {shown(given)}"
    if kind in ("too_short", "too_long", "missing"):
        return _count(error)
    if kind in _EXPECTED:
        return f"expected {_EXPECTED[kind]}, not {shown(given)}"
    return f"{error['msg'][:1].lower()}{error['msg'][1:]}, not {shown(given)}"


def _count(error: Mapping[str, Any]) -> str:
    context = error.get("ctx", {})
    if error["type"] == "missing":
        return "expected one item more"
    wanted = context.get("min_length", context.get("max_length"))
    side = "at least" if error["type"] == "too_short" else "at most"
    return f"expected {side} {wanted} item{'s' if wanted != 1 else ''}, not {context.get('actual_length')}"


def _hint(error: Mapping[str, Any]) -> str | None:
    given = error.get("input")
    if error["type"] == "string_type" and isinstance(given, (int, float)):
        return f'in quotes: "{shown(given)}"'
    if error["type"] == "literal_error" and isinstance(given, str):
        words = [word.strip(" '") for word in error["ctx"]["expected"].replace(" or ", ",").split(",")]
        hint = near(given, words)
        return hint if hint and hint.startswith("did") else None
    return None


def shown(value: Any) -> str:
    """A value of the file, short enough for a message."""
    match value:
        case None:
            return "nothing"
        case bool():
            return str(value).lower()
        case dict():
            return "a mapping"
        case list() | tuple():
            return "a list"
    text = repr(value) if isinstance(value, str) else str(value)
    return text if len(text) <= 60 else text[:57] + "…"


def _document_path(value: Any, location: Sequence[str | int]) -> Path:
    """`location` without the tokens that the model adds (tags of unions, long forms) and the file does not have."""
    path: list[str | int] = []
    here = value
    for token in location:
        if isinstance(here, dict) and str(token) in here:
            path.append(str(token))
            here = here[str(token)]
        elif isinstance(here, list) and isinstance(token, int) and token < len(here):
            path.append(token)
            here = here[token]
    return tuple(path)


def _keys_beside(location: Sequence[str | int]) -> list[str]:
    """The keys that the model knows where `location`'s last key stands."""
    annotation: Any = LabSpec
    for token in location[:-1]:
        annotation = _step(annotation, token)
    model = _model(annotation)
    return [info.alias or name for name, info in model.model_fields.items()] if model else []


def _step(annotation: Any, token: str | int) -> Any:
    """The type of what stands at `token` in a value of the type `annotation`; None where that is unknown."""
    if isinstance(token, str) and token in CHECK_KINDS and _model(annotation) in CHECK_KINDS.values():
        return CHECK_KINDS[token]
    if model := _model(annotation):
        fields = (info for name, info in model.model_fields.items() if token in (info.alias, name))
        info = next(fields, None)
        return info.annotation if info else None
    container = _container(annotation)
    return get_args(container)[1 if get_origin(container) is dict else 0] if container else None


def _container(annotation: Any) -> Any:
    """The dict or tuple type inside Optional and Annotated."""
    origin = get_origin(annotation)
    if origin in (dict, tuple):
        return annotation
    inner = get_args(annotation)[:1] if origin is Annotated else get_args(annotation)
    return next((found for item in inner if (found := _container(item)) is not None), None)


def _model(annotation: Any) -> type[BaseModel] | None:
    """The model inside Optional and Annotated, but not inside a dict or tuple; of a union, the first."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    origin = get_origin(annotation)
    if origin in (dict, tuple):
        return None
    inner = get_args(annotation)[:1] if origin is Annotated else get_args(annotation)
    return next((found for item in inner if (found := _model(item)) is not None), None)
