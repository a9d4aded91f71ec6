"""Nodes as network namespaces, and the hands that build a lab of them through netlink from outside the nodes.

What most labs have no use for is imported where it is used: `up` is to be quick.
"""

from __future__ import annotations

import contextlib
import functools
import itertools
import os
from collections.abc import Callable, Iterator
from ipaddress import IPv4Interface, ip_address, ip_interface, ip_network
from pathlib import Path
from typing import Any

from emulator.errors import CommandFailed, printable
from emulator.plan import ops
from emulator.run import kernel, netlink, spawn, sysctl
from emulator.run.backends import refusals
from emulator.run.control import Control, LabGone

BRIDGE_INDEX = 2
"""Interface indexes are chosen, not asked for: 1 is lo, 2 a node's first bridge, then cables in the order of the plan.

No two ends of cables in a lab share an index. Where both ends of a veth pair have the same one, the kernel takes it for
an interface without a lower device and may tell it of its carrier up to a second late (linkwatch_urgent_event in
net/core/link_watch.c); what is sent until then is lost.
"""

_PREPARE_TIMEOUT_S = 60


class Node:
    """A node while it is built: its network namespace, and what is still to be said there."""

    def __init__(
        self,
        name: str,
        namespace_fd: int,
        numbers: Iterator[int],
        ipv6: bool = False,
        indexes: dict[str, int] | None = None,
    ) -> None:
        self.name = name
        self.namespace_fd = namespace_fd
        self.numbers = numbers
        self.ipv6 = ipv6
        self.indexes = {"lo": 1} if indexes is None else indexes
        self.spanning_tree: set[str] = set()
        self.up: set[str] = set()
        self.offloading: list[tuple[ops.Operation, str]] = []
        self.queue: list[tuple[ops.Operation, bytes]] = []

    def index(self, interface: str) -> int:
        """The index of `interface`, chosen when it is first asked for."""
        if interface not in self.indexes:
            self.indexes[interface] = next(self.numbers)
        return self.indexes[interface]


class NetnsHands:
    """Builds a lab in the namespaces of its first process. The calling process has entered them already.

    What concerns interfaces, addresses and routes is kept until something needs it, and then said in one go to each
    network namespace. Cables come first: both ends must be there before anything is said about the other one.
    """

    _ran = False
    """Whether programs may have put links into folders of nodes already."""

    def __init__(self, control: Control, directory: Path, private: Path) -> None:
        self.confinement: dict[str, Any] | None = None
        self._control = control
        self._directory = directory
        self._private = private
        self._nodes: dict[str, Node] = {}
        self._numbers = itertools.count(BRIDGE_INDEX + 1)
        self._unknown: list[str] = []
        self._waiting: dict[str, Node] = {}
        self._cabling: dict[str, list[ops.CreateLink]] = {}
        self._settings = sysctl.Settings(self._view_of_proc)
        self._folders: set[str] = set()
        self.kept = 0
        self.moved: Callable[[ops.Operation], None] = lambda _: None

    def execute(self, operation: ops.Operation) -> None:
        """See `emulator.run.apply.Hands`."""
        try:
            self._execute(operation)
        except OSError as error:
            self._forget()
            raise refusals.refusal(operation, error) from None
        except BaseException:
            self._forget()
            raise

    def _execute(self, operation: ops.Operation) -> None:
        match operation:
            case ops.CreateNode():
                self._create_node(operation)
            case ops.CreateBridge():
                self._create_bridge(operation)
            case ops.CreateLink():
                self._create_link(operation)
            case ops.AddAddress():
                self._connect()
                self._add_address(operation)
            case ops.SetUp():
                self._connect()
                self._set_up(operation)
            case ops.AddRoute():
                self._connect()
                self._add_route(operation)
            case ops.BindPath():
                self._control.ask(
                    "bind",
                    node=operation.node,
                    source=operation.source,
                    target=operation.target,
                    writable=not operation.read_only,
                )
            case ops.WriteFile():
                self._write_file(operation)
            case _:
                self.flush()
                self._execute_now(operation)

    def _execute_now(self, operation: ops.Operation) -> None:
        match operation:
            case ops.RemoveNode():
                self._remove_node(operation.node)
            case ops.RemoveLink():
                node = self._nodes[operation.node]
                self._keep(node, operation, netlink.delete_link(node.index(operation.interface)))
                self.flush()
            case ops.LimitRate():
                self._run(operation, operation.argv(), b"", tools=True)
            case ops.SetSysctl():
                self._in_namespace(operation.node)
                self._settings.write(operation.key, operation.value)
            case ops.LoadRules():
                self._run(operation, ["iptables-restore"], operation.rules.encode(), tools=True)
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
        """Hand new namespaces to the first process, and say everything that was kept."""
        try:
            self._connect()
            for node in list(self._waiting.values()):
                self._visit(node)
        except BaseException:
            self._forget()
            raise

    def _connect(self) -> None:
        """Make the cables that were kept."""
        self._hand_over()
        while self._cabling:
            self._visit(self._nodes[next(iter(self._cabling))])

    def _keep(self, node: Node, operation: ops.Operation, message: bytes) -> None:
        node.queue.append((operation, message))
        self._waiting[node.name] = node
        self.kept += 1

    def _visit(self, node: Node) -> None:
        """Say in the network namespace of `node` what was kept for it."""
        del self._waiting[node.name]
        queue, node.queue = node.queue, []
        links = self._cabling.pop(node.name, ())
        offloading, node.offloading = node.offloading, []
        at = queue[0][0] if queue else offloading[0][0]
        try:
            self._in_namespace(node.name)
            with netlink.Socket() as socket:
                for at, interface in offloading:  # noqa: B007 - a failure names it
                    socket.no_offload(interface)
                failures = socket.send([message for _, message in queue])
                if failures:
                    at = queue[failures[0].index][0]
                    raise CommandFailed(f"cannot {at.describe()}: {failures[0].reason}")
                for at in links:
                    self._finish_link(socket, node, at)
        except OSError as error:
            raise refusals.refusal(at, error) from None
        self.kept -= len(queue)
        if queue:
            self.moved(queue[-1][0])

    def _forget(self) -> None:
        """What was kept will not be done: something has failed."""
        for node in self._waiting.values():
            node.queue.clear()
            node.offloading.clear()
        self._waiting.clear()
        self._cabling.clear()
        self.kept = 0

    def _create_node(self, operation: ops.CreateNode) -> None:
        kernel.unshare(kernel.CLONE_NEWNET)
        self._settings.in_new_namespace()
        for setting in initial_settings(operation):
            self._settings.write(*setting)
        self._add_node(operation, os.open("/proc/self/ns/net", os.O_RDONLY | os.O_CLOEXEC))
        self._unknown.append(operation.node)
        if len(self._unknown) >= kernel.FDS_A_MESSAGE:
            self._hand_over()

    def _view_of_proc(self) -> int:
        return self._control.view_of_proc()

    def _add_node(self, operation: ops.CreateNode, namespace_fd: int) -> None:
        """Take a node in whose network namespace the calling thread is."""
        node = Node(operation.node, namespace_fd, self._numbers, operation.ipv6)
        self._nodes[operation.node] = node
        self._keep(node, operation, netlink.set_up(1))

    def _hand_over(self) -> None:
        """Give new namespaces to the first process, which holds them from now on."""
        while self._unknown:
            part = self._unknown[: kernel.FDS_A_MESSAGE]
            self._unknown = self._unknown[kernel.FDS_A_MESSAGE :]
            fds = tuple(self._nodes[name].namespace_fd for name in part)
            self._control.ask("add-nodes", fds, nodes=part, confinement=self.confinement)

    def _remove_node(self, name: str) -> None:
        node = self._nodes.pop(name, None)
        if node is None:
            return
        os.close(node.namespace_fd)
        if name in self._unknown:
            self._unknown.remove(name)
        else:
            with contextlib.suppress(LabGone, OSError):
                self._control.ask("remove-node", node=name)

    def _create_bridge(self, bridge: ops.CreateBridge) -> None:
        node = self._nodes[bridge.node]
        if BRIDGE_INDEX not in node.indexes.values():
            node.indexes[bridge.name] = BRIDGE_INDEX
        if bridge.stp:
            node.spanning_tree.add(bridge.name)
        settings = netlink.BridgeSettings(
            bridge.ageing_s,
            bridge.stp,
            bridge.priority,
            bridge.hello_time_s,
            bridge.forward_delay_s,
            bridge.max_age_s,
        )
        message = netlink.new_bridge(node.index(bridge.name), bridge.name, bridge.mac, settings)
        self._keep(node, bridge, message)

    def _create_link(self, link: ops.CreateLink) -> None:
        here, there = self._nodes[link.node], self._nodes[link.peer_node]
        a, b = (link.interface, link.mac), (link.peer_interface, link.peer_mac)
        bridge = link.bridge
        if link.peer_bridge and not bridge:  # made from the switch's side, the port joins it in the same message
            here, there, a, b, bridge = there, here, b, a, link.peer_bridge
        master = here.index(bridge) if bridge else 0
        near = netlink.End(here.index(a[0]), a[0], a[1], here.namespace_fd, master)
        far = netlink.End(there.index(b[0]), b[0], b[1], there.namespace_fd)
        # A port says nothing by itself, so it can be up at once; the cable has no carrier before the far end is up.
        up = bool(bridge) and not here.ipv6 and bridge not in here.spanning_tree
        if up:
            here.up.add(a[0])
        self._keep(here, link, netlink.new_veth(near, far, link.mtu_bytes, up=up))
        links = self._cabling.setdefault(here.name, [])
        links.append(link)
        if len(links) >= netlink.MESSAGES_A_BATCH:
            self._visit(here)

    def _finish_link(self, socket: netlink.Socket, here: Node, link: ops.CreateLink) -> None:
        """What the ends of a new cable still need; `socket` is that of `here`, from where it was made."""
        for name, interface in ((link.node, link.interface), (link.peer_node, link.peer_interface)):
            node = self._nodes[name]
            if link.offload:
                continue
            if node is here:
                socket.no_offload(interface)
            else:
                node.offloading.append((link, interface))
                self._waiting[name] = node
        if link.bridge and link.peer_bridge:  # the port at the near end has joined its bridge already
            there = self._nodes[link.peer_node]
            join = netlink.set_master(there.index(link.peer_interface), there.index(link.peer_bridge))
            self._keep(there, link, join)

    def _add_address(self, operation: ops.AddAddress) -> None:
        node = self._nodes[operation.node]
        address = ip_interface(operation.address)
        broadcast = None
        if isinstance(address, IPv4Interface) and address.network.prefixlen < 31:
            broadcast = address.network.broadcast_address.packed
        index = node.index(operation.interface)
        message = netlink.new_address(index, address.packed, address.network.prefixlen, broadcast)
        self._keep(node, operation, message)

    def _set_up(self, operation: ops.SetUp) -> None:
        node = self._nodes[operation.node]
        if operation.interface not in node.up:
            self._keep(node, operation, netlink.set_up(node.index(operation.interface)))

    def _add_route(self, operation: ops.AddRoute) -> None:
        node = self._nodes[operation.node]
        destination, prefix = None, 0
        if operation.to != "default":
            network = ip_network(operation.to)
            destination, prefix = network.network_address.packed, network.prefixlen
        index = node.index(operation.interface)
        message = netlink.new_route(destination, prefix, ip_address(operation.via).packed, index)
        self._keep(node, operation, message)

    def _in_namespace(self, node: str) -> None:
        kernel.setns(self._nodes[node].namespace_fd, kernel.CLONE_NEWNET)

    def _write_file(self, operation: ops.WriteFile) -> None:
        if self._ran:
            self._put(operation, operation.content.encode())
            return
        path = f"{self._private}/{operation.node}{operation.path}"
        folder = path.rpartition("/")[0]
        if folder not in self._folders:
            os.makedirs(folder, exist_ok=True)
            self._folders.add(folder)
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, operation.mode)
        try:
            os.fchmod(descriptor, operation.mode)
            content = memoryview(operation.content.encode())
            while content:
                content = content[os.write(descriptor, content) :]
        finally:
            os.close(descriptor)

    def _put(self, operation: ops.WriteFile | ops.PutFile, octets: bytes) -> None:
        """Write a file of a node whose programs may have put links into its folders."""
        from emulator.run import private_files

        descriptor = private_files.create(self._private / operation.node, operation.path, operation.mode)
        with open(descriptor, "wb") as stream:
            stream.write(octets)

    def _prepare(self, operation: ops.Prepare) -> None:
        from emulator.run import execute
        from emulator.run.view import LAB_PLACE

        self._control.settle()
        workshop = self._private / ops.WORKSHOP
        workshop.mkdir(mode=0o700, exist_ok=True)
        for name, content in operation.files.items():
            (workshop / name).write_text(content, encoding="utf-8")
        own = self._control.own_spaces()
        try:  # in the lab's own root: nothing that a lab file has a part in sees the machine's files
            done = execute.run(
                spawn.Spaces(own["net"], own["mnt"], own["uts"]),
                ["sh", "-euc", operation.script],
                spawn.environment(operation.node),
                timeout_s=_PREPARE_TIMEOUT_S,
                cwd=f"{LAB_PLACE}/{ops.WORKSHOP}",
            )
        except OSError as error:
            raise refusals.start_error(operation.describe(), "sh", error) from None
        finally:
            for descriptor in own.values():
                os.close(descriptor)
        if done.status is None:
            raise CommandFailed(f"cannot {operation.describe()}: it took longer than {_PREPARE_TIMEOUT_S} s")
        if done.status != 0:
            said = printable((done.stdout + done.stderr).decode(errors="replace").strip()[-600:])
            raise CommandFailed(
                f"cannot {operation.describe()}: the script {refusals.ending(done.status)}", hint=said or None
            )

    def _put_file(self, operation: ops.PutFile) -> None:
        self._put(operation, (self._private / ops.WORKSHOP / operation.source).read_bytes())

    def result(self) -> dict[str, Any]:
        """What there is to say when all is done."""
        return {}

    def _start(self, operation: ops.StartProcess) -> None:
        self._ran = True
        try:
            self._control.ask(
                "start",
                node=operation.node,
                service=operation.service,
                argv=operation.argv,
                env=dict(operation.env),
                rootless=operation.rootless,
                restart=operation.restart,
            )
        except OSError as error:
            raise refusals.start_error(operation.describe(), operation.argv[0], error) from None

    def _wait(self, operation: ops.WaitUntil) -> None:
        from emulator.run import waiting

        self._in_namespace(operation.node)
        private = self._root_of(operation.node)

        def ended() -> str | None:
            if not operation.service:
                return None
            service = self._control.service(operation.node, operation.service)
            if service is None:
                return "was never started"
            return None if service["running"] or service["restarting"] else refusals.ending(service["status"])

        trouble = waiting.wait_for(operation.condition, private, operation.timeout_s, ended)
        if trouble:
            who = f"{operation.service} on {operation.node}" if operation.service else operation.node
            log = self._directory / "log" / f"{operation.node}-{operation.service}.log"
            raise CommandFailed(
                f"{who} {trouble}; expected that it {operation.condition.describe()}",
                hint=refusals.last_words(log) if operation.service else None,
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
        from emulator.run import execute

        self._ran = True
        spaces = self._control.node_spaces([operation.node], tools=tools)[operation.node]
        extra = dict(env) if isinstance(env, dict) else {}
        try:
            done = execute.run(spaces, argv, spawn.environment(operation.node, extra), stdin=stdin, timeout_s=timeout_s)
        except OSError as error:
            raise refusals.start_error(operation.describe(), argv[0], error) from None
        finally:
            spaces.close()
        if done.status != 0:
            said = (done.stderr or done.stdout).decode(errors="replace").strip()
            ending = f"took longer than {timeout_s:g} s" if done.status is None else refusals.ending(done.status)
            raise CommandFailed(
                f"cannot {operation.describe()}: {argv[0]} {ending}", hint=printable(said[-600:]) or None
            )


@functools.cache
def _knows_ipv6() -> bool:
    """Whether the kernel has IPv6. Asked once: see `emulator.run.sysctl` for why."""
    return os.path.exists("/proc/sys/net/ipv6")


def initial_settings(operation: ops.CreateNode) -> list[tuple[str, str]]:
    """Settings that must stand before any interface comes up, so that no frame of the host's own habits is seen."""
    settings = []
    if not operation.ipv6 and _knows_ipv6():
        settings.append(("net.ipv6.conf.all.disable_ipv6", "1"))  # and with it that of `default`
    if operation.ipv6:
        # A pulled cable takes no fixed address away.
        settings += [(f"net.ipv6.conf.{scope}.keep_addr_on_down", "1") for scope in ("all", "default")]
    if operation.forwards:
        settings += [("net.ipv4.conf.all.rp_filter", "0"), ("net.ipv4.conf.default.rp_filter", "0")]
        settings.append(("net.ipv4.ip_forward", "1"))
        if operation.ipv6:
            settings.append(("net.ipv6.conf.all.forwarding", "1"))
    return sorted(settings)
