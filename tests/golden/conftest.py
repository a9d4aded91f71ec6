"""The option that writes the golden files anew, and whether it was given."""

from __future__ import annotations

import os

import pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    """Known when pytest is started on this folder; UPDATE_GOLDEN=1 says the same from anywhere."""
    parser.addoption("--update-golden", action="store_true", help="write the golden files instead of comparing them")


@pytest.fixture
def update(request: pytest.FixtureRequest) -> bool:
    """Whether the golden files are written instead of compared."""
    return bool(os.environ.get("UPDATE_GOLDEN")) or bool(request.config.getoption("--update-golden", default=False))
