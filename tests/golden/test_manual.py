"""docs/lab-file.md is what the model says: `wirelab schema --markdown`.

UPDATE_GOLDEN=1 writes it anew.
"""

from __future__ import annotations

from pathlib import Path

from emulator.lab import manual

PAGE = Path(__file__).parents[2] / "docs" / "lab-file.md"


def test_the_manual_is_up_to_date(update: bool) -> None:
    text = manual.render()
    if update:
        PAGE.write_text(text, encoding="utf-8")
    assert PAGE.read_text(encoding="utf-8") == text, "UPDATE_GOLDEN=1 python -m pytest tests/golden writes it anew"
