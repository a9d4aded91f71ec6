"""Text of a lab file that stands for an address."""

from __future__ import annotations

from ipaddress import ip_address

from emulator.lab.resolved import ResolvedLab


def address_in(lab: ResolvedLab, text: str) -> str:
    """The address that `text` stands for: itself, or the first fixed address of the node or `node:interface`.

    Raises:
        KeyError: it stands for nothing; a resolved lab has no such text.
    """
    try:
        return str(ip_address(text))
    except ValueError:
        pass
    node, _, name = text.partition(":")
    for interface in lab.nodes[node].interfaces:
        if name in ("", interface.name):
            if interface.addresses:
                return str(interface.addresses[0].ip)
            if interface.dhcp and (reserved := reservation(lab, node)):
                return reserved
    raise KeyError(text)


def reservation(lab: ResolvedLab, node: str) -> str | None:
    """The address that a DHCP server of the lab keeps for `node`."""
    for other in lab.nodes.values():
        for pool in other.services.dnsmasq.dhcp if other.services.dnsmasq else ():
            if node in pool.reservations:
                return str(pool.reservations[node])
    return None


def gateway(lab: ResolvedLab, node: str) -> str | None:
    """The next hop of a node's default route: its own, or the one that its DHCP server gives; None when it has none."""
    for route in lab.nodes[node].routes:
        if route.to is None:
            return str(route.via)
    for interface in lab.nodes[node].interfaces:
        if not interface.dhcp:
            continue
        for owner, name in lab.segments[interface.segment].members:
            spec = lab.nodes[owner].services.dnsmasq
            for pool in spec.dhcp if spec else ():
                if pool.interface == name:
                    return address_in(lab, pool.gateway) if pool.gateway else address_in(lab, f"{owner}:{name}")
    return None
