"""What all checks of a lab file have."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from emulator.lab.base import (
    WORD_PATTERN,
    Model,
    SceneName,
)

LAYERS = ("physical", "data-link", "network", "transport", "application")
Layer = Literal["physical", "data-link", "network", "transport", "application"]


class Check(Model):
    """What all checks have."""

    name: str = Field(pattern=WORD_PATTERN, description="Unique in the lab; twins name it.")
    layer: Layer = Field(description="The layer in whose part of the report the check stands.")
    about: str | None = Field(None, description="What the check proves, in a few words.")
    scene: SceneName | None = Field(None, description="Only frames of this scene count; default: the whole capture.")
