"""Checks of DHCP, DNS, TLS and HTTP."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BeforeValidator, Field

from emulator.lab.base import (
    Addresses,
    EndpointName,
    NodeName,
    NodeNames,
    SceneName,
    Seconds,
    Template,
    as_list,
)
from emulator.lab.checks.base import Check

NameServers = Annotated[
    tuple[NodeNames, ...], BeforeValidator(as_list, json_schema_input_type=str | list[str | list[str]])
]
DnsType = Literal["A", "AAAA", "MX", "TXT", "NS"]


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
