"""What is kept of a verification, as files: data to octets and back. Pure; `emulator.kept` reads and writes them.

manifest.json   the form's number, the version of Wirelab, and of every other file its size and SHA-256
lab.yml         the lab file's text
lab.json        where it was, its twin with the checks that it is meant to break, the files that it includes, and what
                its nodes were made of
resolved.json   the lab with everything filled in
plan.json       the operations that built it
capture.pcapng  all packets
outputs.json    what the scenes' commands printed, when they began and ended
tables.json     the nodes' tables before and after
marks.json      when each scene began and ended, and the values of this run (`run.port`)
report.json     the verdicts
versions.json   the kernel, Python, and the programs that the lab runs
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, fields, is_dataclass
from enum import Enum
from ipaddress import IPv4Address, IPv4Interface, IPv4Network, IPv6Address, IPv6Interface, IPv6Network
from typing import Any, Final

from pydantic import BaseModel

from emulator.lab.nodes import Backend
from emulator.lab.resolved import NoServices
from emulator.verify.evidence import Evidence, Output, Window

FORMAT: Final = 1
"""The number of the form that is described above; another form has another number."""

MANIFEST: Final = "manifest.json"
CAPTURE: Final = "capture.pcapng"
FILES: Final = (
    "lab.yml", "lab.json", "resolved.json", "plan.json", "outputs.json", "tables.json", "marks.json", "report.json",
    "versions.json",
)  # fmt: skip
"""All files but the manifest and the capture."""

_ADDRESSES = (IPv4Address, IPv6Address, IPv4Interface, IPv6Interface, IPv4Network, IPv6Network)


class FolderError(ValueError):
    """The files are not those of a kept verification; its text says why, in words for a person."""


@dataclass(frozen=True)
class Kept:
    """A verification that is kept, without its packets.

    Attributes:
        source: where the lab file was.
        text: what stood in it.
        included: what the files of its folder said that nodes got copies of: name → text.
        twin: the twin that the lab was broken by, or None.
        expected: the checks that the twin names, or None.
        backend: what the nodes were made of of which the file does not say it.
        resolved, plan, report: plain data (JSON).
        evidence: all but frames and interfaces.
        versions: the kernel and the programs: name → version.
    """

    source: str
    text: str
    included: Mapping[str, str]
    twin: str | None
    expected: tuple[str, ...] | None
    backend: Backend
    resolved: Any
    plan: Any
    report: Any
    evidence: Evidence
    versions: Mapping[str, str]


@dataclass(frozen=True)
class Seal:
    """How a file was when it was kept: its size in octets and its SHA-256; of a capture also its number of frames."""

    octets: int
    sha256: str
    frames: int | None = None


@dataclass(frozen=True)
class Manifest:
    """The list of what is in the folder."""

    lab: str
    wirelab: str
    files: Mapping[str, Seal]


def plain(value: Any) -> Any:
    """Frozen data of a lab as plain data (JSON): records become mappings, addresses text."""
    if isinstance(value, BaseModel):
        return {name: plain(getattr(value, name)) for name in type(value).model_fields}
    if is_dataclass(value):
        return {field.name: plain(getattr(value, field.name)) for field in fields(value)}
    if isinstance(value, NoServices):
        return dict.fromkeys(NoServices.__annotations__)
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    if isinstance(value, Enum):
        return plain(value.value)
    if isinstance(value, _ADDRESSES):
        return str(value)
    if value is None or isinstance(value, (str, int, float, bool)):
        return value
    raise TypeError(f"{type(value).__name__} has no plain form")


def seal(octets: bytes, frames: int | None = None) -> Seal:
    """The seal of a file with these octets."""
    return Seal(len(octets), hashlib.sha256(octets).hexdigest(), frames)


def to_files(kept: Kept) -> dict[str, bytes]:
    """The files of `FILES`."""
    evidence = kept.evidence
    outputs = [{field.name: getattr(output, field.name) for field in fields(Output)} for output in evidence.outputs]
    windows = {name: {"began_ns": window.began_ns, "ended_ns": window.ended_ns}
               for name, window in evidence.windows.items()}  # fmt: skip
    lab = {
        "source": kept.source,
        "twin": kept.twin,
        "expected": None if kept.expected is None else list(kept.expected),
        "included": dict(kept.included),
        "backend": kept.backend,
    }
    return {
        "lab.yml": kept.text.encode("utf-8", "surrogatepass"),
        "lab.json": _json(lab),
        "resolved.json": _json(kept.resolved),
        "plan.json": _json(kept.plan),
        "outputs.json": _json(outputs),
        "tables.json": _json({"before": plain(evidence.before), "after": plain(evidence.after)}),
        "marks.json": _json({"scenes": windows, "values": dict(evidence.variables)}),
        "report.json": _json(kept.report),
        "versions.json": _json(dict(kept.versions)),
    }


def from_files(files: Mapping[str, bytes]) -> Kept:
    """What `to_files` made files of.

    Raises:
        FolderError: a file is missing, or does not hold what it should.
    """
    for name in FILES:
        if name not in files:
            raise FolderError(f"{name} is missing")
    loaded = {name: _load(name, files[name]) for name in FILES if name.endswith(".json")}
    name = "lab.yml"
    try:
        text = files[name].decode("utf-8", "surrogatepass")
        name = "lab.json"
        lab = loaded[name]
        source, twin = _text(lab["source"]), None if lab["twin"] is None else _text(lab["twin"])
        expected = None if lab["expected"] is None else tuple(_text(item) for item in lab["expected"])
        included = _texts(lab["included"])
        backend: Backend = "docker" if _text(lab["backend"]) == "docker" else "netns"
        name = "versions.json"
        versions = _texts(loaded[name])
        name = "outputs.json"
        outputs = tuple(_output(item) for item in loaded[name])
        name = "tables.json"
        before, after = (
            {node: _texts(tables) for node, tables in loaded[name][when].items()} for when in ("before", "after")
        )
        name = "marks.json"
        windows = {scene: Window(_number(mark["began_ns"]), _number(mark["ended_ns"]))
                   for scene, mark in loaded[name]["scenes"].items()}  # fmt: skip
        variables = _texts(loaded[name]["values"])
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise FolderError(f"{name} does not hold what it should: {type(error).__name__}: {error}") from None
    evidence = Evidence((), (), windows, outputs, before, after, variables)
    return Kept(
        source, text, included, twin, expected, backend,
        loaded["resolved.json"], loaded["plan.json"], loaded["report.json"], evidence, versions,
    )  # fmt: skip


def manifest_octets(manifest: Manifest) -> bytes:
    """The manifest as a file. It carries the SHA-256 of itself too, so that no octet of a folder changes unseen."""
    files = {
        name: {key: value for key, value in plain(found).items() if value is not None}
        for name, found in manifest.files.items()
    }
    data = {"format": FORMAT, "wirelab": manifest.wirelab, "lab": manifest.lab, "files": files}
    return _json({**data, "sha256": _own_hash(data)})


def read_manifest(octets: bytes, wirelab: str) -> Manifest:
    """What `manifest_octets` made a file of.

    Args:
        wirelab: the version of this Wirelab, for the words.

    Raises:
        FolderError: it is garbled, was altered, or is of another form.
    """
    data = _load(MANIFEST, octets)
    if not isinstance(data, dict) or "format" not in data:
        raise FolderError(f"{MANIFEST} does not say in which form the rest is")
    if data["format"] != FORMAT or isinstance(data["format"], bool):
        raise FolderError(
            f"it has the form {str(data['format'])[:20]}, kept by Wirelab {str(data.get('wirelab', '?'))[:20]}; "
            f"this is Wirelab {wirelab}, which reads the form {FORMAT}"
        )
    told = data.pop("sha256", None)
    try:
        if told != _own_hash(data):
            raise FolderError(f"{MANIFEST} was altered: its SHA-256 differs from the one that it tells")
        files = {}
        for name, entry in data["files"].items():
            frames = None if entry.get("frames") is None else _count(entry["frames"])
            files[name] = Seal(_count(entry["octets"]), _text(entry["sha256"]), frames)
        manifest = Manifest(_text(data["lab"]), _text(data["wirelab"]), files)
    except (KeyError, TypeError, AttributeError, RecursionError) as error:
        raise FolderError(f"{MANIFEST} does not hold what it should: {type(error).__name__}: {error}") from None
    for name in (*FILES, CAPTURE):
        if name not in manifest.files:
            raise FolderError(f"{MANIFEST} does not tell of {name}")
    return manifest


def difference(kept: Any, made: Any, path: str = "") -> str | None:
    """Where `made` lacks or contradicts something of `kept`; what `made` has in addition does not count.

    Returns:
        The place, such as `nodes.pc1.kind`, or None.
    """
    if isinstance(kept, dict) and isinstance(made, dict):
        for key, value in kept.items():
            place = f"{path}.{key}".lstrip(".")
            found = place if key not in made else difference(value, made[key], place)
            if found is not None:
                return found
        return None
    if isinstance(kept, list) and isinstance(made, list) and len(kept) == len(made):
        for number, (one, other) in enumerate(zip(kept, made, strict=True)):
            if (found := difference(one, other, f"{path}[{number}]")) is not None:
                return found
        return None
    return None if type(kept) is type(made) and kept == made else path or "the whole"


def _json(value: Any) -> bytes:
    return json.dumps(value, indent=1).encode("ascii") + b"\n"


def _own_hash(data: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(data, sort_keys=True).encode("ascii")).hexdigest()


def _load(name: str, octets: bytes) -> Any:
    try:
        return json.loads(octets)
    except (ValueError, RecursionError):
        raise FolderError(f"{name} is not JSON") from None


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError(f"expected text, not {type(value).__name__}")
    return value


def _number(value: Any) -> int:
    if not isinstance(value, int) or isinstance(value, bool):
        raise TypeError(f"expected a number, not {type(value).__name__}")
    return value


def _count(value: Any) -> int:
    if _number(value) < 0:
        raise TypeError("expected a number that is not negative")
    return _number(value)


def _texts(value: Any) -> dict[str, str]:
    return {key: _text(item) for key, item in value.items()}


def _output(item: Any) -> Output:
    return Output(
        _text(item["scene"]),
        _text(item["step"]),
        _text(item["node"]),
        tuple(_text(word) for word in item["argv"]),
        None if item["status"] is None else _number(item["status"]),
        _text(item["stdout"]),
        _text(item["stderr"]),
        _number(item["began_ns"]),
        _number(item["ended_ns"]),
    )
