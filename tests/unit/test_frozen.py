"""Frozen data is what the standard library would make of it."""

from __future__ import annotations

import copy
import dataclasses
import pickle
import subprocess
import sys
from collections.abc import Callable
from typing import Any, ClassVar

import pytest

from emulator import frozen
from tests.conftest import ROOT


@frozen.dataclass(frozen=True)
class Animal:
    """An animal."""

    count: ClassVar[int] = 0

    name: str
    legs: int = 4
    tags: list[str] = frozen.field(default_factory=list)

    def describe(self) -> str:
        """What it is."""
        return f"{self.name} has {self.legs} legs"


@frozen.dataclass(frozen=True)
class Bird(Animal):
    """One with wings."""

    legs: int = 2
    wings: int = 2


@frozen.dataclass(frozen=True)
class Stone:
    """One field alone."""

    weight: float


@dataclasses.dataclass(frozen=True)
class Parrot(Bird):
    """The standard library's, below one of ours."""

    words: tuple[str, ...] = ()


def as_there(kind: Any) -> Any:
    """The same class, made by the standard library."""
    rows = [(field.name, field.type, dataclasses.field(default=field.default, default_factory=field.default_factory))
            for field in dataclasses.fields(kind)]  # fmt: skip
    return dataclasses.make_dataclass(kind.__qualname__, rows, frozen=True)


MADE: tuple[Callable[[Any], Any], ...] = (
    lambda kind: kind("x"),
    lambda kind: kind("x", 3),
    lambda kind: kind(name="x", tags=["a"]),
    lambda kind: kind("x", legs=6, tags=["b"]),
)


@pytest.mark.parametrize("kind", [Animal, Bird, Parrot])
@pytest.mark.parametrize("make", MADE)
def test_it_is_as_there(kind: Any, make: Callable[[Any], Any]) -> None:
    ours, theirs = make(kind), make(as_there(kind))
    assert dataclasses.asdict(ours) == dataclasses.asdict(theirs) == {
        name: getattr(ours, name) for name in kind.__match_args__
    }  # fmt: skip
    assert repr(ours) == repr(theirs)
    assert ours == make(kind)
    assert ours != dataclasses.replace(ours, name="y") and ours != theirs
    assert dataclasses.replace(ours, legs=9).describe() == "x has 9 legs"
    assert copy.deepcopy(ours) == ours == pickle.loads(pickle.dumps(ours))
    assert kind.__match_args__ == type(theirs).__match_args__
    assert vars(ours) == vars(theirs)


def test_defaults_are_made_anew() -> None:
    one, other = Animal("a"), Animal("b")
    one.tags.append("x")
    assert other.tags == []


def test_it_can_be_matched_and_hashed() -> None:
    match Bird("tit", 2, []):
        case Animal(name, legs=legs):
            assert (name, legs) == ("tit", 2)
        case _:
            pytest.fail("no match")
    assert len({Stone(1.5), Stone(1.5), Stone(2)}) == 2
    assert Stone(1.5) != 1.5
    with pytest.raises(TypeError):
        hash(Animal("a"))  # as there: its list cannot be hashed


@pytest.mark.parametrize(
    "wrong", [Animal, lambda: Animal("a", 1, [], 2), lambda: Animal("a", name="b"), lambda: Bird("a", x=1)]
)
def test_wrong_arguments_are_refused(wrong: Callable[[], Any]) -> None:
    with pytest.raises(TypeError):
        wrong()


def test_it_cannot_be_changed() -> None:
    animal = Animal("a")
    with pytest.raises(dataclasses.FrozenInstanceError):
        animal.name = "b"  # type: ignore[misc]
    with pytest.raises(dataclasses.FrozenInstanceError):
        animal.other = "b"  # type: ignore[attr-defined]
    with pytest.raises(dataclasses.FrozenInstanceError):
        del animal.legs  # type: ignore[misc]
    assert vars(animal) == {"name": "a", "legs": 4, "tags": []}


def test_the_standard_library_is_not_imported_for_it() -> None:
    code = (
        "import sys, emulator.lab.resolved, emulator.plan.ops, emulator.run.netlink, emulator.sources\n"
        "assert emulator.plan.ops.SetUp('a', 'b') == emulator.plan.ops.SetUp('a', interface='b')\n"
        "print('dataclasses' in sys.modules)\n"
        "from dataclasses import fields, is_dataclass\nprint(len(fields(emulator.plan.ops.SetUp)))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout == "False\n2\n"
