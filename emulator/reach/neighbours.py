"""Neighbour entries, addresses and interfaces of the kernel by raw rtnetlink (rtnetlink(7)). Standard library only.

An entry that is pinned here is permanent, so the kernel does not count it against `gc_thresh3` (neigh_add in
net/core/neighbour.c: NUD_PERMANENT is exempt from garbage collection), and it has a protocol number of ours, so that it
can be told from everybody else's whatever happens to the one who made it.
"""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

OURS: Final = 87
"""NDA_PROTOCOL of pinned entries: `ip neighbour` shows `proto 87`. Not among those that iproute2 has names for."""

EEXIST: Final = 17

_RTM_NEWLINK, _RTM_GETLINK = 16, 18
_RTM_NEWADDR, _RTM_GETADDR = 20, 22
_RTM_NEWNEIGH, _RTM_DELNEIGH, _RTM_GETNEIGH = 28, 29, 30
_NLMSG_ERROR, _NLMSG_DONE = 2, 3
_REQUEST, _DUMP, _EXCL, _CREATE = 0x1, 0x300, 0x200, 0x400
_NUD_PERMANENT: Final = 0x80
_NUD_NOARP: Final = 0x40
_NDA_DST, _NDA_LLADDR, _NDA_PROTOCOL = 1, 2, 12
_IFLA_ADDRESS, _IFLA_IFNAME = 1, 3
_IFA_ADDRESS, _IFA_LOCAL = 1, 2
_FAMILY: Final = {4: socket.AF_INET, 16: socket.AF_INET6}
_BATCH_OCTETS: Final = 60_000

_HEADER: Final = struct.Struct("=IHHII")
_NDMSG: Final = struct.Struct("=B3xiHBB")
_HEAD: Final = struct.Struct("=IHHIIB3x")
"""A header and the family of a neighbour message; the interface's index comes next."""


@dataclass(frozen=True)
class Entry:
    """A neighbour entry: the interface's index, the neighbour's address, and whether and by whom it is permanent."""

    index: int
    address: bytes
    permanent: bool
    protocol: int


@dataclass(frozen=True)
class Pin:
    """The parts of the messages that make and remove one endpoint's entry at whatever interface."""

    add: tuple[bytes, bytes]
    remove: tuple[bytes, bytes]


def _attribute(kind: int, value: bytes) -> bytes:
    return struct.pack("=HH", 4 + len(value), kind) + value + b"\0" * (-len(value) % 4)


def pin(number: int, address: bytes, mac: bytes) -> Pin:
    """The messages for the neighbour `address` at `mac`; their sequence number is `number`."""
    family, destination = _FAMILY[len(address)], _attribute(_NDA_DST, address)
    state = struct.pack("=HBB", _NUD_PERMANENT, 0, 0)
    tail = state + destination + _attribute(_NDA_LLADDR, mac) + _attribute(_NDA_PROTOCOL, bytes([OURS]))
    bare = struct.pack("=HBB", 0, 0, 0) + destination
    flags = _REQUEST | _CREATE | _EXCL
    return Pin(
        (_HEAD.pack(_HEAD.size + 4 + len(tail), _RTM_NEWNEIGH, flags, number, 0, family), tail),
        (_HEAD.pack(_HEAD.size + 4 + len(bare), _RTM_DELNEIGH, _REQUEST, number, 0, family), bare),
    )


def removal(entry: Entry) -> bytes:
    """The message that removes `entry`."""
    head, tail = pin(0, entry.address, bytes(6)).remove
    return head + struct.pack("=i", entry.index) + tail


class RouteSocket:
    """A NETLINK_ROUTE socket of the network namespace in which it is made."""

    def __init__(self) -> None:
        self._socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, socket.NETLINK_ROUTE)
        self._socket.bind((0, 0))

    def close(self) -> None:
        """Give the socket back."""
        self._socket.close()

    def send(self, messages: Sequence[bytes]) -> dict[int, int]:
        """Send messages that ask for no acknowledgement; returns sequence number → errno of those that were refused.

        The kernel works a message off before `send` returns (netlink_rcv_skb), and answers only where it refuses.
        """
        refused: dict[int, int] = {}
        start = 0
        while start < len(messages):
            end, octets = start, 0
            while end < len(messages) and octets < _BATCH_OCTETS:
                octets += len(messages[end])
                end += 1
            self._socket.send(b"".join(messages[start:end]))
            start = end
            refused.update(self._errors())
        return refused

    def _errors(self) -> Iterator[tuple[int, int]]:
        while True:
            try:
                data = self._socket.recv(1 << 16, socket.MSG_DONTWAIT)
            except BlockingIOError:
                return
            for kind, number, body in _messages(data):
                if kind == _NLMSG_ERROR:
                    (code,) = struct.unpack_from("=i", body)
                    if code:
                        yield number, -code

    def _dump(self, kind: int, request: bytes) -> Iterator[bytes]:
        self._socket.send(_HEADER.pack(_HEADER.size + len(request), kind, _REQUEST | _DUMP, 1, 0) + request)
        while True:
            for answer, _, body in _messages(self._socket.recv(1 << 18)):
                if answer == _NLMSG_DONE:
                    return
                if answer == _NLMSG_ERROR:
                    (code,) = struct.unpack_from("=i", body)
                    raise OSError(-code, "rtnetlink refuses to list")
                yield body

    def links(self) -> dict[str, tuple[int, bytes]]:
        """Interface → index and MAC."""
        found = {}
        for body in self._dump(_RTM_GETLINK, bytes(16)):
            (index,) = struct.unpack_from("=i", body, 4)
            values = _attributes(body, 16)
            found[values[_IFLA_IFNAME].rstrip(b"\0").decode()] = index, values.get(_IFLA_ADDRESS, b"")
        return found

    def addresses(self) -> list[tuple[int, bytes, int]]:
        """Index, address and prefix length of all addresses but those of the link alone."""
        found = []
        for body in self._dump(_RTM_GETADDR, bytes(8)):
            family, prefix, _flags, scope, index = struct.unpack_from("=BBBBI", body)
            values = _attributes(body, 8)
            address = values.get(_IFA_LOCAL) or values.get(_IFA_ADDRESS)
            if address and family in _FAMILY.values() and scope == 0:
                found.append((index, address, prefix))
        return found

    def entries(self) -> list[Entry]:
        """All neighbour entries of both IP versions, but for those that the kernel makes for addresses of groups."""
        found = []
        for family in _FAMILY.values():
            for body in self._dump(_RTM_GETNEIGH, _NDMSG.pack(family, 0, 0, 0, 0)):
                _, index, state, _flags, _type = _NDMSG.unpack_from(body)
                values = _attributes(body, _NDMSG.size)
                if _NDA_DST in values and not state & _NUD_NOARP:
                    protocol = values.get(_NDA_PROTOCOL, b"\0")[0]
                    found.append(Entry(index, values[_NDA_DST], bool(state & _NUD_PERMANENT), protocol))
        return found


def _messages(data: bytes) -> Iterator[tuple[int, int, bytes]]:
    """Kind, sequence number and body of each message."""
    position = 0
    while position + _HEADER.size <= len(data):
        length, kind, _flags, number, _port = _HEADER.unpack_from(data, position)
        if length < _HEADER.size:
            return
        yield kind, number, data[position + _HEADER.size : position + length]
        position += (length + 3) & ~3


def _attributes(body: bytes, start: int) -> dict[int, bytes]:
    found = {}
    while start + 4 <= len(body):
        length, kind = struct.unpack_from("=HH", body, start)
        if length < 4:
            break
        found[kind & 0x3FFF] = body[start + 4 : start + length]
        start += (length + 3) & ~3
    return found
