"""NSD as authoritative server of the zones that name a node. The process keeps its user: a single-id user namespace
lets no daemon change it. The files of signed zones come from the workshop (`emulator.plan.workshop`)."""

from __future__ import annotations

from collections.abc import Iterable

from emulator.lab.resolved import Node, Record, ResolvedLab, Zone
from emulator.plan.ops import Condition
from emulator.plan.services.base import HOME, Service


def zone_file(zone: Zone) -> str:
    """The zone in master file format (RFC 1035, section 5)."""
    primary = next(record.data for record in zone.records if record.type == "NS" and record.name == zone.name)
    at = "" if zone.name == "." else zone.name
    soa_ttl = max(zone.ttl, zone.negative_ttl)  # a negative answer lives as long as the lower one (RFC 2308, section 5)
    numbers = f"1 3600 600 86400 {zone.negative_ttl}"
    soa = Record(zone.name, soa_ttl, "SOA", f"{primary} hostmaster.{at or 'invalid.'} {numbers}")
    return "".join(f"{line}\n" for line in record_lines([soa, *zone.records]))


def record_lines(records: Iterable[Record]) -> Iterable[str]:
    """Records as lines of a master file."""
    for record in records:
        yield f"{record.name} {record.ttl} IN {record.type} {record.data}"


def file_name(zone: str) -> str:
    """The name of a zone's file: `example.com.zone`, and `root` for the root."""
    return "root" if zone == "." else f"{zone}zone"


def nsd(lab: ResolvedLab, node: Node) -> Service | None:
    """The name server of `node`, if it has one."""
    if node.services.nsd is None:
        return None
    zones = [zone for zone in lab.zones.values() if node.name in zone.servers]
    addresses = [str(address.ip) for address in node.addresses]
    listen = "".join(f"  ip-address: {address}\n" for address in addresses)
    config = (
        "server:\n"
        f"{listen}"
        '  username: ""\n'
        "  server-count: 1\n"
        f'  zonesdir: "{HOME}"\n'
        '  pidfile: ""\n'
        '  database: ""\n'
        f'  xfrdfile: "{HOME}/xfrd.state"\n'
        f'  zonelistfile: "{HOME}/zone.list"\n'
        f'  xfrdir: "{HOME}"\n'
        '  logfile: "/dev/stderr"\n'
        "  rrl-ratelimit: 0\n"
        "  round-robin: yes\n"
        "remote-control:\n"
        "  control-enable: no\n"
    )
    for zone in zones:
        config += f'zone:\n  name: "{zone.name}"\n  zonefile: "{file_name(zone.name)}"\n'
    files = {f"{HOME}/nsd.conf": config}
    files.update({f"{HOME}/{file_name(zone.name)}": zone_file(zone) for zone in zones if not zone.dnssec})
    return Service(
        name="nsd",
        argv=("nsd", "-d", "-c", f"{HOME}/nsd.conf"),
        ready=Condition("dns", addresses[0] if addresses else "127.0.0.1", 53),
        files=files,
        tools=("nsd",),
        rootless=True,
        restart=node.services.nsd.restart or "",
    )
