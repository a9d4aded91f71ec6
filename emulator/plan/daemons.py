"""Which daemons a node has: those of the lab file's services, DHCP clients, and its own programs. Pure."""

from __future__ import annotations

from collections.abc import Iterator

from emulator.lab.resolved import Node, Program, ResolvedLab
from emulator.plan.ops import Condition
from emulator.plan.services.base import Service
from emulator.plan.services.dnsmasq import dnsmasq
from emulator.plan.services.http import http, https
from emulator.plan.services.nsd import nsd
from emulator.plan.services.udhcpc import udhcpc
from emulator.plan.services.unbound import unbound


def daemons(lab: ResolvedLab, node: Node) -> Iterator[Service]:
    """The daemons of `node`, in the order in which they are started among their kind."""
    for service in (dnsmasq(lab, node), unbound(lab, node), nsd(lab, node), http(node), https(node)):
        if service is not None:
            yield service
    clients = [interface for interface in node.interfaces if interface.dhcp]
    for interface in clients:
        yield udhcpc(node, interface, alone=len(clients) == 1)
    for program in node.programs:
        yield Service(
            program.name,
            program.argv,
            _ready(program),
            tools=(program.argv[0],),
            program=True,
            restart=program.restart,
        )


def _ready(program: Program) -> Condition | None:
    match program.ready:
        case ("tcp", int(port)):
            return Condition("tcp-port", port=port)
        case ("udp", int(port)):
            return Condition("udp-port", port=port)
        case ("file", str(path)):
            return Condition("file", path=path)
    return None
