"""The manual of the lab file: a page in Markdown, made from the model. Pure.

What the model says (keys, values, defaults, meanings, examples) comes from the model; the rest is in `manual_text.py`
and `check_examples.py`. A part of the model that no section there names gets a place by itself.
"""

from __future__ import annotations

import inspect
import re
import textwrap
import types
import typing
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from typing import Annotated, Any, Literal

from pydantic import BaseModel, TypeAdapter
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from emulator.filters import KNOWN_FIELDS, KNOWN_PROTOCOLS, FieldType
from emulator.lab import check_examples
from emulator.lab import manual_text as words
from emulator.lab.base import PATTERNS, WORD_PATTERN, Ref
from emulator.lab.checks import CHECK_KINDS
from emulator.lab.checks.base import LAYERS, Check
from emulator.lab.document import parse, scalar
from emulator.lab.model import LabSpec

_BY_VALIDATOR = {
    "_cidr": "address/length",
    "_prefix": "prefix",
    "_seconds": "duration",
    "_rate": "rate",
    "_command": "command",
    "_pattern": "regular expression",
    "_private_path": "path",
    "_status": "number or `nonzero`",
    "_range": "first-last",
    "_text": "text or number",
}
"""The function that reads a value → the word for such values."""
_BY_TYPE: Mapping[Any, str] = {
    str: "text",
    int: "number",
    float: "number",
    bool: "`true` or `false`",
    IPv4Address: "IPv4 address",
    IPv4Network: "IPv4 network",
    IPv6Address: "IPv6 address",
    IPv6Network: "IPv6 network",
    Any: "anything",
}
_BY_REFERENCE = {"endpoint": "node:interface", "service": "node:service", "node or service": "node or node:service"}
_ACRONYMS = {"Dhcp": "DHCP", "Dns": "DNS", "Nat": "NAT", "Http": "HTTP", "Tls": "TLS", "Nsd": "NSD"}
_LINE_CHARACTERS = 120
_ARTICLE = re.compile(r"^(an?|the) ")
_PLAIN = re.compile(r"[A-Za-z0-9_./^$(][A-Za-z0-9_./@%+*=~^$()? -]*(:[A-Za-z0-9][A-Za-z0-9_./@%+*=~^$()? -]*)*")


@dataclass(frozen=True)
class Part:
    """A model of the lab file: where it stands, and the type whose short forms expand to it."""

    model: type[BaseModel]
    place: str
    form: Any = None


def parts(root: type[BaseModel] = LabSpec) -> list[Part]:
    """Every model that the lab file is made of, each once, where it is met first; kinds of check are left out."""
    found: dict[type[BaseModel], Part] = {}

    def walk(annotation: Any, place: str, form: Any = None) -> None:
        origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
        if origin is Annotated:
            short = any(type(mark).__name__ == "BeforeValidator" for mark in arguments[1:])
            walk(arguments[0], place, annotation if short else form)
        elif origin is dict:
            walk(arguments[1], f"{place}.NAME")
        elif origin is tuple:
            for argument in arguments:
                walk(argument, f"{place}[]")
        elif origin in (typing.Union, types.UnionType):
            for argument in arguments:
                walk(argument, place, form)
        elif isinstance(annotation, type) and issubclass(annotation, BaseModel):
            if annotation in found or issubclass(annotation, Check):
                return
            found[annotation] = Part(annotation, place, form)
            for key, info in sorted(keys(annotation), key=lambda item: not item[1].is_required()):
                walk(annotated(info), f"{place}.{key}".lstrip("."))

    walk(root, "")
    return list(found.values())


def keys(model: type[BaseModel]) -> Iterator[tuple[str, FieldInfo]]:
    """The keys of `model` as they stand in a file, and what the model knows of each."""
    for name, info in model.model_fields.items():
        yield info.alias or name, info


def annotated(info: FieldInfo) -> Any:
    """The type of a field with all that was said beside it."""
    return Annotated[info.annotation, *info.metadata] if info.metadata else info.annotation


@cache
def examples_of_checks() -> Mapping[str, str]:
    """Kind of check → the text of its example, one item of a list."""
    items = [item.strip("\n") for item in re.split(r"(?m)^(?=- )", check_examples.CHECKS) if item.strip()]
    return {parse(item.encode(), "example").value[0]["check"]: item for item in items}


def title(model: type[BaseModel]) -> str:
    """The heading of a model's part: `DhcpPool` → `DHCP pool`."""
    first, *rest = re.findall(r"[A-Z][a-z0-9]*", model.__name__.removesuffix("Spec"))
    return " ".join([_ACRONYMS.get(first, first), *(_ACRONYMS.get(word, word.lower()) for word in rest)])


def _in_a_sentence(heading: str) -> str:
    return heading if heading.split(maxsplit=1)[0].isupper() else heading[:1].lower() + heading[1:]


def anchor(heading: str) -> str:
    """The name under which a heading can be linked to, as GitHub makes it."""
    return re.sub(r"[^a-z0-9 -]", "", heading.lower()).replace(" ", "-")


def render(root: type[BaseModel] = LabSpec) -> str:
    """The whole page, with a final newline; `root` is the model of a lab file."""
    return _Page(parts(root)).text()


class _Page:
    """The parts by section, and the heading of each, which links need."""

    def __init__(self, known: Sequence[Part]) -> None:
        roots = [section.model for section in words.SECTIONS]
        self._sections: dict[str, list[Part]] = {model: [] for model in roots}
        self._more: list[Part] = []
        by_name = {part.model.__name__: part for part in known}
        for name, part in by_name.items():
            owner = name if name in roots else self._owner(part, by_name, roots)
            (self._sections[owner] if owner else self._more).append(part)
        self._headings = {part.model: title(part.model) for part in by_name.values()}
        for section in words.SECTIONS:
            if section.model in by_name:
                self._headings[by_name[section.model].model] = section.title

    @staticmethod
    def _owner(part: Part, known: Mapping[str, Part], roots: Sequence[str]) -> str:
        """The section whose model stands nearest above `part`; none for what stands at the top of the file."""
        above = [
            name for name in roots if name in known and known[name].place and _is_below(part.place, known[name].place)
        ]
        return max(above, key=lambda name: len(known[name].place), default="")

    def text(self) -> str:
        lines = [words.HEAD]
        titles = [section.title for section in words.SECTIONS]
        contents = [*titles, *([words.MORE] if self._more else []), "Templates", "Filters", "Values"]
        lines += [f"- [{heading}](#{anchor(heading)})" for heading in contents]
        for section in words.SECTIONS:
            lines += ["", f"## {section.title}", "", _filled(section.text), ""]
            if section.example:
                lines += ["```yaml", section.example.rstrip("\n"), "```", ""]
            if section.model == "AnyCheck":
                lines += self._checks()
            for part in self._sections[section.model]:
                if part.model.__name__ != section.model:
                    lines += ["", f"### {self._headings[part.model]}", ""]
                lines += self._part(part, intro=part.model.__name__ != section.model)
        if self._more:
            lines += ["", f"## {words.MORE}", ""]
            for part in self._more:
                lines += ["", f"### {self._headings[part.model]}", "", *self._part(part, intro=True)]
        lines += ["", "## Templates", "", _filled(words.TEMPLATES_TEXT), ""]
        lines += _table(("Template", "Value"), [(f"`{name}`", meaning) for name, meaning in words.TEMPLATES])
        lines += ["", "## Filters", "", words.FILTERS_TEXT, "", *_filter_names()]
        lines += ["", "## Values", "", _filled(words.VALUES_TEXT), ""]
        rows = [(word, meaning, ", ".join(f"`{e}`" for e in examples)) for word, meaning, examples in words.VALUES]
        lines += _table(("Value", "What it is", "For instance"), rows)
        return re.sub(r"\n{3,}", "\n\n", "\n".join(lines)).rstrip("\n") + "\n"

    def _part(self, part: Part, *, intro: bool) -> list[str]:
        lines = []
        if intro:
            lines += [*_doc(part.model), ""]
        if part.place:
            lines += [f"Where: `{part.place}`", ""]
        table = self._keys(keys(part.model))
        return [*lines, *(table or ["It has no keys: write `{}`."]), "", *_short_forms(part)]

    def _keys(self, fields: typing.Iterable[tuple[str, FieldInfo]]) -> list[str]:
        rows = []
        for key, info in fields:
            meaning = info.description or ""
            if info.examples:
                many = "s" if len(info.examples) > 1 else ""
                meaning += f" Example{many}: {', '.join(f'`{flow(example)}`' for example in info.examples)}"
            rows.append((f"`{key}`", self._value(annotated(info)), _default(info), meaning))
        return _table(("Key", "Value", "Default", "Meaning"), rows) if rows else []

    def _value(self, annotation: Any, marks: Sequence[Any] = ()) -> str:
        """What may stand for the type `annotation`, in words."""
        origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
        if origin is Annotated:
            return self._value(arguments[0], [*_flat(arguments[1:]), *marks])
        if origin in (typing.Union, types.UnionType):
            choices = [argument for argument in arguments if argument is not type(None)]
            if all(_is_check(argument) for argument in choices):
                return "[check](#checks)"
            return " or ".join(dict.fromkeys(self._value(argument, marks) for argument in choices))
        for mark in marks:
            if isinstance(mark, Ref):
                return _BY_REFERENCE.get(mark.to, mark.to)
            if known := _BY_VALIDATOR.get(getattr(getattr(mark, "func", None), "__name__", "")):
                return known
        if origin is Literal:
            return _or([f"`{flow(value)}`" for value in arguments])
        if origin is tuple:
            inner = self._value(arguments[0])
            if inner.endswith(" or list"):
                return f"{inner} of ({inner})"
            if _one_is_enough(marks):
                return inner if inner.endswith(" or list") else f"{inner} or list"
            return f"list of {inner}"
        if origin is dict and arguments[1] is Any:
            return "any keys"
        if origin is dict:
            key, value = self._value(arguments[0]), self._value(arguments[1])
            return f"{'name' if key == 'text' else key} → {value}"
        if isinstance(annotation, type) and issubclass(annotation, BaseModel):
            heading = self._headings.get(annotation, title(annotation))
            return f"[{_in_a_sentence(title(annotation))}](#{anchor(heading)})"
        return _scalar_value(annotation, marks)

    def _checks(self) -> list[str]:
        lines = self._keys((key, info) for key, info in keys(Check))
        by_layer: dict[str, list[str]] = {layer: [] for layer in (*LAYERS, "")}
        examples = examples_of_checks()
        for kind in sorted(CHECK_KINDS, key=lambda kind: (*examples, kind).index(kind)):
            example = parse(examples[kind].encode(), kind).value[0] if kind in examples else {}
            by_layer[example.get("layer", "")].append(kind)
        rows = [
            (layer, ", ".join(f"[{kind}](#{anchor(kind)})" for kind in kinds))
            for layer, kinds in by_layer.items()
            if kinds
        ]
        lines += ["", "The kinds, by the layer at which they mostly stand; `layer` may be any.", ""]
        lines += _table(("Layer", "Kinds"), rows)
        for kinds in by_layer.values():
            for kind in kinds:
                model = CHECK_KINDS[kind]
                own = [(key, info) for key, info in keys(model) if key != "check" and key not in Check.model_fields]
                lines += ["", f"### {kind}", "", *_doc(model), "", *self._keys(own), ""]
                if kind in examples:
                    lines += ["```yaml", examples[kind], "```"]
        return lines


def _is_below(place: str, other: str) -> bool:
    return place.startswith(other) and place[len(other) : len(other) + 1] in (".", "[")


def _is_check(annotation: Any) -> bool:
    if typing.get_origin(annotation) is Annotated:
        annotation = typing.get_args(annotation)[0]
    return isinstance(annotation, type) and issubclass(annotation, Check)


def _flat(marks: Sequence[Any]) -> list[Any]:
    """Marks, with those inside of a `Field(…)` taken out of it."""
    return [inner for mark in marks for inner in (mark.metadata if isinstance(mark, FieldInfo) else [mark])]


def _one_is_enough(marks: Sequence[Any]) -> bool:
    return any(type(mark).__name__ == "BeforeValidator" for mark in marks)


def _scalar_value(annotation: Any, marks: Sequence[Any]) -> str:
    bounds: dict[str, Any] = {}
    for mark in marks:
        for bound in ("ge", "gt", "le", "lt", "multiple_of", "pattern"):
            if getattr(mark, bound, None) is not None:
                bounds[bound] = getattr(mark, bound)
    word = _BY_TYPE.get(annotation, getattr(annotation, "__name__", "anything"))
    if pattern := bounds.get("pattern"):
        return "name" if pattern == WORD_PATTERN else _ARTICLE.sub("", PATTERNS.get(pattern, f"text like `{pattern}`"))
    step = 1 if annotation is int else None
    low = bounds.get("ge", bounds["gt"] + step if "gt" in bounds and step else None)
    high = bounds.get("le", bounds["lt"] - step if "lt" in bounds and step else None)
    if "gt" in bounds and low is None:
        word += f" above {bounds['gt']:g}" + (f", up to {high}" if high is not None else "")
    elif low is not None and high is not None:
        word += f" {low}–{high}"
    elif low is not None:
        word += f" from {low}"
    elif high is not None:
        word += f" up to {high}"
    return word + (f", multiple of {bounds['multiple_of']}" if "multiple_of" in bounds else "")


def _default(info: FieldInfo) -> str:
    if info.is_required():
        return "**required**"
    value = info.get_default(call_default_factory=True)
    if value is None or value is PydanticUndefined or isinstance(value, BaseModel):
        return ""
    return "" if value in ("", (), {}) else f"`{flow(list(value) if isinstance(value, tuple) else value)}`"


def _doc(model: type[BaseModel]) -> list[str]:
    """The docstring as Markdown."""
    text = inspect.cleandoc(model.__doc__ or "")
    return "\n\n".join(_filled(paragraph) for paragraph in text.split("\n\n")).split("\n")


def _filled(text: str) -> str:
    """A paragraph in lines of at most 120 characters."""
    return textwrap.fill(" ".join(text.split()), _LINE_CHARACTERS, break_long_words=False, break_on_hyphens=False)


def _short_forms(part: Part) -> list[str]:
    """A table of short forms and what they are short for, found by reading them with the model."""
    rows = []
    for text in words.SHORT_FORMS.get(part.model.__name__, ()):
        rows.append((_code(text), f"`{flow(_long(part.form, text))}`"))
    for key, info in keys(part.model):
        for text in words.SHORT_FORMS.get(f"{part.model.__name__}.{key}", ()):
            rows.append((f"`{key}: {text}`", f"`{key}: {flow(_long(annotated(info), text))}`"))
    return ["", *_table(("Short form", "is short for"), rows), ""] if rows else []


def _code(text: str) -> str:
    return f"`{text}`" if text else "(nothing)"


def _long(form: Any, text: str) -> Any:
    adapter: TypeAdapter[Any] = TypeAdapter(form)
    value = adapter.validate_python(read(text))
    return adapter.dump_python(value, mode="json", by_alias=True, exclude_unset=True)


def read(text: str) -> Any:
    """The value that stands in a file as `text`; nothing is null."""
    return parse(f"value: {text}".encode(), "example").value["value"]


def _filter_names() -> list[str]:
    """The protocols and fields that filters may name."""
    lines = [f"Protocols: {', '.join(f'`{name}`' for name in sorted(KNOWN_PROTOCOLS))}.", ""]
    by_protocol: dict[tuple[str, FieldType], list[str]] = {}
    for name, kind in sorted(
        KNOWN_FIELDS.items(), key=lambda item: (_protocol(item[0]), list(FieldType).index(item[1]))
    ):
        by_protocol.setdefault((_protocol(name), kind), []).append(f"`{name}`")
    rows = []
    before = ""
    for (protocol, kind), names in by_protocol.items():
        rows.append((f"`{protocol}`" if protocol != before else "", kind.value, ", ".join(names)))
        before = protocol
    return [*lines, *_table(("Protocol", "Value", "Fields"), rows)]


def _protocol(field: str) -> str:
    words = field.split(".")
    return ".".join(words[: 2 if words[0] == "wirelab" else 1])


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    lines = [f"| {' | '.join(head)} |", "|" + "---|" * len(head)]
    return [*lines, *(f"| {' | '.join(_cell(cell) for cell in row)} |" for row in rows)]


def _cell(text: str) -> str:
    return re.sub(r"(?<!\\)\|", r"\\|", " ".join(text.split()))


def _or(items: Sequence[str]) -> str:
    *first, last = items
    return f"{', '.join(first)} or {last}" if first else last


def flow(value: Any) -> str:
    """A plain value as YAML in one line."""
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{flow(key)}: {flow(item)}" for key, item in value.items()) + "}"
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(flow(item) for item in value) + "]"
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, (int, float)):
        return str(value)
    text = str(value)
    if _PLAIN.fullmatch(text) and not text.endswith(" ") and scalar(text) == text:
        return text
    import json

    return json.dumps(text, ensure_ascii=False)
