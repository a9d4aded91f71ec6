"""Booting nodes of a running lab: the plan's operations for them, by the builder's hands, in namespaces that are there
already. As a program: python -m emulator.run.restart DIRECTORY PARENT ENGINE_SOCKET, the plan as JSON on standard
input; the socket is empty when no container is among the nodes.
"""

from __future__ import annotations

import errno
import functools
import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterable
from itertools import count
from pathlib import Path
from typing import Any

from emulator.errors import CommandFailed, MachineError, WirelabError
from emulator.plan import ops
from emulator.plan.containers import CreateContainer
from emulator.run import builder, kernel, netlink
from emulator.run.backends.netns import NetnsHands, Node, initial_settings
from emulator.run.control import Control

FIRST_INDEX = 1 << 20
"""Indexes of bridges that a node makes anew, far from those of the lab's cables."""


class RestartHands(NetnsHands):
    """The hands of the builder, for nodes whose namespaces and cables are there: to create them is to prepare them.

    A service that does not answer in time does not stop a boot; `late` says which.
    """

    _ran = True

    @functools.cached_property
    def late(self) -> list[str]:
        """What did not answer in time, in words."""
        return []

    def execute(self, operation: ops.Operation) -> None:
        """See `emulator.run.apply.Hands`. Nothing is undone: the node is switched off again instead."""
        if not isinstance(operation, ops.RemoveNode | ops.RemoveLink):
            super().execute(operation)

    def result(self) -> dict[str, Any]:
        """See `NetnsHands.result`."""
        return {"late": self.late}

    def _view_of_proc(self) -> int:
        raise OSError(errno.EOPNOTSUPP, "for a few nodes the machine's serves")

    def _create_node(self, operation: ops.CreateNode) -> None:
        node = self._adopt(operation.node)
        self._settings.in_new_namespace()
        for key, value in initial_settings(operation):
            self._settings.write(key, value)
        self._settle(node, initial_settings(operation))
        self._keep(node, operation, netlink.set_up(1))

    def _settle(self, node: Node, settings: Iterable[tuple[str, str]]) -> None:
        """The node's cables are there already, and took the defaults from before."""
        for key, value in settings:
            if ".default." in key:
                for interface in node.indexes:
                    self._settings.write(key.replace(".default.", f".{interface}."), value)

    def _adopt(self, name: str) -> Node:
        """Take over the namespace of a node, and stay in it."""
        namespace = self._control.node_networks([name])[name]
        kernel.setns(namespace, kernel.CLONE_NEWNET)
        indexes = {interface: index for index, interface in socket.if_nameindex()}
        self._nodes[name] = Node(name, namespace, count(FIRST_INDEX), indexes=indexes)
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
                self._keep(node, link, netlink.set_end(node.index(interface), mac, link.mtu_bytes, master))
                if not link.offload:
                    node.offloading.append((link, interface))

    def _in_namespace(self, node: str) -> None:
        if node not in self._nodes:
            self._adopt(node)
        super()._in_namespace(node)

    def _root_of(self, node: str) -> Path:
        spaces = self._control.node_spaces([node])[node]
        spaces.close()
        if spaces.ipc >= 0:  # a container: what runs in it shows its files
            for service in self._control.services():
                if service["node"] == node and service["running"]:
                    return Path(f"/proc/{service['pid']}/root")
        return super()._root_of(node)

    def _wait(self, operation: ops.WaitUntil) -> None:
        try:
            super()._wait(operation)
        except CommandFailed as error:
            self.late.append(error.message)


def main() -> int:
    """Carry the plan out; returns the exit status."""
    request = json.load(sys.stdin)
    plan = ops.Plan(request["lab"], tuple(ops.from_row(row) for row in request["operations"]), ())
    engine_socket = sys.argv[3] or None

    def hands(control: Control, directory: Path, private: Path) -> RestartHands:
        if engine_socket is None:
            return RestartHands(control, directory, private)
        from emulator.run.backends.docker_restart import DockerRestartHands

        return DockerRestartHands(control, directory, private, engine_socket, os.geteuid())

    return builder.work(Path(sys.argv[1]), plan, int(sys.argv[2]), 1, engine_socket, hands)


def boot(directory: Path, plan: ops.Plan) -> list[str]:
    """Carry out `plan` (`emulator.plan.restart`) in the running lab; returns what does not answer, in words.

    Raises:
        WirelabError: an operation failed.
    """
    if not plan.operations:
        return []
    code = f"import sys; sys.path[:] = {sys.path!r}; from emulator.run.restart import main; sys.exit(main())"
    operations = [ops.to_row(operation) for operation in plan.operations]
    engine_socket = ""
    if any(isinstance(operation, CreateContainer) for operation in plan.operations):
        from emulator.run import engine

        engine_socket = engine.usable()
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", code, str(directory), str(os.getpid()), engine_socket],
        input=json.dumps({"lab": plan.lab, "operations": operations}).encode(),
        stdout=subprocess.PIPE,
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


if __name__ == "__main__":
    sys.exit(main())
