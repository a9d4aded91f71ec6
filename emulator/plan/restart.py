"""The plan of nodes that are switched on again: what the lab's plan says about them, and nothing else. Pure."""

from __future__ import annotations

from collections.abc import Collection

from emulator.lab.resolved import ResolvedLab
from emulator.plan import ops
from emulator.plan.compile import compile_plan


def restart_plan(
    lab: ResolvedLab,
    nodes: Collection[str],
    services: Collection[str] = (),
    *,
    pulled: Collection[str] = (),
    settle: bool = False,
    running: Collection[str] = (),
) -> ops.Plan:
    """The operations of the lab's plan that boot `nodes` and start `services`, in its order.

    Keys are not made again: they are in the lab's workshop.

    Args:
        services: `node:service` of nodes that run.
        pulled: `node:interface` of interfaces that stay switched off, as their cables are pulled; routes by them are
            set when the cables are plugged in.
        settle: wait for what takes networks a while (the spanning tree, addresses that nobody else may have) at all
            nodes, not only at `nodes`; and for DHCP clients of `running` that have no lease yet.
        running: `node:service` of services that run all the time.
    """
    plan = compile_plan(lab)
    chosen = (
        op for op in plan.operations if _belongs(op, nodes, services, pulled) or (settle and _settles(op, running))
    )
    return ops.Plan(lab.name, tuple(chosen), plan.tools)


def _belongs(
    operation: ops.Operation, nodes: Collection[str], services: Collection[str], pulled: Collection[str]
) -> bool:
    match operation:
        case ops.Prepare():
            return False
        case ops.CreateLink(node=node, peer_node=peer):
            return node in nodes or peer in nodes
        case ops.SetUp(node=node, interface=name) | ops.AddRoute(node=node, interface=name):
            return node in nodes and f"{node}:{name}" not in pulled
        case ops.StartProcess(node=node, service=service) | ops.WaitUntil(node=node, service=service):
            return node in nodes or f"{node}:{service}" in services
    return operation.node in nodes


def _settles(operation: ops.Operation, running: Collection[str]) -> bool:
    """Whether it waits for what comes from other nodes: what a service does by itself it has done long ago."""
    if not isinstance(operation, ops.WaitUntil):
        return False
    return not operation.service or (
        operation.condition.kind == "file" and f"{operation.node}:{operation.service}" in running
    )
