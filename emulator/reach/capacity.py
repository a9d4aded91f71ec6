"""How many neighbour entries a lab's own traffic may need, and how many the machine's kernel has room for."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from emulator.lab.resolved import ResolvedLab

_FAMILY: Final = {4: "ipv4", 6: "ipv6"}


def setting(version: int) -> str:
    """The kernel setting with the limit for IP version 4 or 6 (Documentation/networking/ip-sysctl.rst)."""
    return f"net.{_FAMILY[version]}.neigh.default.gc_thresh3"


def room(version: int) -> int | None:
    """How many entries that are not permanent the kernel keeps, for all namespaces together. None where it does not
    say so: the setting is seen in the machine's own network namespace alone."""
    try:
        return int(Path("/proc/sys", *setting(version).split(".")).read_text(encoding="ascii"))
    except (OSError, ValueError):
        return None


def needed(lab: ResolvedLab, version: int) -> int:
    """Neighbour entries of IP version 4 or 6 that there are when all who share a segment talk with one another."""
    total = 0
    for segment in lab.segments.values():
        members = 0
        for node, name in segment.members:
            interface = lab.nodes[node].interface(name)
            gets = interface.dhcp if version == 4 else interface.slaac
            members += bool(gets or interface.first(version))
        total += members * (members - 1)
    return total


def warning(lab: ResolvedLab) -> str | None:
    """What to tell a person whose lab may need more neighbour entries than the machine has room for; None if not."""
    for version in (4, 6):
        wanted, limit = needed(lab, version), room(version)
        if limit is not None and wanted > limit:
            return (
                f"if all hosts of {lab.name} that share a segment talk with one another, they need {wanted:,} "
                f"neighbour entries; this machine has room for {limit:,}, of all labs together, "
                "and what goes beyond is lost\n"
                f"  hint: sudo sysctl {setting(version)}={wanted * 2}; the pairs test of `wirelab verify` works without"
            )
    return None


def hosts_that_fit(limit: int) -> int:
    """How many hosts on one segment can all talk with one another."""
    hosts = 1
    while (hosts + 1) * hosts <= limit:
        hosts += 1
    return hosts
