"""Whether this machine can hold a lab of so many nodes, before anything of it is made. Standard library only."""

from __future__ import annotations

import resource
from pathlib import Path
from typing import Final

from emulator.errors import MachineError

NODE_OCTETS: Final = 320 << 10
"""Memory that a node takes: its network namespace, and the two ends of its cable (`make bench PART=memory`)."""

SPARE_FILES: Final = 8
"""Files that the first process of a lab has open at least, beside one for each node."""


def refuse_too_large(lab: str, nodes: int) -> None:
    """See that there is room for the lab `lab` with so many nodes.

    Raises:
        MachineError: there is too little memory, or a process may not open as many files.
    """
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    if most != resource.RLIM_INFINITY and most < (wanted := nodes + SPARE_FILES):
        raise MachineError(
            f"for the {nodes:,} nodes of {lab} a process must open at least {wanted:,} files; it may open {most:,}",
            hint="raise the hard limit: ulimit -Hn, or LimitNOFILE= of the service that you are in",
        )
    free = available_octets()
    if free is not None and free < nodes * NODE_OCTETS:
        raise MachineError(
            f"the {nodes:,} nodes of {lab} take about {_mib(nodes * NODE_OCTETS)} of memory in the kernel alone; "
            f"this machine has {_mib(free)} left",
            hint="a smaller lab, or a machine with more memory",
        )


def available_octets(meminfo: Path = Path("/proc/meminfo")) -> int | None:
    """What the kernel could hand out without swapping (MemAvailable in proc(5)); None where it does not say."""
    try:
        for line in meminfo.read_text(encoding="ascii").splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) << 10
    except (OSError, ValueError, IndexError):
        pass
    return None


def _mib(octets: int) -> str:
    return f"{octets >> 20:,} MiB"
