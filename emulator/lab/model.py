"""The lab file's model: every key, its type, default and meaning. The JSON Schema is made from it.

Short forms (`[pc1, sw]` for a link, `dhcp` for an interface) expand here, before anything else looks at them.
"""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, model_validator

from emulator.lab.base import (
    LAB_NAME_PATTERN,
    WORD_PATTERN,
    Addresses,
    AddressText,
    EndpointName,
    Model,
    NodeName,
    NodeNames,
    NodeOrService,
    Pattern,
    Seconds,
    ServiceName,
    as_list,
)
from emulator.lab.checks import AnyCheck
from emulator.lab.nodes import Command, Kind, NodeForm

ACTIONS = ("run", "unplug", "plug", "freeze", "continue", "kill", "restart", "partition", "heal", "reload", "stop")
"""What a step can do."""


def _link(value: Any) -> Any:
    """The list of both ends → the long form."""
    ends = value.get("endpoints") if isinstance(value, dict) else value
    if isinstance(ends, list) and len(ends) != 2:
        raise ValueError(f"a cable has two ends, not {len(ends)}")
    if not isinstance(value, (list, dict)):
        raise ValueError("expected both ends of a cable such as [pc1, sw]")
    return {"endpoints": value} if isinstance(value, list) else value


def _rate(value: Any) -> Any:
    """`1mbit` → bits a second."""
    if isinstance(value, str):
        match = re.fullmatch(r"([0-9]+)(bit|kbit|mbit|gbit)", value)
        if not match:
            raise ValueError(f"expected a rate such as 512kbit, 10mbit or 1gbit, not '{value}'")
        return int(match[1]) * {"bit": 1, "kbit": 10**3, "mbit": 10**6, "gbit": 10**9}[match[2]]
    return value


def _nameservers(value: Any) -> Any:
    return {"ns": value} if isinstance(value, str) else value


def _mail(value: Any) -> Any:
    """A mail server's name → its name with the usual preference."""
    return {value: 10} if isinstance(value, str) else value


def _record(value: Any) -> Any:
    return {"address": value} if isinstance(value, (str, list)) else value


Groups = Annotated[
    tuple[NodeNames, ...],
    BeforeValidator(as_list, json_schema_input_type=str | list[str | list[str]]),
    Field(min_length=1),
]

Rate = Annotated[int, BeforeValidator(_rate, json_schema_input_type=int | str), Field(ge=8_000, le=10**11)]


class LinkSpec(Model):
    """A cable between two interfaces. Short form: the list of its two ends."""

    endpoints: tuple[str, str] = Field(
        description="`node` or `node:interface`, twice. A range of nodes, or a name with a `count`, stands for a cable "
        "each: to the one node at the other end, or one by one to a range as long as it.",
        examples=[["pc1", "sw"], ["h1..h100", "sw"]],
    )
    mtu: int | None = Field(None, ge=68, le=65535, description="Octets; default: `defaults.mtu`.")
    offload: bool | None = Field(
        None, description="Leave checksum and segmentation offload on: faster, and captures show frames above the MTU."
    )
    rate: Rate | None = Field(
        None, description="Bits a second in each direction (tc-tbf(8)); left out: no limit.", examples=["1mbit"]
    )


LinkForm = Annotated[LinkSpec, BeforeValidator(_link, json_schema_input_type=list[str] | LinkSpec)]


class RecordSpec(Model):
    """A name of a zone. Short form: an address, a node or a list of them."""

    address: Addresses = Field((), description="A and AAAA records: addresses, nodes or node:interface.")
    cname: str | None = Field(None, description="An alias of this name.", examples=["www"])
    mx: Annotated[
        dict[str, Annotated[int, Field(ge=0, le=65535)]],
        BeforeValidator(_mail, json_schema_input_type=str | dict[str, int]),
    ] = Field(
        default_factory=dict,
        description="Mail servers: name → preference, the lowest first. Short form: a name, with preference 10.",
        examples=["mail", {"mail": 10, "backup": 20}],
    )
    txt: Annotated[tuple[str, ...], BeforeValidator(as_list, json_schema_input_type=str | list[str])] = Field(
        (), description="TXT records.", examples=["v=spf1 -all"]
    )
    ttl: int | None = Field(None, ge=0, le=2**31 - 1, description="Seconds; default: the zone's.")


class ZoneSpec(Model):
    """A DNS zone, served by NSD on the nodes that it names; its parent delegates to it, with glue (RFC 1034, 4.2)."""

    nameservers: Annotated[
        dict[str, NodeName], BeforeValidator(_nameservers, json_schema_input_type=str | dict[str, str])
    ] = Field(
        min_length=1,
        description="Name → node; relative names are in the zone. Short form: a node, named `ns`.",
        examples=[{"ns1": "auth", "ns2": "web"}],
    )
    records: dict[
        str, Annotated[RecordSpec, BeforeValidator(_record, json_schema_input_type=str | list[str] | RecordSpec)]
    ] = Field(default_factory=dict, description="Name → address; `@` is the zone itself.")
    ttl: int = Field(300, ge=0, le=2**31 - 1, description="Seconds.")
    glue: dict[str, AddressText] = Field(
        default_factory=dict,
        description="What the parent says instead of a name server's true address.",
        examples=[{"ns": "outside"}],
    )
    negative_ttl: int | None = Field(
        None,
        ge=0,
        le=2**31 - 1,
        description="Seconds that resolvers remember that a name is not there (RFC 2308); default: `ttl`.",
    )
    dnssec: bool = Field(
        False,
        description="Sign the zone with a key that is made at `up` (RFC 4034); its parent, signed too, vouches for it.",
    )
    expired: bool = Field(False, description="The signatures' validity ended yesterday.")
    forged: dict[str, AddressText] = Field(
        default_factory=dict,
        description="Name → the address that the servers give instead; the signature is still that of the true one.",
        examples=[{"www": "192.0.2.66"}],
    )


class StepSpec(Model):
    """One thing done in a running lab; exactly one of run, unplug, plug, freeze, continue, kill, restart, partition,
    heal, reload, stop."""

    on: NodeNames = Field((), description="Nodes where the command runs, all at once.")
    run: Command | None = Field(
        None, description="A command; `{web.ip}` and the like are filled in.", examples=["ping -n -c 1 {web.ip}"]
    )
    unplug: EndpointName | None = Field(None, description="Pull the cable at node:interface.")
    plug: EndpointName | None = Field(None, description="Put it back.")
    freeze: NodeName | None = Field(
        None, description="Stop a node as if it hung: no process of it goes on, and it neither hears nor sends a frame."
    )
    continue_: NodeName | None = Field(None, description="Let a frozen node go on.")
    kill: NodeOrService | None = Field(
        None,
        description="Kill a service, node:service; or a node: its power is cut, and all that it remembers is lost.",
        examples=["home:dnsmasq", "home"],
    )
    restart: NodeOrService | None = Field(
        None,
        description="Start a service again; or switch a node off and on, with everything that the file gives it.",
        examples=["home:dnsmasq", "home"],
    )
    partition: Groups | None = Field(
        None,
        description="Cut the lab apart: a list of groups, each a node or a list of nodes, that no longer hear each "
        "other. Nodes that are not named are one more group; a switch that is not named stays with all of them.",
        examples=[[["pc1", "pc2"], "web"]],
    )
    heal: Literal[True] | None = Field(None, description="`true`: take all faults back.")
    reload: ServiceName | None = Field(None, description="Send SIGHUP to a service, node:service.")
    stop: str | None = Field(None, pattern=WORD_PATTERN, description="End the background step with this id (SIGTERM).")
    id: str | None = Field(None, pattern=WORD_PATTERN, description="Checks find the output by it.")
    timeout: Seconds = Field(10, description="After that the command is killed.")
    stdin: str = Field("", description="What the command reads from its standard input.", examples=["hello\n"])
    background: bool = Field(
        False, description="Go on to the next step at once; the command ends by itself, by `stop`, or with the scene."
    )
    until: Pattern | None = Field(
        None,
        description="Run the command again and again until its output matches this regular expression.",
        examples=["ESTAB"],
    )
    unattended: bool = Field(
        False,
        description="A background command that goes on even if the verification dies; it must end by itself.",
    )

    @model_validator(mode="after")
    def _one_action(self) -> StepSpec:
        if len(self._given()) != 1:
            raise ValueError(f"a step does exactly one of {', '.join(ACTIONS)}")
        if (self.run is None) != (not self.on):
            raise ValueError("`run` needs `on`, the nodes where it runs; the other actions name their node themselves")
        if self.run is None and (self.stdin or self.background or self.until or self.unattended):
            raise ValueError("`stdin`, `background`, `until` and `unattended` are for `run`")
        if self.until is not None and (self.background or self.stdin):
            raise ValueError("`until` repeats a command and waits for it: no `background`, no `stdin`")
        if self.unattended and not self.background:
            raise ValueError("only a `background` step can be `unattended`")
        if self.partition is not None and not all(self.partition):
            raise ValueError("a group of a partition has a node at least")
        named = [node for group in self.partition or () for node in group]
        if len(named) != len(set(named)):
            raise ValueError("a node is in one group of a partition")
        return self

    def _given(self) -> list[tuple[str, Any]]:
        values = ((name, getattr(self, "continue_" if name == "continue" else name)) for name in ACTIONS)
        return [(name, value) for name, value in values if value is not None]

    @property
    def action(self) -> tuple[str, Any]:
        """What it does, one of `ACTIONS`, and to what."""
        return self._given()[0]


class SceneSpec(Model):
    """What happens while the lab is watched: steps, one after the other."""

    name: str = Field(pattern=WORD_PATTERN, description="Unique in the lab; checks name it.")
    about: str | None = Field(
        None,
        description="What happens, in a few words; shown as progress.",
        examples=["pc1 asks for an address as if it were new"],
    )
    steps: tuple[StepSpec, ...] = Field(min_length=1, description="What is done, one after the other.")


class BreakSpec(Model):
    """A named way of breaking the lab, and the checks that it must turn to FAIL: the twin of those checks."""

    about: str | None = Field(
        None, description="What is broken, in a few words.", examples=["the server is not published"]
    )
    patch: dict[str, Any] = Field(
        default_factory=dict,
        description="Changes to this file (JSON Merge Patch, RFC 7396).",
        examples=[{"nodes": {"home": {"nat": None}}}],
    )
    steps: tuple[StepSpec, ...] = Field((), description="What is done to the running lab before it is verified.")
    fails: tuple[str, ...] = Field(
        min_length=1, description="The checks that fail; all others pass.", examples=[["snat", "page"]]
    )


class DefaultsSpec(Model):
    """Settings of everything that does not say otherwise."""

    mtu: int = Field(1500, ge=68, le=65535, description="Octets, of all links.")
    offload: bool = Field(False, description="Checksum and segmentation offload of all links.")
    routes: Literal["computed", "given"] = Field(
        "computed", description="`given`: nodes have the routes that the file gives them, and no others."
    )


class LabSpec(Model):
    """A lab file."""

    name: str = Field(pattern=LAB_NAME_PATTERN, description="The lab's name.", examples=["nat"])
    title: str = Field("", description="One line for the list of labs.", examples=["Two hosts on one switch"])
    defaults: DefaultsSpec = Field(
        default_factory=DefaultsSpec, description="Settings of everything that does not say otherwise."
    )
    kinds: dict[Kind, NodeForm] = Field(default_factory=dict, description="Node settings for all nodes of a kind.")
    groups: dict[str, NodeForm] = Field(default_factory=dict, description="Node settings for nodes that name it.")
    nodes: dict[str, NodeForm] = Field(
        min_length=1, description="Hosts, routers and switches by name; `h1..h100` is a hundred of them."
    )
    links: tuple[LinkForm, ...] = Field((), description="Cables.")
    zones: dict[str, ZoneSpec] = Field(default_factory=dict, description="DNS zones by name, with the final dot.")
    scenes: tuple[SceneSpec, ...] = Field((), description="What `verify` does, in order.")
    checks: tuple[AnyCheck, ...] = Field((), description="What `verify` proves.")
    break_: dict[Annotated[str, Field(pattern=WORD_PATTERN)], BreakSpec] = Field(
        default_factory=dict, alias="break", description="Twins of the checks."
    )
