"""From a file to a checked `LabSpec`: all problems at once, each with its place."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path as FilePath
from typing import Any

from pydantic import BaseModel, ValidationError

from emulator.errors import LabFileError, Problem, UsageError
from emulator.lab.document import MAX_OCTETS, Document, Path, parse
from emulator.lab.model import LabSpec


@dataclass(frozen=True)
class Lab:
    """What was written: the model, and the document that knows where each part of it stands."""

    spec: LabSpec
    document: Document


def merge_patch(target: Any, patch: Any) -> Any:
    """`target` changed by a JSON Merge Patch (RFC 7396, section 2): null removes, mappings merge, all else replaces."""
    if not isinstance(patch, Mapping):
        return patch
    result = dict(target) if isinstance(target, Mapping) else {}
    for key, value in patch.items():
        if value is None:
            result.pop(key, None)
        else:
            result[key] = merge_patch(result.get(key), value)
    return result


def read_document(path: FilePath) -> Document:
    """The document in the lab file, or in `lab.yml` of the folder, at `path`.

    Raises:
        UsageError: there is no such file, or it cannot be read.
        LabFileError: it is not a YAML document.
    """
    file = path / "lab.yml" if path.is_dir() else path
    try:
        with file.open("rb") as stream:
            octets = stream.read(MAX_OCTETS + 1)
    except OSError as error:
        raise UsageError(f"cannot read the lab file {file}: {error.strerror}") from None
    return parse(octets, str(file))


def load(path: FilePath, *, twin: str | None = None) -> Lab:
    """The lab in the file at `path`; with `twin`, broken by the patch of that name."""
    return build(read_document(path), twin=twin)


def build(document: Document, *, twin: str | None = None) -> Lab:
    """The lab in `document`.

    Raises:
        LabFileError: with every problem found.
        UsageError: the lab has no twin of that name.
    """
    if not isinstance(document.value, dict):
        raise LabFileError([document.problem((), "expected a mapping with the keys `name`, `nodes` and `links`")])
    if twin is not None:
        document = replace(document, value=_patched(document, twin))
    value, problems = _inherit(document)
    try:
        spec = LabSpec.model_validate(value)
    except ValidationError as error:
        problems += [_problem(document, value, item) for item in error.errors(include_url=False)]
        raise LabFileError(problems) from None
    if problems:
        raise LabFileError(problems)
    return Lab(spec, document)


def _patched(document: Document, twin: str) -> Any:
    twins = document.value.get("break")
    twins = twins if isinstance(twins, dict) else {}
    if twin not in twins:
        known = ", ".join(sorted(twins)) or "none"
        raise UsageError(f"the lab has no twin '{twin}'", hint=f"its twins: {known}")
    patch = twins[twin].get("patch") if isinstance(twins[twin], dict) else None
    return merge_patch(document.value, patch) if isinstance(patch, dict) else document.value


def _inherit(document: Document) -> tuple[dict[str, Any], list[Problem]]:
    """Nodes with the settings of their kind and group merged under their own."""
    value = dict(document.value)
    problems: list[Problem] = []
    nodes, kinds, groups = value.get("nodes"), value.get("kinds"), value.get("groups")
    if not isinstance(nodes, dict):
        return value, problems
    merged: dict[str, Any] = {}
    for name, node in nodes.items():
        own = {} if node is None else node
        if not isinstance(own, dict):
            merged[name] = node
            continue
        settings: Any = {}
        group = own.get("group")
        in_group = groups.get(group) if isinstance(groups, dict) and isinstance(group, str) else None
        if group is not None and not isinstance(in_group, dict):
            known = sorted(groups) if isinstance(groups, dict) else []
            problems.append(document.problem(("nodes", name, "group"), f"no group '{group}'", near(str(group), known)))
            in_group = None
        kind = own.get("kind", in_group.get("kind", "host") if in_group else "host")
        if isinstance(kinds, dict) and isinstance(kind, str) and isinstance(kinds.get(kind), dict):
            settings = merge_patch(settings, kinds[kind])
        if in_group:
            settings = merge_patch(settings, in_group)
        merged[name] = merge_patch(settings, own)
    value["nodes"] = merged
    return value, problems


def near(word: str, known: Sequence[str]) -> str | None:
    """A hint with the known word nearest to `word`, or the known words when they are few."""
    close = difflib.get_close_matches(word, known, n=1, cutoff=0.6)
    if close:
        return f"did you mean '{close[0]}'?"
    return f"known: {', '.join(known)}" if 0 < len(known) <= 12 else None


def _document_path(value: Any, location: Sequence[str | int]) -> Path:
    """`location` without the tokens that the model adds (tags of unions) and that the file does not have."""
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


_WORDING = {
    "missing": "the key is missing",
    "string_type": "expected text",
    "int_type": "expected a whole number",
    "bool_type": "expected true or false",
    "bool_parsing": "expected true or false",
    "int_parsing": "expected a whole number",
    "int_from_float": "expected a whole number",
    "dict_type": "expected a mapping",
    "mapping_type": "expected a mapping",
    "model_type": "expected a mapping",
    "model_attributes_type": "expected a mapping",
    "tuple_type": "expected a list",
    "list_type": "expected a list",
    "ip_v4_address": "expected an IPv4 address such as 192.168.1.1",
}


def _problem(document: Document, value: Any, error: Any) -> Problem:
    location: tuple[str | int, ...] = error["loc"]
    kind: str = error["type"]
    path = _document_path(value, location)
    if kind == "extra_forbidden":
        key = str(location[-1])
        return document.problem(path, f"unknown key '{key}'", near(key, _keys_beside(location)), key=True)
    if kind == "missing":
        return document.problem(path, f"the key '{location[-1]}' is missing")
    if kind in ("union_tag_not_found", "union_tag_invalid"):
        from emulator.lab.checks import CHECK_KINDS

        tag = str(error.get("ctx", {}).get("tag", ""))
        return document.problem(path, f"no kind of check '{tag}'", near(tag, sorted(CHECK_KINDS)))
    if path and path[-1] != location[-1] and location[-1] == "[key]":
        return document.problem(path, "the key has a wrong form", key=True)
    given = error.get("input")
    shown = f", not {_shown(given)}" if kind != "value_error" else ""
    context = error.get("ctx", {})
    reason = str(context["error"]) if kind == "value_error" and "error" in context else _WORDING.get(kind)
    if reason is None:
        reason = _lower_first(error["msg"]).replace("input should be", "expected").replace("string should", "text should")
    where = f"'{path[-1]}': " if path and isinstance(path[-1], str) else ""
    return document.problem(path, f"{where}{reason}{shown}")


def _lower_first(text: str) -> str:
    return text[:1].lower() + text[1:]


def _shown(value: Any) -> str:
    text = "nothing" if value is None else repr(value)
    return text if len(text) <= 60 else text[:57] + "…"


def _keys_beside(location: Sequence[str | int]) -> list[str]:
    """The keys that the model knows where `location`'s last key stands."""
    model: Any = LabSpec
    for token in location[:-1]:
        model = _step(model, token)
        if model is None:
            return []
    if isinstance(model, type) and issubclass(model, BaseModel):
        return [info.alias or name for name, info in model.model_fields.items()]
    return []


def _step(model: Any, token: str | int) -> Any:
    if isinstance(model, type) and issubclass(model, BaseModel):
        for name, info in model.model_fields.items():
            if token in (info.alias, name):
                return _inner(info.annotation)
        return model
    return model


def _inner(annotation: Any) -> Any:
    """The model inside Optional, Annotated, tuple and dict annotations."""
    for candidate in _candidates(annotation):
        return candidate
    return None


def _candidates(annotation: Any) -> Iterator[Any]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for argument in getattr(annotation, "__args__", ()):
        yield from _candidates(argument)
