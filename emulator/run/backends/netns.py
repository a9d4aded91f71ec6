"""Nodes as network namespaces, and the hands that build a lab of them through netlink from outside the nodes."""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import itertools
import os
import socket
import struct
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, field
from ipaddress import IPv4Interface, ip_interface, ip_network
from pathlib import Path
from typing import Any

from emulator.errors import CommandFailed, MachineError, WirelabError, printable
from emulator.plan import ops
from emulator.run import execute, kernel, netlink, spawn, waiting
from emulator.run.control import Control, LabGone

BRIDGE_INDEX = 2
"""Interface indexes are chosen, not asked for: 1 is lo, 2 a node's first bridge, then cables in the order of the plan.

No two ends of cables in a lab share an index. Where both ends of a veth pair have the same one, the kernel takes it for
an interface without a lower device and may tell it of its carrier up to a second late (linkwatch_urgent_event in
net/core/link_watch.c); what is sent until then is lost.
"""

_PREPARE_TIMEOUT_S = 60

_SIOCETHTOOL = 0x8946
_ETHTOOL_STXCSUM = 0x17
_ETHTOOL_SGSO = 0x24


@dataclass
class Node:
    """A node while it is built: its network namespace and the sockets that belong to it."""

    name: str
    namespace_fd: int
    netlink: netlink.Socket
    control: socket.socket
    numbers: Iterator[int]
    indexes: dict[str, int] = field(default_factory=lambda: {"lo": 1})

    def index(self, interface: str) -> int:
        """The index of `interface`, chosen when it is first asked for."""
        if interface not in self.indexes:
            self.indexes[interface] = next(self.numbers)
        return self.indexes[interface]

    def close(self) -> None:
        """Give everything back; the namespace ends with its last holder."""
        os.close(self.namespace_fd)
        self.netlink.close()
        self.control.close()


class NetnsHands:
    """Builds a lab in the namespaces of its first process. The calling process has entered them already."""

    def __init__(self, control: Control, directory: Path, private: Path) -> None:
        self.confinement: dict[str, Any] | None = None
        self._control = control
        self._directory = directory
        self._private = private
        self._nodes: dict[str, Node] = {}
        self._numbers = itertools.count(BRIDGE_INDEX + 1)
        self._unknown: list[str] = []
        self._queue: list[tuple[Node, ops.Operation, bytes]] = []
        self._links: list[ops.CreateLink] = []

    def execute(self, operation: ops.Operation) -> None:
        """See `emulator.run.apply.Hands`."""
        try:
            self._execute(operation)
        except OSError as error:
            raise CommandFailed(f"cannot {operation.describe()}: {error.strerror or error}") from None

    def _execute(self, operation: ops.Operation) -> None:
        match operation:
            case ops.CreateNode():
                self._create_node(operation)
            case ops.RemoveNode():
                self._remove_node(operation.node)
            case ops.CreateBridge():
                self._create_bridge(operation)
            case ops.CreateLink():
                self._create_link(operation)
            case ops.RemoveLink():
                node = self._nodes[operation.node]
                self._queue.append((node, operation, netlink.delete_link(node.index(operation.interface))))
            case ops.LimitRate():
                self._run(operation, operation.argv(), b"", tools=True)
            case ops.AddAddress():
                self._add_address(operation)
            case ops.SetUp():
                node = self._nodes[operation.node]
                self._queue.append((node, operation, netlink.set_up(node.index(operation.interface))))
            case ops.AddRoute():
                self._add_route(operation)
            case ops.SetSysctl():
                self._in_namespace(operation.node)
                write_sysctl(operation.key, operation.value)
            case ops.LoadRules():
                self._run(operation, ["iptables-restore"], operation.rules.encode(), tools=True)
            case ops.WriteFile():
                self._write_file(operation)
            case ops.Prepare():
                self._prepare(operation)
            case ops.PutFile():
                self._put_file(operation)
            case ops.StartProcess():
                self._start(operation)
            case ops.WaitUntil():
                self._wait(operation)
            case ops.RunCommand():
                self._run(operation, list(operation.argv), b"", operation.env, operation.timeout_s)
            case _:
                raise CommandFailed(f"this backend cannot {operation.describe()}")

    def flush(self) -> None:
        """Hand new namespaces to the first process, send queued messages, switch offloads off."""
        self._hand_over()
        queue, self._queue = self._queue, []
        links, self._links = self._links, []
        by_node: dict[str, list[tuple[ops.Operation, bytes]]] = {}
        for node, operation, message in queue:
            by_node.setdefault(node.name, []).append((operation, message))
        for name, entries in by_node.items():
            failures = self._nodes[name].netlink.send(message for _, message in entries)
            if failures:
                operation = entries[failures[0].index][0]
                raise CommandFailed(f"cannot {operation.describe()}: {failures[0].reason}")
        for link in links:
            self._finish_link(link)

    def _create_node(self, operation: ops.CreateNode) -> None:
        kernel.unshare(kernel.CLONE_NEWNET)
        for setting in sorted(initial_settings(operation)):
            write_sysctl(*setting)
        self._add_node(operation, os.open("/proc/self/ns/net", os.O_RDONLY | os.O_CLOEXEC))
        self._unknown.append(operation.node)

    def _add_node(self, operation: ops.CreateNode, namespace_fd: int) -> None:
        """Take a node in whose network namespace the calling thread is."""
        control = socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
        node = Node(operation.node, namespace_fd, netlink.Socket(), control, self._numbers)
        self._nodes[operation.node] = node
        self._queue.append((node, operation, netlink.set_up(1)))

    def _hand_over(self) -> None:
        while self._unknown:
            part = self._unknown[: kernel.FDS_A_MESSAGE]
            self._unknown = self._unknown[kernel.FDS_A_MESSAGE :]
            fds = tuple(self._nodes[name].namespace_fd for name in part)
            self._control.ask("add-nodes", fds, nodes=part, confinement=self.confinement)

    def _remove_node(self, name: str) -> None:
        node = self._nodes.pop(name, None)
        if node is None:
            return
        node.close()
        if name in self._unknown:
            self._unknown.remove(name)
        else:
            with contextlib.suppress(LabGone, OSError):
                self._control.ask("remove-node", node=name)

    def _create_bridge(self, bridge: ops.CreateBridge) -> None:
        node = self._nodes[bridge.node]
        if BRIDGE_INDEX not in node.indexes.values():
            node.indexes[bridge.name] = BRIDGE_INDEX
        settings = netlink.BridgeSettings(
            bridge.ageing_s,
            bridge.stp,
            bridge.priority,
            bridge.hello_time_s,
            bridge.forward_delay_s,
            bridge.max_age_s,
        )
        message = netlink.new_bridge(node.index(bridge.name), bridge.name, bridge.mac, settings)
        self._queue.append((node, bridge, message))

    def _create_link(self, link: ops.CreateLink) -> None:
        here, there = self._nodes[link.node], self._nodes[link.peer_node]
        a, b = (link.interface, link.mac), (link.peer_interface, link.peer_mac)
        bridge = link.bridge
        if link.peer_bridge and not bridge:  # made from the switch's side, the port joins it in the same message
            here, there, a, b, bridge = there, here, b, a, link.peer_bridge
        master = here.index(bridge) if bridge else 0
        near = netlink.End(here.index(a[0]), a[0], a[1], here.namespace_fd, master)
        far = netlink.End(there.index(b[0]), b[0], b[1], there.namespace_fd)
        self._queue.append((here, link, netlink.new_veth(near, far, link.mtu_bytes)))
        self._links.append(link)

    def _finish_link(self, link: ops.CreateLink) -> None:
        if link.bridge and link.peer_bridge:  # made from `node`'s side: the peer's port still has to join
            there = self._nodes[link.peer_node]
            join = netlink.set_master(there.index(link.peer_interface), there.index(link.peer_bridge))
            failures = there.netlink.send([join])
            if failures:
                raise CommandFailed(f"cannot {link.describe()}: {failures[0].reason}")
        if not link.offload:
            for node, interface in ((link.node, link.interface), (link.peer_node, link.peer_interface)):
                no_offload(self._nodes[node].control, interface)

    def _add_address(self, operation: ops.AddAddress) -> None:
        node = self._nodes[operation.node]
        address = ip_interface(operation.address)
        broadcast = None
        if isinstance(address, IPv4Interface) and address.network.prefixlen < 31:
            broadcast = str(address.network.broadcast_address)
        family = socket.AF_INET if address.version == 4 else socket.AF_INET6
        index = node.index(operation.interface)
        message = netlink.new_address(index, family, str(address.ip), address.network.prefixlen, broadcast)
        self._queue.append((node, operation, message))

    def _add_route(self, operation: ops.AddRoute) -> None:
        node = self._nodes[operation.node]
        family = socket.AF_INET6 if ":" in operation.via else socket.AF_INET
        destination, prefix = None, 0
        if operation.to != "default":
            network = ip_network(operation.to)
            destination, prefix = str(network.network_address), network.prefixlen
        index = node.index(operation.interface)
        message = netlink.new_route(family, destination, prefix, operation.via, index)
        self._queue.append((node, operation, message))

    def _in_namespace(self, node: str) -> None:
        kernel.setns(self._nodes[node].namespace_fd, kernel.CLONE_NEWNET)

    def _write_file(self, operation: ops.WriteFile) -> None:
        path = self._private / operation.node / operation.path.lstrip("/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(operation.content, encoding="utf-8")
        path.chmod(operation.mode)

    def _prepare(self, operation: ops.Prepare) -> None:
        workshop = self._private / ops.WORKSHOP
        workshop.mkdir(mode=0o700, exist_ok=True)
        for name, content in operation.files.items():
            (workshop / name).write_text(content, encoding="utf-8")
        try:
            done = subprocess.run(
                ["sh", "-euc", operation.script],
                cwd=workshop,
                env=spawn.environment(operation.node),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                timeout=_PREPARE_TIMEOUT_S,
                check=False,
            )
        except subprocess.TimeoutExpired:
            raise CommandFailed(f"cannot {operation.describe()}: it took longer than {_PREPARE_TIMEOUT_S} s") from None
        if done.returncode != 0:
            said = printable(done.stdout.decode(errors="replace").strip()[-600:])
            raise CommandFailed(
                f"cannot {operation.describe()}: the script {_ending(done.returncode)}", hint=said or None
            )

    def _put_file(self, operation: ops.PutFile) -> None:
        path = self._private / operation.node / operation.path.lstrip("/")
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, operation.mode)
        with open(descriptor, "wb") as stream:
            os.fchmod(descriptor, operation.mode)
            stream.write((self._private / ops.WORKSHOP / operation.source).read_bytes())

    def _start(self, operation: ops.StartProcess) -> None:
        try:
            self._control.ask(
                "start",
                node=operation.node,
                service=operation.service,
                argv=operation.argv,
                env=dict(operation.env),
                rootless=operation.rootless,
            )
        except OSError as error:
            raise _start_error(operation.describe(), operation.argv[0], error) from None

    def _wait(self, operation: ops.WaitUntil) -> None:
        self._in_namespace(operation.node)
        private = self._root_of(operation.node)

        def ended() -> str | None:
            for service in self._control.services() if operation.service else ():
                if (service["node"], service["service"]) == (operation.node, operation.service):
                    return None if service["running"] else _ending(service["status"])
            return "was never started" if operation.service else None

        trouble = waiting.wait_for(operation.condition, private, operation.timeout_s, ended)
        if trouble:
            who = f"{operation.service} on {operation.node}" if operation.service else operation.node
            log = self._directory / "log" / f"{operation.node}-{operation.service}.log"
            raise CommandFailed(
                f"{who} {trouble}; expected that it {operation.condition.describe()}",
                hint=_tail(log) if operation.service else None,
            )

    def _root_of(self, node: str) -> Path:
        """The folder with the files that only the node sees."""
        return self._private / node

    def _run(
        self,
        operation: ops.Operation,
        argv: list[str],
        stdin: bytes,
        env: object = None,
        timeout_s: float = 30.0,
        *,
        tools: bool = False,
    ) -> None:
        spaces = self._control.node_spaces([operation.node], tools=tools)[operation.node]
        extra = dict(env) if isinstance(env, dict) else {}
        try:
            done = execute.run(spaces, argv, spawn.environment(operation.node, extra), stdin=stdin, timeout_s=timeout_s)
        except OSError as error:
            raise _start_error(operation.describe(), argv[0], error) from None
        finally:
            spaces.close()
        if done.status != 0:
            said = (done.stderr or done.stdout).decode(errors="replace").strip()
            ending = f"took longer than {timeout_s:g} s" if done.status is None else _ending(done.status)
            raise CommandFailed(
                f"cannot {operation.describe()}: {argv[0]} {ending}", hint=printable(said[-600:]) or None
            )


def initial_settings(operation: ops.CreateNode) -> list[tuple[str, str]]:
    """Settings that must stand before any interface comes up, so that no frame of the host's own habits is seen."""
    settings = []
    if not operation.ipv6 and os.path.exists("/proc/sys/net/ipv6"):
        settings += [(f"net.ipv6.conf.{scope}.disable_ipv6", "1") for scope in ("all", "default")]
    if operation.ipv6:
        # A pulled cable takes no fixed address away.
        settings += [(f"net.ipv6.conf.{scope}.keep_addr_on_down", "1") for scope in ("all", "default")]
    if operation.forwards:
        settings += [("net.ipv4.ip_forward", "1"), ("net.ipv4.conf.all.rp_filter", "0")]
        settings.append(("net.ipv4.conf.default.rp_filter", "0"))
        if operation.ipv6:
            settings.append(("net.ipv6.conf.all.forwarding", "1"))
    return settings


def write_sysctl(key: str, value: str) -> None:
    """Set a kernel setting in the network namespace of the calling thread.

    Raises:
        OSError: the kernel has no such setting, or refuses the value.
    """
    with open(f"/proc/sys/{key.replace('.', '/')}", "w", encoding="ascii") as stream:
        stream.write(value)


def no_offload(control: socket.socket, interface: str) -> None:
    """Let the kernel finish checksums and segments before a frame leaves `interface` (ethtool ioctls, linux/ethtool.h).

    Without transmit checksums the kernel turns TCP segmentation offload off by itself.
    """
    for command in (_ETHTOOL_STXCSUM, _ETHTOOL_SGSO):
        value = ctypes.create_string_buffer(struct.pack("=II", command, 0))
        request = struct.pack("16sP16x", interface.encode(), ctypes.addressof(value))
        fcntl.ioctl(control, _SIOCETHTOOL, request)


def _start_error(what: str, program: str, error: OSError) -> WirelabError:
    if error.errno == 2:
        from emulator.run.tools import package_hint

        return MachineError(f"cannot {what}: there is no program {program}", hint=package_hint([program]))
    return CommandFailed(f"cannot {what}: {error.strerror or error}")


def _ending(status: int) -> str:
    return f"was ended by signal {-status}" if status < 0 else f"ended with status {status}"


def _tail(log: Path, lines: int = 8) -> str | None:
    try:
        text = log.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    last = [line for line in text.splitlines() if line.strip()][-lines:]
    return "it said:\n    " + "\n    ".join(last) if last else "it said nothing"
