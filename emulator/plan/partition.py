"""Where a partition cuts a lab: cables that are pulled, and what switches between the groups no longer pass on. Pure.

A cable between two groups is pulled. A switch that belongs to no group carries the frames of all of them, so it has to
tell them apart: between two of its own ports by the ports, and where a frame comes from another such switch by its
source address (the MACs of a group are known).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from emulator.lab.resolved import ResolvedLab

TABLE = "wirelab_partition"
"""The name of the table of rules (nft(8), family bridge) that a switch gets."""

SILENCE = "wirelab_freeze"
"""The name of the table (family netdev) of a node that is frozen."""


@dataclass(frozen=True)
class Cut:
    """A partition: one end of each cable that is pulled, `node:interface`, and switch → rules for `nft -f -`."""

    cables: tuple[str, ...]
    rules: Mapping[str, str] = field(default_factory=dict)


def cut(lab: ResolvedLab, groups: Sequence[Sequence[str]]) -> Cut:
    """Where `lab` is cut between `groups` of nodes. Hosts and routers that no group names are one more group."""
    group_of = {node: number for number, group in enumerate(groups) for node in group}
    for node in lab.nodes.values():
        if node.kind != "switch":
            group_of.setdefault(node.name, len(groups))
    cables = [
        link.a.place
        for link in lab.links
        if None not in (ends := {group_of.get(link.a.node), group_of.get(link.b.node)}) and len(ends) == 2
    ]
    rules = {}
    for node in lab.nodes.values():
        if node.name not in group_of:
            ports = [(port.name, group_of.get(port.peer[0])) for port in node.interfaces if port.peer]
            if text := _rules(lab, ports, group_of):
                rules[node.name] = text
    return Cut(tuple(cables), rules)


def _rules(lab: ResolvedLab, ports: Sequence[tuple[str, int | None]], group_of: Mapping[str, int]) -> str:
    """The rules of a switch with `ports`, each with its group, or None where another switch of no group is."""
    present = sorted({group for _, group in ports if group is not None})
    trunks = [name for name, group in ports if group is None]
    lines = []
    for group in present:
        inside = [name for name, own in ports if own == group]
        others = [name for name, own in ports if own not in (group, None)]
        if others:
            lines.append(f"iifname {_set(others)} oifname {_set(inside)} drop")
        if trunks:
            known = _set(_macs(lab, group, group_of), quoted=False)
            lines.append(f"iifname {_set(trunks)} oifname {_set(inside)} ether saddr != {known} drop")
    head = "type filter hook forward priority 0; policy accept;"
    return _table(TABLE, "bridge", {"forward": (head, lines)}) if lines else ""


def _macs(lab: ResolvedLab, group: int, group_of: Mapping[str, int]) -> Iterator[str]:
    """The MACs of a group, and of switches of no group, which speak for themselves (IEEE 802.1D)."""
    for interface in lab.interfaces():
        if not interface.is_loopback and group_of.get(interface.node) in (group, None):
            yield interface.mac


def _set(items: Iterable[str], *, quoted: bool = True) -> str:
    return "{ " + ", ".join(f'"{item}"' if quoted else item for item in items) + " }"


def silence(interfaces: Iterable[str]) -> str:
    """Rules for `nft -f -` that let nothing in or out at `interfaces`, which keep their carrier: a node that hangs."""
    found: dict[str, tuple[str, Sequence[str]]] = {}
    for number, interface in enumerate(interfaces):
        for hook in ("ingress", "egress"):
            head = f'type filter hook {hook} device "{interface}" priority -500; policy drop;'
            found[f"{hook}{number}"] = (head, [])
    return _table(SILENCE, "netdev", found)


def _table(table: str, family: str, content: Mapping[str, tuple[str, Sequence[str]]]) -> str:
    """A table for `nft -f -`, in place of one of that name that may be there."""
    lines = [remove(table, family), f"table {family} {table} {{"]
    for name, (head, rules) in content.items():
        lines += [f"chain {name} {{", head, *rules, "}"]
    return "\n".join([*lines, "}", ""])


def remove(table: str, family: str) -> str:
    """What takes a table away, whether it is there or not."""
    return f"add table {family} {table}\ndelete table {family} {table}"
