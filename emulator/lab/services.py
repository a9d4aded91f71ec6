"""The services that a node can run, as the lab file describes them. Each is a real daemon."""

from __future__ import annotations

import posixpath
from ipaddress import IPv4Address
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from emulator.lab.base import (
    PAGE_PATTERN,
    Addresses,
    AddressText,
    DnsName,
    Model,
    NodeName,
    Restart,
    Seconds,
    as_list,
)


def _range(value: Any) -> Any:
    """`192.168.1.100-192.168.1.199` → both ends."""
    if isinstance(value, str):
        if value.count("-") != 1:
            raise ValueError(f"expected a range such as 192.168.1.100-192.168.1.199, not '{value}'")
        return [part.strip() for part in value.split("-")]
    return value


def _no_address(name: str) -> str:
    if name.rstrip(".").rpartition(".")[2].isdigit():
        raise ValueError(f"expected a domain name, not '{name}'")
    return name


def page_file(path: str) -> str:
    """The file that a page is in, relative to the server's folder."""
    return path[1:] + ("index.html" if path.endswith("/") else "")


def _pages(value: dict[str, str]) -> dict[str, str]:
    """Each page is a file of its own inside the server's folder."""
    files: dict[str, str] = {}
    for path in value:
        file = page_file(path)
        if posixpath.normpath(file) != file or file.startswith("../"):
            raise ValueError(f"the page {path} has `.`, `..` or nothing between two slashes")
        if file in files:
            raise ValueError(f"the pages {files[file]} and {path} are one file")
        files[file] = path
    for file, path in files.items():
        for end, sign in enumerate(file):
            if sign == "/" and file[:end] in files:
                raise ValueError(f"the page {files[file[:end]]} is a file, so there can be no page {path} below it")
    return value


AddressRange = Annotated[
    tuple[IPv4Address, IPv4Address], BeforeValidator(_range, json_schema_input_type=str | list[str])
]


class Daemon(Model):
    """What every service may say."""

    restart: Restart | None = Field(
        None,
        description="`on-failure`: started again when it ends with a status other than 0 or by a signal, after a delay "
        "that doubles from 0.1 s, and no more after five failures in a row; left out: it stays dead.",
    )


class DhcpPool(Model):
    """Addresses that dnsmasq gives out on one interface (RFC 2131, options of RFC 2132)."""

    interface: str = Field(description="The interface of this node whose network is served.", examples=["lan"])
    range: AddressRange = Field(
        description="First and last address given out.", examples=["192.168.1.100-192.168.1.199"]
    )
    lease_time: Seconds = Field(
        3600, description="How long a lease lasts, at least two minutes.", examples=["1h"], ge=120
    )
    renew_after: Seconds | None = Field(
        None, description="T1 (option 58): when the client asks to renew; left out: half of the lease time."
    )
    rebind_after: Seconds | None = Field(
        None, description="T2 (option 59): when it asks any server; left out: 7/8 of the lease time."
    )
    gateway: AddressText | None = Field(None, description="The router option; default: this node's own address there.")
    dns: AddressText | None = Field(None, description="The DNS option; default: this node's own address there.")
    domain: DnsName | None = Field(None, description="The domain-name option.", examples=["home.arpa"])
    reservations: dict[NodeName, IPv4Address] = Field(
        default_factory=dict,
        description="Nodes that always get the same address.",
        examples=[{"server": "192.168.1.10"}],
    )


class RouterAdvertisement(Model):
    """Router advertisements on one interface (RFC 4861): the /64 of its IPv6 address, to be used for SLAAC."""

    interface: str = Field(description="The interface of this node whose network hears them.", examples=["lan"])
    dns: AddressText | None = Field(
        None, description="The DNS option (RFC 8106), an IPv6 address; default: this node's own address there."
    )


class DnsForwarder(Model):
    """dnsmasq as a caching DNS forwarder."""

    forward: Addresses = Field((), description="Nodes or addresses that questions are sent to, in order.")
    names: dict[DnsName, AddressText] = Field(
        default_factory=dict,
        description="Names that it answers by itself.",
        examples=[{"printer.home.arpa": "192.168.1.9"}],
    )
    cache_size: int = Field(1000, ge=0, le=10_000, description="Names kept; 0 turns the cache off.")


class Dnsmasq(Daemon):
    """dnsmasq: DHCP server and DNS forwarder of a home router."""

    dhcp: tuple[DhcpPool, ...] = Field((), description="One pool an interface.")
    dns: DnsForwarder | None = Field(None, description="DNS forwarding; without it no DNS is served.")
    ra: tuple[RouterAdvertisement, ...] = Field((), description="Router advertisements, one entry an interface.")
    probe: bool = Field(
        False,
        description="Ping an address before offering it (RFC 2131, 4.4.1): slower, and finds what is set by hand.",
    )


class Unbound(Daemon):
    """unbound: a recursive resolver (RFC 1034, section 5.3.3) that starts at the lab's own root."""

    root_hints: Literal["lab", "none"] = Field(
        "lab", description="`lab`: the name servers of the lab's zone `.`; `none`: it knows no root."
    )
    validate_: bool | None = Field(
        None,
        description="Prove answers by their signatures (RFC 4035, section 5); default: when the zone `.` is signed.",
    )


class Nsd(Daemon):
    """NSD: an authoritative name server for the lab's `zones` that name this node."""


class Tls(Model):
    """HTTPS beside HTTP (socat in front of the HTTP server), with a certificate of the lab's own CA.

    CA, keys and certificates are made at `up`; every node of the lab trusts the CA, and nobody outside does.
    """

    names: Annotated[
        tuple[Annotated[DnsName, AfterValidator(_no_address)], ...],
        BeforeValidator(as_list, json_schema_input_type=str | list[str]),
    ] = Field(min_length=1, description="Names that the certificate holds.", examples=[["www.example.com"]])
    port: int = Field(443, ge=1, le=65535, description="TCP port.")


class Http(Daemon):
    """An HTTP/1.1 server (busybox httpd) with fixed pages."""

    port: int = Field(80, ge=1, le=65535, description="TCP port.")
    pages: Annotated[dict[Annotated[str, Field(pattern=PAGE_PATTERN)], str], AfterValidator(_pages)] = Field(
        default_factory=lambda: {"/": "It works.\n"},
        description="Path → text of the page; `/` is index.html.",
        examples=[{"/": "hello\n"}],
    )
    tls: Tls | None = Field(None, description="HTTPS too.", examples=[{"names": ["www.example.com"]}])

    @model_validator(mode="after")
    def _two_ports(self) -> Http:
        if self.tls is not None and self.tls.port == self.port:
            raise ValueError(f"HTTP and HTTPS both want TCP port {self.port}")
        return self


class Services(Model):
    """What a node runs. `{}` after a service's name takes all its defaults."""

    dnsmasq: Dnsmasq | None = Field(None, description="DHCP server and DNS forwarder.")
    unbound: Unbound | None = Field(None, description="Recursive resolver.")
    nsd: Nsd | None = Field(None, description="Authoritative name server.")
    http: Http | None = Field(None, description="HTTP server.")
