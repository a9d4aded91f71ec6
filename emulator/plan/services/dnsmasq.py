"""dnsmasq as the DHCP server (RFC 2131) and caching DNS forwarder of a home router."""

from __future__ import annotations

from typing import TYPE_CHECKING

from emulator.lab.resolved import Node, ResolvedLab
from emulator.plan.addresses import address_in
from emulator.plan.ops import Condition
from emulator.plan.services.base import HOME, Service

if TYPE_CHECKING:
    from emulator.lab.services import DhcpPool


def dnsmasq(lab: ResolvedLab, node: Node) -> Service | None:
    """dnsmasq of `node`, if it has it."""
    spec = node.services.dnsmasq
    if spec is None:
        return None
    lines = [
        "no-resolv",
        "no-hosts",
        "no-poll",
        "bind-interfaces",
        "log-facility=-",
        f"dhcp-leasefile={HOME}/dnsmasq.leases",
        "dhcp-authoritative",
    ]
    if not spec.probe:
        lines.append("no-ping")
    interfaces = [pool.interface for pool in spec.dhcp] + [entry.interface for entry in spec.ra]
    if spec.dns is None:
        lines.append("port=0")
    else:
        lines += [f"server={address_in(lab, text)}" for text in spec.dns.forward]
        for name, text in spec.dns.names.items():
            # `local`: of what it says nothing about, another type of record, it says so, and asks nobody.
            lines += [f"address=/{name}/{address_in(lab, text)}", f"local=/{name}/"]
        lines.append(f"cache-size={spec.dns.cache_size}")
        if not interfaces:
            outside = {rule.out for rule in node.nat.masquerade} if node.nat else set()
            interfaces = [interface.name for interface in node.interfaces if interface.name not in outside]
    lines += [f"interface={name}" for name in dict.fromkeys(interfaces)]
    for number, pool in enumerate(spec.dhcp):
        lines += _pool(lab, node, pool, f"pool{number}")
    if spec.ra:
        lines.append("enable-ra")
    for entry in spec.ra:
        own = node.interface(entry.interface).first(6)
        server = address_in(lab, entry.dns) if entry.dns else str(own.ip) if own else "::"
        lines += [
            f"dhcp-range=set:ra-{entry.interface},::,constructor:{entry.interface},ra-only",
            f"ra-param={entry.interface},high,4",
            f"dhcp-option=tag:ra-{entry.interface},option6:dns-server,[{server}]",
        ]
    served = node.interface(interfaces[0]) if interfaces else None
    address = str(served.addresses[0].ip) if served and served.addresses else "127.0.0.1"
    ready: Condition | None = None  # who only announces routers has no port
    if spec.dns or spec.dhcp:
        ready = Condition("dns", address, 53) if spec.dns else Condition("udp-port", port=67)
    return Service(
        name="dnsmasq",
        argv=("dnsmasq", "--no-daemon", f"--conf-file={HOME}/dnsmasq.conf"),
        ready=ready,
        files={f"{HOME}/dnsmasq.conf": "".join(f"{line}\n" for line in lines)},
        tools=("dnsmasq",),
        restart=spec.restart or "",
    )


def _pool(lab: ResolvedLab, node: Node, pool: DhcpPool, tag: str) -> list[str]:
    own = next(a for a in node.interface(pool.interface).addresses if pool.range[0] in a.network)
    gateway = address_in(lab, pool.gateway) if pool.gateway else str(own.ip)
    server = address_in(lab, pool.dns) if pool.dns else str(own.ip)
    first, last = pool.range
    lines = [
        f"dhcp-range=set:{tag},{first},{last},{own.network.netmask},{pool.lease_time}",
        f"dhcp-option=tag:{tag},option:router,{gateway}",
        f"dhcp-option=tag:{tag},option:dns-server,{server}",
    ]
    for number, after in ((58, pool.renew_after), (59, pool.rebind_after)):
        if after is not None:
            lines.append(f"dhcp-option=tag:{tag},{number},{after}")
    if pool.domain:
        lines.append(f"domain={pool.domain},{own.network}")
    segment = lab.segments[node.interface(pool.interface).segment]
    for name, address in pool.reservations.items():
        clients = (lab.nodes[owner].interface(i) for owner, i in segment.members if owner == name)
        mac = next(interface.mac for interface in clients if interface.dhcp)
        lines.append(f"dhcp-host={mac},{address},{name}")
    return lines
