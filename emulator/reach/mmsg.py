"""Many messages a system call: sendmmsg(2) and recvmmsg(2), which Python lacks. Standard library and ctypes only.

The structures of a message are made once; to send is to lay ready-made `mmsghdr` side by side.
"""

from __future__ import annotations

import ctypes
import errno
import socket
import struct
from collections.abc import Iterator, Sequence
from typing import Final

from emulator.reach import echo

BATCH: Final = 64
"""Requests a call: their replies fit the smallest usual receive buffer."""

_SLOTS: Final = 256
_PARTS: Final = 3
_MSG_DONTWAIT: Final = 0x40

_IOVEC: Final = struct.Struct("@PN")
_MMSGHDR: Final = struct.Struct("@PIPNPNi0PI0P")
"""struct mmsghdr: name, its length, vectors, their number, control, its length, flags; length of the message."""
_LENGTH: Final = struct.Struct(f"@{struct.calcsize('@PIPNPNi0P')}xI0P")

_libc = ctypes.CDLL(None, use_errno=True)


def _memory(octets: int) -> tuple[ctypes.Array[ctypes.c_char], int]:
    made = ctypes.create_string_buffer(octets)
    return made, ctypes.addressof(made)


class Outbox:
    """Requests to the endpoints of one IP version, ready to be sent by any sender."""

    def __init__(self, version: int, nonce: bytes, addresses: Sequence[bytes]) -> None:
        """`addresses` has the address of each endpoint in network order; of another IP version it is never asked."""
        self._version = version
        self._nonce = nonce
        size = echo.BODY.size
        self._head, head_at = _memory(echo.HEAD.size)
        self._tail, tail_at = _memory(echo.TAIL.size)
        self._bodies, bodies_at = _memory(len(addresses) * size)
        self._names, names_at = _memory(len(addresses) * echo.NAME_OCTETS)
        self._vectors, vectors_at = _memory(len(addresses) * _PARTS * _IOVEC.size)
        self._messages: list[bytes] = []
        for index, address in enumerate(addresses):
            name = _socket_address(address)
            struct.pack_into(f"{size}s", self._bodies, index * size, echo.body(index, nonce))
            struct.pack_into(f"{len(name)}s", self._names, index * echo.NAME_OCTETS, name)
            vectors = index * _PARTS * _IOVEC.size
            _IOVEC.pack_into(self._vectors, vectors, head_at, echo.HEAD.size)
            _IOVEC.pack_into(self._vectors, vectors + _IOVEC.size, bodies_at + index * size, size)
            _IOVEC.pack_into(self._vectors, vectors + 2 * _IOVEC.size, tail_at, echo.TAIL.size)
            self._messages.append(
                _MMSGHDR.pack(names_at + index * echo.NAME_OCTETS, len(name), vectors_at + vectors, _PARTS, 0, 0, 0, 0)
            )

    def address_to(self, sender: int) -> None:
        """Let the requests that follow be those of `sender`."""
        struct.pack_into(f"{echo.HEAD.size}s", self._head, 0, echo.head(self._version, sender, self._nonce))
        struct.pack_into(f"{echo.TAIL.size}s", self._tail, 0, echo.tail(sender))

    def send(self, sock: socket.socket, endpoints: Sequence[int]) -> dict[int, int]:
        """Send a request to each of `endpoints`; returns those that the sender's kernel refused, and its errno."""
        refused: dict[int, int] = {}
        start = 0
        while start < len(endpoints):
            part = b"".join([self._messages[endpoint] for endpoint in endpoints[start : start + BATCH]])
            count = len(part) // _MMSGHDR.size
            held = ctypes.create_string_buffer(part, len(part))
            sent = _libc.sendmmsg(sock.fileno(), held, count, _MSG_DONTWAIT)
            if sent < 0:
                refused[endpoints[start]] = ctypes.get_errno()
                sent = 1
            start += sent
        return refused


def _socket_address(address: bytes) -> bytes:
    """struct sockaddr_in or sockaddr_in6."""
    if len(address) == 4:
        return struct.pack("=H2x4s8x", socket.AF_INET, address)
    return struct.pack("=H6x16s4x", socket.AF_INET6, address)


class Inbox:
    """Room for replies of one IP version."""

    def __init__(self, version: int, nonce: bytes, addresses: Sequence[bytes]) -> None:
        self._version = version
        self._nonce = nonce
        self._addresses = addresses
        self._slots, slots_at = _memory(_SLOTS * echo.SLOT_OCTETS)
        self._vectors, vectors_at = _memory(_SLOTS * _IOVEC.size)
        self._messages, _ = _memory(_SLOTS * _MMSGHDR.size)
        self._view = memoryview(self._slots).cast("B")
        self._lengths = memoryview(self._messages).cast("B")
        for index in range(_SLOTS):
            name = slots_at + index * echo.SLOT_OCTETS
            room = echo.SLOT_OCTETS - echo.NAME_OCTETS
            _IOVEC.pack_into(self._vectors, index * _IOVEC.size, name + echo.NAME_OCTETS, room)
            _MMSGHDR.pack_into(
                self._messages, index * _MMSGHDR.size,
                name, 28, vectors_at + index * _IOVEC.size, 1, 0, 0, 0, 0,
            )  # fmt: skip

    def receive(self, sock: socket.socket, sender: int) -> list[int]:
        """The endpoints whose replies to `sender` are in its socket now."""
        found: list[int] = []
        for slots, lengths in self._read(sock):
            found += echo.answered(self._version, sender, self._nonce, self._addresses, slots, lengths)
        return found

    def requests(self, sock: socket.socket) -> set[tuple[int, int]]:
        """The senders and endpoints of the requests that are in a socket now."""
        found: set[tuple[int, int]] = set()
        for slots, lengths in self._read(sock):
            found.update(echo.asked(self._version, self._nonce, slots, lengths))
        return found

    def _read(self, sock: socket.socket) -> Iterator[tuple[memoryview, list[int]]]:
        while True:
            count = _libc.recvmmsg(sock.fileno(), self._messages, _SLOTS, _MSG_DONTWAIT, None)
            if count < 0:
                if ctypes.get_errno() == errno.EINTR:
                    continue
                return  # nothing is there, or an error of the past, which the call has cleared (socket(7))
            lengths = [length for (length,) in _LENGTH.iter_unpack(self._lengths[: count * _MMSGHDR.size])]
            yield self._view[: count * echo.SLOT_OCTETS], lengths
            if count < _SLOTS:
                return
