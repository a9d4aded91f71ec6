"""Kept verifications as files: what was written is read again, and no octet changes unseen."""

from __future__ import annotations

import dataclasses
import json
from ipaddress import ip_address, ip_interface
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from emulator.lab.load import load
from emulator.lab.resolve import resolve
from emulator.verify import folder as form
from emulator.verify.evidence import Evidence, Output, Window
from emulator.verify.folder import FolderError, Kept, Manifest

ANY = st.one_of(st.characters(codec="utf-8"), st.characters(min_codepoint=0xDC80, max_codepoint=0xDCFF))
"""Characters of outputs: octets that are not UTF-8 are lone surrogates (PEP 383)."""
TEXT = st.text(ANY, max_size=30)
NUMBER = st.integers(0, 2**63)
TEXTS = st.dictionaries(TEXT, TEXT, max_size=3)
TABLES = st.dictionaries(TEXT, TEXTS, max_size=3)
OUTPUT = st.builds(
    Output, TEXT, TEXT, TEXT, st.lists(TEXT, max_size=4).map(tuple),
    st.none() | st.integers(-64, 255), TEXT, TEXT, NUMBER, NUMBER,
)  # fmt: skip
EVIDENCE = st.builds(
    Evidence,
    frames=st.just(()),
    interfaces=st.just(()),
    windows=st.dictionaries(TEXT, st.builds(Window, NUMBER, NUMBER), max_size=3),
    outputs=st.lists(OUTPUT, max_size=4).map(tuple),
    before=TABLES,
    after=TABLES,
    variables=TEXTS,
)
PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers() | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=8,
)
KEPT = st.builds(
    Kept,
    source=TEXT,
    text=st.text(max_size=60),
    included=TEXTS,
    twin=st.none() | TEXT,
    expected=st.none() | st.lists(TEXT, max_size=3).map(tuple),
    resolved=PLAIN,
    plan=PLAIN,
    report=PLAIN,
    evidence=EVIDENCE,
    versions=TEXTS,
)


@given(KEPT)
def test_what_is_written_is_read_again(kept: Kept) -> None:
    files = form.to_files(kept)
    assert set(files) == set(form.FILES)
    assert form.from_files(files) == kept


def _manifest(files: dict[str, bytes]) -> Manifest:
    seals = {name: form.seal(octets) for name, octets in files.items()}
    return Manifest("lab", "0.1.0", {**seals, form.CAPTURE: form.seal(b"packets", 3)})


@given(KEPT, st.data())
def test_no_octet_of_the_manifest_changes_unseen(kept: Kept, data: st.DataObject) -> None:
    manifest = _manifest(form.to_files(kept))
    octets = form.manifest_octets(manifest)
    assert form.read_manifest(octets, "0.1.0") == manifest
    place = data.draw(st.integers(0, len(octets) - 1))
    value = data.draw(st.integers(0, 255).filter(lambda value: value != octets[place]))
    altered = octets[:place] + bytes([value]) + octets[place + 1 :]
    try:
        assert form.read_manifest(altered, "0.1.0") == manifest, "only white space may differ"
    except FolderError as error:
        assert str(error)
    with pytest.raises(FolderError):
        form.read_manifest(octets[: -2 - place % (len(octets) - 2)], "0.1.0")


@given(KEPT, st.sampled_from([name for name in form.FILES if name.endswith(".json")]), PLAIN, st.binary(max_size=20))
def test_whatever_stands_in_a_file_there_is_no_other_error(kept: Kept, name: str, value: Any, octets: bytes) -> None:
    files = form.to_files(kept)
    for content in (json.dumps(value).encode(), octets, b"[" * 100_000, b"9" * 5000):
        try:
            form.from_files({**files, name: content})
        except FolderError as error:
            assert str(error).startswith(tuple(form.FILES))
        try:
            form.read_manifest(content, "0.1.0")
        except FolderError as error:
            assert str(error)
    del files[name]
    with pytest.raises(FolderError, match=f"{name} is missing"):
        form.from_files(files)


@given(PLAIN)
def test_a_manifest_with_its_right_hash_may_still_be_wrong(value: Any) -> None:
    data = {"format": form.FORMAT, "files": value, "lab": value, "wirelab": "0"}
    signed = {**data, "sha256": form._own_hash(data)}
    with pytest.raises(FolderError):
        form.read_manifest(json.dumps(signed).encode(), "0.1.0")


@pytest.mark.parametrize("number", [0, 2, "1", None, True, [1]])
def test_another_form_is_named(number: Any) -> None:
    content = json.dumps({"format": number, "wirelab": "9.9"}).encode()
    with pytest.raises(FolderError, match=r"it has the form .*, kept by Wirelab 9\.9; this is Wirelab 0\.1\.0"):
        form.read_manifest(content, "0.1.0")


def test_a_resolved_lab_is_plain_data(labs_folder: Path) -> None:
    for place in sorted(labs_folder.glob("*/lab.yml")):
        lab = resolve(load(place))
        plain = form.plain(lab)
        assert json.loads(json.dumps(plain)) == plain
        assert form.difference(plain, form.plain(resolve(load(place)))) is None
        assert set(plain["nodes"]) == set(lab.nodes)
        assert [check["name"] for check in plain["checks"]] == [check.name for check in lab.checks]
    assert form.plain((ip_address("::1"), ip_interface("192.0.2.1/24"))) == ["::1", "192.0.2.1/24"]
    with pytest.raises(TypeError):
        form.plain(object())


def test_differences_are_found_but_additions_are_none() -> None:
    kept = {"nodes": {"a": {"kind": "host", "files": [1, 2]}}}
    assert form.difference(kept, {"nodes": {"a": {"kind": "host", "files": [1, 2], "new": 0}, "b": {}}}) is None
    assert form.difference(kept, {"nodes": {"a": {"kind": "switch", "files": [1, 2]}}}) == "nodes.a.kind"
    assert form.difference(kept, {"nodes": {"a": {"kind": "host", "files": [1, 3]}}}) == "nodes.a.files[1]"
    assert form.difference(kept, {"nodes": {"a": {"kind": "host", "files": [1]}}}) == "nodes.a.files"
    assert form.difference(kept, {"nodes": {}}) == "nodes.a"
    assert form.difference({"x": 1}, {"x": True}) == "x"
    assert form.difference(1, 2) == "the whole"


def test_every_field_of_evidence_but_the_packets_is_kept() -> None:
    of_packets = {"frames", "interfaces", "truncated", "damaged"}
    names = {field.name for field in dataclasses.fields(Evidence)} - of_packets
    assert names == {"windows", "outputs", "before", "after", "variables"}, "what is new must be kept, too"
