"""Checks of frames in general: what is in them, where they were seen, and what commands printed."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, PlainValidator, model_validator

from emulator.lab.base import (
    Demand,
    EndpointName,
    FilterText,
    NodeName,
    PlaceName,
    Places,
    as_list,
)
from emulator.lab.checks.base import Check

Header = Literal[
    "eth", "vlan", "arp", "ip", "ipv6", "icmp", "icmpv6", "tcp", "udp", "dhcp", "dns", "tls", "http", "data"
]  # fmt: skip
"""What the protocols of a frame are called; `data` is what no protocol here can read."""


def _status(value: Any) -> Any:
    """An exit status as a step's command may have it."""
    if value == "nonzero" or (type(value) is int and -64 <= value <= 255):
        return value
    raise ValueError("expected an exit status from 0 to 255, minus the number of a signal, or nonzero")


Patterns = Annotated[tuple[Demand, ...], BeforeValidator(as_list, json_schema_input_type=str | list[str])]
Status = Annotated[int | Literal["nonzero"], PlainValidator(_status, json_schema_input_type=int | Literal["nonzero"])]


class LinksCarry(Check):
    """Every link carried frames in both directions."""

    check: Literal["links-carry"]


class ReEncode(Check):
    """Every frame, decoded into fields and encoded again, gives the captured octets."""

    check: Literal["re-encode"]


class WithinMtu(Check):
    """No frame carries more than its link's MTU. Loopback is no link and is left out: its MTU is 65,536 octets."""

    check: Literal["within-mtu"]


class Checksums(Check):
    """IPv4, TCP, UDP and ICMP checksums of every frame are right (RFC 1071).

    Frames on loopback are left out: the kernel never fills in checksums there, for no wire can change an octet.
    """

    check: Literal["checksums"]


class BitStream(Check):
    """The first frame that matches, as the bits that were sent: fields put together again give the same octets."""

    check: Literal["bit-stream"]
    filter: FilterText = Field(description="Which frame; the first that matches is shown.")
    at: EndpointName = Field(description="The interface that sees it.")


class Encapsulation(Check):
    """In the first frame that matches, each header lies inside the one below, which names it; the octets add up
    (RFC 1122, section 1.1.3)."""

    check: Literal["encapsulation"]
    filter: FilterText = Field(description="Which frame; the first that matches is taken apart.")
    at: EndpointName = Field(description="The interface that sees it.")
    layers: tuple[Header, ...] = Field(min_length=2, description="Protocols from the outside in: [eth, ip, tcp, http].")


class Seen(Check):
    """Frames that match `filter` were seen at each place: as often as is said, or at least once."""

    check: Literal["seen"]
    filter: FilterText = Field(description="Which frames.")
    at: Places = Field(description="Nodes or node:interface, each must see it.")
    count: int | None = Field(None, ge=1, description="Exactly this often at each place; default: at least once.")
    at_least: int | None = Field(None, ge=1, description="At least this often at each place.")
    at_most: int | None = Field(None, ge=1, description="At least once, and at most this often at each place.")

    @model_validator(mode="after")
    def _bounds(self) -> Seen:
        if self.count is not None and (self.at_least is not None or self.at_most is not None):
            raise ValueError("`count` says exactly how often; `at-least` and `at-most` do not go with it")
        if (self.at_least or 0) > (self.at_most or self.at_least or 0):
            raise ValueError("`at-least` is more than `at-most`")
        return self


class NeverSeen(Check):
    """No frame that matches `filter` was seen at any of the places, though they saw other frames."""

    check: Literal["never-seen"]
    filter: FilterText = Field(description="Which frames.")
    at: Places = Field(description="Nodes or node:interface.")


class InOrder(Check):
    """Frames that match the filters were seen one after the other at one interface, or at any of one node's."""

    check: Literal["in-order"]
    filters: tuple[FilterText, ...] = Field(min_length=2, description="Which frames come first, which next, and so on.")
    at: PlaceName = Field(description="The interface that sees them, or the node with all its interfaces.")


class CommandOutput(Check):
    """The command of a step printed what it should and nothing that it should not, and ended as it should.

    What it printed is its standard output and then its standard error. On each node where it ran it must be so.
    """

    check: Literal["output"]
    step: str = Field(description="The id of the step.")
    on: NodeName | None = Field(None, description="A node on which the step runs; default: all of them.")
    status: Status | None = Field(
        None, description="Its exit status; minus a signal's number when one ended it; `nonzero`: it ran and failed."
    )
    matches: Patterns = Field(
        (), description="Regular expressions, each found in what it printed; ^ and $ are the ends of a line."
    )
    lacks: Patterns = Field((), description="Regular expressions, none of them found in what it printed.")

    @model_validator(mode="after")
    def _says_something(self) -> CommandOutput:
        if self.status is None and not self.matches and not self.lacks:
            raise ValueError("say at least one of `status`, `matches` and `lacks`")
        return self


class PacketPath(Check):
    """Each packet that matches `filter` at the first place is seen at each further one, in this order."""

    check: Literal["path"]
    filter: FilterText = Field(description="Which packets, as they look at the first place; those of one direction.")
    through: Places = Field(min_length=2, description="Nodes or node:interface, in the order of the way.")
    unchanged: bool = Field(False, description="Octet for octet the same at each place, as on a layer-2 path.")


class EndToEnd(Check):
    """Packets arrive with the addresses and ports with which they left, and so do the answers: nobody translates
    (the end-to-end principle, RFC 2775, section 2)."""

    check: Literal["end-to-end"]
    from_: EndpointName = Field(alias="from", description="Where the packets leave.")
    to: EndpointName = Field(description="Where they arrive.")
    filter: FilterText = Field(description="Which packets, as they leave `from`.")
