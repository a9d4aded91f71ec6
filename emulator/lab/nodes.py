"""The nodes of a lab file: every key, its type, default and meaning. Short forms expand here."""

from __future__ import annotations

import posixpath
import re
import shlex
from ipaddress import ip_interface, ip_network
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from emulator.lab.base import (
    CAPABILITY_PATTERN,
    IMAGE_PATTERN,
    MAC_PATTERN,
    MODE_PATTERN,
    SYSCTL_PATTERN,
    USER_PATTERN,
    VARIABLE_PATTERN,
    WORD_PATTERN,
    Addresses,
    AddressText,
    DnsName,
    Model,
    NodeName,
    Restart,
    Template,
    as_list,
)
from emulator.lab.binds import Binds
from emulator.lab.services import Services

Kind = Literal["host", "router", "switch"]

Backend = Literal["netns", "docker"]
"""What a node is made of: a network namespace, or a container of the Docker Engine."""

FILE_PLACES = ("/run", "/tmp", "/var/tmp", "/dev/shm", "/var/log")  # noqa: S108 - each node has its own
"""Folders of which each node has its own, in which a lab file may put files."""


def _cidr(value: str) -> str:
    if "/" not in value:
        raise ValueError(f"expected an address with its prefix length such as 192.168.1.1/24, not '{value}'")
    try:
        ip_interface(value)
    except ValueError:
        raise ValueError(f"expected an address with its prefix length such as 192.168.1.1/24, not '{value}'") from None
    return value


def _prefix(value: str) -> str:
    if value == "default":
        return value
    try:
        network = ip_network(value, strict=False)
    except ValueError:
        raise ValueError(f"expected a prefix such as 192.0.2.0/24, or `default`, not '{value}'") from None
    if ip_network(value.partition("/")[0]).network_address != network.network_address:
        raise ValueError(f"{value} is not a prefix: expected {network}")
    return value


def _interface(value: Any) -> Any:
    """`dhcp`, `slaac`, `none`, `192.168.1.1/24`, a list of addresses, or nothing → the long form."""
    if value is None:
        return {}
    if isinstance(value, str):
        if value == "slaac":
            return {"slaac": True, "address": []}
        return {"dhcp": True} if value == "dhcp" else {"address": [] if value == "none" else [value]}
    if isinstance(value, list):
        return {"address": value}
    return value


def _node(value: Any) -> Any:
    return {} if value is None else value


def _command(value: Any) -> Any:
    """A command as one line is split as a POSIX shell splits words; nothing is expanded and no shell runs it."""
    if isinstance(value, str):
        try:
            words = shlex.split(value)
        except ValueError as error:
            raise ValueError(f"cannot be split into words: {str(error).lower()}") from None
        if not words:
            raise ValueError("an empty command")
        return words
    return value


def _file(value: Any) -> Any:
    return {"text": value} if isinstance(value, str) else value


def _program(value: Any) -> Any:
    return {"run": value} if isinstance(value, (str, list)) else value


def _memory(value: Any) -> Any:
    """`256M` and the like → octets."""
    if not isinstance(value, str):
        return value
    match = re.fullmatch(r"(\d+)([kmgKMG]?)(?:i?[bB])?", value)
    if match is None:
        raise ValueError(f"expected an amount of memory such as 256M or 1G, not '{value}'")
    return int(match[1]) << {"": 0, "k": 10, "m": 20, "g": 30}[match[2].lower()]


def _capability(value: str) -> str:
    """By its plain name: the engine takes CAP_SYS_PTRACE and ALL, too, but what Wirelab starts would not get them."""
    if value.startswith("CAP_") or value == "ALL":
        raise ValueError(f"expected a capability without CAP_ such as SYS_PTRACE, not '{value}'")
    return value


def _private_path(value: str) -> str:
    """A path in a place that only the node sees."""
    inside = any(value.startswith(f"{place}/") for place in FILE_PLACES)
    if not inside or posixpath.normpath(value) != value or value.startswith("/run/wirelab/"):
        places = ", ".join(FILE_PLACES)
        raise ValueError(f"expected a path below {places} (not /run/wirelab, which is the services'), not '{value}'")
    return value


def _publish(value: Any) -> Any:
    return [value] if isinstance(value, dict) else value


def _masquerade(value: Any) -> Any:
    return [{"out": item} if isinstance(item, str) else item for item in as_list(value) or []]


def _text(value: Any) -> Any:
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else value


Cidr = Annotated[str, AfterValidator(_cidr)]

Cidrs = Annotated[tuple[Cidr, ...], BeforeValidator(as_list, json_schema_input_type=str | list[str])]

SysctlValue = Annotated[str, BeforeValidator(_text, json_schema_input_type=str | int)]

FilePath = Annotated[str, AfterValidator(_private_path)]

Command = Annotated[
    tuple[Template, ...], BeforeValidator(_command, json_schema_input_type=str | list[str]), Field(min_length=1)
]


class InterfaceSpec(Model):
    """An interface of a node. Short forms: `dhcp`, `slaac`, `none`, an address, a list of addresses.

    An interface `lo` has no cable: naming it lets it be captured, and gives it addresses beside 127.0.0.1.
    """

    address: Cidrs | None = Field(
        None,
        description="Addresses with prefix length; left out: Wirelab chooses one; `[]`: none.",
        examples=["192.168.1.1/24"],
    )
    dhcp: bool = Field(False, description="Ask for everything by DHCP (udhcpc).")
    slaac: bool = Field(
        False, description="Take IPv6 addresses and the default route from router advertisements (RFC 4862)."
    )
    mac: Annotated[str, Field(pattern=MAC_PATTERN)] | None = Field(
        None,
        description="A unicast MAC; left out: made from the node's and the interface's place in the file.",
        examples=["02:00:00:00:00:01"],
    )

    @model_validator(mode="after")
    def _one_source(self) -> InterfaceSpec:
        if self.dhcp and self.address:
            raise ValueError("either `dhcp` or addresses, not both")
        return self


InterfaceForm = Annotated[
    InterfaceSpec, BeforeValidator(_interface, json_schema_input_type=str | list[str] | InterfaceSpec | None)
]


class BridgeSpec(Model):
    """A bridge inside a node: interfaces that are one switch together (IEEE 802.1D), as the LAN ports of a home router.

    Its name is an interface of the node. The bridge of a switch is called `br0`, takes all ports, and has no address.
    """

    ports: tuple[str, ...] = Field(
        (),
        description="Interfaces of this node that are its ports; those of a switch: all.",
        examples=[["lan1", "lan2"]],
    )
    address: Cidrs | None = Field(
        None,
        description="Addresses of the node on the bridge; left out: Wirelab chooses one; `[]`: none.",
        examples=["192.168.1.1/24"],
    )
    ageing: int = Field(
        300,
        ge=0,
        le=86400,
        description="Seconds until a learned MAC is forgotten; 0: nothing is ever learned, which makes it a hub.",
    )
    stp: bool = Field(False, description="Run the spanning tree protocol (IEEE 802.1D), so that loops do no harm.")
    priority: int = Field(
        32768, ge=0, le=61440, multiple_of=4096, description="The lowest in a network becomes the root; steps of 4096."
    )
    hello_time: int = Field(1, ge=1, le=10, description="Seconds between two BPDUs of the root.")
    forward_delay: int = Field(
        2, ge=2, le=30, description="Seconds that a port listens, and then learns, before it forwards."
    )
    max_age: int = Field(6, ge=6, le=40, description="Seconds until what a lost neighbour said is forgotten.")


class FileSpec(Model):
    """A file that only this node sees. Short form: its text."""

    text: str | None = Field(None, description="What is in it.", examples=["hello\n"])
    from_: str | None = Field(
        None, alias="from", description="A file in the lab file's own folder that is copied.", examples=["server.py"]
    )
    mode: Annotated[str, Field(pattern=MODE_PATTERN)] = Field(
        "644", description="Permissions, octal.", examples=["755"]
    )

    @model_validator(mode="after")
    def _one_source(self) -> FileSpec:
        if (self.text is None) == (self.from_ is None):
            raise ValueError("a file has either `text` or `from`")
        return self


class ReadySpec(Model):
    """How to know that a program is ready: exactly one of tcp, udp, file."""

    tcp: int | None = Field(None, ge=1, le=65535, description="A socket listens on this TCP port.")
    udp: int | None = Field(None, ge=1, le=65535, description="A socket is bound to this UDP port.")
    file: FilePath | None = Field(None, description="This file is there.")

    @model_validator(mode="after")
    def _one_condition(self) -> ReadySpec:
        if sum(value is not None for value in (self.tcp, self.udp, self.file)) != 1:
            raise ValueError("exactly one of tcp, udp, file")
        return self


class ProgramSpec(Model):
    """A program that runs as long as the lab does. Short form: its command."""

    run: Command = Field(description="The command; it stays in the foreground.", examples=["socat TCP-LISTEN:7 PIPE"])
    ready: ReadySpec | None = Field(None, description="What `up` waits for; left out: nothing.", examples=[{"tcp": 7}])
    restart: Restart | None = Field(
        None, description="`on-failure`: started again when it fails, as for services; left out: it stays dead."
    )


class RouteSpec(Model):
    """A static route that is given instead of computed."""

    to: Annotated[str, AfterValidator(_prefix)] = Field(
        description="A prefix, or `default`.", examples=["192.0.2.0/24"]
    )
    via: AddressText = Field(description="The next hop: an address or a node.")


class MasqueradeSpec(Model):
    """Source NAT with port translation for what leaves by one interface."""

    out: str = Field(description="The outside interface.", examples=["wan"])
    protocols: tuple[Literal["tcp", "udp", "icmp"], ...] = Field((), description="Only these; default: everything.")


class PublishSpec(Model):
    """Destination NAT: a port of the outside address leads to a server inside."""

    on: str | None = Field(
        None, description="The outside interface; default: the first masqueraded one.", examples=["wan"]
    )
    protocol: Literal["tcp", "udp"] = Field("tcp", description="The transport protocol.")
    port: int = Field(ge=1, le=65535, description="The port that the outside sees.")
    to: NodeName = Field(description="The inside node.")
    to_port: int | None = Field(None, ge=1, le=65535, description="Its port; default: the same.")


class NatSpec(Model):
    """Network address translation (RFC 3022)."""

    masquerade: Annotated[
        tuple[MasqueradeSpec, ...],
        BeforeValidator(_masquerade, json_schema_input_type=str | list[str | MasqueradeSpec]),
    ] = Field((), description="Outside interfaces.", examples=["wan"])
    publish: Annotated[
        tuple[PublishSpec, ...], BeforeValidator(_publish, json_schema_input_type=PublishSpec | list[PublishSpec])
    ] = Field((), description="Published ports.")


class FirewallSpec(Model):
    """What a router lets through; connection tracking decides what is an answer."""

    untrusted: Annotated[tuple[str, ...], BeforeValidator(as_list, json_schema_input_type=str | list[str])] = Field(
        (), description="Interfaces from which nothing new comes in, except to published ports.", examples=["wan"]
    )
    drop_private: bool = Field(
        False, description="Drop and count every packet with a private source or destination (RFC 1918)."
    )


class NodeSpec(Model):
    """A node: a host, a router or a switch."""

    kind: Kind = Field("host", description="A switch forwards frames, a router forwards packets, a host does neither.")
    backend: Backend | None = Field(
        None,
        description="`netns`: a network namespace; `docker`: a container. Default: `docker` with an `image`, else what "
        "`--backend` says, else `netns`. A switch is never a container.",
    )
    image: Annotated[str, Field(pattern=IMAGE_PATTERN)] | None = Field(
        None,
        description="The container image; default: one of Wirelab's own that has what the node's services need.",
        examples=["nginx:1.27"],
    )
    cmd: Command | None = Field(None, description="What a container runs instead of its image's command.")
    user: str | None = Field(
        None,
        pattern=USER_PATTERN,
        description="The user of a container's processes, as `docker run --user` takes it.",
        examples=["nobody"],
    )
    cpus: float | None = Field(
        None, gt=0, le=1024, description="How many processors a container may use.", examples=[0.5]
    )
    memory: Annotated[int, BeforeValidator(_memory, json_schema_input_type=str | int), Field(ge=6 << 20)] | None = (
        Field(None, description="How much memory a container may use: octets, or `256M`.", examples=["256M"])
    )
    cap_add: tuple[Annotated[str, Field(pattern=CAPABILITY_PATTERN), AfterValidator(_capability)], ...] = Field(
        (),
        description="Capabilities that a container has beside the usual ones. To those that may be power over the "
        "machine the user has to agree: `--allow-caps`, or a question on a terminal.",
        examples=[["SYS_PTRACE"]],
    )
    group: str | None = Field(
        None, description="The group of `groups` whose settings the node takes.", examples=["office"]
    )
    count: int | None = Field(
        None,
        ge=1,
        le=10_000,
        strict=True,
        description="So many nodes with these settings: `h` with `count: 3` is `h1..h3`, which is h1, h2 and h3.",
        examples=[100],
    )
    about: str | None = Field(
        None, description="What the node stands for.", examples=["a laptop that starts with nothing"]
    )
    interfaces: dict[str, InterfaceForm] = Field(
        default_factory=dict, description="Interfaces by name; links make those that are not named here."
    )
    bridges: dict[str, BridgeSpec] = Field(
        default_factory=dict,
        description="Switches inside the node, by name; of a switch only `br0`, its own.",
        examples=[{"lan": {"ports": ["lan1", "lan2"], "address": "192.168.1.1/24"}}],
    )
    gateway: AddressText | None = Field(None, description="Default next hop, instead of the computed one.")
    dns: Addresses = Field((), description="Nodes or addresses for /etc/resolv.conf.")
    hosts: dict[DnsName, AddressText] = Field(
        default_factory=dict, description="Further names for /etc/hosts.", examples=[{"printer": "192.168.1.9"}]
    )
    routes: tuple[RouteSpec, ...] = Field((), description="Routes beside the computed ones.")
    sysctls: dict[Annotated[str, Field(pattern=SYSCTL_PATTERN)], SysctlValue] = Field(
        default_factory=dict,
        description="Kernel settings of the node's network namespace.",
        examples=[{"net.ipv4.ip_default_ttl": 128}],
    )
    env: dict[Annotated[str, Field(pattern=VARIABLE_PATTERN)], str] = Field(
        default_factory=dict, description="Environment of the node's processes.", examples=[{"TZ": "UTC"}]
    )
    binds: Binds = Field(
        (),
        description="Files and folders of the machine that the node sees, SOURCE[:TARGET][:ro]. The user has to agree: "
        "`--allow-binds`, or a question on a terminal.",
        examples=[["./app:/opt/app:ro"]],
    )
    exec: tuple[Command, ...] = Field(
        (), description="Commands run once the node's services answer.", examples=[["ip neighbour flush all"]]
    )
    nat: NatSpec | None = Field(None, description="Address translation; routers only.")
    firewall: FirewallSpec | None = Field(None, description="Packet filter; routers only.")
    services: Services = Field(default_factory=Services, description="Daemons.")
    files: dict[FilePath, Annotated[FileSpec, BeforeValidator(_file, json_schema_input_type=str | FileSpec)]] = Field(
        default_factory=dict,
        description="Files that only this node sees, by path.",
        examples=[{"/run/lab/greeting": "hello\n"}],
    )
    programs: dict[
        Annotated[str, Field(pattern=WORD_PATTERN)],
        Annotated[ProgramSpec, BeforeValidator(_program, json_schema_input_type=str | list[str] | ProgramSpec)],
    ] = Field(
        default_factory=dict,
        description="Programs that run as long as the lab does, by name.",
        examples=[{"echo": {"run": "socat TCP-LISTEN:7,fork PIPE", "ready": {"tcp": 7}}}],
    )


NodeForm = Annotated[NodeSpec, BeforeValidator(_node, json_schema_input_type=NodeSpec | None)]
