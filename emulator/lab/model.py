"""The lab file's model: every key, its type, default and meaning. The JSON Schema is made from it.

Short forms (`[pc1, sw]` for a link, `dhcp` for an interface) expand here, before anything else looks at them.
"""

from __future__ import annotations

import shlex
from ipaddress import ip_interface, ip_network
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from emulator.lab.base import (
    LAB_NAME_PATTERN,
    MAC_PATTERN,
    SYSCTL_PATTERN,
    VARIABLE_PATTERN,
    WORD_PATTERN,
    Addresses,
    AddressText,
    EndpointName,
    Model,
    NodeName,
    NodeNames,
    Seconds,
    ServiceName,
    Template,
    as_list,
)
from emulator.lab.checks import AnyCheck
from emulator.lab.services import Services

Kind = Literal["host", "router", "switch"]

ACTIONS = ("run", "unplug", "plug", "kill", "reload")
"""What a step can do."""


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
    """`dhcp`, `none`, `192.168.1.1/24`, a list of addresses, or nothing → the long form."""
    if value is None:
        return {}
    if isinstance(value, str):
        return {"dhcp": True} if value == "dhcp" else {"address": [] if value == "none" else [value]}
    if isinstance(value, list):
        return {"address": value}
    return value


def _node(value: Any) -> Any:
    return {} if value is None else value


def _link(value: Any) -> Any:
    """The list of both ends → the long form."""
    ends = value.get("endpoints") if isinstance(value, dict) else value
    if isinstance(ends, list) and len(ends) != 2:
        raise ValueError(f"a cable has two ends, not {len(ends)}")
    if not isinstance(value, (list, dict)):
        raise ValueError("expected both ends of a cable such as [pc1, sw]")
    return {"endpoints": value} if isinstance(value, list) else value


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


def _publish(value: Any) -> Any:
    return [value] if isinstance(value, dict) else value


def _masquerade(value: Any) -> Any:
    return [{"out": item} if isinstance(item, str) else item for item in as_list(value) or []]


def _nameservers(value: Any) -> Any:
    return {"ns": value} if isinstance(value, str) else value


def _text(value: Any) -> Any:
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else value


def _record(value: Any) -> Any:
    return {"address": value} if isinstance(value, (str, list)) else value


Cidr = Annotated[str, AfterValidator(_cidr)]
Cidrs = Annotated[tuple[Cidr, ...], BeforeValidator(as_list, json_schema_input_type=str | list[str])]
SysctlValue = Annotated[str, BeforeValidator(_text, json_schema_input_type=str | int)]
Command = Annotated[
    tuple[Template, ...], BeforeValidator(_command, json_schema_input_type=str | list[str]), Field(min_length=1)
]


class InterfaceSpec(Model):
    """An interface of a node. Short forms: `dhcp`, `none`, an address, a list of addresses."""

    address: Cidrs | None = Field(
        None,
        description="Addresses with prefix length; left out: Wirelab chooses one; `[]`: none.",
        examples=["192.168.1.1/24"],
    )
    dhcp: bool = Field(False, description="Ask for everything by DHCP (udhcpc).")
    mac: Annotated[str, Field(pattern=MAC_PATTERN)] | None = Field(
        None, description="A unicast MAC; left out: made from the node's and the interface's place in the file."
    )

    @model_validator(mode="after")
    def _one_source(self) -> InterfaceSpec:
        if self.dhcp and self.address:
            raise ValueError("either `dhcp` or addresses, not both")
        return self


InterfaceForm = Annotated[
    InterfaceSpec, BeforeValidator(_interface, json_schema_input_type=str | list[str] | InterfaceSpec | None)
]


class RouteSpec(Model):
    """A static route that is given instead of computed."""

    to: Annotated[str, AfterValidator(_prefix)] = Field(
        description="A prefix, or `default`.", examples=["192.0.2.0/24"]
    )
    via: AddressText = Field(description="The next hop: an address or a node.")


class MasqueradeSpec(Model):
    """Source NAT with port translation for what leaves by one interface."""

    out: str = Field(description="The outside interface.")
    protocols: tuple[Literal["tcp", "udp", "icmp"], ...] = Field((), description="Only these; default: everything.")


class PublishSpec(Model):
    """Destination NAT: a port of the outside address leads to a server inside."""

    on: str | None = Field(None, description="The outside interface; default: the first masqueraded one.")
    protocol: Literal["tcp", "udp"] = "tcp"
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

    kind: Kind = "host"
    group: str | None = Field(None, description="The group of `groups` whose settings the node takes.")
    about: str | None = Field(None, description="What the node stands for.")
    interfaces: dict[str, InterfaceForm] = Field(
        default_factory=dict, description="Interfaces by name; links make those that are not named here."
    )
    gateway: AddressText | None = Field(None, description="Default next hop, instead of the computed one.")
    dns: Addresses = Field((), description="Nodes or addresses for /etc/resolv.conf.")
    routes: tuple[RouteSpec, ...] = Field((), description="Routes beside the computed ones.")
    sysctls: dict[Annotated[str, Field(pattern=SYSCTL_PATTERN)], SysctlValue] = Field(
        default_factory=dict,
        description="Kernel settings of the node's network namespace.",
        examples=[{"net.ipv4.ip_default_ttl": 128}],
    )
    env: dict[Annotated[str, Field(pattern=VARIABLE_PATTERN)], str] = Field(
        default_factory=dict, description="Environment of the node's processes."
    )
    exec: tuple[Command, ...] = Field((), description="Commands run once the node's services answer.")
    nat: NatSpec | None = Field(None, description="Address translation; routers only.")
    firewall: FirewallSpec | None = Field(None, description="Packet filter; routers only.")
    services: Services = Field(default_factory=Services, description="Daemons.")


NodeForm = Annotated[NodeSpec, BeforeValidator(_node, json_schema_input_type=NodeSpec | None)]


class LinkSpec(Model):
    """A cable between two interfaces. Short form: the list of its two ends."""

    endpoints: tuple[str, str] = Field(description="`node` or `node:interface`, twice.", examples=[["pc1", "sw"]])
    mtu: int | None = Field(None, ge=68, le=65535, description="Octets; default: `defaults.mtu`.")
    offload: bool | None = Field(
        None, description="Leave checksum and segmentation offload on: faster, and captures show frames above the MTU."
    )


LinkForm = Annotated[LinkSpec, BeforeValidator(_link, json_schema_input_type=list[str] | LinkSpec)]


class RecordSpec(Model):
    """A name of a zone. Short form: an address, a node or a list of them."""

    address: Addresses = Field((), description="A and AAAA records: addresses, nodes or node:interface.")
    cname: str | None = Field(None, description="An alias of this name.")
    ttl: int | None = Field(None, ge=0, le=2**31 - 1, description="Seconds; default: the zone's.")


class ZoneSpec(Model):
    """A DNS zone, served by NSD on the nodes that it names; its parent delegates to it, with glue (RFC 1034, 4.2)."""

    nameservers: Annotated[
        dict[str, NodeName], BeforeValidator(_nameservers, json_schema_input_type=str | dict[str, str])
    ] = Field(min_length=1, description="Name → node; relative names are in the zone. Short form: a node, named `ns`.")
    records: dict[
        str, Annotated[RecordSpec, BeforeValidator(_record, json_schema_input_type=str | list[str] | RecordSpec)]
    ] = Field(default_factory=dict, description="Name → address; `@` is the zone itself.")
    ttl: int = Field(300, ge=0, le=2**31 - 1, description="Seconds.")
    glue: dict[str, AddressText] = Field(
        default_factory=dict, description="What the parent says instead of a name server's true address."
    )


class StepSpec(Model):
    """One thing done in a running lab; exactly one of run, unplug, plug, kill, reload."""

    on: NodeNames = Field((), description="Nodes where the command runs, all at once.")
    run: Command | None = Field(None, description="A command; `{web.ip}` and the like are filled in.")
    unplug: EndpointName | None = Field(None, description="Pull the cable at node:interface.")
    plug: EndpointName | None = Field(None, description="Put it back.")
    kill: ServiceName | None = Field(None, description="Kill a service, node:service.")
    reload: ServiceName | None = Field(None, description="Send SIGHUP to a service, node:service.")
    id: str | None = Field(None, pattern=WORD_PATTERN, description="Checks find the output by it.")
    timeout: Seconds = Field(10, description="After that the command is killed.")

    @model_validator(mode="after")
    def _one_action(self) -> StepSpec:
        given = [name for name in ACTIONS if getattr(self, name) is not None]
        if len(given) != 1:
            raise ValueError("a step does exactly one of run, unplug, plug, kill, reload")
        if (self.run is None) != (not self.on):
            raise ValueError("`run` needs `on`, the nodes where it runs; the other actions name their node themselves")
        return self


class SceneSpec(Model):
    """What happens while the lab is watched: steps, one after the other."""

    name: str = Field(pattern=WORD_PATTERN)
    about: str | None = None
    steps: tuple[StepSpec, ...] = Field(min_length=1)


class BreakSpec(Model):
    """A named way of breaking the lab, and the checks that it must turn to FAIL: the twin of those checks."""

    about: str | None = None
    patch: dict[str, Any] = Field(
        default_factory=dict, description="Changes to this file (JSON Merge Patch, RFC 7396)."
    )
    steps: tuple[StepSpec, ...] = Field((), description="What is done to the running lab before it is verified.")
    fails: tuple[str, ...] = Field(min_length=1, description="The checks that fail; all others pass.")


class DefaultsSpec(Model):
    """Settings of everything that does not say otherwise."""

    mtu: int = Field(1500, ge=68, le=65535, description="Octets, of all links.")
    offload: bool = Field(False, description="Checksum and segmentation offload of all links.")


class LabSpec(Model):
    """A lab file."""

    name: str = Field(pattern=LAB_NAME_PATTERN, description="The lab's name.")
    title: str = Field("", description="One line for the list of labs.")
    defaults: DefaultsSpec = Field(default_factory=DefaultsSpec)
    kinds: dict[Kind, NodeForm] = Field(default_factory=dict, description="Node settings for all nodes of a kind.")
    groups: dict[str, NodeForm] = Field(default_factory=dict, description="Node settings for nodes that name it.")
    nodes: dict[str, NodeForm] = Field(min_length=1)
    links: tuple[LinkForm, ...] = Field((), description="Cables.")
    zones: dict[str, ZoneSpec] = Field(default_factory=dict, description="DNS zones by name, with the final dot.")
    scenes: tuple[SceneSpec, ...] = Field((), description="What `verify` does, in order.")
    checks: tuple[AnyCheck, ...] = Field((), description="What `verify` proves.")
    break_: dict[Annotated[str, Field(pattern=WORD_PATTERN)], BreakSpec] = Field(
        default_factory=dict, alias="break", description="Twins of the checks."
    )
