"""The manual of the lab file: every key is explained, every example is right, and a new part finds its place."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest
from pydantic import BaseModel, Field, TypeAdapter, create_model

from emulator.filters import parse as parse_filter
from emulator.lab import manual, manual_text
from emulator.lab.base import Model, Ref
from emulator.lab.checks import CHECK_KINDS
from emulator.lab.checks.base import LAYERS
from emulator.lab.document import parse
from emulator.lab.load import build
from emulator.lab.model import LabSpec
from emulator.lab.references import filter_problem, references
from emulator.lab.resolved import ResolvedLab

EXPLAINED = {word for word, _, _ in manual_text.VALUES} - {"text"}
"""Words for values that need no example with each key."""

ROW = re.compile(r"\| `(?P<key>[^`]+)` \| (?P<value>.*?) \| (?P<default>.*?) \| (?P<meaning>.*?) \|")


def models() -> list[type[BaseModel]]:
    """The models of all parts and kinds of check."""
    return [*(part.model for part in manual.parts()), *CHECK_KINDS.values()]


def undescribed(model: type[BaseModel]) -> list[str]:
    """Keys of a model of which it says nothing; the word that chooses a kind of check needs nothing."""
    return [f"{model.__name__}.{key}" for key, info in manual.keys(model) if not info.description and key != "check"]


def wrong_examples(model: type[BaseModel]) -> list[str]:
    """Keys of a model whose examples the model itself refuses."""
    wrong = []
    for key, info in manual.keys(model):
        for example in info.examples or ():
            try:
                TypeAdapter(manual.annotated(info)).validate_python(example)
            except ValueError as error:
                wrong.append(f"{model.__name__}.{key}: {example}: {error}")
    return wrong


def without_example(page: str) -> list[str]:
    """Keys in the tables of the parts, checks left out, whose form is not obvious and that show no example."""
    found = []
    for row in ROW.finditer(page.partition("\n## Checks\n")[0]):
        value = row["value"].removeprefix("list of ").removesuffix(" or list")
        obvious = value in EXPLAINED or value.startswith("number") or "](#" in value or re.fullmatch(r"`.*`", value)
        if not obvious and not re.search(r"Examples?: `", row["meaning"]):
            found.append(f"{row['key']} ({row['value']}): {row['meaning']}")
    return found


def test_every_key_is_described() -> None:
    assert [key for model in models() for key in undescribed(model)] == []


def test_a_key_without_description_is_found() -> None:
    assert undescribed(create_model("Odd", some_key=(int, 1))) == ["Odd.some_key"]


def test_every_key_whose_form_is_not_obvious_has_an_example() -> None:
    assert without_example(manual.render()) == []


def test_a_key_without_example_is_found() -> None:
    extended = create_model("LabSpec", __base__=LabSpec, tune=(str, Field("", description="What it plays.")))
    assert without_example(manual.render(extended)) == ["tune (text): What it plays."]


def test_examples_of_keys_are_right() -> None:
    assert [line for model in models() for line in wrong_examples(model)] == []


def test_a_wrong_example_is_found() -> None:
    assert len(wrong_examples(create_model("Odd", key=(int, Field(1, ge=1, examples=[2, 0, "x"]))))) == 2


def test_every_kind_of_check_has_an_example() -> None:
    examples = manual.examples_of_checks()
    lacking = [f"add one to emulator/lab/check_examples.py: {kind}" for kind in CHECK_KINDS if kind not in examples]
    assert lacking == []
    assert set(examples) <= set(CHECK_KINDS)


@pytest.mark.parametrize("kind", sorted(manual.examples_of_checks()))
def test_examples_of_checks_are_right(kind: str) -> None:
    (value,) = parse(manual.examples_of_checks()[kind].encode(), kind).value
    check = TypeAdapter(CHECK_KINDS[kind]).validate_python(value)
    assert value["layer"] in LAYERS
    for to, text, _ in references(check, ()):
        if to == "filter":
            assert filter_problem(text, lambda name: None if name.startswith("run.") else "192.0.2.1") is None, text


@pytest.mark.parametrize(
    ("title", "text"), [(part.title, part.example) for part in manual_text.SECTIONS if part.example]
)
def test_examples_of_sections_are_right(title: str, text: str) -> None:
    value = parse(text.encode(), title).value
    build(parse(manual.flow({"name": "x", "nodes": {"a": {}}, **value}).encode(), title))


def test_the_first_example_is_a_whole_lab(resolved: Callable[..., ResolvedLab]) -> None:
    text = manual_text.SECTIONS[0].example
    assert set(resolved(text).nodes) == {"ann", "bob", "sw"}
    assert resolved(text, "pulled").twins["pulled"].steps


def test_templates_are_known(resolved: Callable[..., ResolvedLab]) -> None:
    steps = [{"on": "web", "run": ["echo", name]} for name, _ in manual_text.TEMPLATES]
    lab = resolved(
        {
            "name": "t",
            "nodes": {
                "web": {"interfaces": {"eth0": ["192.0.2.80/24", "2001:db8::80/64"]}},
                "home": {"kind": "router", "interfaces": {"lan": "192.0.2.1/24"}},
            },
            "links": [["web:eth0", "home:lan"]],
            "scenes": [{"name": "s", "steps": steps}],
        }
    )
    words = [step.argv[1] for step in lab.scenes[0].steps]
    assert words[:5] == ["192.0.2.80", "2001:db8::80", lab.nodes["web"].interfaces[0].mac, "192.0.2.1", "192.0.2.0/24"]
    assert words[5:] == ["{gateway}", "{run.port}", "{run.number}"]


def test_forms_of_filters_are_right() -> None:
    forms = re.findall(r"(?m)^\| (`.*`)[^|`]* \| ", manual_text.FILTERS_TEXT)
    texts = [text.replace("\\|", "|") for form in forms for text in re.findall(r"`([^`]+)`", form) if "…" not in text]
    assert len(texts) >= 9
    for text in texts:
        parse_filter(text)


def test_short_forms_are_shown() -> None:
    """Each part that has a short form shows one, and what is said to have one is there."""
    shown = set(manual_text.SHORT_FORMS)
    parts = {part.model.__name__: part for part in manual.parts()}
    assert [name for name, part in parts.items() if part.form is not None and name not in shown] == []
    known = {f"{name}.{key}" for name, part in parts.items() for key, _ in manual.keys(part.model)}
    assert shown <= known | set(parts)
    page = manual.render()
    assert "| `dhcp` | `{dhcp: true}` |" in page
    assert "| `[pc1, sw]` | `{endpoints: [pc1, sw]}` |" in page
    assert "| `range: 192.168.1.100-192.168.1.199` | `range: [192.168.1.100, 192.168.1.199]` |" in page


def test_headings_are_unique_and_links_lead_to_them() -> None:
    page = manual.render()
    anchors = [manual.anchor(heading) for heading in re.findall(r"(?m)^#+ (.*)$", without_code(page))]
    assert len(anchors) == len(set(anchors))
    assert set(re.findall(r"\]\(#([^)]*)\)", page)) <= set(anchors)


def without_code(page: str) -> str:
    return re.sub(r"(?ms)^```.*?^```$", "", page)


def test_tables_have_as_many_cells_in_every_row() -> None:
    for block in re.findall(r"(?m)(?:^\|.*\n)+", without_code(manual.render())):
        assert len({len(re.findall(r"(?<!\\)\|", row)) for row in block.splitlines()}) == 1, block


def test_every_block_of_yaml_can_be_read() -> None:
    blocks = re.findall(r"(?ms)^```yaml\n(.*?)^```$", manual.render())
    assert len(blocks) >= len(CHECK_KINDS)
    for block in blocks:
        parse(block.encode(), "manual")


class Pump(Model):
    """A thing that nobody has heard of."""

    litres: int = Field(3, ge=1, description="A minute.")


def test_a_new_part_finds_its_place() -> None:
    extended: Any = create_model(
        "LabSpec", __base__=LabSpec, pumps=(dict[str, Pump], Field({}, description="Pumps by name."))
    )
    page = manual.render(extended)
    assert "- [Further parts](#further-parts)" in page
    assert "| `pumps` | name → [pump](#pump) |  | Pumps by name. |" in page
    assert "### Pump\n\nA thing that nobody has heard of.\n\nWhere: `pumps.NAME`\n" in page
    assert "| `litres` | number from 1 | `3` | A minute. |" in page
    assert "Further parts" not in manual.render()


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ({"a": [1, True, None, "x y"]}, "{a: [1, true, null, x y]}"),
        ("1", '"1"'),
        ("yes", "yes"),
        ("null", '"null"'),
        ("", '""'),
        ("a, b", '"a, b"'),
        ("a: b", '"a: b"'),
        ("{web.ip}", '"{web.ip}"'),
        ("pc1:eth0", "pc1:eth0"),
        ("x ", '"x "'),
        ("- x", '"- x"'),
        ("a #b", '"a #b"'),
        ("two\nlines", '"two\\nlines"'),
    ],
)
def test_values_in_one_line(value: Any, text: str) -> None:
    assert manual.flow(value) == text
    assert manual.read(text) == value
    assert manual.read(f"[{text}, {{k: {text}}}]") == [value, {"k": value}]


def test_every_kind_of_reference_has_a_word() -> None:
    for model in models():
        for _, info in manual.keys(model):
            for mark in info.metadata:
                if isinstance(mark, Ref):
                    assert {"endpoint": "node:interface", "service": "node:service"}.get(mark.to, mark.to) in EXPLAINED
