"""The YAML reader: values, places, limits."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from emulator.errors import LabFileError, UsageError
from emulator.lab.document import MAX_DEPTH, MAX_OCTETS, Document, parse, scalar
from emulator.lab.load import build
from emulator.lab.resolve import resolve


def document_of(text: str) -> Document:
    return parse(text.encode(), "lab.yml")


def refused(octets: bytes) -> str:
    with pytest.raises(LabFileError) as caught:
        parse(octets, "lab.yml")
    return str(caught.value)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("", None), ("~", None), ("null", None), ("true", True), ("False", False),
        ("on", "on"), ("off", "off"), ("yes", "yes"), ("n", "n"), ("22:22", "22:22"), ("1:30:00", "1:30:00"),
        ("12", 12), ("-3", -3), ("+7", 7), ("012", 12), ("0x1F", 31), ("0o17", "0o17"), ("1_000", "1_000"),
        ("1.5", 1.5), (".5", 0.5), ("1e3", 1000.0), ("1.", 1.0), (".inf", ".inf"), (".nan", ".nan"),
        ("1e999", "1e999"), ("2001-01-01", "2001-01-01"), ("<<", "<<"), ("=", "="), ("٣", "٣"), ("1\n", "1\n"),
    ],
)  # fmt: skip
def test_scalars_follow_yaml_1_2(text: str, value: Any) -> None:
    found = scalar(text)
    assert found == value and type(found) is type(value)


def test_quoted_scalars_are_text() -> None:
    assert document_of("a: '1'\nb: \"true\"\nc: |\n  2\n").value == {"a": "1", "b": "true", "c": "2\n"}


def test_keys_are_text_as_written() -> None:
    assert document_of("1: a\ntrue: b\n1.0: c\nnull: d\n").value == {"1": "a", "true": "b", "1.0": "c", "null": "d"}


def test_places_count_from_one() -> None:
    document = document_of('a:\n  - x\n  - {b: "y", c: [1, 2]}\n')
    assert document.places["a", 0] == (2, 5)
    assert document.places["a", 1] == (3, 5)
    assert document.key_places["a", 1, "b"] == (3, 6)
    assert document.places["a", 1, "b"] == (3, 9)
    assert document.text_places["a", 1, "b"] == (3, 10)
    assert document.places["a", 1, "c", 1] == (3, 21)


def test_a_problem_is_at_the_nearest_part_that_stands_in_the_file() -> None:
    document = document_of("a:\n  b: word\n")
    assert document.problem(("a", "b"), "x", offset=2).column == 8
    assert document.problem(("a", "b"), "x", key=True).column == 3
    assert document.problem(("a", "b", "c", 3), "x").column == 6
    assert (document.problem(("z",), "x").line, document.problem(("z",), "x").column) == (1, 1)


def test_columns_count_characters() -> None:
    assert document_of("网络: 实验\n").places["网络",] == (1, 5)
    assert "lab.yml:1:3: not UTF-8: octet 0xff" in refused("\ufeff网络".encode() + b"\xff")


def test_aliases_stand_for_their_anchor() -> None:
    document = document_of("a: &x {b: 1}\nc: *x\n&k d: *k\n")
    assert document.value == {"a": {"b": 1}, "c": {"b": 1}, "d": "d"}
    assert document.problem(("c", "b"), "x").line == 2


@pytest.mark.parametrize(
    ("octets", "said"),
    [
        (b"", "1:1: the file is empty"),
        (b"\xef\xbb\xbf# only a comment\n", "the file is empty"),
        (b"a: \xff", "1:4: not UTF-8: octet 0xff"),
        (b"\xff\xfea\x00", "not UTF-8"),
        (b"a: \x00", "U+0000"),
        (b"a: \x1b[2J", "U+001B"),
        (b'a: "\\0"', "a NUL character"),
        ("a: \u202eb".encode(), "U+202E"),
        (b"a: 1\nb: 2\na: 3\n", "3:1: key 'a' given twice (first in line 1)"),
        (b"a: !!python/object:os.system x", "the tag tag:yaml.org,2002:python/object:os.system"),
        (b"a: !x {}", "the tag !x"),
        (b"a: *b", "the alias *b has no anchor before it"),
        (b"a: &a [*a]", "the alias *a has no anchor before it"),
        (b"--- a\n--- b", "a second YAML document"),
        (b"{a: 1, [b]: 2}", "a key must be a plain word"),
        (b"{a: 1, ? : 2}", "the key is missing"),
        (b"a: &x [1]\n*x : 1", "a key must be a plain word"),
        (b"a:\n\tb: 1", "2:1: not YAML: a tab in the indentation (indent with spaces)"),
        (b"a: [1, 2", "(opened in line 1)"),
    ],
)
def test_what_is_refused(octets: bytes, said: str) -> None:
    assert said in refused(octets)


def test_the_largest_file() -> None:
    assert parse(b"a: b\n#" + b"x" * (MAX_OCTETS - 6), "lab.yml").value == {"a": "b"}
    assert "too large" in refused(b"a: b\n#" + b"x" * (MAX_OCTETS - 5))


def test_the_deepest_file() -> None:
    assert parse(b"[" * MAX_DEPTH + b"]" * MAX_DEPTH, "lab.yml").value
    assert "nested more than 40 deep" in refused(b"[" * (MAX_DEPTH + 1) + b"]" * (MAX_DEPTH + 1))
    assert "nested more than" in refused(b"[" * MAX_OCTETS)
    assert "nested more than" in refused(b"{a: " * (MAX_OCTETS // 4))


def test_aliases_cannot_make_it_deeper() -> None:
    rows = ["a0: &a0 []", *(f"a{n}: &a{n} {'[' * 10}*a{n - 1}{']' * 10}" for n in range(1, 100))]
    assert "5:19: nested more than 40 deep once its aliases are expanded" in refused("\n".join(rows).encode())


def test_aliases_cannot_make_it_larger() -> None:
    rows = ["a0: &a0 x", *(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 12))]
    assert "values once its aliases are expanded" in refused("\n".join(rows).encode())


def read_all(octets: bytes) -> None:
    """Read, check and resolve; LabFileError is the only way to fail."""
    try:
        document = parse(octets, "lab.yml")
        assert isinstance(document, Document)
        resolve(build(document))
        for twin in document.value.get("break", ()):
            resolve(build(document, twin=twin))
    except LabFileError as error:
        assert error.problems and all(problem.line >= 1 and problem.column >= 1 for problem in error.problems)
        assert len(error.problems) <= 100


@given(st.binary(max_size=200))
def test_any_octets_are_a_document_or_an_error(octets: bytes) -> None:
    read_all(octets)


@given(st.text(alphabet="ab:-[]{}&*!|>'\"%@#, \n\t?~1", max_size=60))
def test_any_text_is_a_document_or_an_error(text: str) -> None:
    read_all(text.encode())


@given(data=st.data())
def test_a_damaged_lab_file_is_a_document_or_an_error(data: st.DataObject, labs_folder: Path) -> None:
    octets = (labs_folder / "nat" / "lab.yml").read_bytes()
    for _ in range(data.draw(st.integers(1, 3))):
        start = data.draw(st.integers(0, len(octets)))
        length = data.draw(st.integers(0, 30))
        put = data.draw(st.one_of(st.binary(max_size=6), st.sampled_from([b"null", b"[]", b"{}", b"x", b": ", b"\n"])))
        octets = octets[:start] + put + octets[start + length :]
    read_all(octets)


WORDS = st.sampled_from(["", "pc1", "sw", "pc1:eth0", "dhcp", "10.0.0.1/24", "{pc1.ip}", "."])
VALUES = st.recursive(
    st.sampled_from([None, True, 0, -1, 70000, 1.5]) | WORDS,
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["a", "eth0", "to", "run"]), inner, max_size=3)
    ),
    max_leaves=5,
)


@given(data=st.data())
def test_any_value_anywhere_is_a_lab_or_an_error(data: st.DataObject, labs_folder: Path) -> None:
    """One value of a right lab replaced by another: pure data, no way to crash."""
    document = parse((labs_folder / "nat" / "lab.yml").read_bytes(), "lab.yml")
    path = data.draw(st.sampled_from(sorted((p for p in document.places if p), key=str)))
    here = document.value
    for token in path[:-1]:
        here = here[token]
    here[path[-1]] = data.draw(VALUES)
    try:
        resolve(build(document))
    except LabFileError as error:
        assert error.problems


def test_an_unknown_twin_is_a_wrong_word_on_the_command_line() -> None:
    with pytest.raises(UsageError, match="no twin 'x'"):
        build(document_of("name: l\nnodes: {a: }\n"), twin="x")
