"""The DNS tree of a lab: zones with their records, delegations with glue from each parent (RFC 1034, section 4.2)."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from ipaddress import IPv6Address

from emulator.lab.model import LabSpec, RecordSpec, ZoneSpec
from emulator.lab.problems import Problems, near
from emulator.lab.resolved import AnyAddress, Record, Zone, parent_zone

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
    return zone in (".", name) or name.endswith("." + zone)


def enclosing_zone(name: str, zones: Mapping[str, object]) -> str | None:
    """The deepest of `zones` that `name` is in."""
    return name if name in zones else parent_zone(name, zones)


def _valid_name(name: str) -> bool:
    return name == "." or (len(name) <= 254 and all(_LABEL.fullmatch(label) for label in name[:-1].split(".")))


@dataclass
class _Tree:
    spec: LabSpec
    problems: Problems
    address_of: AddressOf
    zones: dict[str, ZoneSpec] = field(default_factory=dict)
    written: dict[str, str] = field(default_factory=dict)
    records: dict[str, dict[Record, None]] = field(default_factory=dict)
    orphans: set[str] = field(default_factory=set)
    """Zones to which nobody delegates; that is said once, and nothing more about them or who depends on them."""

    def path(self, zone: str) -> tuple[str | int, ...]:
        return ("zones", self.written[zone])

    def add(self, zone: str, record: Record) -> None:
        self.records[zone].setdefault(record)


def build_zones(
    spec: LabSpec, address_of: AddressOf, problems: Problems
) -> tuple[Mapping[str, Zone], tuple[Record, ...]]:
    """The zones of `spec` with every record that their servers need, and the root hints for resolvers.

    Args:
        address_of: the fixed address of a node, of `node:interface`, or the address itself.
    """
    tree = _Tree(spec, problems, address_of)
    for name, zone in spec.zones.items():
        full = name.lower()
        if not name.endswith("."):
            hint = f"with the final dot: {name}." if _valid_name(name + ".") else "with the final dot: example.com."
            problems.add(("zones", name), f"'{name}' is not a zone's name", hint, key=True)
        elif not _valid_name(full) or "*" in full:
            problems.add(
                ("zones", name), f"'{name}' is not a zone's name", "a domain name such as example.com.", key=True
            )
        elif full in tree.zones:
            problems.add(("zones", name), f"zone {full} given twice", key=True)
        else:
            tree.zones[full] = zone
            tree.written[full] = name
            tree.records[full] = {}
    for name, zone in tree.zones.items():
        _servers_run_nsd(tree, name, zone)
        _own_records(tree, name, zone)
    for name, zone in tree.zones.items():
        _delegate(tree, name, zone)
    for name, zone in tree.zones.items():
        _aliases(tree, name, zone)
        _signatures(tree, name, zone)
    _circles(tree)
    _validators(tree)
    zones = {
        name: Zone(
            name=name,
            servers=tuple(dict.fromkeys(zone.nameservers.values())),
            ttl=zone.ttl,
            records=tuple(tree.records[name]),
            negative_ttl=zone.ttl if zone.negative_ttl is None else zone.negative_ttl,
            dnssec=zone.dnssec,
            expired=zone.expired,
            forged=tuple(_forged(tree, name, zone)),
        )
        for name, zone in tree.zones.items()
    }
    return zones, _root_hints(tree)


def _servers_run_nsd(tree: _Tree, name: str, zone: ZoneSpec) -> None:
    for label, node in zone.nameservers.items():
        spec = tree.spec.nodes.get(node)
        if spec is not None and spec.services.nsd is None:
            path = (*tree.path(name), "nameservers", label)
            tree.problems.add(path, f"{node} runs no name server", "give it `services: {nsd: {}}`")


def _own_records(tree: _Tree, name: str, zone: ZoneSpec) -> None:
    path = tree.path(name)
    for label, record in zone.records.items():
        full = absolute(label, name)
        here = (*path, "records", label)
        if not _valid_name(full):
            tree.problems.add(here, f"'{label}' is not a name", "letters, digits, hyphens and dots", key=True)
            continue
        if not is_below(full, name) or enclosing_zone(full, tree.zones) != name:
            tree.problems.add(here, f"{full} is not in the zone {name}", key=True)
            continue
        _add_record(tree, name, full, record, here, zone.ttl)


def _add_record(
    tree: _Tree, zone: str, name: str, record: RecordSpec, path: tuple[str | int, ...], default_ttl: int
) -> None:
    ttl = default_ttl if record.ttl is None else record.ttl
    if record.cname is None and not (record.address or record.mx or record.txt):
        tree.problems.add(path, f"nothing is said about {name}", "`address`, `cname`, `mx` or `txt`")
    if record.cname is not None:
        target = absolute(record.cname, zone)
        if not _valid_name(target):
            tree.problems.add((*path, "cname"), f"'{record.cname}' is not a name", "letters, digits, hyphens and dots")
        tree.add(zone, Record(name, ttl, "CNAME", target))
    for text in record.address:
        if address := tree.address_of(text):
            tree.add(zone, _address_record(name, ttl, address))
    for label, preference in record.mx.items():
        target = absolute(label, zone)
        if not _valid_name(target):
            text = f"'{label}' is not a name"
            tree.problems.add((*path, "mx", label), text, "letters, digits, hyphens and dots", key=True)
        tree.add(zone, Record(name, ttl, "MX", f"{preference} {target}"))
    for text in record.txt:
        tree.add(zone, Record(name, ttl, "TXT", _strings(text)))


def _strings(text: str) -> str:
    """A text as the character strings of a TXT record in a master file, at most 255 octets each (RFC 1035, 3.3.14)."""
    octets = text.encode()
    parts = [octets[start : start + 255] for start in range(0, len(octets), 255)] or [b""]
    return " ".join('"' + "".join(_character(octet) for octet in part) + '"' for part in parts)


def _character(octet: int) -> str:
    if octet in b'"\\':
        return f"\\{chr(octet)}"
    return chr(octet) if 32 <= octet < 127 else f"\\{octet:03}"


def _address_record(name: str, ttl: int, address: AnyAddress) -> Record:
    return Record(name, ttl, "AAAA" if isinstance(address, IPv6Address) else "A", str(address))


def _delegate(tree: _Tree, name: str, zone: ZoneSpec) -> None:
    """NS records in the zone and in its parent, addresses of the name servers where they belong, glue where needed."""
    parent = parent_zone(name, tree.zones)
    path = tree.path(name)
    if name != "." and (parent is None or _skips(name, parent)):
        above = name.partition(".")[2] or "."
        text = f"missing delegation: {name} has no parent zone {above}"
        tree.problems.add(path, text, f"add the zone '{above}'", key=True)
        tree.orphans.add(name)
    for label in zone.glue:
        servers = {absolute(other, name) for other in zone.nameservers}
        if absolute(label, name) not in servers or not is_below(absolute(label, name), name):
            text = f"{absolute(label, name)} is no name server of {name} inside the zone, so it has no glue"
            tree.problems.add((*path, "glue", label), text, near(label, list(zone.nameservers)), key=True)
    for label, node in zone.nameservers.items():
        server = absolute(label, name)
        here = (*path, "nameservers", label)
        if not _valid_name(server) or "*" in server:
            tree.problems.add(here, f"'{label}' is not a name", "letters, digits, hyphens and dots", key=True)
            continue
        tree.add(name, Record(name, zone.ttl, "NS", server))
        if node not in tree.spec.nodes:
            continue
        address = tree.address_of(node)
        if address is None:
            tree.problems.add(here, f"the name server {node} has no fixed address")
            continue
        home = enclosing_zone(server, tree.zones)
        if home is not None:
            tree.add(home, _address_record(server, zone.ttl, address))
        else:
            text = f"the name server's name {server} is in no zone of this lab"
            tree.problems.add(here, text, "without a final dot a name is inside the zone", key=True)
        if name == "." and home not in (None, "."):  # where resolvers begin: the root always tells its own addresses
            tree.add(name, _address_record(server, zone.ttl, address))
        if parent is not None:
            tree.add(parent, Record(name, zone.ttl, "NS", server))
            if is_below(server, name):
                given = next((text for key, text in zone.glue.items() if absolute(key, name) == server), None)
                glue = tree.address_of(given) if given else address
                if glue:
                    tree.add(parent, _address_record(server, zone.ttl, glue))


def _skips(name: str, parent: str | None) -> bool:
    """Whether the top-level zone between `name` and the root is left out. Below it a zone may skip labels."""
    return parent == "." and name.count(".") > 1


def _aliases(tree: _Tree, name: str, zone: ZoneSpec) -> None:
    """A name with a CNAME record has no other (RFC 1034, section 3.6.2)."""
    count = Counter(record.name for record in tree.records[name])
    for label, record in zone.records.items():
        full = absolute(label, name)
        if record.cname is not None and count[full] > 1:
            text = f"{full} is an alias, so it can have nothing else"
            tree.problems.add((*tree.path(name), "records", label), text, "RFC 1034, section 3.6.2", key=True)


def _signatures(tree: _Tree, name: str, zone: ZoneSpec) -> None:
    """A zone is signed when its parent is, up to the root, which every resolver trusts (RFC 4035, section 5)."""
    parent = parent_zone(name, tree.zones)
    path = tree.path(name)
    if zone.dnssec and parent is not None and name not in tree.orphans and not tree.zones[parent].dnssec:
        text = f"{name} is signed and its parent {parent} is not: nobody would vouch for its key"
        tree.problems.add((*path, "dnssec"), text, f"dnssec: true  in the zone '{parent}'")
    for key in ("expired", "forged"):
        if getattr(zone, key) and not zone.dnssec:
            tree.problems.add((*path, key), f"'{key}' is about signatures, and {name} has none", "dnssec: true")


def _forged(tree: _Tree, name: str, zone: ZoneSpec) -> Iterator[Record]:
    for label, text in zone.forged.items():
        full = absolute(label, name)
        here = (*tree.path(name), "forged", label)
        address = tree.address_of(text)
        if address is None:
            continue
        true = [record for record in tree.records[name] if record.name == full]
        given = _address_record(full, zone.ttl, address)
        same = [record for record in true if record.type == given.type]
        if not same or enclosing_zone(full, tree.zones) != name:
            names = [record.name for record in tree.records[name] if record.type == given.type]
            hint = near(full, names)
            tree.problems.add(here, f"{full} has no {given.type} record in {name} that could be forged", hint, key=True)
        elif [record.data for record in same] == [given.data]:
            tree.problems.add(here, f"{given.data} is the true address of {full}")
        else:
            yield Record(full, same[0].ttl, given.type, given.data)


def _validators(tree: _Tree) -> None:
    root = tree.zones.get(".")
    for node, spec in tree.spec.nodes.items():
        unbound = spec.services.unbound
        if unbound is not None and unbound.validate_ and not (root and root.dnssec):
            path = ("nodes", node, "services", "unbound", "validate")
            tree.problems.add(path, "nothing can be validated: the root is not signed", "dnssec: true  in the zone '.'")


def _circles(tree: _Tree) -> None:
    """Zones whose name servers' names can only be found by asking those very zones."""
    homes: dict[str, list[str | None]] = {}
    lost: set[str] = set()
    for name, zone in tree.zones.items():
        homes[name] = []
        for server in (absolute(label, name) for label in zone.nameservers):
            home = enclosing_zone(server, tree.zones)
            homes[name].append(None if is_below(server, name) else home)
            if home is None:
                lost.add(name)
    parents = {name: parent_zone(name, tree.zones) for name in tree.zones}
    waiting: dict[str, list[str]] = {}
    for name in tree.zones:
        for needed in dict.fromkeys((parents[name], *homes[name])):
            if needed is not None:
                waiting.setdefault(needed, []).append(name)
    reachable = ({"."} & set(tree.zones)) | tree.orphans | lost
    queue = list(reachable)
    while queue:
        for name in waiting.get(queue.pop(), ()):
            if (
                name not in reachable
                and parents[name] in reachable
                and any(home is None or home in reachable for home in homes[name])
            ):
                reachable.add(name)
                queue.append(name)
    for name in tree.zones:
        if name not in reachable and parents[name] in reachable:
            needs = ", ".join(sorted({str(home) for home in homes[name]}))
            tree.problems.add(
                (*tree.path(name), "nameservers"),
                f"circular delegation: to find a server of {name} one must ask {needs}, and the other way round",
                "name one server inside its own zone: then the parent gives its address as glue",
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
