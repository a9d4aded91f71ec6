"""Fixtures of the decoder's tests: frames, and how to look at them decoded."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

from emulator.capture.frame import Frame


def _load_samples() -> ModuleType:
    name = "wirelab_capture_samples"
    if name not in sys.modules:
        spec = importlib.util.spec_from_file_location(name, Path(__file__).with_name("samples.py"))
        assert spec is not None and spec.loader is not None
        sys.modules[name] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(sys.modules[name])
    return sys.modules[name]


@pytest.fixture(scope="session")
def samples() -> ModuleType:
    """The module of samples: SAMPLES by name, the parts that they are made of, and `real()`."""
    return _load_samples()


@pytest.fixture(params=list(_load_samples().SAMPLES))
def octets(request: pytest.FixtureRequest, samples: ModuleType) -> bytes:
    """Each sample in turn."""
    found: bytes = samples.SAMPLES[request.param]
    return found


@pytest.fixture(scope="session")
def frame(samples: ModuleType) -> Callable[..., Frame]:
    """Octets decoded."""
    decoded: Callable[..., Frame] = samples.frame
    return decoded


@pytest.fixture(scope="session")
def expect(samples: ModuleType) -> Callable[..., None]:
    """A sample or frame has these layers and fields."""
    expected: Callable[..., None] = samples.expect
    return expected
