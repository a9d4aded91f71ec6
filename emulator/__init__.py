"""Wirelab: real networks from a lab file, proved by captured packets.

    import emulator

    with emulator.up("labs/nat") as lab:
        lab["pc1"].run(["curl", "-s", "http://www.example.com/"], check=True)

Importing this package is cheap: the stages are imported when they are used.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from emulator import version

if TYPE_CHECKING:
    from emulator.controller import RunningLab, attach, up
    from emulator.kept import replay

__version__ = version.VERSION
__all__ = ["RunningLab", "__version__", "attach", "replay", "up"]

_ROOMS = {"RunningLab": "controller", "attach": "controller", "replay": "kept", "up": "controller"}


def __getattr__(name: str) -> Any:
    """Import a public name from its room when it is first asked for (PEP 562)."""
    if name in _ROOMS:
        return getattr(importlib.import_module(f"emulator.{_ROOMS[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
