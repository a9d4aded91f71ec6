"""From a resolved lab to the plan that builds it: nodes, cables, addresses, routes, rules, files, daemons, waiting."""

from __future__ import annotations

from collections.abc import Iterator

from emulator.lab.resolved import Node, ResolvedLab
from emulator.plan import ops
from emulator.plan.firewall import rules
from emulator.plan.services.base import Service
from emulator.plan.services.dnsmasq import dnsmasq
from emulator.plan.services.http import http
from emulator.plan.services.nsd import nsd
from emulator.plan.services.udhcpc import udhcpc
from emulator.plan.services.unbound import unbound


def compile_plan(lab: ResolvedLab) -> ops.Plan:
    """The plan of `lab`: the same lab gives the same plan, operation by operation."""
    services = {node.name: list(_services(lab, node)) for node in lab.nodes.values()}
    operations = (
        *_nodes(lab),
        *_links(lab),
        *_addresses(lab),
        *_routes(lab),
        *_settings(lab),
        *_rules(lab),
        *_files(lab, services),
        *_daemons(lab, services),
        *(ops.RunCommand(node.name, argv, dict(node.env)) for node in lab.nodes.values() for argv in node.exec),
    )
    return ops.Plan(lab.name, operations, _tools(lab, services, operations))


def _nodes(lab: ResolvedLab) -> Iterator[ops.Operation]:
    for node in lab.nodes.values():
        ipv6 = any(address.version == 6 for address in node.addresses)
        yield ops.CreateNode(node.name, ipv6=ipv6, forwards=node.forwards)
    for node in lab.nodes.values():
        if node.kind == "switch":
            yield ops.CreateBridge(node.name)


def _links(lab: ResolvedLab) -> Iterator[ops.Operation]:
    for link in lab.links:
        a, b = link.a, link.b
        yield ops.CreateLink(
            node=a.node,
            interface=a.name,
            mac=a.mac,
            peer_node=b.node,
            peer_interface=b.name,
            peer_mac=b.mac,
            mtu_bytes=a.mtu_bytes,
            offload=a.offload,
            bridged=lab.nodes[a.node].kind == "switch",
            peer_bridged=lab.nodes[b.node].kind == "switch",
        )


def _addresses(lab: ResolvedLab) -> Iterator[ops.Operation]:
    for interface in lab.interfaces():
        for address in interface.addresses:
            yield ops.AddAddress(interface.node, interface.name, str(address))
    for interface in lab.interfaces():
        yield ops.SetUp(interface.node, interface.name)


def _routes(lab: ResolvedLab) -> Iterator[ops.Operation]:
    for node in lab.nodes.values():
        for route in node.routes:
            to = "default" if route.to is None else str(route.to)
            yield ops.AddRoute(node.name, to, str(route.via), route.interface)


def _settings(lab: ResolvedLab) -> Iterator[ops.Operation]:
    for node in lab.nodes.values():
        for key, value in node.sysctls.items():
            yield ops.SetSysctl(node.name, key, value)


def _rules(lab: ResolvedLab) -> Iterator[ops.Operation]:
    for node in lab.nodes.values():
        if text := rules(lab, node):
            yield ops.LoadRules(node.name, text)


def _services(lab: ResolvedLab, node: Node) -> Iterator[Service]:
    for service in (dnsmasq(lab, node), unbound(lab, node), nsd(lab, node), http(node)):
        if service is not None:
            yield service
    clients = [interface for interface in node.interfaces if interface.dhcp]
    for interface in clients:
        yield udhcpc(node, interface, alone=len(clients) == 1)


def _files(lab: ResolvedLab, services: dict[str, list[Service]]) -> Iterator[ops.Operation]:
    for node in lab.nodes.values():
        if node.kind == "switch":
            continue
        own = "".join(f"{address.ip} {node.name}\n" for address in node.addresses[:1]) or f"127.0.1.1 {node.name}\n"
        yield ops.WriteFile(node.name, "/etc/hosts", f"127.0.0.1 localhost\n::1 localhost\n{own}")
        yield ops.WriteFile(node.name, "/etc/resolv.conf", "".join(f"nameserver {server}\n" for server in node.dns))
        for service in services[node.name]:
            for path, content in service.files.items():
                yield ops.WriteFile(node.name, path, content, 0o755 if path in service.scripts else 0o644)


def _daemons(lab: ResolvedLab, services: dict[str, list[Service]]) -> Iterator[ops.Operation]:
    """Servers first, all started before any is waited for; then those that need them."""
    everything = [(node, service) for node in lab.nodes.values() for service in services[node.name]]
    clients = [(node, service) for node, service in everything if service.argv[0] == "udhcpc"]
    servers = [(node, service) for node, service in everything if service.argv[0] != "udhcpc"]
    for group in (servers, clients):
        for node, service in group:
            yield ops.StartProcess(node.name, service.name, service.argv, dict(node.env))
        for node, service in group:
            yield ops.WaitUntil(node.name, service.name, service.ready)


def _tools(
    lab: ResolvedLab, services: dict[str, list[Service]], operations: tuple[ops.Operation, ...]
) -> tuple[str, ...]:
    tools = {tool for group in services.values() for service in group for tool in service.tools}
    if any(isinstance(operation, ops.LoadRules) for operation in operations):
        tools |= {"iptables-restore", "iptables-save", "conntrack"}
    tools |= {operation.argv[0] for operation in operations if isinstance(operation, ops.RunCommand)}
    tools |= {step.argv[0] for scene in lab.scenes for step in scene.steps if step.action == "run"}
    if lab.checks:
        tools |= {"ip", "bridge"}
    return tuple(sorted(tools - {"true", "false", "env", "sh", "echo", "sleep", "cat", "test"}))
