"""Fixtures of the verify room's tests: an empty wire of a small home network, and the builder of packets."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest


def _load_builders() -> ModuleType:
    name = "wirelab_verify_builders"
    if name not in sys.modules:
        spec = importlib.util.spec_from_file_location(name, Path(__file__).with_name("builders.py"))
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
    """An empty wire."""
    return build.Wire()
