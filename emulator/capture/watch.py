"""What the interfaces and addresses of a network namespace are, and how they change. Standard library only.

Source: rtnetlink(7), linux/rtnetlink.h, linux/if_link.h, linux/if_addr.h. The standard library, since pyroute2 takes
longer to import than a capture takes to begin.
"""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

_RTMGRP: Final = 0x1 | 0x10 | 0x100
"""RTMGRP_LINK, RTMGRP_IPV4_IFADDR, RTMGRP_IPV6_IFADDR."""

_NLMSG_ERROR, _NLMSG_DONE = 2, 3
_RTM_NEWLINK, _RTM_DELLINK, _RTM_GETLINK, _RTM_NEWADDR, _RTM_GETADDR = 16, 17, 18, 20, 22
_NLM_F_REQUEST, _NLM_F_DUMP = 0x1, 0x300
_IFLA_IFNAME = 3
_IFA_ADDRESS, _IFA_LOCAL = 1, 2
_RT_SCOPE_HOST = 254
_HEADER: Final = struct.Struct("=IHHII")
_LINK: Final = struct.Struct("=BxHiII")
_ADDRESS: Final = struct.Struct("=BBBBI")
_RECEIVE_OCTETS: Final = 1 << 18
_BUFFER_OCTETS: Final = 1 << 20


@dataclass(frozen=True)
class LinkSeen:
    """There is an interface of that index and name."""

    index: int
    name: str


@dataclass(frozen=True)
class LinkGone:
    """The interface of that index is no longer in the namespace."""

    index: int


@dataclass(frozen=True)
class AddressSeen:
    """The node has this address (IPv4 or IPv6); addresses of the host itself (127.0.0.1, ::1) are left out."""

    address: str


@dataclass(frozen=True)
class Missed:
    """There were more changes than the socket could hold: ask for all (`Watch.ask`)."""


Change = LinkSeen | LinkGone | AddressSeen | Missed


class Watch:
    """A netlink socket of the caller's network namespace that hears of its interfaces and addresses."""

    def __init__(self) -> None:
        self._socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, socket.NETLINK_ROUTE)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _BUFFER_OCTETS)
        self._socket.bind((0, _RTMGRP))
        self._sequence = 0

    def fileno(self) -> int:
        """The socket, for poll: readable when something changed."""
        return self._socket.fileno()

    def close(self) -> None:
        """Give the socket back."""
        self._socket.close()

    def ask(self) -> list[Change]:
        """All interfaces and addresses there are; changes that come meanwhile are among them."""
        found: list[Change] = []
        for kind, body in ((_RTM_GETLINK, _LINK.pack(0, 0, 0, 0, 0)), (_RTM_GETADDR, _ADDRESS.pack(0, 0, 0, 0, 0))):
            self._sequence += 1
            length = _HEADER.size + len(body)
            self._socket.send(_HEADER.pack(length, kind, _NLM_F_REQUEST | _NLM_F_DUMP, self._sequence, 0) + body)
            done = False
            while not done:
                octets = self._socket.recv(_RECEIVE_OCTETS)
                found += changes(octets)
                done = any(end and number == self._sequence for end, number in _ends(octets))
        return found

    def read(self) -> list[Change]:
        """What changed since the last call; does not wait."""
        found: list[Change] = []
        while True:
            try:
                found += changes(self._socket.recv(_RECEIVE_OCTETS, socket.MSG_DONTWAIT))
            except BlockingIOError:
                return found
            except OSError:  # ENOBUFS: the socket was full
                return [*found, Missed()]


def changes(octets: bytes) -> list[Change]:
    """The changes that a netlink datagram tells of; other messages in it, and damaged ones, are passed over."""
    found: list[Change] = []
    for kind, _sequence, body in _messages(octets):
        if kind in {_RTM_NEWLINK, _RTM_DELLINK} and len(body) >= _LINK.size:
            family, _type, index, _flags, _change = _LINK.unpack_from(body)
            name = _attributes(body, _LINK.size).get(_IFLA_IFNAME, b"").rstrip(b"\0").decode(errors="replace")
            if family != socket.AF_UNSPEC:
                continue  # a bridge tells of its ports in messages of its own family, AF_BRIDGE
            if kind == _RTM_DELLINK:
                found.append(LinkGone(index))
            elif name:
                found.append(LinkSeen(index, name))
        elif kind == _RTM_NEWADDR and len(body) >= _ADDRESS.size:
            family, _prefix, _flags, scope, _index = _ADDRESS.unpack_from(body)
            attributes = _attributes(body, _ADDRESS.size)
            octets_of = attributes.get(_IFA_LOCAL) or attributes.get(_IFA_ADDRESS) or b""
            size = {socket.AF_INET: 4, socket.AF_INET6: 16}.get(family)
            if scope != _RT_SCOPE_HOST and len(octets_of) == size:
                found.append(AddressSeen(socket.inet_ntop(family, octets_of)))
    return found


def _messages(octets: bytes) -> Iterator[tuple[int, int, bytes]]:
    offset = 0
    while offset + _HEADER.size <= len(octets):
        length, kind, _flags, sequence, _port = _HEADER.unpack_from(octets, offset)
        if length < _HEADER.size or offset + length > len(octets):
            return
        yield kind, sequence, octets[offset + _HEADER.size : offset + length]
        offset += length + -length % 4


def _ends(octets: bytes) -> list[tuple[bool, int]]:
    return [(kind in {_NLMSG_DONE, _NLMSG_ERROR}, sequence) for kind, sequence, _body in _messages(octets)]


def _attributes(body: bytes, offset: int) -> dict[int, bytes]:
    found: dict[int, bytes] = {}
    while offset + 4 <= len(body):
        length, kind = struct.unpack_from("=HH", body, offset)
        if length < 4:
            break
        found[kind & 0x3FFF] = body[offset + 4 : offset + length]
        offset += length + -length % 4
    return found
