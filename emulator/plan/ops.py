"""The operations of a plan: frozen data that says what it does (`describe`), how a person does it (`shell`) and what
takes it back (`undo`). An operation cannot ask a question half-way; waiting is an operation of its own."""

from __future__ import annotations

import dataclasses
import shlex
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

BRIDGE = "br0"
"""The name of the bridge inside a switch."""


def quote(words: Iterable[str]) -> str:
    """Words as one line for a POSIX shell."""
    return shlex.join(words)


@dataclass(frozen=True)
class Operation:
    """One step of a build."""

    registry: ClassVar[dict[str, type[Operation]]] = {}

    node: str

    def __init_subclass__(cls) -> None:
        Operation.registry[cls.__name__] = cls

    def describe(self) -> str:
        """What it does, in one line."""
        raise NotImplementedError

    def shell(self) -> str:
        """The same by hand, in the script that `wirelab plan --as sh` prints; may be empty."""
        raise NotImplementedError

    def undo(self) -> Operation | None:
        """What takes it back; None when it goes with its node."""
        return None

    def to_json(self) -> dict[str, Any]:
        """The operation as plain data, its kind under `op`."""
        return {"op": type(self).__name__, **dataclasses.asdict(self)}


def from_json(data: Mapping[str, Any]) -> Operation:
    """The operation that `to_json` gave."""
    kind = Operation.registry[data["op"]]
    values: dict[str, Any] = {}
    for item in dataclasses.fields(kind):
        if item.name in data:
            value = data[item.name]
            values[item.name] = tuple(value) if isinstance(value, list) else value
    if "condition" in values:
        values["condition"] = Condition(**values["condition"])
    return kind(**values)


@dataclass(frozen=True)
class CreateNode(Operation):
    """A network namespace with its loopback interface up. IPv6 is on only where the lab uses it."""

    ipv6: bool = False
    forwards: bool = False

    def describe(self) -> str:
        return f"create the node {self.node}"

    def shell(self) -> str:
        lines = [f"ip netns add {quote([self.node])}", f"make_places {quote([self.node])}"]
        if not self.ipv6:
            for scope in ("all", "default"):
                lines.append(f"in_ns {quote([self.node])} sysctl -qw net.ipv6.conf.{scope}.disable_ipv6=1 || :")
        if self.forwards:
            lines.append(f"in_ns {quote([self.node])} sysctl -qw net.ipv4.ip_forward=1")
            if self.ipv6:
                lines.append(f"in_ns {quote([self.node])} sysctl -qw net.ipv6.conf.all.forwarding=1")
        lines.append(f"ip -n {quote([self.node])} link set dev lo up")
        return "\n".join(lines)

    def undo(self) -> Operation:
        return RemoveNode(self.node)


@dataclass(frozen=True)
class RemoveNode(Operation):
    """Takes a node and all that is in it away."""

    def describe(self) -> str:
        return f"remove the node {self.node}"

    def shell(self) -> str:
        return f"ip netns del {quote([self.node])}"


@dataclass(frozen=True)
class CreateBridge(Operation):
    """The bridge that makes a switch. It learns (IEEE 802.1D) and runs no spanning tree."""

    def describe(self) -> str:
        return f"make {self.node} a switch"

    def shell(self) -> str:
        node = quote([self.node])
        create = f"ip -n {node} link add name {BRIDGE} type bridge stp_state 0 forward_delay 0 mcast_snooping 0"
        return f"{create}\nip -n {node} link set dev {BRIDGE} up"


@dataclass(frozen=True)
class CreateLink(Operation):
    """A cable: a pair of veth interfaces (veth(4)), each end in its node, with its MAC and MTU; ends in switches join
    the bridge. `mtu_bytes` is the largest payload of a frame."""

    interface: str
    mac: str
    peer_node: str
    peer_interface: str
    peer_mac: str
    mtu_bytes: int = 1500
    offload: bool = False
    bridged: bool = False
    peer_bridged: bool = False

    def describe(self) -> str:
        return f"connect {self.node}:{self.interface} to {self.peer_node}:{self.peer_interface}"

    def shell(self) -> str:
        mtu = self.mtu_bytes
        lines = [
            f"ip link add name {self.interface} netns {quote([self.node])} address {self.mac} mtu {mtu} type veth "
            f"peer name {self.peer_interface} netns {quote([self.peer_node])} address {self.peer_mac} mtu {mtu}"
        ]
        ends = ((self.node, self.interface, self.bridged), (self.peer_node, self.peer_interface, self.peer_bridged))
        for node, interface, bridged in ends:
            if not self.offload:
                lines.append(f"no_offload {quote([node, interface])}")
            if bridged:
                lines.append(f"ip -n {quote([node])} link set dev {interface} master {BRIDGE}")
        return "\n".join(lines)

    def undo(self) -> Operation:
        return RemoveLink(self.node, self.interface)


@dataclass(frozen=True)
class RemoveLink(Operation):
    """Takes a cable away, both ends of it."""

    interface: str

    def describe(self) -> str:
        return f"remove the cable at {self.node}:{self.interface}"

    def shell(self) -> str:
        return f"ip -n {quote([self.node])} link del dev {self.interface}"


@dataclass(frozen=True)
class AddAddress(Operation):
    """An address with prefix length on an interface."""

    interface: str
    address: str

    def describe(self) -> str:
        return f"give {self.node}:{self.interface} the address {self.address}"

    def shell(self) -> str:
        broadcast = "" if ":" in self.address else " broadcast +"
        return f"ip -n {quote([self.node])} address add {self.address}{broadcast} dev {self.interface}"


@dataclass(frozen=True)
class SetUp(Operation):
    """Switches an interface on."""

    interface: str

    def describe(self) -> str:
        return f"switch {self.node}:{self.interface} on"

    def shell(self) -> str:
        return f"ip -n {quote([self.node])} link set dev {self.interface} up"


@dataclass(frozen=True)
class AddRoute(Operation):
    """A static route; `to` is a prefix or `default`."""

    to: str
    via: str
    interface: str

    def describe(self) -> str:
        return f"{self.node}: {self.to} by way of {self.via}"

    def shell(self) -> str:
        return f"ip -n {quote([self.node])} route add {self.to} via {self.via} dev {self.interface}"


@dataclass(frozen=True)
class SetSysctl(Operation):
    """A kernel setting of the node's network namespace."""

    key: str
    value: str

    def describe(self) -> str:
        return f"{self.node}: {self.key} = {self.value}"

    def shell(self) -> str:
        return f"in_ns {quote([self.node])} sysctl -qw {quote([f'{self.key}={self.value}'])}"


@dataclass(frozen=True)
class LoadRules(Operation):
    """Packet filter and address translation, loaded at once by iptables-restore."""

    rules: str

    def describe(self) -> str:
        count = sum(line.startswith("-A") for line in self.rules.splitlines())
        return f"load {count} packet filter rules into {self.node}"

    def shell(self) -> str:
        return f"in_ns {quote([self.node])} iptables-restore <<'RULES'\n{self.rules}RULES"


@dataclass(frozen=True)
class WriteFile(Operation):
    """A file that only this node sees: /etc/hosts, /etc/resolv.conf, /etc/hostname, or below /run."""

    path: str
    content: str
    mode: int = 0o644

    def describe(self) -> str:
        return f"write {self.path} in {self.node} ({len(self.content.encode())} octets)"

    def shell(self) -> str:
        mode = "" if self.mode == 0o644 else f'\nchmod {self.mode:o} "$lab"/{quote([self.node + self.path])}'
        put = f"put {quote([self.node, self.path])}"
        if self.content and not self.content.endswith("\n"):
            return f"printf %s {quote([self.content])} | {put}{mode}"
        end = "END"
        while f"\n{end}\n" in f"\n{self.content}":
            end += "_"
        return f"{put} <<'{end}'\n{self.content}{end}{mode}"


@dataclass(frozen=True)
class StartProcess(Operation):
    """A daemon in the foreground, as a process of the node; its output is kept."""

    service: str
    argv: tuple[str, ...]
    env: Mapping[str, str] = field(default_factory=dict)

    def describe(self) -> str:
        return f"start {self.service} on {self.node}"

    def shell(self) -> str:
        env = [f"{key}={value}" for key, value in self.env.items()]
        words = ["env", *env, *self.argv] if env else self.argv
        log = quote([f"{self.node}-{self.service}.log"])
        return f'in_node {quote([self.node])} {quote(words)} >"$lab"/log/{log} 2>&1 </dev/null &'


@dataclass(frozen=True)
class Condition:
    """What to wait for: `dns` (any answer to a question at address:port), `tcp` (a connection at address:port),
    `udp-port` (something is bound to the port), `file` (it exists)."""

    kind: Literal["dns", "tcp", "udp-port", "file"]
    address: str = ""
    port: int = 0
    path: str = ""

    def describe(self) -> str:
        """The condition in words."""
        if self.kind == "file":
            return f"{self.path} is there"
        words = {"dns": "answers DNS", "tcp": "takes connections", "udp-port": "has its port"}
        return f"{words[self.kind]} at {self.address or 'any address'} port {self.port}"


@dataclass(frozen=True)
class WaitUntil(Operation):
    """Waits until a service of the node answers; it fails at once when the service has ended."""

    service: str
    condition: Condition
    timeout_s: float = 10.0

    def describe(self) -> str:
        return f"wait until {self.service} on {self.node} {self.condition.describe()}"

    def shell(self) -> str:
        node, condition = quote([self.node]), self.condition
        if condition.kind == "dns":
            test = f"dig +time=1 +tries=1 -p {condition.port} @{condition.address} version.bind CH TXT"
        elif condition.kind == "tcp":
            test = f"sh -c {quote([f'ss -Hltn sport = :{condition.port} | grep -q .'])}"
        elif condition.kind == "udp-port":
            test = f"sh -c {quote([f'ss -Hlnu sport = :{condition.port} | grep -q .'])}"
        else:
            test = quote(["test", "-e", condition.path])
        return f"wait_for in_node {node} {test}"


@dataclass(frozen=True)
class RunCommand(Operation):
    """A command of the lab file's `exec`; it must succeed."""

    argv: tuple[str, ...]
    env: Mapping[str, str] = field(default_factory=dict)
    timeout_s: float = 30.0

    def describe(self) -> str:
        return f"run on {self.node}: {quote(self.argv)}"

    def shell(self) -> str:
        env = [f"{key}={value}" for key, value in self.env.items()]
        return f"in_node {quote([self.node])} {quote(['env', *env, *self.argv] if env else self.argv)}"


@dataclass(frozen=True)
class Plan:
    """All operations that build a lab, in order, and the programs that they need on the machine."""

    lab: str
    operations: tuple[Operation, ...]
    tools: tuple[str, ...]
