"""The DNS tree of a lab: zones with their records, and delegations with glue from each parent (RFC 1034, section 4.2)."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from ipaddress import IPv6Address

from emulator.lab.model import LabSpec, RecordSpec, ZoneSpec
from emulator.lab.problems import Problems
from emulator.lab.resolved import AnyAddress, Record, Zone

_LABEL = re.compile(r"[A-Za-z0-9_]([A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?|\*")

AddressOf = Callable[[str], "AnyAddress | None"]


def absolute(name: str, zone: str) -> str:
    """`name` with the final dot: relative names are below `zone`, `@` is the zone itself (RFC 1035, section 5.1)."""
    if name == "@":
        return zone
    if name.endswith("."):
        return name.lower()
    return f"{name}.{zone}".lower() if zone != "." else f"{name}.".lower()


def is_below(name: str, zone: str) -> bool:
    """Whether `name` is `zone` or under it."""
    return zone == "." or name == zone or name.endswith("." + zone)


def enclosing_zone(name: str, zones: Mapping[str, object]) -> str | None:
    """The deepest of `zones` that `name` is in."""
    return max((zone for zone in zones if is_below(name, zone)), key=len, default=None)


def parent_zone(zone: str, zones: Mapping[str, object]) -> str | None:
    """The deepest of `zones` above `zone`; None for the root and where there is none."""
    return max((other for other in zones if other != zone and is_below(zone, other)), key=len, default=None)


def _valid_name(name: str) -> bool:
    return name == "." or (len(name) <= 254 and all(_LABEL.fullmatch(label) for label in name[:-1].split(".")))


@dataclass
class _Tree:
    spec: LabSpec
    problems: Problems
    address_of: AddressOf
    zones: dict[str, ZoneSpec] = field(default_factory=dict)
    written: dict[str, str] = field(default_factory=dict)
    records: dict[str, list[Record]] = field(default_factory=dict)

    def path(self, zone: str) -> tuple[str | int, ...]:
        return ("zones", self.written[zone])

    def address(self, text: str, path: tuple[str | int, ...]) -> AnyAddress | None:
        found = self.address_of(text)
        if found is None:
            self.problems.add(path, f"no address is known for '{text}'", "an address, or a node with a fixed address")
        return found

    def add(self, zone: str, record: Record) -> None:
        if record not in self.records[zone]:
            self.records[zone].append(record)


def build_zones(
    spec: LabSpec, address_of: AddressOf, problems: Problems
) -> tuple[Mapping[str, Zone], tuple[Record, ...]]:
    """The zones of `spec` with every record that their servers need, and the root hints for resolvers.

    Args:
        address_of: the fixed address of a node, of `node:interface`, or the address itself.
    """
    tree = _Tree(spec, problems, address_of)
    for name, zone in spec.zones.items():
        full = name.lower() if name.endswith(".") else name.lower() + "."
        if not name.endswith(".") or not _valid_name(full):
            problems.add(("zones", name), f"'{name}' is not a zone's name", "with the final dot: example.com.", key=True)
        elif full in tree.zones:
            problems.add(("zones", name), f"zone {full} given twice", key=True)
        else:
            tree.zones[full] = zone
            tree.written[full] = name
            tree.records[full] = []
    for name, zone in tree.zones.items():
        _servers_run_nsd(tree, name, zone)
        _own_records(tree, name, zone)
    for name, zone in tree.zones.items():
        _delegate(tree, name, zone)
    _circles(tree)
    zones = {
        name: Zone(name, tuple(dict.fromkeys(zone.nameservers.values())), zone.ttl, tuple(tree.records[name]))
        for name, zone in tree.zones.items()
    }
    return zones, _root_hints(tree)


def _servers_run_nsd(tree: _Tree, name: str, zone: ZoneSpec) -> None:
    for label, node in zone.nameservers.items():
        spec = tree.spec.nodes.get(node)
        if spec is not None and spec.services.nsd is None:
            tree.problems.add((*tree.path(name), "nameservers", label), f"{node} runs no name server", "services: {nsd: {}}")


def _own_records(tree: _Tree, name: str, zone: ZoneSpec) -> None:
    path = tree.path(name)
    for label, record in zone.records.items():
        full = absolute(label, name)
        here = (*path, "records", label)
        if not _valid_name(full):
            tree.problems.add(here, f"'{label}' is not a name", key=True)
            continue
        if not is_below(full, name) or enclosing_zone(full, tree.zones) != name:
            tree.problems.add(here, f"{full} is not in the zone {name}", key=True)
            continue
        _add_record(tree, name, full, record, here, zone.ttl)


def _add_record(
    tree: _Tree, zone: str, name: str, record: RecordSpec, path: tuple[str | int, ...], default_ttl: int
) -> None:
    ttl = default_ttl if record.ttl is None else record.ttl
    if record.cname is not None:
        if record.address:
            tree.problems.add(path, f"{name} has an alias and addresses; only one can be", "RFC 1034, section 3.6.2")
        tree.add(zone, Record(name, ttl, "CNAME", absolute(record.cname, zone)))
    for text in record.address:
        if address := tree.address(text, path):
            tree.add(zone, _address_record(name, ttl, address))


def _address_record(name: str, ttl: int, address: AnyAddress) -> Record:
    return Record(name, ttl, "AAAA" if isinstance(address, IPv6Address) else "A", str(address))


def _delegate(tree: _Tree, name: str, zone: ZoneSpec) -> None:
    """NS records in the zone and in its parent, addresses of the name servers where they belong, glue where needed."""
    parent = parent_zone(name, tree.zones)
    path = tree.path(name)
    if name != "." and (parent is None or _skips(name, parent)):
        above = name.partition(".")[2] or "."
        tree.problems.add(path, f"missing delegation: {name} has no parent zone {above}", f"add the zone '{above}'", key=True)
        return
    for label, node in zone.nameservers.items():
        server = absolute(label, name)
        here = (*path, "nameservers", label)
        tree.add(name, Record(name, zone.ttl, "NS", server))
        address = tree.address(node, here) if node in tree.spec.nodes else None
        if address is None:
            continue
        home = enclosing_zone(server, tree.zones)
        if home is not None:
            tree.add(home, _address_record(server, zone.ttl, address))
        else:
            tree.problems.add(here, f"the name server's name {server} is in no zone of this lab")
        if parent is not None:
            tree.add(parent, Record(name, zone.ttl, "NS", server))
            if is_below(server, name):
                given = next((text for key, text in zone.glue.items() if absolute(key, name) == server), None)
                glue = tree.address(given, (*path, "glue")) if given else address
                if glue:
                    tree.add(parent, _address_record(server, zone.ttl, glue))


def _skips(name: str, parent: str | None) -> bool:
    """Whether a zone between `name` and `parent` is left out."""
    depth = 0 if parent in (None, ".") else str(parent).count(".")
    return name.count(".") - depth > 1


def _circles(tree: _Tree) -> None:
    """Zones whose name servers' names can only be found by asking those very zones."""
    reachable = {"."} & set(tree.zones)
    changed = True
    while changed:
        changed = False
        for name, zone in tree.zones.items():
            parent = parent_zone(name, tree.zones)
            if name in reachable or parent not in reachable:
                continue
            for label in zone.nameservers:
                server = absolute(label, name)
                home = enclosing_zone(server, tree.zones)
                if is_below(server, name) or home in reachable:
                    reachable.add(name)
                    changed = True
                    break
    stuck = [name for name in tree.zones if name not in reachable]
    for name in stuck:
        parent = parent_zone(name, tree.zones)
        if parent is not None and parent in reachable:
            homes = {enclosing_zone(absolute(label, name), tree.zones) for label in tree.zones[name].nameservers}
            needs = ", ".join(sorted(str(home) for home in homes))
            tree.problems.add(
                (*tree.path(name), "nameservers"),
                f"circular delegation: the servers of {name} are named in {needs}, which cannot be reached without {name}",
                "name one server inside the zone, so that the parent gives its address (glue)",
            )


def _root_hints(tree: _Tree) -> tuple[Record, ...]:
    root = tree.zones.get(".")
    if root is None:
        return ()
    hints = []
    for label, node in root.nameservers.items():
        server = absolute(label, ".")
        address = tree.address_of(node)
        if address is not None:
            hints += [Record(".", 3_600_000, "NS", server), _address_record(server, 3_600_000, address)]
    return tuple(hints)
