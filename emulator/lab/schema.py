"""The JSON Schema of lab files, from the model, so that editors complete and check them."""

from __future__ import annotations

from typing import Any

from emulator.lab.model import LabSpec


def json_schema() -> dict[str, Any]:
    """A JSON Schema (draft 2020-12) that takes every short form too."""
    schema = LabSpec.model_json_schema(by_alias=True, mode="validation")
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Wirelab lab file",
        **{key: value for key, value in schema.items() if key != "title"},
    }
