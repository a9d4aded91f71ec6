"""What a lab's own traffic may need of the machine's kernel, neighbour entries and room for frames that go to all, and
how much of it there is."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Final

from emulator.lab.resolved import ResolvedLab

BACKLOG: Final = "net.core.netdev_max_backlog"
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


def backlog() -> int | None:
    """How many frames may wait on a processor for the interfaces at the other ends of cables
    (Documentation/admin-guide/sysctl/net.rst). None where the machine does not say."""
    try:
        return int(Path("/proc/sys", *BACKLOG.split(".")).read_text(encoding="ascii"))
    except (OSError, ValueError):
        return None


def heard_at_once(lab: ResolvedLab) -> int:
    """On how many cables one frame to all is at the same time, at most: switches pass it on at one go."""
    return max((len(segment.members) - 1 for segment in lab.segments.values()), default=0)


def warnings(lab: ResolvedLab) -> list[str]:
    """What to tell a person whose lab may need more than the machine has room for."""
    return [*_few_neighbours(lab), *_short_backlog(lab)]


def _few_neighbours(lab: ResolvedLab) -> Iterator[str]:
    for version in (4, 6):
        wanted, limit = needed(lab, version), room(version)
        if limit is not None and wanted > limit:
            yield (
                f"if all hosts of {lab.name} that share a segment talk with one another, they need {wanted:,} "
                f"neighbour entries; this machine has room for {limit:,}, of all labs together, "
                "and what goes beyond is lost\n"
                f"  hint: sudo sysctl {setting(version)}={wanted * 2}; the pairs test of `wirelab verify` works without"
            )
            return


def _short_backlog(lab: ResolvedLab) -> Iterator[str]:
    heard, limit = heard_at_once(lab), backlog()
    if limit is not None and heard > limit:
        yield (
            f"a frame to all, such as an ARP request, goes to {heard:,} hosts of {lab.name} at once; this machine "
            f"keeps {limit:,} waiting on a processor, so some may not hear it\n"
            f"  hint: sudo sysctl {BACKLOG}={heard * 2}; the pairs test of `wirelab verify` works without"
        )


def hosts_that_fit(limit: int) -> int:
    """How many hosts on one segment can all talk with one another."""
    hosts = 1
    while (hosts + 1) * hosts <= limit:
        hosts += 1
    return hosts
