"""The network namespaces of a lab's nodes, and the sockets of a pairs test in them. Standard library only."""

from __future__ import annotations

import select
import socket
import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from emulator.reach.neighbours import RouteSocket
from emulator.run import kernel
from emulator.run.control import Control, LabGone, enter_user

_RECEIVE_OCTETS: Final = 1 << 20
_ICMP_FILTER, _ICMP6_FILTER = 1, 1
_SOL_RAW: Final = 255
_REQUEST: Final = {4: 8, 6: 128}
_REPLY: Final = {4: 0, 6: 129}


class Station:
    """The sockets of one node."""

    def __init__(self, versions: Iterable[int]) -> None:
        """Open them in the network namespace in which this thread is."""
        self.routes = RouteSocket()
        self.raw = {version: _raw_socket(version, _REPLY[version]) for version in versions}
        self.witness: dict[int, socket.socket] = {}

    def close(self) -> None:
        """Give them back."""
        self.routes.close()
        for sock in (*self.raw.values(), *self.witness.values()):
            sock.close()


def _raw_socket(version: int, heard: int) -> socket.socket:
    """A raw socket that hears messages of the type `heard` alone (raw(7), RFC 3542 section 3.2)."""
    kind = socket.SOCK_RAW | socket.SOCK_CLOEXEC
    if version == 4:
        sock = socket.socket(socket.AF_INET, kind, socket.IPPROTO_ICMP)
        sock.setsockopt(_SOL_RAW, _ICMP_FILTER, (0xFFFFFFFF & ~(1 << heard)).to_bytes(4, sys.byteorder))
    else:
        sock = socket.socket(socket.AF_INET6, kind, socket.IPPROTO_ICMPV6)
        words = [0xFFFFFFFF] * 8
        words[heard >> 5] &= ~(1 << (heard & 31))
        octets = b"".join(word.to_bytes(4, sys.byteorder) for word in words)
        sock.setsockopt(socket.IPPROTO_ICMPV6, _ICMP6_FILTER, octets)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _RECEIVE_OCTETS)
    return sock


class Places:
    """The nodes' network namespaces, and the sockets in them, which are opened when they are needed."""

    def __init__(self, control: Control, names: Sequence[str]) -> None:
        self._control = control
        self._networks = control.node_networks(names)
        enter_user(control.own_spaces())
        self._open: dict[str, Station] = {}
        self.versions: dict[str, tuple[int, ...]] = {}

    def __getitem__(self, name: str) -> Station:
        if name not in self._open:
            kernel.setns(self._networks[name], kernel.CLONE_NEWNET)
            self._open[name] = Station(self.versions.get(name, ()))
        return self._open[name]

    def check(self) -> None:
        """See that the lab runs. Its namespaces, held here, would go on without it.

        Raises:
            LabGone: its first process has ended.
        """
        poll = select.poll()  # select(2) knows no descriptors from 1,024 on
        poll.register(self._control, select.POLLIN)
        if poll.poll(0):
            raise LabGone(f"the lab {self._control.lab} has ended")

    def witness(self, name: str, version: int) -> socket.socket:
        """A socket that hears the echo requests that arrive at a node."""
        station = self[name]
        if version not in station.witness:
            kernel.setns(self._networks[name], kernel.CLONE_NEWNET)
            station.witness[version] = _raw_socket(version, _REQUEST[version])
        return station.witness[version]

    def reopen(self, versions: Mapping[str, tuple[int, ...]]) -> None:
        """From now on open raw sockets for these IP versions; what is open is closed."""
        for station in self._open.values():
            station.close()
        self._open.clear()
        self.versions = dict(versions)
