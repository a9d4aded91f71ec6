"""The checks of a lab file: what each kind of check needs to know. How they are judged is the verify room's business.

Every check is judged from captured packets and kernel tables. Filters are written as Wireshark's display filters, so
that a person can paste them there. A check may be limited to the frames of one scene.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Discriminator, Field, Tag

from emulator.lab.base import (
    WORD_PATTERN,
    EndpointName,
    FilterText,
    Model,
    NodeName,
    NodeNames,
    Places,
    SceneName,
    Template,
)

LAYERS = ("physical", "data-link", "network", "transport", "application")
Layer = Literal["physical", "data-link", "network", "transport", "application"]


class Check(Model):
    """What all checks have."""

    name: str = Field(pattern=WORD_PATTERN, description="Unique in the lab; twins name it.")
    layer: Layer = Field(description="The layer in whose part of the report the check stands.")
    about: str | None = Field(None, description="What the notes say that this check proves.")
    scene: SceneName | None = Field(None, description="Only frames of this scene count; default: the whole capture.")


class LinksCarry(Check):
    """Every link carried frames in both directions."""

    check: Literal["links-carry"]


class ReEncode(Check):
    """Every frame, decoded into fields and encoded again, gives the captured octets."""

    check: Literal["re-encode"]


class WithinMtu(Check):
    """No frame carries more than its link's MTU."""

    check: Literal["within-mtu"]


class Checksums(Check):
    """IPv4, TCP, UDP and ICMP checksums of every frame are right (RFC 1071)."""

    check: Literal["checksums"]


class Seen(Check):
    """Frames that match `filter` were seen at each place, `count` times, or at least once."""

    check: Literal["seen"]
    filter: FilterText
    at: Places = Field(description="Nodes or node:interface, each must see it.")
    count: int | None = Field(None, ge=1, description="Exactly this often at each place; default: at least once.")


class NeverSeen(Check):
    """No frame that matches `filter` was seen at any of the places, though they saw other frames."""

    check: Literal["never-seen"]
    filter: FilterText
    at: Places = Field(description="Nodes or node:interface.")


class InOrder(Check):
    """Frames that match the filters were seen one after the other at one interface."""

    check: Literal["in-order"]
    filters: tuple[FilterText, ...] = Field(min_length=2)
    at: EndpointName


class ArpResolution(Check):
    """One broadcast question, one unicast answer, then no further question while the entry is fresh (RFC 826)."""

    check: Literal["arp-resolution"]
    asker: EndpointName
    target: EndpointName


class NextHopMac(Check):
    """Frames from a host to another network carry the router's MAC and the far host's address."""

    check: Literal["next-hop-mac"]
    from_: EndpointName = Field(alias="from")
    to: EndpointName
    router: EndpointName = Field(description="The router's interface on the host's network.")


class MacTable(Check):
    """The switch learned each host's MAC on the port where the host's cable is, and nothing else (IEEE 802.1D, 7.8)."""

    check: Literal["mac-table"]
    switch: NodeName


class NoFlooding(Check):
    """A unicast frame to a learned MAC leaves the switch by that MAC's port only."""

    check: Literal["no-flooding"]
    switch: NodeName


class Lease(Check):
    """Address, mask, gateway, DNS server and lease time given by DHCP are the lab's, and the host has set them."""

    check: Literal["lease"]
    client: EndpointName
    server: EndpointName


class DhcpExchange(Check):
    """Discover, offer, request, acknowledge in order, with one transaction id (RFC 2131, section 3.1)."""

    check: Literal["dhcp-exchange"]
    client: EndpointName
    server: EndpointName


class HopCount(Check):
    """TTL falls by one at each router between two hosts, for each frame that matches `filter` (RFC 1812, 5.3.1)."""

    check: Literal["hop-count"]
    from_: EndpointName = Field(alias="from")
    to: EndpointName
    routers: NodeNames
    filter: FilterText


class SourceNat(Check):
    """The same packet on both sides of a router: source rewritten going out, and back in the answer (RFC 3022)."""

    check: Literal["source-nat"]
    router: NodeName
    inside: str
    outside: str
    filter: FilterText = Field(description="Which packets, as they look on the inside.")


class PortTranslation(Check):
    """Two clients that use the same source port to one server are told apart by a translated port (RFC 3022, 2.2)."""

    check: Literal["port-translation"]
    router: NodeName
    inside: str
    outside: str
    clients: tuple[EndpointName, ...] = Field(min_length=2)
    filter: FilterText = Field(description="The clients' packets, as they look on the inside.")


class DestinationNat(Check):
    """What reaches a published port goes on to the inside server, and its answer comes back from the published port."""

    check: Literal["destination-nat"]
    router: NodeName
    inside: str
    outside: str
    port: int = Field(ge=1, le=65535, description="The published port on the outside address.")
    server: EndpointName
    server_port: int = Field(ge=1, le=65535)
    protocol: Literal["tcp", "udp"] = "tcp"


class Unanswered(Check):
    """Packets that match `filter` arrived at a place, and nothing at all came back to their sender's port."""

    check: Literal["unanswered"]
    filter: FilterText
    at: EndpointName


class PrivateDropped(Check):
    """Packets with a private address (RFC 1918) that reach the router go no further, and its counter agrees."""

    check: Literal["private-dropped"]
    router: NodeName


class ConntrackAgrees(Check):
    """Every translated flow of the packets is in the router's connection tracking table, with the same addresses."""

    check: Literal["conntrack-agrees"]
    router: NodeName
    inside: str
    outside: str


class TcpHandshake(Check):
    """SYN, SYN/ACK, ACK with consistent sequence numbers (RFC 9293, section 3.5)."""

    check: Literal["tcp-handshake"]
    at: EndpointName
    filter: FilterText = Field(description="The client's SYN.")


class TcpAcknowledged(Check):
    """Every octet of data that was sent in either direction was acknowledged (RFC 9293, section 3.4)."""

    check: Literal["tcp-acknowledged"]
    at: EndpointName
    filter: FilterText = Field(description="The client's SYN.")


class TcpClose(Check):
    """Both sides closed with FIN and each FIN was acknowledged; no RST (RFC 9293, section 3.6)."""

    check: Literal["tcp-close"]
    at: EndpointName
    filter: FilterText = Field(description="The client's SYN.")


class ReferralChain(Check):
    """One question's walk: client → forwarder → resolver → each name server in turn, referrals first, the last answer
    authoritative (RFC 1034, section 5.3.3)."""

    check: Literal["referral-chain"]
    question: Template = Field(description="The name asked for.")
    client: NodeName
    forwarder: NodeName | None = None
    resolver: NodeName
    servers: NodeNames = Field(description="The name servers in the order in which they are asked.")


class AnsweredFromCache(Check):
    """The question was answered, and nobody else was asked meanwhile."""

    check: Literal["answered-from-cache"]
    question: Template
    client: NodeName
    server: NodeName
    quiet: NodeNames = Field(description="Nodes that see no DNS question for the name during the scene.")


class HttpPage(Check):
    """The page that the client got is the one that the server has, in packets and in the client's hands."""

    check: Literal["http-page"]
    client: EndpointName
    server: EndpointName
    path: str = "/"
    host: Template | None = Field(None, description="The Host header that the client sent.")
    step: str = Field(description="The id of the step whose output is the page.")


_KINDS: tuple[type[Check], ...] = (
    LinksCarry, ReEncode, WithinMtu, Checksums, Seen, NeverSeen, InOrder, ArpResolution, NextHopMac, MacTable,
    NoFlooding, Lease, DhcpExchange, HopCount, SourceNat, PortTranslation, DestinationNat, Unanswered, PrivateDropped,
    ConntrackAgrees, TcpHandshake, TcpAcknowledged, TcpClose, ReferralChain, AnsweredFromCache, HttpPage,
)  # fmt: skip


def kind_name(kind: type[Check]) -> str:
    """The word after `check:` that chooses `kind`."""
    name: str = kind.model_fields["check"].annotation.__args__[0]  # type: ignore[union-attr]
    return name


CHECK_KINDS: dict[str, type[Check]] = {kind_name(kind): kind for kind in _KINDS}


def _kind_of(value: Any) -> Any:
    kind = value.get("check") if isinstance(value, dict) else getattr(value, "check", None)
    return kind if isinstance(kind, str) else None


AnyCheck = Annotated[
    Annotated[LinksCarry, Tag("links-carry")]
    | Annotated[ReEncode, Tag("re-encode")]
    | Annotated[WithinMtu, Tag("within-mtu")]
    | Annotated[Checksums, Tag("checksums")]
    | Annotated[Seen, Tag("seen")]
    | Annotated[NeverSeen, Tag("never-seen")]
    | Annotated[InOrder, Tag("in-order")]
    | Annotated[ArpResolution, Tag("arp-resolution")]
    | Annotated[NextHopMac, Tag("next-hop-mac")]
    | Annotated[MacTable, Tag("mac-table")]
    | Annotated[NoFlooding, Tag("no-flooding")]
    | Annotated[Lease, Tag("lease")]
    | Annotated[DhcpExchange, Tag("dhcp-exchange")]
    | Annotated[HopCount, Tag("hop-count")]
    | Annotated[SourceNat, Tag("source-nat")]
    | Annotated[PortTranslation, Tag("port-translation")]
    | Annotated[DestinationNat, Tag("destination-nat")]
    | Annotated[Unanswered, Tag("unanswered")]
    | Annotated[PrivateDropped, Tag("private-dropped")]
    | Annotated[ConntrackAgrees, Tag("conntrack-agrees")]
    | Annotated[TcpHandshake, Tag("tcp-handshake")]
    | Annotated[TcpAcknowledged, Tag("tcp-acknowledged")]
    | Annotated[TcpClose, Tag("tcp-close")]
    | Annotated[ReferralChain, Tag("referral-chain")]
    | Annotated[AnsweredFromCache, Tag("answered-from-cache")]
    | Annotated[HttpPage, Tag("http-page")],
    Discriminator(_kind_of),
]
