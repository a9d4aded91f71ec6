"""The checks of a lab file: what each kind of check needs to know. How they are judged is the verify room's business.

Every check is judged from captured packets and kernel tables. Filters are written as Wireshark's display filters, so
that a person can paste them there. A check may be limited to the frames of one scene.
"""

from __future__ import annotations

import re
from functools import reduce
from ipaddress import IPv4Address, IPv4Network, IPv6Address
from operator import or_
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Discriminator, Field, PlainValidator, Tag, model_validator

from emulator.lab.base import (
    WORD_PATTERN,
    Addresses,
    AddressText,
    EndpointName,
    FilterText,
    Model,
    NodeName,
    NodeNames,
    PlaceName,
    Places,
    SceneName,
    Seconds,
    Template,
    as_list,
)

LAYERS = ("physical", "data-link", "network", "transport", "application")
Layer = Literal["physical", "data-link", "network", "transport", "application"]
Header = Literal[
    "eth", "vlan", "arp", "ip", "ipv6", "icmp", "icmpv6", "tcp", "udp", "dhcp", "dns", "tls", "http", "data"
]  # fmt: skip
"""What the protocols of a frame are called; `data` is what no protocol here can read."""


def _pattern(text: str) -> str:
    """`text`, when it is a regular expression that can fail to match."""
    try:
        pattern = re.compile(text, re.MULTILINE)
    except (re.error, OverflowError, RecursionError) as error:
        raise ValueError(f"not a regular expression: {error}") from None
    if pattern.search("") and pattern.search("\x00"):
        raise ValueError("this regular expression matches any text")
    return text


def _status(value: Any) -> Any:
    """An exit status as a step's command may have it."""
    if value == "nonzero" or (type(value) is int and -64 <= value <= 255):
        return value
    raise ValueError("expected an exit status from 0 to 255, minus the number of a signal, or nonzero")


def _not_ipv6(text: str) -> str:
    """`text`, unless it is an IPv6 address, for which there is no ARP."""
    try:
        IPv6Address(text)
    except ValueError:
        return text
    raise ValueError(f"expected an IPv4 address, a node or node:interface, not '{text}'")


Pattern = Annotated[str, AfterValidator(_pattern)]
Patterns = Annotated[tuple[Pattern, ...], BeforeValidator(as_list, json_schema_input_type=str | list[str])]
Status = Annotated[int | Literal["nonzero"], PlainValidator(_status, json_schema_input_type=int | Literal["nonzero"])]
Endpoints = Annotated[tuple[EndpointName, ...], BeforeValidator(as_list, json_schema_input_type=str | list[str])]

NameServers = Annotated[
    tuple[NodeNames, ...], BeforeValidator(as_list, json_schema_input_type=str | list[str | list[str]])
]

DnsType = Literal["A", "AAAA", "MX", "TXT", "NS"]


class Check(Model):
    """What all checks have."""

    name: str = Field(pattern=WORD_PATTERN, description="Unique in the lab; twins name it.")
    layer: Layer = Field(description="The layer in whose part of the report the check stands.")
    about: str | None = Field(None, description="What the check proves, in a few words.")
    scene: SceneName | None = Field(None, description="Only frames of this scene count; default: the whole capture.")


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


class Encapsulation(Check):
    """In the first frame that matches, each header lies inside the one below, which names it; the octets add up
    (RFC 1122, section 1.1.3)."""

    check: Literal["encapsulation"]
    filter: FilterText = Field(description="Which frame; the first that matches is taken apart.")
    at: EndpointName = Field(description="The interface that sees it.")
    layers: tuple[Header, ...] = Field(min_length=2, description="Protocols from the outside in: [eth, ip, tcp, http].")


class BitStream(Check):
    """The first frame that matches, as the bits that were sent: fields put together again give the same octets."""

    check: Literal["bit-stream"]
    filter: FilterText = Field(description="Which frame; the first that matches is shown.")
    at: EndpointName = Field(description="The interface that sees it.")


class SubnetArithmetic(Check):
    """Network, broadcast address and number of hosts follow from an address and its prefix length (RFC 4632, section
    3.1; RFC 1122, section 3.2.1.3): the lab file, arithmetic and the kernel say the same."""

    check: Literal["subnet-arithmetic"]
    at: Endpoints = Field(min_length=1, description="Interfaces in this network, as node:interface.")
    network: IPv4Network = Field(description="Address & mask, with the prefix length.")
    broadcast: IPv4Address = Field(description="The network's last address: network | ~mask.")
    hosts: int = Field(ge=0, description="Addresses that hosts may have: 2^n − 2 with n host bits.")
    first: IPv4Address | None = Field(None, description="The first address that a host may have.")
    last: IPv4Address | None = Field(None, description="The last address that a host may have.")


class ArpResolution(Check):
    """One broadcast question, one unicast answer, then no further question while the entry is fresh (RFC 826)."""

    check: Literal["arp-resolution"]
    asker: EndpointName = Field(description="The interface that asks for a MAC.")
    target: EndpointName = Field(description="The interface whose IPv4 address is asked for.")


class AddressConflict(Check):
    """A probe asks whether an address is in use, and another MAC answers that it is (RFC 5227, section 2.1.1)."""

    check: Literal["address-conflict"]
    at: Places = Field(min_length=1, description="Nodes or node:interface; each sees both the probe and the answer.")
    address: Annotated[AddressText, AfterValidator(_not_ipv6)] = Field(
        description="The IPv4 address, or the node or node:interface that has it."
    )


class NeighbourDiscovery(Check):
    """One question to the target's solicited-node group, one answer to the asker alone, then no further question while
    the entry is fresh (RFC 4861, section 7.2): what ARP is to IPv4."""

    check: Literal["neighbour-discovery"]
    asker: EndpointName = Field(description="The interface that asks for a MAC.")
    target: EndpointName = Field(description="The interface whose IPv6 address is asked for.")


class DuplicateAddressDetection(Check):
    """Before the interface uses an IPv6 address it asks for that address from ::, and nobody answers (RFC 4862, section
    5.4)."""

    check: Literal["duplicate-address-detection"]
    at: EndpointName = Field(description="The interface that gets an address while it is watched.")


class Slaac(Check):
    """The client made its address of the prefix in the router's advertisement and its own interface identifier, with
    the lifetimes told there, and sends what goes further to the router's link-local address (RFC 4862, section 5.5;
    RFC 4861, section 6.3.4)."""

    check: Literal["slaac"]
    client: EndpointName = Field(description="The interface that configures itself.")
    router: EndpointName = Field(description="The router's interface on the same network.")


class NextHopMac(Check):
    """Frames from a host to another network carry the router's MAC and the far host's address."""

    check: Literal["next-hop-mac"]
    from_: EndpointName = Field(alias="from", description="The host's interface.")
    to: EndpointName = Field(description="The far host's interface, in another network.")
    router: EndpointName = Field(description="The router's interface on the host's network.")


class MacTable(Check):
    """The switch learned each host's MAC on the port where the host's cable is, and nothing else (IEEE 802.1D, 7.8)."""

    check: Literal["mac-table"]
    switch: NodeName = Field(description="The switch whose table is read.")


class NoFlooding(Check):
    """A unicast frame to a learned MAC leaves the switch by that MAC's port only."""

    check: Literal["no-flooding"]
    switch: NodeName = Field(description="The switch whose ports are watched.")


class SpanningTree(Check):
    """The switches agree on one root, the one with the lowest identifier; each other switch has one root port; the
    links on which both ends forward are a tree, without a loop; the others are blocked (IEEE 802.1D-1998, section 8).

    The tables are read after the scenes, so what counts is the last word on every cable, whatever the scene.
    """

    check: Literal["spanning-tree"]
    switches: NodeNames = Field(min_length=2, description="All switches that run the spanning tree together.")


class Lease(Check):
    """Address, mask, gateway, DNS server and lease time given by DHCP are the lab's, and the host has set them."""

    check: Literal["lease"]
    client: EndpointName = Field(description="The interface that asks for an address.")
    server: EndpointName = Field(description="The interface of the DHCP server on the same network.")


class DhcpExchange(Check):
    """Discover, offer, request, acknowledge in order, with one transaction id (RFC 2131, section 3.1)."""

    check: Literal["dhcp-exchange"]
    client: EndpointName = Field(description="The interface that asks for an address.")
    server: EndpointName = Field(description="The interface of the DHCP server on the same network.")


class DhcpRenewal(Check):
    """A client that has an address asks the server alone to extend the lease: the address stands in ciaddr, neither
    server identifier nor requested address is given, and the server acknowledges (RFC 2131, section 4.4.5)."""

    check: Literal["dhcp-renewal"]
    client: EndpointName = Field(description="The interface that has an address.")
    server: EndpointName = Field(description="The interface of the DHCP server on the same network.")
    after: Seconds | None = Field(
        None,
        description="T1: seconds from the acknowledgement before to the request; up to 1.5 less or 5 more are allowed.",
    )


class HopCount(Check):
    """TTL, or the hop limit of IPv6, falls by one at each router between two hosts, for each frame that matches
    `filter` (RFC 1812, section 5.3.1; RFC 8200, section 3)."""

    check: Literal["hop-count"]
    from_: EndpointName = Field(alias="from", description="Where the packets leave.")
    to: EndpointName = Field(description="Where they arrive.")
    routers: NodeNames = Field(description="The routers between, in the order of the way.")
    filter: FilterText = Field(description="Which packets, as they leave `from`.")


class SourceNat(Check):
    """The same packet on both sides of a router: source rewritten going out, and back in the answer (RFC 3022)."""

    check: Literal["source-nat"]
    router: NodeName = Field(description="The router that translates.")
    inside: str = Field(description="Its interface with private addresses.")
    outside: str = Field(description="Its interface with the public address.")
    filter: FilterText = Field(description="Which packets, as they look on the inside.")


class PortTranslation(Check):
    """Two clients that use the same source port to one server are told apart by a translated port (RFC 3022, 2.2)."""

    check: Literal["port-translation"]
    router: NodeName = Field(description="The router that translates.")
    inside: str = Field(description="Its interface with private addresses.")
    outside: str = Field(description="Its interface with the public address.")
    clients: tuple[EndpointName, ...] = Field(min_length=2, description="The interfaces of the clients.")
    filter: FilterText = Field(description="The clients' packets, as they look on the inside.")


class DestinationNat(Check):
    """What reaches a published port goes on to the inside server, and its answer comes back from the published port."""

    check: Literal["destination-nat"]
    router: NodeName = Field(description="The router that publishes the port.")
    inside: str = Field(description="Its interface with private addresses.")
    outside: str = Field(description="Its interface with the public address.")
    port: int = Field(ge=1, le=65535, description="The published port on the outside address.")
    server: EndpointName = Field(description="The interface of the server inside.")
    server_port: int = Field(ge=1, le=65535, description="The port on which the server listens.")
    protocol: Literal["tcp", "udp"] = Field("tcp", description="The transport protocol.")


class Unanswered(Check):
    """Packets that match `filter` arrived at a place, and nothing at all came back to their sender's port."""

    check: Literal["unanswered"]
    filter: FilterText = Field(description="Which packets.")
    at: EndpointName = Field(description="Where they are seen: their sender's interface, or that of whom they are for.")


class PrivateDropped(Check):
    """Packets with a private address (RFC 1918) that reach the router go no further, and its counter agrees."""

    check: Literal["private-dropped"]
    router: NodeName = Field(description="The router with `firewall: {drop-private: true}`.")


class ConntrackAgrees(Check):
    """Every translated flow of the packets is in the router's connection tracking table, with the same addresses."""

    check: Literal["conntrack-agrees"]
    router: NodeName = Field(description="The router that translates.")
    inside: str = Field(description="Its interface with private addresses.")
    outside: str = Field(description="Its interface with the public address.")


class TcpHandshake(Check):
    """SYN, SYN/ACK, ACK with consistent sequence numbers (RFC 9293, section 3.5)."""

    check: Literal["tcp-handshake"]
    at: EndpointName = Field(description="The interface that sees the connection.")
    filter: FilterText = Field(description="The client's SYN.")


class TcpAcknowledged(Check):
    """Every octet of data that was sent in either direction was acknowledged (RFC 9293, section 3.4)."""

    check: Literal["tcp-acknowledged"]
    at: EndpointName = Field(description="The interface that sees the connection.")
    filter: FilterText = Field(description="The client's SYN.")


class TcpClose(Check):
    """Both sides closed with FIN and each FIN was acknowledged; no RST (RFC 9293, section 3.6)."""

    check: Literal["tcp-close"]
    at: EndpointName = Field(description="The interface that sees the connection.")
    filter: FilterText = Field(description="The client's SYN.")


class TcpStream(Check):
    """The octets of one side arrive without a gap, in segments no larger than the other side's MSS (RFC 9293, sections
    3.4 and 3.7.1)."""

    check: Literal["tcp-stream"]
    at: EndpointName = Field(description="The interface that sees the connection.")
    filter: FilterText = Field(description="The client's SYN.")
    octets: int = Field(ge=1, lt=2**31, description="How many octets, exactly; what is sent again counts once.")
    from_: Literal["client", "server"] = Field(alias="from", description="The side that sends them.")


class Retransmission(Check):
    """A segment with data that does not arrive is sent again with its sequence number, and then arrives (RFC 9293,
    section 3.8.1)."""

    check: Literal["retransmission"]
    from_: EndpointName = Field(alias="from", description="Where the segments leave.")
    to: EndpointName = Field(description="Where they should arrive.")
    filter: FilterText = Field(description="The segments, as they leave `from`.")


class Lost(Check):
    """Packets that match `filter` leave, do not arrive, and are never sent again: UDP does not ask (RFC 768)."""

    check: Literal["lost"]
    from_: EndpointName = Field(alias="from", description="Where the packets leave.")
    to: EndpointName = Field(description="Where they should arrive.")
    filter: FilterText = Field(description="The packets that get lost, as they leave `from`.")


class ReferralChain(Check):
    """One question's walk: client → forwarder → resolver → each name server in turn, referrals first, the last answer
    authoritative (RFC 1034, section 5.3.3)."""

    check: Literal["referral-chain"]
    question: Template = Field(description="The name asked for.")
    client: NodeName = Field(description="The node that asks.")
    forwarder: NodeName | None = Field(
        None, description="The node that passes the question on; left out: the client asks the resolver itself."
    )
    resolver: NodeName = Field(description="The node that walks from the root.")
    servers: NameServers = Field(
        description="The name servers in the order in which they are asked; a list among them is a zone's several "
        "servers, of which any one is asked.",
        examples=[["root", "tld", "auth"], [["root-a", "root-b"], "tld", "auth"]],
    )


class AnsweredFromCache(Check):
    """The question was answered, and nobody else was asked meanwhile."""

    check: Literal["answered-from-cache"]
    question: Template = Field(description="The name asked for.")
    client: NodeName = Field(description="The node that asks.")
    server: NodeName = Field(description="The node that answers from its cache.")
    quiet: NodeNames = Field(description="Nodes that see no DNS question for the name during the scene.")


class DnsAnswer(Check):
    """What the server answered to the client's question: response code, records, and who vouches for them (RFC 1035,
    section 4.1; RFC 4035, section 3.1.6). Every answer to the question must be so."""

    check: Literal["dns-answer"]
    question: Template = Field(description="The name asked for; `.` is the root.")
    type: DnsType = Field("A", description="The type of the records asked for.")
    client: NodeName = Field(description="The node that asks.")
    server: NodeName = Field(description="The node that is asked.")
    rcode: Literal["NOERROR", "NXDOMAIN", "SERVFAIL", "REFUSED"] = Field("NOERROR", description="The response code.")
    answers: tuple[Template, ...] | None = Field(
        None,
        description="The data of all records of that type in the answer, in any order, as in a zone file; [] for none. "
        "Default: with NOERROR at least one, else not looked at.",
        examples=[["192.0.2.80"], ["10 mail.example.com"]],
    )
    authoritative: bool | None = Field(None, description="The AA flag: the server itself has the zone.")
    authenticated: bool | None = Field(None, description="The AD flag: the resolver checked the DNSSEC signatures.")
    count: int | None = Field(None, ge=1, description="How many records of that type the answer holds.")


class DnsTtlFalls(Check):
    """A record in a later answer lives as many seconds less as have passed since the earlier one: the cache counts down
    (RFC 1035, section 3.2.1)."""

    check: Literal["dns-ttl-falls"]
    question: Template = Field(description="The name asked for.")
    type: DnsType = Field("A", description="The type of the records asked for.")
    client: NodeName = Field(description="The node that asks.")
    server: NodeName = Field(description="The node that answers from its cache.")
    scenes: tuple[SceneName, ...] = Field(
        min_length=2, max_length=2, description="The last answer in the first, the first answer in the second."
    )


class DnsRotates(Check):
    """Several answers hold the same addresses, and not all in the same order, so that clients are spread over them
    (RFC 1794)."""

    check: Literal["dns-rotates"]
    question: Template = Field(description="The name asked for.")
    client: NodeName = Field(description="The node that asks.")
    server: NodeName = Field(description="The node that is asked.")
    addresses: Addresses = Field(min_length=2, description="All addresses of the name, of one family.")


class TlsHandshake(Check):
    """The client greets the server by its name, the server greets back, and then data goes under encryption both ways,
    without an alert before (RFC 8446, section 2; RFC 5246, section 7.3)."""

    check: Literal["tls-handshake"]
    client: EndpointName = Field(description="The interface of the client.")
    server: EndpointName = Field(description="The interface of the server.")
    server_name: Template = Field(description="The name in the client's greeting (RFC 6066, section 3).")
    port: int = Field(443, ge=1, le=65535, description="The TCP port that the client connects to.")


class HttpPage(Check):
    """The page that the client got is the one that the server has, in packets and in the client's hands."""

    check: Literal["http-page"]
    client: EndpointName = Field(description="The interface of the client.")
    server: EndpointName = Field(description="The interface of the server.")
    path: str = Field("/", description="The path of the page.")
    host: Template | None = Field(None, description="The Host header that the client sent.")
    step: str = Field(description="The id of the step whose output is the page.")


_KINDS: tuple[type[Check], ...] = (
    LinksCarry, ReEncode, WithinMtu, Checksums, Seen, NeverSeen, InOrder, ArpResolution, NextHopMac, MacTable,
    NoFlooding, Lease, DhcpExchange, HopCount, SourceNat, PortTranslation, DestinationNat, Unanswered, PrivateDropped,
    ConntrackAgrees, TcpHandshake, TcpAcknowledged, TcpClose, ReferralChain, AnsweredFromCache, HttpPage,
    CommandOutput, PacketPath, EndToEnd, Encapsulation, BitStream, SubnetArithmetic, AddressConflict, TcpStream,
    Retransmission, Lost,
    NeighbourDiscovery, DuplicateAddressDetection, Slaac, SpanningTree, DhcpRenewal, DnsAnswer, DnsTtlFalls, DnsRotates,
    TlsHandshake,
)  # fmt: skip


def kind_name(kind: type[Check]) -> str:
    """The word after `check:` that chooses `kind`."""
    name: str = kind.model_fields["check"].annotation.__args__[0]  # type: ignore[union-attr]
    return name


CHECK_KINDS: dict[str, type[Check]] = {kind_name(kind): kind for kind in _KINDS}


def _kind_of(value: Any) -> Any:
    kind = value.get("check") if isinstance(value, dict) else getattr(value, "check", None)
    return kind if isinstance(kind, str) else None


if TYPE_CHECKING:
    AnyCheck = Check
else:  # made of the table above, so that a new kind stands in one place only
    AnyCheck = Annotated[
        reduce(or_, (Annotated[kind, Tag(name)] for name, kind in CHECK_KINDS.items())),
        Discriminator(_kind_of),
    ]
