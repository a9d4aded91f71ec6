"""Wirelab: real networks from a lab file, proved by captured packets.

    import emulator

    with emulator.up("labs/nat") as lab:
        lab["pc1"].run(["curl", "-s", "http://www.example.com/"], check=True)

Importing this package is cheap: the stages are imported when they are used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from emulator import version

if TYPE_CHECKING:
    from emulator.controller import RunningLab, attach, up

__version__ = version.VERSION
__all__ = ["RunningLab", "__version__", "attach", "up"]


def __getattr__(name: str) -> Any:
    """Import the public names of the controller when they are first asked for (PEP 562)."""
    if name in {"RunningLab", "attach", "up"}:
        from emulator import controller

        return getattr(controller, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
