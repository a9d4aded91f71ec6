"""From a resolved lab to the plan that builds it: nodes, cables, addresses, routes, rules, files, daemons, waiting.

What only some labs have is imported for those: a large lab of plain hosts shall not wait for it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from emulator.lab.resolved import NO_SERVICES, Node, ResolvedLab
from emulator.plan import ops
from emulator.plan.ops import Condition

if TYPE_CHECKING:
    from emulator.plan.services.base import Service

ETHERNET_HEADER_BYTES = 14


def compile_plan(lab: ResolvedLab) -> ops.Plan:
    """The plan of `lab`: the same lab gives the same plan, operation by operation."""
    services = {node.name: list(_services(lab, node)) for node in lab.nodes.values()}
    operations = (
        *_nodes(lab),
        *_binds(lab),
        *_links(lab),
        *_addresses(lab),
        *_routes(lab),
        *_settings(lab),
        *_rules(lab),
        *_files(lab, services),
        *_secrets(lab),
        *_settled(lab),
        *_daemons(lab, services),
        *(ops.RunCommand(node.name, argv, dict(node.env)) for node in lab.nodes.values() for argv in node.exec),
    )
    return ops.Plan(lab.name, operations, _tools(lab, services, operations))


def _nodes(lab: ResolvedLab) -> Iterator[ops.Operation]:
    for node in lab.nodes.values():
        if node.container is not None:
            from emulator.plan.containers import create_container

            yield create_container(node, node.container)
    for node in lab.nodes.values():
        if node.container is None:
            yield ops.CreateNode(node.name, ipv6=node.ipv6, forwards=node.forwards)
    for node in lab.nodes.values():
        for bridge in node.bridges:
            yield ops.CreateBridge(
                node.name,
                name=bridge.name,
                mac=bridge.mac,
                ageing_s=bridge.ageing_s,
                stp=bridge.stp,
                priority=bridge.priority,
                hello_time_s=bridge.hello_time_s,
                forward_delay_s=bridge.forward_delay_s,
                max_age_s=bridge.max_age_s,
            )


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
            bridge=a.bridge,
            peer_bridge=b.bridge,
        )
    for interface in lab.interfaces():
        if interface.rate_bits_s is not None:
            # The bucket holds what is sent in a hundredth of a second, and one frame at least.
            burst = max(2 * (interface.mtu_bytes + ETHERNET_HEADER_BYTES), interface.rate_bits_s // 8 // 100)
            yield ops.LimitRate(interface.node, interface.name, interface.rate_bits_s, burst)


def _addresses(lab: ResolvedLab) -> Iterator[ops.Operation]:
    for interface in lab.interfaces():
        for address in interface.addresses:
            yield ops.AddAddress(interface.node, interface.name, str(address))
    for node in lab.nodes.values():
        # Whose IPv6 addresses the file gives takes no others from routers.
        for interface in node.interfaces if node.ipv6 else ():
            if not interface.slaac and not interface.is_loopback and not interface.bridge and not node.forwards:
                yield ops.SetSysctl(node.name, f"net.ipv6.conf.{interface.name}.accept_ra", "0")
    for interface in lab.interfaces():
        if interface.peer is not None:
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


def _binds(lab: ResolvedLab) -> Iterator[ops.Operation]:
    for node in lab.nodes.values():
        for bind in () if node.container else node.binds:  # a container has them from its making on
            yield ops.BindPath(node.name, bind.source, bind.target, bind.read_only)


def _rules(lab: ResolvedLab) -> Iterator[ops.Operation]:
    for node in lab.nodes.values():
        if node.nat or node.firewall:
            from emulator.plan.firewall import rules

            if text := rules(lab, node):
                yield ops.LoadRules(node.name, text)


def _services(lab: ResolvedLab, node: Node) -> Iterator[Service]:
    if node.services is not NO_SERVICES or node.programs or any(interface.dhcp for interface in node.interfaces):
        from emulator.plan.daemons import daemons

        yield from daemons(lab, node)


def _has_secrets(lab: ResolvedLab) -> bool:
    """Whether keys have to be made: only for zones and HTTP servers there can be any."""
    return bool(lab.zones) or any(node.services.http for node in lab.nodes.values())


def _secrets(lab: ResolvedLab) -> Iterator[ops.Operation]:
    if _has_secrets(lab):
        from emulator.plan.workshop import secrets

        yield from secrets(lab)


def _settled(lab: ResolvedLab) -> Iterator[ops.Operation]:
    """What takes the kernel a while: the spanning tree, and making sure that IPv6 addresses are nobody else's."""
    for node in lab.nodes.values():
        for bridge in node.bridges:
            if bridge.stp:
                # Twice the forward delay, and once more until a better root has been heard of.
                yield ops.WaitUntil(node.name, "", Condition("stp"), 3 * bridge.forward_delay_s + bridge.max_age_s + 4)
    for node in lab.nodes.values():
        if node.ipv6 and not any(interface.slaac for interface in node.interfaces):
            yield ops.WaitUntil(node.name, "", Condition("ipv6"))


def _autoconfigured(lab: ResolvedLab) -> Iterator[ops.Operation]:
    for node in lab.nodes.values():
        if names := [interface.name for interface in node.interfaces if interface.slaac]:
            yield ops.WaitUntil(node.name, "", Condition("ipv6", path=" ".join(names)), 15)


def _files(lab: ResolvedLab, services: dict[str, list[Service]]) -> Iterator[ops.Operation]:
    for node in lab.nodes.values():
        if node.kind != "switch":
            own = "".join(f"{address.ip} {node.name}\n" for address in node.addresses[:1])
            own = own or f"127.0.1.1 {node.name}\n"
            own += "".join(f"{address} {host}\n" for host, address in node.hosts)
            yield ops.WriteFile(node.name, "/etc/hosts", f"127.0.0.1 localhost\n::1 localhost\n{own}")
            servers = "".join(f"nameserver {server}\n" for server in node.dns)
            yield ops.WriteFile(node.name, "/etc/resolv.conf", servers)
        for file in node.files:
            yield ops.WriteFile(node.name, file.path, file.content, file.mode)
        for service in services[node.name]:
            for path, content in service.files.items():
                yield ops.WriteFile(node.name, path, content, 0o755 if path in service.scripts else 0o644)


def _daemons(lab: ResolvedLab, services: dict[str, list[Service]]) -> Iterator[ops.Operation]:
    """Servers first, all started before any is waited for; then those that need them."""
    everything = [(node, service) for node in lab.nodes.values() for service in services[node.name]]
    programs = [entry for entry in everything if entry[1].program]
    clients = [entry for entry in everything if entry[1].argv[0] == "udhcpc" and not entry[1].program]
    servers = [entry for entry in everything if entry not in programs and entry not in clients]
    for group in (servers, clients, programs):
        for node, service in group:
            yield ops.StartProcess(
                node.name, service.name, service.argv, dict(node.env), service.rootless, service.restart
            )
        for node, service in group:
            if service.ready is not None:
                yield ops.WaitUntil(node.name, service.name, service.ready)
        if group is clients:
            yield from _autoconfigured(lab)


def _tools(
    lab: ResolvedLab, services: dict[str, list[Service]], operations: tuple[ops.Operation, ...]
) -> tuple[str, ...]:
    """The programs that this machine must have: a container brings what runs in it, but it is set up from outside."""
    inside = {node.name for node in lab.nodes.values() if node.container is not None}
    tools = {tool for node, group in services.items() if node not in inside for one in group for tool in one.tools}
    if any(isinstance(operation, ops.LimitRate) for operation in operations):
        tools.add("tc")
    if any(isinstance(operation, ops.LoadRules) for operation in operations):
        tools |= {"iptables-restore", "iptables-save", "conntrack"}
    commands = [operation for operation in operations if isinstance(operation, ops.RunCommand)]
    tools |= {_program(operation.argv) for operation in commands if operation.node not in inside}
    everything = [step for scene in lab.scenes for step in scene.steps]
    steps = [step for step in everything if step.action == "run"]
    tools |= {_program(step.argv) for step in steps if not set(step.nodes) <= inside}
    if any(step.action in ("freeze", "partition") for step in everything):
        tools.add("nft")
    tools = {tool for tool in tools if "/" not in tool}  # a path is the node's own file
    if _has_secrets(lab):
        from emulator.plan.workshop import tools as for_secrets

        tools |= for_secrets(lab)
    if lab.checks:
        tools |= {"ip", "bridge"}
    return tuple(sorted(tools - {"true", "false", "env", "sh", "echo", "sleep", "cat", "test"}))


def _program(argv: Sequence[str]) -> str:
    """The program that a command is about, behind `env NAME=VALUE…`."""
    words = list(argv)
    if words[0] == "env":
        words = [word for word in words[1:] if "=" not in word] or words
    return words[0]
