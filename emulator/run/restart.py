"""Booting nodes of a running lab: the plan's operations for them, by the builder's hands, in namespaces that are there
already."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

from emulator.errors import CommandFailed, MachineError, WirelabError
from emulator.plan import ops
from emulator.run import kernel, netlink
from emulator.run.backends.netns import NetnsHands, Node, initial_settings, no_offload, write_sysctl
from emulator.run.control import Control

_FIRST_INDEX = 1 << 20
"""Indexes of bridges that a node makes anew, far from those of the lab's cables."""


class RestartHands(NetnsHands):
    """The hands of the builder, for nodes whose namespaces and cables are there: to create them is to prepare them.

    A service that does not answer in time does not stop a boot; `late` says which.
    """

    def __init__(self, control: Control, directory: Path, private: Path) -> None:
        super().__init__(control, directory, private)
        self.late: list[str] = []

    def execute(self, operation: ops.Operation) -> None:
        """See `emulator.run.apply.Hands`. Nothing is undone: the node is switched off again instead."""
        if not isinstance(operation, ops.RemoveNode | ops.RemoveLink):
            super().execute(operation)

    def _create_node(self, operation: ops.CreateNode) -> None:
        node = self._adopt(operation.node)
        for key, value in sorted(initial_settings(operation)):
            write_sysctl(key, value)
            if ".default." in key:  # its cables are there already, and took the defaults from before
                for interface in node.indexes:
                    write_sysctl(key.replace(".default.", f".{interface}."), value)
        self._queue.append((node, operation, netlink.set_up(1)))

    def _adopt(self, name: str) -> Node:
        """Take over the namespace of a node, and stay in it."""
        namespace = self._control.node_networks([name])[name]
        kernel.setns(namespace, kernel.CLONE_NEWNET)
        control = socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
        indexes = {interface: index for index, interface in socket.if_nameindex()}
        numbers = iter(range(_FIRST_INDEX, 2 * _FIRST_INDEX))
        self._nodes[name] = Node(name, namespace, netlink.Socket(), control, numbers, indexes)
        return self._nodes[name]

    def _create_link(self, link: ops.CreateLink) -> None:
        ends = (
            (link.node, link.interface, link.mac, link.bridge),
            (link.peer_node, link.peer_interface, link.peer_mac, link.peer_bridge),
        )
        for name, interface, mac, bridge in ends:
            if name in self._nodes:
                node = self._nodes[name]
                if interface not in node.indexes:
                    raise CommandFailed(f"{name} has lost its interface {interface}", hint="wirelab down, and up again")
                master = node.index(bridge) if bridge else 0
                message = netlink.set_end(node.index(interface), mac, link.mtu_bytes, master)
                self._queue.append((node, link, message))
                if not link.offload:
                    no_offload(node.control, interface)

    def _in_namespace(self, node: str) -> None:
        if node not in self._nodes:
            self._adopt(node)
        super()._in_namespace(node)

    def _wait(self, operation: ops.WaitUntil) -> None:
        try:
            super()._wait(operation)
        except CommandFailed as error:
            self.late.append(error.message)


def boot(directory: Path, plan: ops.Plan) -> list[str]:
    """Carry out `plan` (`emulator.plan.restart`) in the running lab; returns what does not answer, in words.

    Raises:
        WirelabError: an operation failed.
    """
    if not plan.operations:
        return []
    root = str(Path(__file__).resolve().parents[2])
    code = f"import sys; sys.path.insert(0, {root!r}); from emulator.run.builder import main; sys.exit(main())"
    operations = [operation.to_json() for operation in plan.operations]
    done = subprocess.run(
        [sys.executable, "-c", code, str(directory)],
        input=json.dumps({"lab": plan.lab, "operations": operations, "restart": True}).encode(),
        stdout=subprocess.PIPE,
        cwd="/",
        start_new_session=True,
        env=dict(os.environ),
        check=False,
    )
    last: dict[str, Any] = {"error": f"the builder ended with status {done.returncode}"}
    for line in done.stdout.splitlines():
        last = json.loads(line)
    if "error" in last:
        kind: type[WirelabError] = MachineError if last.get("machine") else CommandFailed
        raise kind(last["error"], hint=last.get("hint"))
    late: list[str] = last["late"]
    return late
