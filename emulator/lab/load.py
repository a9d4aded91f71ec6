"""From a file to a checked `LabSpec`: all problems at once, each with its place."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path as FilePath
from typing import Any

from pydantic import ValidationError

from emulator.errors import LabFileError, UsageError
from emulator.lab.document import MAX_OCTETS, Document, Path, parse
from emulator.lab.model import LabSpec
from emulator.lab.problems import Problems, near
from emulator.lab.ranges import override, size, write_out
from emulator.lab.wording import is_echo, problem

MAX_PATCHED = 1_000_000
"""Values of a lab file times its twins: each twin is a lab file of its own."""

MAX_INHERITED = 1_000_000
"""Settings that nodes may take over from kinds and groups, all nodes together."""


@dataclass(frozen=True)
class Lab:
    """What was written: the model, and the document that knows where each part of it stands."""

    spec: LabSpec
    document: Document
    included: Mapping[str, str] = field(default_factory=dict)
    """Files of the lab file's folder that nodes get copies of: name → text."""


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


def build(document: Document, *, twin: str | None = None, included: Mapping[str, str] | None = None) -> Lab:
    """The lab in `document`.

    Args:
        included: what the files say that the lab includes from its folder, when that is known already.

    Raises:
        LabFileError: with every problem found.
        UsageError: the lab has no twin of that name.
    """
    if not isinstance(document.value, dict):
        raise LabFileError([document.problem((), "expected a mapping with the keys `name`, `nodes` and `links`")])
    if twin is not None:
        document = replace(document, value=_patched(document, twin), twin=twin)
    document, wrong_ranges = write_out(document)
    value, sources = _inherit(document)
    document = replace(document, sources=sources)
    problems = Problems(document)
    for wrong in wrong_ranges:
        problems.note(wrong)
    _check_groups(value, problems)
    try:
        spec = LabSpec.model_validate(value)
    except ValidationError as error:
        for item in error.errors(include_url=False):
            if not is_echo(item):
                problems.note(problem(document, value, item))
        problems.stop()
        raise
    if len(spec.break_) * size(value) > MAX_PATCHED:
        problems.add(
            ("break",), "too many twins of a lab file as large as this", "fewer twins, or smaller labs", key=True
        )
    texts = _included(spec, document, problems) if included is None else included
    problems.stop()
    return Lab(spec, document, texts)


def _included(spec: LabSpec, document: Document, problems: Problems) -> dict[str, str]:
    """The files that nodes get copies of. Only what is in the lab file's own folder can be had."""
    texts: dict[str, str] = {}
    folder = FilePath(document.file).parent
    for name, node in spec.nodes.items():
        for path, file in node.files.items():
            if file.from_ is None or file.from_ in texts:
                continue
            place = ("nodes", name, "files", path, "from")
            try:
                source = (folder / file.from_).resolve(strict=True)
                if not source.is_relative_to(folder.resolve()):
                    problems.add(place, f"{file.from_} is not in the folder of the lab file")
                    continue
                if not source.is_file():
                    problems.add(place, f"{file.from_} is not a file")
                    continue
                with source.open("rb") as stream:
                    octets = stream.read(MAX_OCTETS + 1)
                if len(octets) > MAX_OCTETS:
                    problems.add(place, f"{file.from_} has more than {MAX_OCTETS:,} octets")
                texts[file.from_] = octets.decode("utf-8")
            except (OSError, ValueError) as error:
                reason = getattr(error, "strerror", None) or "it is not UTF-8 text"
                problems.add(place, f"cannot read {file.from_} beside the lab file: {reason}")
    return texts


def _patched(document: Document, twin: str) -> Any:
    twins = document.value.get("break")
    twins = twins if isinstance(twins, dict) else {}
    if twin not in twins:
        known = ", ".join(sorted(twins)) or "none"
        raise UsageError(f"the lab has no twin '{twin}'", hint=f"its twins: {known}")
    patch = twins[twin].get("patch") if isinstance(twins[twin], dict) else None
    return merge_patch(document.value, patch) if isinstance(patch, dict) else document.value


def _inherit(document: Document) -> tuple[dict[str, Any], dict[Path, tuple[Path, ...]]]:
    """Nodes with the settings of their kind and group merged under their own, and where those settings stand."""
    value = dict(document.value)
    sources = dict(document.sources)
    nodes, kinds, groups = (_mapping(value.get(key)) for key in ("nodes", "kinds", "groups"))
    if not nodes:
        return value, sources
    sizes = {name: size(settings) for part in (kinds, groups) for name, settings in part.items()}
    total = 0
    merged: dict[str, Any] = {}
    for name, node in nodes.items():
        own = {} if node is None else node
        if not isinstance(own, dict):
            merged[name] = node
            continue
        group = own.get("group")
        in_group = _mapping(groups.get(group)) if isinstance(group, str) else {}
        kind = own.get("kind", in_group.get("kind", "host"))
        in_kind = _mapping(kinds.get(kind)) if isinstance(kind, str) else {}
        total += sizes.get(str(group), 0) + sizes.get(str(kind), 0)
        if total > MAX_INHERITED:
            text = f"more than {MAX_INHERITED:,} settings once those of kinds and groups are given to their nodes"
            raise LabFileError([document.problem(("nodes", name), text, key=True)])
        merged[name] = override(override(in_kind, in_group), own)
        path: Path = ("nodes", name)
        sources[path] = (*document.sources.get(path, ()), ("groups", str(group)), ("kinds", str(kind)))
    value["nodes"] = merged
    return value, sources


def _mapping(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _check_groups(value: Mapping[str, Any], problems: Problems) -> None:
    """Nodes name groups that exist, and no service is asked for by an empty value, which would be none."""
    groups = sorted(_mapping(value.get("groups")))
    for part, key in (
        ("kinds", "kind"),
        ("kinds", "group"),
        ("groups", "group"),
        ("kinds", "count"),
        ("groups", "count"),
    ):
        for name, settings in _mapping(value.get(part)).items():
            if key in _mapping(settings):
                problems.add((part, name, key), f"`{key}` can be said of a node only", key=True)
    for name, node in _mapping(value.get("nodes")).items():
        group = _mapping(node).get("group")
        if isinstance(group, str) and group not in groups:
            problems.add(("nodes", name, "group"), f"no group '{group}'", near(group, groups))
        for service, settings in _mapping(_mapping(node).get("services")).items():
            if settings is None:
                text = f"'{service}': nothing is said about the service"
                problems.add(("nodes", name, "services", service), text, f"with all its defaults: {service}: {{}}")
