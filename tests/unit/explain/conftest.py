"""Fixtures of the explain room's tests: the wires of the verify room's tests, and what is told of them."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from emulator.explain.story import Command, Recording, Story, tell
from emulator.explain.surroundings import of_lab


def _load_builders() -> ModuleType:
    name = "wirelab_verify_builders"
    if name not in sys.modules:
        path = Path(__file__).parents[1] / "verify" / "builders.py"
        spec = importlib.util.spec_from_file_location(name, path)
        assert spec is not None and spec.loader is not None
        sys.modules[name] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(sys.modules[name])
    return sys.modules[name]


@pytest.fixture
def build() -> ModuleType:
    """The module of builders: Packet, ADDRESS, BROADCAST, …"""
    return _load_builders()


@pytest.fixture
def wire(build: ModuleType) -> Any:
    """An empty wire of the home network."""
    return build.Wire()


@pytest.fixture
def told() -> Callable[..., Story]:
    """Tells what is on a wire, recorded as a whole until `later_ns` after its last frame."""

    def story(wire: Any, *, tracking: dict[str, list[str]] | None = None, command: Command | None = None) -> Story:
        evidence = wire.evidence()
        around = of_lab(wire.lab, wire.after, evidence.interfaces)
        return tell(Recording(evidence.frames, evidence.interfaces, around, command, tracking or {}))

    return story
