"""The router's connection tracking table against the packets that crossed it."""

from __future__ import annotations

import re
from collections.abc import Iterator

from emulator.errors import counted
from emulator.lab.checks.network import ConntrackAgrees
from emulator.verify.finding import Finding, failed, passed
from emulator.verify.paths import Crossing, Flow, flow_of
from emulator.verify.view import View
from emulator.verify.wording import at, numbers

_TUPLE = re.compile(r"src=(\S+) dst=(\S+) sport=(\d+) dport=(\d+)")
_BOTH_TUPLES = 2


def entries(table: str) -> Iterator[tuple[Flow, Flow]]:
    """The TCP and UDP entries that `conntrack -L` printed: the flow as it began, and as its answers are expected."""
    for line in table.splitlines():
        protocol = line.split(None, 1)[0] if line.strip() else ""
        tuples = _TUPLE.findall(line)
        if protocol in ("tcp", "udp") and len(tuples) == _BOTH_TUPLES:
            original, reply = (Flow(protocol, src, int(sport), dst, int(dport)) for src, dst, sport, dport in tuples)
            yield original, reply


def conntrack_agrees(check: ConntrackAgrees, view: View) -> Finding:
    """Each TCP and UDP flow that crossed the router has an entry with the addresses and ports of both its sides."""
    inside, outside = f"{check.router}:{check.inside}", f"{check.router}:{check.outside}"
    table = set(entries(view.table(check.router, "conntrack")))
    crossings = [*view.crossings(inside, outside), *view.crossings(outside, inside)]
    began: dict[tuple[Flow, Flow], Crossing] = {}
    for crossing in sorted(crossings, key=lambda item: item.entering.number):
        entering = flow_of(crossing.entering)
        leaving = flow_of(crossing.leaving) if crossing.leaving else None
        # The table that is read is that of IPv4.
        if entering is None or leaving is None or entering.protocol not in ("tcp", "udp") or ":" in entering.source:
            continue
        if (leaving.reversed, entering) not in began:
            began.setdefault((entering, leaving.reversed), crossing)
    if not began:
        return view.lacking("TCP or UDP packets that cross the router", inside, outside)
    for (original, reply), crossing in began.items():
        if (original, reply) not in table:
            near = [str(found) for found in table if original in found or reply in found]
            instead = f"it has {near[0]}" if near else f"it has no such entry among {len(table)}"
            pair = [frame for frame in (crossing.entering, crossing.leaving) if frame]
            return failed(
                f"expected {check.router} to track {original}, answers {reply}, as {at(pair[0])} and {at(pair[-1])} "
                "show; " + instead,
                pair,
            )
    firsts = [frame for crossing in began.values() for frame in (crossing.entering, crossing.leaving) if frame]
    translated = sum(original != reply.reversed for original, reply in began)
    return passed(
        f"{counted(len(began), 'flow')} through {check.router} ({translated} translated, {numbers(firsts)}) stand in "
        "its connection tracking table with the same addresses and ports",
        firsts,
    )
