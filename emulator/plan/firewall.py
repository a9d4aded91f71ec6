"""Packet filter and address translation of a router as input for iptables-restore (iptables-extensions(8))."""

from __future__ import annotations

from collections.abc import Iterator

from emulator.lab.resolved import PRIVATE_NETWORKS, Node, ResolvedLab
from emulator.plan.addresses import address_in

PRIVATE = "private"
"""The comment of the rules that drop private addresses; their counters are found by it."""


def rules(lab: ResolvedLab, node: Node) -> str | None:
    """All tables of `node`, or None when it neither filters nor translates."""
    tables = {
        "raw": (("PREROUTING", "OUTPUT"), list(_raw(node))),
        "nat": (("PREROUTING", "INPUT", "OUTPUT", "POSTROUTING"), list(_nat(lab, node))),
        "filter": (("INPUT", "FORWARD", "OUTPUT"), list(_filter(node))),
    }
    text = ""
    for table, (chains, lines) in tables.items():
        if lines:
            heads = "".join(f":{chain} ACCEPT [0:0]\n" for chain in chains)
            body = "".join(f"{line}\n" for line in lines)
            text += f"*{table}\n{heads}{body}COMMIT\n"
    return text or None


def _raw(node: Node) -> Iterator[str]:
    if node.firewall and node.firewall.drop_private:
        for network in PRIVATE_NETWORKS:
            for side in ("-s", "-d"):
                yield f"-A PREROUTING {side} {network} -m comment --comment {PRIVATE} -j DROP"


def _nat(lab: ResolvedLab, node: Node) -> Iterator[str]:
    if node.nat is None:
        return
    for port in node.nat.publish:
        outside = port.on or node.nat.masquerade[0].out
        target = f"{address_in(lab, port.to)}:{port.to_port or port.port}"
        fixed = [f"-d {address.ip}" for address in node.interface(outside).addresses if address.version == 4]
        for here in fixed or ["-m addrtype --dst-type LOCAL"]:
            yield (
                f"-A PREROUTING -i {outside} {here} -p {port.protocol} --dport {port.port} "
                f"-j DNAT --to-destination {target}"
            )
    for rule in node.nat.masquerade:
        for protocol in rule.protocols or ("",):
            only = f"-p {protocol} " if protocol else ""
            yield f"-A POSTROUTING -o {rule.out} {only}-j MASQUERADE"


def _filter(node: Node) -> Iterator[str]:
    """Answers pass; published ports pass; nothing else comes in from where nobody is trusted. A packet of no known
    connection is not translated, so it may not leave by a translating interface either."""
    for name in node.firewall.untrusted if node.firewall else ():
        yield f"-A INPUT -i {name} -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT"
        yield f"-A INPUT -i {name} -j DROP"
        yield f"-A FORWARD -i {name} -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT"
        yield f"-A FORWARD -i {name} -m conntrack --ctstate DNAT -j ACCEPT"
        yield f"-A FORWARD -i {name} -j DROP"
    for rule in node.nat.masquerade if node.nat else ():
        yield f"-A FORWARD -o {rule.out} -m conntrack --ctstate INVALID -j DROP"
