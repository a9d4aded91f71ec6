"""The option that writes the golden files anew."""

from __future__ import annotations

import pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    """Known when pytest is started on this folder; UPDATE_GOLDEN=1 says the same from anywhere."""
    parser.addoption("--update-golden", action="store_true", help="write the golden files instead of comparing them")
