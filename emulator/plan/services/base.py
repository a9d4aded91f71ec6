"""What every service of a plan says about itself."""

from __future__ import annotations

from dataclasses import dataclass, field

from emulator.plan.ops import Condition

HOME = "/run/wirelab"
"""Where a node keeps the configuration and state of its daemons; private to the node."""


@dataclass(frozen=True)
class Service:
    """A daemon of a node.

    Attributes:
        name: the service's name in the lab file.
        files: path → content, written before the start; `scripts` among them are executable.
        tools: programs that must be on the machine.
        ready: when it answers; None: nobody waits for it.
        program: one of the lab file's own programs.
        rootless: it needs no root where an image has a user for it.
        restart: `on-failure` when it is started again after it failed, else nothing.
    """

    name: str
    argv: tuple[str, ...]
    ready: Condition | None
    files: dict[str, str] = field(default_factory=dict)
    scripts: frozenset[str] = frozenset()
    tools: tuple[str, ...] = ()
    program: bool = False
    rootless: bool = False
    restart: str = ""
