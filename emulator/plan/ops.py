"""The operations of a plan: frozen data that says what it does (`describe`), how a person does it (`shell`) and what
takes it back (`undo`). An operation cannot ask a question half-way; waiting is an operation of its own."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, ClassVar, Literal

from emulator.frozen import dataclass, field

WORKSHOP = ".workshop"
"""The folder, beside those of the nodes, where keys are made; no node can have this name."""


def quote(words: Iterable[str]) -> str:
    """Words as one line for a POSIX shell."""
    return shlex.join(words)


def _end_of(content: str) -> str:
    """A line that ends a here-document and is not in `content`."""
    end = "END"
    while f"\n{end}\n" in f"\n{content}":
        end += "_"
    return end


@dataclass(frozen=True)
class Operation:
    """One step of a build."""

    registry: ClassVar[dict[str, type[Operation]]] = {}
    is_flat: ClassVar[bool] = True
    """Whether JSON gives back every value as it was."""

    node: str

    def __init_subclass__(cls) -> None:
        Operation.registry[cls.__name__] = cls
        cls.is_flat = not any(kind.startswith(("tuple", "Condition")) for kind in cls.__annotations__.values())

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
        from dataclasses import asdict

        return {"op": type(self).__name__, **asdict(self)}


def from_json(data: Mapping[str, Any]) -> Operation:
    """The operation that `to_json` gave."""
    from dataclasses import fields

    kind = Operation.registry[data["op"]]
    values: dict[str, Any] = {}
    for item in fields(kind):
        if item.name in data:
            value = data[item.name]
            values[item.name] = tuple(value) if isinstance(value, list) else value
    if "condition" in values:
        values["condition"] = Condition(**values["condition"])
    return kind(**values)


def to_row(operation: Operation) -> list[Any]:
    """The operation as plain data in as few words as can be: its kind, then the values of its fields in order."""
    if operation.is_flat:
        return [type(operation).__name__, *vars(operation).values()]
    from dataclasses import asdict

    return [type(operation).__name__, *asdict(operation).values()]


def from_row(row: Sequence[Any]) -> Operation:
    """The operation that `to_row` gave, also when its values went through JSON."""
    kind, *values = row
    made = Operation.registry[kind]
    if made.is_flat:
        return made(*values)
    return from_json({"op": kind, **dict(zip(made.__match_args__, values, strict=True))})


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
    """A bridge: what makes a switch, or several interfaces of a router one switch. It learns (IEEE 802.1D, 7.8) unless
    `ageing_s` is 0, and runs the spanning tree protocol when asked to. Times are in seconds."""

    name: str
    mac: str | None = None
    ageing_s: int = 300
    stp: bool = False
    priority: int = 32768
    hello_time_s: int = 1
    forward_delay_s: int = 2
    max_age_s: int = 6

    def describe(self) -> str:
        return f"make the bridge {self.name} in {self.node}"

    def shell(self) -> str:
        node = quote([self.node])
        address = f" address {self.mac}" if self.mac else ""
        words = f"ageing_time {self.ageing_s * 100} mcast_snooping 0"
        if self.stp:
            words += (
                f" stp_state 1 priority {self.priority} hello_time {self.hello_time_s * 100}"
                f" forward_delay {self.forward_delay_s * 100} max_age {self.max_age_s * 100}"
            )
        else:
            words += " stp_state 0 forward_delay 0"
        create = f"ip -n {node} link add name {self.name}{address} type bridge {words}"
        return f"{create}\nip -n {node} link set dev {self.name} up"


@dataclass(frozen=True)
class CreateLink(Operation):
    """A cable: a pair of veth interfaces (veth(4)), each end in its node, with its MAC and MTU.

    An end that is a port joins its bridge. `mtu_bytes` is the largest payload of a frame.
    """

    interface: str
    mac: str
    peer_node: str
    peer_interface: str
    peer_mac: str
    mtu_bytes: int = 1500
    offload: bool = False
    bridge: str = ""
    peer_bridge: str = ""

    def describe(self) -> str:
        return f"connect {self.node}:{self.interface} to {self.peer_node}:{self.peer_interface}"

    def shell(self) -> str:
        mtu = self.mtu_bytes
        lines = [
            f"ip link add name {self.interface} netns {quote([self.node])} address {self.mac} mtu {mtu} type veth "
            f"peer name {self.peer_interface} netns {quote([self.peer_node])} address {self.peer_mac} mtu {mtu}"
        ]
        ends = ((self.node, self.interface, self.bridge), (self.peer_node, self.peer_interface, self.peer_bridge))
        for node, interface, bridge in ends:
            if not self.offload:
                lines.append(f"no_offload {quote([node, interface])}")
            if bridge:
                lines.append(f"ip -n {quote([node])} link set dev {interface} master {bridge}")
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
class LimitRate(Operation):
    """A token bucket at an interface's way out (tc-tbf(8)): at most so many bits a second; what waits longer than a
    twentieth of a second is dropped."""

    interface: str
    rate_bits_s: int
    burst_bytes: int

    def describe(self) -> str:
        return f"limit {self.node}:{self.interface} to {self.rate_bits_s:,} bit/s"

    def argv(self) -> list[str]:
        """The command that does it."""
        words = f"tc qdisc replace dev {self.interface} root tbf rate {self.rate_bits_s}bit"
        return [*words.split(), "burst", str(self.burst_bytes), "latency", "50ms"]

    def shell(self) -> str:
        return f"in_ns {quote([self.node])} {quote(self.argv())}"


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
        return f"route {self.to} by way of {self.via} on {self.node}"

    def shell(self) -> str:
        return f"ip -n {quote([self.node])} route add {self.to} via {self.via} dev {self.interface}"


@dataclass(frozen=True)
class SetSysctl(Operation):
    """A kernel setting of the node's network namespace."""

    key: str
    value: str

    def describe(self) -> str:
        return f"set {self.key} to {self.value} on {self.node}"

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
        put = f"put {quote([self.node, self.path])}" + ("" if self.mode == 0o644 else f" {self.mode:o}")
        if self.content and not self.content.endswith("\n"):
            return f"printf %s {quote([self.content])} | {put}"
        end = _end_of(self.content)
        return f"{put} <<'{end}'\n{self.content}{end}"


@dataclass(frozen=True)
class Prepare(Operation):
    """A POSIX shell script that makes keys and what is signed with them in the lab's *workshop*, a folder in memory
    that no node sees and that ends with the lab. So no key stands in a plan or on a disk.

    Attributes:
        node: the node that it is done for.
        about: what it makes, in words.
        files: name → text, written into the workshop before.
    """

    about: str
    script: str
    files: Mapping[str, str] = field(default_factory=dict)

    def describe(self) -> str:
        return f"{self.about} (for {self.node})"

    def shell(self) -> str:
        lines = [f'mkdir -p "$lab"/{WORKSHOP}']
        for name, content in self.files.items():
            text = content if content.endswith("\n") else f"{content}\n"
            end = _end_of(text)
            lines.append(f"cat >\"$lab\"/{quote([f'{WORKSHOP}/{name}'])} <<'{end}'\n{text}{end}")
        return "\n".join([*lines, f'( cd "$lab"/{WORKSHOP}', f"{self.script.rstrip()}", ")"])


@dataclass(frozen=True)
class PutFile(Operation):
    """A file of the workshop becomes one that only this node sees."""

    path: str
    source: str
    mode: int = 0o644

    def describe(self) -> str:
        return f"put {self.source} into {self.node} as {self.path}"

    def shell(self) -> str:
        source = quote([f"{WORKSHOP}/{self.source}"])
        return f'put {quote([self.node, self.path])} {self.mode:o} <"$lab"/{source}'


@dataclass(frozen=True)
class BindPath(Operation):
    """A file or folder of the machine that the node sees, if the user agrees."""

    source: str
    target: str
    read_only: bool

    def describe(self) -> str:
        way = "to read" if self.read_only else "to read and change"
        return f"show {self.source} of this machine on {self.node} at {self.target}, {way}"

    def shell(self) -> str:
        source, target = quote([self.source]), quote([self.target])
        lines = [
            f"[ -e {target} ] || {{ echo {quote([self.target + ' is not there: make it first'])} >&2; exit 1; }}",
            f"mount --bind {source} {target}",
        ]
        if self.read_only:
            lines.append(f"mount -o remount,bind,ro {target}")
        return "\n".join(f"printf '%s\\n' {quote([line])} >>\"$lab\"/{quote([self.node])}/binds" for line in lines)


@dataclass(frozen=True)
class StartProcess(Operation):
    """A daemon in the foreground, as a process of the node; its output is kept. With `rootless` a container runs it as
    its image's user. `restart` is `on-failure` when it is started again after it failed, else nothing."""

    service: str
    argv: tuple[str, ...]
    env: Mapping[str, str] = field(default_factory=dict)
    rootless: bool = False
    restart: str = ""

    def describe(self) -> str:
        return f"start {self.service} on {self.node}"

    def shell(self) -> str:
        env = [f"{key}={value}" for key, value in self.env.items()]
        words = ["env", *env, *self.argv] if env else self.argv
        log = quote([f"{self.node}-{self.service}.log"])
        command = f"in_node {quote([self.node])} {quote(words)}"
        if self.restart:
            command = f"( until {command}; do sleep 1; done )"
        return f'{command} >"$lab"/log/{log} 2>&1 </dev/null &'


@dataclass(frozen=True)
class Condition:
    """What to wait for: `dns` (any answer to a question at address:port), `tcp` (a connection at address:port),
    `tcp-port` and `udp-port` (a socket listens there or is bound), `file` (it exists), `ipv6` (no address of the node
    is tentative any more, and the interfaces named in `path`, with spaces between, have a global one), `stp` (no port
    listens or learns any more)."""

    kind: Literal["dns", "tcp", "tcp-port", "udp-port", "file", "ipv6", "stp"]
    address: str = ""
    port: int = 0
    path: str = ""

    def describe(self) -> str:
        """The condition in words."""
        if self.kind == "file":
            return f"has written {self.path}"
        if self.kind == "ipv6":
            wanted = f" and {' and '.join(self.path.split())} got one" if self.path else ""
            return f"has made sure that its IPv6 addresses are nobody else's{wanted}"
        if self.kind == "stp":
            return "knows which of its ports forward"
        words = {
            "dns": "answers DNS",
            "tcp": "takes connections",
            "tcp-port": "listens",
            "udp-port": "has its port",
        }
        return f"{words[self.kind]} at {self.address or 'any address'} port {self.port}"


@dataclass(frozen=True)
class WaitUntil(Operation):
    """Waits until a service of the node answers, or without one until the node itself is so far; it fails at once when
    the service has ended."""

    service: str
    condition: Condition
    timeout_s: float = 10.0

    def describe(self) -> str:
        who = f"{self.service} on {self.node}" if self.service else self.node
        return f"wait until {who} {self.condition.describe()}"

    def shell(self) -> str:
        condition = self.condition
        script = ""
        if condition.kind == "dns":
            test = f"dig +time=1 +tries=1 -p {condition.port} @{condition.address} version.bind CH TXT"
        elif condition.kind in ("tcp", "tcp-port"):
            script = f"ss -Hltn sport = :{condition.port} | grep -q ."
        elif condition.kind == "udp-port":
            script = f"ss -Hlnu sport = :{condition.port} | grep -q ."
        elif condition.kind == "ipv6":
            tests = [f"ip -6 address show dev {name} scope global | grep -q ." for name in condition.path.split()]
            script = " && ".join([*tests, "! ip -6 address show | grep -q tentative"])
        elif condition.kind == "stp":
            script = "! bridge link show | grep -qE 'state (disabled|listening|learning)'"
        else:
            test = quote(["test", "-e", condition.path])
        if script:
            test = quote(["sh", "-c", script])
        return f"wait_for in_node {quote([self.node])} {test}"


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
