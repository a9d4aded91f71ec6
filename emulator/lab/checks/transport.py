"""Checks of TCP and UDP."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from emulator.lab.base import (
    EndpointName,
    FilterText,
)
from emulator.lab.checks.base import Check


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
