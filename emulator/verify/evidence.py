"""What was recorded while the lab was watched: frames, outputs of commands, tables of the nodes before and after."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from emulator.capture.frame import Frame
from emulator.capture.frame import Interface as CaptureInterface


@dataclass(frozen=True)
class Output:
    """What one command of a scene did on one node. `status` is None when it was killed after its time."""

    scene: str
    step: str
    node: str
    argv: tuple[str, ...]
    status: int | None
    stdout: str
    stderr: str
    began_ns: int
    ended_ns: int


@dataclass(frozen=True)
class Window:
    """When a scene ran, in nanoseconds since the epoch."""

    began_ns: int
    ended_ns: int


Tables = Mapping[str, Mapping[str, str]]
"""Node → table → what the command that reads it printed.

Tables: `address` (ip -json address), `route` (ip -json route), `neighbour` (ip -json neighbour), and where they apply
`fdb` (bridge -json fdb, switches), `counters` (iptables-save -c) and `conntrack` (conntrack -L, routers)."""


@dataclass(frozen=True)
class Evidence:
    """Everything that verdicts are made from.

    Attributes:
        frames: all captured frames in time order; their numbers are those of the capture file.
        interfaces: what was captured, with each interface's losses.
        truncated: why the capture is not whole, or None.
        damaged: why nothing that the capture says can be believed, or None; there are no frames then.
        windows: scene → when it ran.
        outputs: what the scenes' commands printed.
        before, after: the nodes' tables when watching began and when it ended.
        variables: values of this run by name, `run.port`, for templates such as `{run.port}`.
    """

    frames: tuple[Frame, ...]
    interfaces: tuple[CaptureInterface, ...]
    windows: Mapping[str, Window] = field(default_factory=dict)
    outputs: tuple[Output, ...] = ()
    before: Tables = field(default_factory=dict)
    after: Tables = field(default_factory=dict)
    variables: Mapping[str, str] = field(default_factory=dict)
    truncated: str | None = None
    damaged: str | None = None

    def output(self, step: str, node: str | None = None) -> Output | None:
        """The output of the step called `step` (on `node`), or None when it never ran."""
        for output in self.outputs:
            if output.step == step and (node is None or output.node == node):
                return output
        return None
