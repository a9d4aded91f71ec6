"""Batched rtnetlink: pyroute2 encodes the messages, this sends many at once and finds out which one failed.

One socket a network namespace; a message costs no round trip of its own (rtnetlink(7), netlink(7)).
"""

from __future__ import annotations

import os
import socket
import struct
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from pyroute2.netlink import NLM_F_ACK, NLM_F_CREATE, NLM_F_EXCL, NLM_F_REQUEST
from pyroute2.netlink.rtnl import RTM_DELLINK, RTM_NEWADDR, RTM_NEWLINK, RTM_NEWROUTE, RTM_SETLINK
from pyroute2.netlink.rtnl.ifaddrmsg import ifaddrmsg
from pyroute2.netlink.rtnl.ifinfmsg import ifinfmsg
from pyroute2.netlink.rtnl.rtmsg import rtmsg

MESSAGES_A_BATCH = 64
"""Answers must fit the socket's receive buffer."""

NLMSG_ERROR = 2
IFF_UP = 1
RT_TABLE_MAIN = 254
RTPROT_STATIC = 4
RT_SCOPE_UNIVERSE = 0
RTN_UNICAST = 1
_SOL_NETLINK = 270
_NETLINK_CAP_ACK = 10

_CREATE = NLM_F_REQUEST | NLM_F_ACK | NLM_F_CREATE | NLM_F_EXCL
_CHANGE = NLM_F_REQUEST | NLM_F_ACK


@dataclass(frozen=True)
class Failure:
    """The kernel refused the message at `index` of a batch."""

    index: int
    errno: int

    @property
    def reason(self) -> str:
        """The kernel's reason in words."""
        return os.strerror(self.errno)


class Socket:
    """A NETLINK_ROUTE socket of the network namespace in which it was made."""

    def __init__(self) -> None:
        self._socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, socket.NETLINK_ROUTE)
        self._socket.setsockopt(_SOL_NETLINK, _NETLINK_CAP_ACK, 1)
        self._socket.bind((0, 0))
        self._sequence = 0

    def close(self) -> None:
        """Give the socket back."""
        self._socket.close()

    def send(self, messages: Iterable[bytes]) -> list[Failure]:
        """Send encoded messages in order; returns those that the kernel refused."""
        failures: list[Failure] = []
        everything = list(messages)
        for start in range(0, len(everything), MESSAGES_A_BATCH):
            part = everything[start : start + MESSAGES_A_BATCH]
            first = self._sequence + 1
            octets = bytearray()
            for message in part:
                self._sequence += 1
                numbered = bytearray(message)
                struct.pack_into("=I", numbered, 8, self._sequence)
                octets += numbered + b"\0" * (-len(numbered) % 4)
            self._socket.send(octets)
            failures += self._answers(first, len(part), start)
        return failures

    def _answers(self, first: int, count: int, start: int) -> list[Failure]:
        failures = []
        waiting = count
        while waiting:
            data = self._socket.recv(65536)
            position = 0
            while position + 20 <= len(data):
                length, kind, _flags, sequence = struct.unpack_from("=IHHI", data, position)
                if kind == NLMSG_ERROR:
                    waiting -= 1
                    (code,) = struct.unpack_from("=i", data, position + 16)
                    if code:
                        failures.append(Failure(start + sequence - first, -code))
                position += max(16, (length + 3) & ~3)
        return failures


def _encode(message: Any, kind: int, flags: int) -> bytes:
    message["header"]["type"] = kind
    message["header"]["flags"] = flags
    message.encode()
    return bytes(message.data)


_USER_HZ = 100
"""The unit of a bridge's times is a hundredth of a second (clock_t)."""


@dataclass(frozen=True)
class BridgeSettings:
    """How a bridge works; times in seconds (linux/if_link.h, IFLA_BR_…)."""

    ageing_s: int
    stp: bool
    priority: int
    hello_time_s: int
    forward_delay_s: int
    max_age_s: int


def new_bridge(index: int, name: str, mac: str | None, settings: BridgeSettings) -> bytes:
    """A bridge that is up at once; without the spanning tree protocol it forwards from its first frame on."""
    message = ifinfmsg()
    message["index"] = index
    message["flags"] = message["change"] = IFF_UP
    data: list[tuple[str, int]] = [
        ("IFLA_BR_FORWARD_DELAY", 0),
        ("IFLA_BR_STP_STATE", 0),
        ("IFLA_BR_MCAST_SNOOPING", 0),
        ("IFLA_BR_AGEING_TIME", settings.ageing_s * _USER_HZ),
    ]
    if settings.stp:
        data[:2] = [
            ("IFLA_BR_FORWARD_DELAY", settings.forward_delay_s * _USER_HZ),
            ("IFLA_BR_HELLO_TIME", settings.hello_time_s * _USER_HZ),
            ("IFLA_BR_MAX_AGE", settings.max_age_s * _USER_HZ),
            ("IFLA_BR_PRIORITY", settings.priority),
            ("IFLA_BR_STP_STATE", 1),
        ]
    info = {"attrs": [("IFLA_INFO_KIND", "bridge"), ("IFLA_INFO_DATA", {"attrs": data})]}
    address = [("IFLA_ADDRESS", mac)] if mac else []
    message["attrs"] = [("IFLA_IFNAME", name), *address, ("IFLA_LINKINFO", info)]
    return _encode(message, RTM_NEWLINK, _CREATE)


@dataclass(frozen=True)
class End:
    """One end of a veth pair; `namespace_fd` is where it goes, `master` the index of a bridge there."""

    index: int
    name: str
    mac: str
    namespace_fd: int
    master: int = 0


def new_veth(here: End, there: End, mtu_bytes: int) -> bytes:
    """A veth pair; the socket that sends it belongs to the namespace of `here`. Ends cannot be created up."""
    peer: dict[str, Any] = {
        "index": there.index,
        "attrs": [
            ("IFLA_IFNAME", there.name),
            ("IFLA_ADDRESS", there.mac),
            ("IFLA_MTU", mtu_bytes),
            ("IFLA_NET_NS_FD", there.namespace_fd),
        ],
    }
    info = {"attrs": [("IFLA_INFO_KIND", "veth"), ("IFLA_INFO_DATA", {"attrs": [("VETH_INFO_PEER", peer)]})]}
    message = ifinfmsg()
    message["index"] = here.index
    attributes: list[tuple[str, Any]] = [
        ("IFLA_IFNAME", here.name),
        ("IFLA_ADDRESS", here.mac),
        ("IFLA_MTU", mtu_bytes),
    ]
    if here.master:
        attributes.append(("IFLA_MASTER", here.master))
    message["attrs"] = [*attributes, ("IFLA_LINKINFO", info)]
    return _encode(message, RTM_NEWLINK, _CREATE)


def set_master(index: int, master: int) -> bytes:
    """Make an interface a port of a bridge."""
    message = ifinfmsg()
    message["index"] = index
    message["attrs"] = [("IFLA_MASTER", master)]
    return _encode(message, RTM_SETLINK, _CHANGE)


def set_end(index: int, mac: str, mtu_bytes: int, master: int) -> bytes:
    """The end of a cable as it was made: its MAC, its MTU, and the bridge that it is a port of, or 0."""
    message = ifinfmsg()
    message["index"] = index
    message["attrs"] = [("IFLA_ADDRESS", mac), ("IFLA_MTU", mtu_bytes), ("IFLA_MASTER", master)]
    return _encode(message, RTM_SETLINK, _CHANGE)


def set_up(index: int, *, up: bool = True) -> bytes:
    """Switch an interface on or off."""
    message = ifinfmsg()
    message["index"] = index
    message["flags"] = IFF_UP if up else 0
    message["change"] = IFF_UP
    return _encode(message, RTM_NEWLINK, _CHANGE)


def delete_link(index: int) -> bytes:
    """Take an interface away, with its peer."""
    message = ifinfmsg()
    message["index"] = index
    return _encode(message, RTM_DELLINK, _CHANGE)


def new_address(index: int, family: int, address: str, prefix: int, broadcast: str | None) -> bytes:
    """An address on an interface."""
    message = ifaddrmsg()
    message["family"] = family
    message["prefixlen"] = prefix
    message["index"] = index
    attributes = [("IFA_LOCAL", address), ("IFA_ADDRESS", address)]
    if broadcast:
        attributes.append(("IFA_BROADCAST", broadcast))
    message["attrs"] = attributes
    return _encode(message, RTM_NEWADDR, _CREATE)


def new_route(family: int, destination: str | None, prefix: int, gateway: str, index: int) -> bytes:
    """A static route in the main table; without a destination the default route."""
    message = rtmsg()
    message["family"] = family
    message["dst_len"] = prefix
    message["table"] = RT_TABLE_MAIN
    message["proto"] = RTPROT_STATIC
    message["scope"] = RT_SCOPE_UNIVERSE
    message["type"] = RTN_UNICAST
    attributes: list[tuple[str, Any]] = [("RTA_GATEWAY", gateway), ("RTA_OIF", index)]
    if destination is not None:
        attributes.append(("RTA_DST", destination))
    message["attrs"] = attributes
    return _encode(message, RTM_NEWROUTE, _CREATE)
