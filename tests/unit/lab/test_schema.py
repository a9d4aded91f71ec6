"""The published JSON Schema takes what the loader takes."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from emulator.lab.checks import CHECK_KINDS
from emulator.lab.document import parse
from emulator.lab.load import build
from emulator.lab.model import LabSpec
from emulator.lab.schema import json_schema

SHORT_FORMS = """
name: l
kinds: {router: }
groups: {g: {interfaces: {eth0: none}}, h: }
nodes:
  a:
  b:
    interfaces: {eth0: dhcp, eth1: none, eth2: 10.0.0.1/24, eth3: [10.0.1.1/24], eth4: , eth5: {address: 10.0.2.1/24}}
  c: {kind: router, nat: {masquerade: w, publish: {port: 80, to: a}}, firewall: {untrusted: w}, dns: 192.0.2.1}
  d: {kind: router, nat: {masquerade: [w, {out: v}], publish: [{port: 80, to: a}]}, sysctls: {net.a: 1, net.b: x}}
  e:
    exec: ["true", [echo, a b]]
    services:
      http: {}
      dnsmasq:
        dhcp:
          - {interface: l, range: 10.0.0.5-10.0.0.9, lease-time: 5m}
          - {interface: l, range: [10.0.0.5, 10.0.0.9], lease-time: 120}
links: [[a, b], {endpoints: [a, b], mtu: 1400}]
zones:
  .: {nameservers: a, records: {www: a, w2: [a, b], w3: {cname: www}}}
  com.: {nameservers: {ns1: a}}
scenes: [{name: s, steps: [{on: a, run: "true", timeout: 3s}, {on: [a, b], run: ["true"]}, {kill: "e:http"}]}]
checks:
  - {name: c, layer: network, check: seen, filter: icmp, at: a}
  - {name: d, layer: network, check: never-seen, filter: icmp, at: [a, "b:eth0"]}
break: {t: {patch: {nodes: {a: null}}, fails: [c]}}
"""


def documents(labs: Path) -> Iterator[Any]:
    yield parse(SHORT_FORMS.encode(), "short.yml")
    for path in sorted(labs.glob("*/lab.yml")):
        yield parse(path.read_bytes(), str(path))


def test_the_short_forms_are_taken(labs_folder: Path) -> None:
    for document in documents(labs_folder):
        build(document)


def test_labs_are_valid_by_the_schema(labs_folder: Path) -> None:
    jsonschema = pytest.importorskip("jsonschema")
    validator = jsonschema.Draft202012Validator(json_schema())
    for document in documents(labs_folder):
        assert list(validator.iter_errors(document.value)) == []


def references(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        if isinstance(value.get("$ref"), str):
            yield value["$ref"]
        for item in value.values():
            yield from references(item)
    elif isinstance(value, list):
        for item in value:
            yield from references(item)


def test_the_schema_is_whole() -> None:
    schema = json_schema()
    assert schema["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    assert json.loads(json.dumps(schema)) == schema
    assert {reference.removeprefix("#/$defs/") for reference in references(schema)} <= set(schema["$defs"])
    assert set(schema["properties"]) == {info.alias or name for name, info in LabSpec.model_fields.items()}
    assert schema["required"] == ["name", "nodes"] and schema["additionalProperties"] is False


def test_the_schema_knows_every_kind_of_check() -> None:
    definitions = json_schema()["$defs"]
    kinds = {
        item["properties"]["check"]["const"] for item in definitions.values() if "check" in item.get("properties", ())
    }
    assert kinds == set(CHECK_KINDS)


def test_the_schema_has_hyphens_and_no_inner_names() -> None:
    for definition in json_schema()["$defs"].values():
        assert not [key for key in definition.get("properties", ()) if "_" in key]


@pytest.mark.parametrize(
    ("definition", "key", "kinds"),
    [
        ("NodeSpec", "dns", {"string", "array"}),
        ("Seen", "at", {"string", "array"}),
        ("StepSpec", "timeout", {"integer", "string"}),
        ("DhcpPool", "range", {"string", "array"}),
    ],
)
def test_the_schema_has_short_and_long_forms(definition: str, key: str, kinds: set[str]) -> None:
    found = json_schema()["$defs"][definition]["properties"][key]
    assert {form.get("type") for form in found["anyOf"]} == kinds
