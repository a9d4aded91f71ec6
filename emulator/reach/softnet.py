"""Frames that wait on a processor for whom they are for, and those for which there was no room
(/proc/net/softnet_stat: `softnet_seq_show` in net/core/net-procfs.c of Linux). Standard library only.

What goes through a veth pair is queued on the processor that sent it, for all labs together. Where processes leave the
kernel little time, frames wait there longer than anybody would wait for an answer.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Final, NamedTuple

_DROPPED: Final = 1
_WAITING: Final = 11
_COUNTER: Final = 1 << 32
_LOOK_S: Final = 0.002

_STEPS: Final = 8
"""As often as that a frame may be queued again on its way: each cable does it."""


class Processor(NamedTuple):
    """Frames of one processor: looked at and dropped since the machine was started, modulo 2^32, and waiting."""

    processed: int
    dropped: int
    waiting: int


def read() -> list[Processor]:
    """What each processor has; nothing where the kernel does not tell what waits (it does from Linux 5.10 on)."""
    try:
        lines = Path("/proc/net/softnet_stat").read_text(encoding="ascii").splitlines()
        rows = [[int(word, 16) for word in line.split()] for line in lines]
    except (OSError, ValueError):
        return []
    return [Processor(row[0], row[_DROPPED], row[_WAITING]) for row in rows if len(row) > _WAITING]


def dropped() -> int:
    """Frames of whatever lab that were lost since too many waited (net.core.netdev_max_backlog)."""
    return sum(row.dropped for row in read())


def settle(patience_s: float) -> bool:
    """Wait until what waits now has been looked at, and what that led to, along a way of some cables.

    Returns:
        False when that takes longer than `patience_s`.
    """
    deadline = time.monotonic() + patience_s
    for _ in range(_STEPS):
        before = read()
        while any(row.waiting > (now.processed - row.processed) % _COUNTER for row, now in zip(before, read())):
            if time.monotonic() > deadline:
                return False
            time.sleep(_LOOK_S)
        if not any(row.waiting for row in before):
            break
    return True
