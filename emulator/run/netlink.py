"""Batched rtnetlink: messages are put together here, many are sent at once, and it is found out which one failed.

A socket belongs to the network namespace in which it was made, so one is opened for what a namespace is to be told, and
closed again. A message costs no round trip of its own, and only the last one of a batch asks for an answer: the kernel
answers to what it refuses anyway (rtnetlink(7), netlink(7); netlink_rcv_skb in net/netlink/af_netlink.c). Tests hold
every message to what pyroute2, a library for the same, makes of it.
"""

from __future__ import annotations

import array
import fcntl
import os
import socket
import struct
from collections.abc import Sequence

from emulator.frozen import dataclass

MESSAGES_A_BATCH = 64
"""A batch is not interrupted, not even by SIGKILL; and its answers must fit the socket's receive buffer."""

NLM_F_REQUEST = 0x1
NLM_F_ACK = 0x4
NLM_F_EXCL = 0x200
NLM_F_CREATE = 0x400
NLMSG_ERROR = 2

RTM_NEWLINK = 16
RTM_DELLINK = 17
RTM_SETLINK = 19
RTM_NEWADDR = 20
RTM_NEWROUTE = 24

IFF_UP = 1
RT_TABLE_MAIN = 254
RTPROT_STATIC = 4
RT_SCOPE_UNIVERSE = 0
RTN_UNICAST = 1

# linux/if_link.h, linux/veth.h, linux/if_addr.h, linux/rtnetlink.h
_IFLA_ADDRESS, _IFLA_IFNAME, _IFLA_MTU, _IFLA_MASTER, _IFLA_LINKINFO = 1, 3, 4, 10, 18
_IFLA_NET_NS_FD, _IFLA_NUM_TX_QUEUES, _IFLA_NUM_RX_QUEUES = 28, 31, 32
_IFLA_INFO_KIND, _IFLA_INFO_DATA, _VETH_INFO_PEER = 1, 2, 1
_IFLA_BR_FORWARD_DELAY, _IFLA_BR_HELLO_TIME, _IFLA_BR_MAX_AGE, _IFLA_BR_AGEING_TIME = 1, 2, 3, 4
_IFLA_BR_STP_STATE, _IFLA_BR_PRIORITY, _IFLA_BR_MCAST_SNOOPING = 5, 6, 23
_IFA_ADDRESS, _IFA_LOCAL, _IFA_BROADCAST = 1, 2, 4
_RTA_DST, _RTA_OIF, _RTA_GATEWAY = 1, 4, 5

_SOL_NETLINK = 270
_NETLINK_CAP_ACK = 10

_CREATE = NLM_F_REQUEST | NLM_F_CREATE | NLM_F_EXCL
_CHANGE = NLM_F_REQUEST

_header = struct.Struct("=IHHII")  # length, type, flags, sequence number, port
_flags = struct.Struct("=H")
_sequence = struct.Struct("=I")
_link = struct.Struct("=BxHiII")  # family, type, index, flags, change
_address = struct.Struct("=BBBBi")  # family, prefix length, flags, scope, index
_route = struct.Struct("=BBBBBBBBI")  # family, lengths of both prefixes, tos, table, protocol, scope, type, flags
_attribute = struct.Struct("=HH")  # length, type
_number = struct.Struct("=HHI")

_SIOCETHTOOL = 0x8946
_ETHTOOL_STXCSUM = 0x17
_ETHTOOL_SGSO = 0x24


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
        self._sequence = 0

    def __enter__(self) -> Socket:
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()

    def send(self, messages: Sequence[bytes]) -> list[Failure]:
        """Send encoded messages in order; returns those that the kernel refused."""
        failures: list[Failure] = []
        for start in range(0, len(messages), MESSAGES_A_BATCH):
            first = self._sequence + 1
            octets = bytearray()
            last = 0
            for message in messages[start : start + MESSAGES_A_BATCH]:
                last = len(octets)
                octets += message
                self._sequence += 1
                _sequence.pack_into(octets, last + 8, self._sequence)
            _flags.pack_into(octets, last + 6, _flags.unpack_from(octets, last + 6)[0] | NLM_F_ACK)
            self._socket.send(octets)
            failures += [Failure(start + number - first, errno) for number, errno in self._refused()]
        return failures

    def _refused(self) -> list[tuple[int, int]]:
        """Sequence numbers and reasons of what the kernel refused, up to the last message that was sent."""
        refused = []
        while True:
            data = self._socket.recv(65536)
            position = 0
            while position + 20 <= len(data):
                length, kind, _, number, _ = _header.unpack_from(data, position)
                if kind == NLMSG_ERROR:
                    (code,) = struct.unpack_from("=i", data, position + _header.size)
                    if code:
                        refused.append((number, -code))
                    if number == self._sequence:
                        return refused
                position += max(_header.size, (length + 3) & ~3)

    def no_offload(self, interface: str) -> None:
        """Let the kernel finish checksums and segments before a frame leaves `interface` (ethtool ioctls,
        linux/ethtool.h). Without transmit checksums it turns TCP segmentation offload off by itself.

        Raises:
            OSError: with the kernel's reason.
        """
        for command in (_ETHTOOL_STXCSUM, _ETHTOOL_SGSO):
            value = array.array("I", (command, 0))
            fcntl.ioctl(self._socket, _SIOCETHTOOL, struct.pack("16sP16x", interface.encode(), value.buffer_info()[0]))


def _message(kind: int, flags: int, body: bytes) -> bytes:
    return _header.pack(_header.size + len(body), kind, flags, 0, 0) + body


def _octets(kind: int, value: bytes) -> bytes:
    return _attribute.pack(4 + len(value), kind) + value + bytes(-len(value) % 4)


def _u32(kind: int, value: int) -> bytes:
    return _number.pack(8, kind, value)


def _name(name: str) -> bytes:
    return _octets(_IFLA_IFNAME, name.encode() + b"\0")


def _mac(mac: str) -> bytes:
    return _octets(_IFLA_ADDRESS, bytes.fromhex(mac.replace(":", "")))


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
    if settings.stp:
        tree = (
            _u32(_IFLA_BR_FORWARD_DELAY, settings.forward_delay_s * _USER_HZ)
            + _u32(_IFLA_BR_HELLO_TIME, settings.hello_time_s * _USER_HZ)
            + _u32(_IFLA_BR_MAX_AGE, settings.max_age_s * _USER_HZ)
            + _octets(_IFLA_BR_PRIORITY, struct.pack("=H", settings.priority))
            + _u32(_IFLA_BR_STP_STATE, 1)
        )
    else:
        tree = _u32(_IFLA_BR_FORWARD_DELAY, 0) + _u32(_IFLA_BR_STP_STATE, 0)
    data = tree + _octets(_IFLA_BR_MCAST_SNOOPING, b"\0") + _u32(_IFLA_BR_AGEING_TIME, settings.ageing_s * _USER_HZ)
    info = _octets(_IFLA_INFO_KIND, b"bridge\0") + _octets(_IFLA_INFO_DATA, data)
    return _message(
        RTM_NEWLINK,
        _CREATE,
        _link.pack(0, 0, index, IFF_UP, IFF_UP)
        + _name(name)
        + (_mac(mac) if mac else b"")
        + _octets(_IFLA_LINKINFO, info),
    )


@dataclass(frozen=True)
class End:
    """One end of a veth pair; `namespace_fd` is where it goes, `master` the index of a bridge there."""

    index: int
    name: str
    mac: str
    namespace_fd: int
    master: int = 0


_ONE_QUEUE = _u32(_IFLA_NUM_TX_QUEUES, 1) + _u32(_IFLA_NUM_RX_QUEUES, 1)
"""Said in so many words: else the kernel makes a queue a processor and puts all but one to rest, and waits for all
processors to have noticed, for both ends (veth_init_queues in drivers/net/veth.c)."""

_KIND_VETH = _octets(_IFLA_INFO_KIND, b"veth\0")


def new_veth(here: End, there: End, mtu_bytes: int, *, up: bool = False) -> bytes:
    """A veth pair; the socket that sends it belongs to the namespace of `here`, which can be up from the beginning."""
    mtu = _u32(_IFLA_MTU, mtu_bytes)
    peer = (
        _link.pack(0, 0, there.index, 0, 0)
        + _name(there.name)
        + _mac(there.mac)
        + mtu
        + _ONE_QUEUE
        + _u32(_IFLA_NET_NS_FD, there.namespace_fd)
    )
    flag = IFF_UP if up else 0
    return _message(
        RTM_NEWLINK,
        _CREATE,
        _link.pack(0, 0, here.index, flag, flag)
        + _name(here.name)
        + _mac(here.mac)
        + mtu
        + _ONE_QUEUE
        + (_u32(_IFLA_MASTER, here.master) if here.master else b"")
        + _octets(_IFLA_LINKINFO, _KIND_VETH + _octets(_IFLA_INFO_DATA, _octets(_VETH_INFO_PEER, peer))),
    )


def set_master(index: int, master: int) -> bytes:
    """Make an interface a port of a bridge."""
    return _message(RTM_SETLINK, _CHANGE, _link.pack(0, 0, index, 0, 0) + _u32(_IFLA_MASTER, master))


def set_end(index: int, mac: str, mtu_bytes: int, master: int) -> bytes:
    """The end of a cable as it was made: its MAC, its MTU, and the bridge that it is a port of, or 0."""
    return _message(
        RTM_SETLINK,
        _CHANGE,
        _link.pack(0, 0, index, 0, 0) + _mac(mac) + _u32(_IFLA_MTU, mtu_bytes) + _u32(_IFLA_MASTER, master),
    )


def set_up(index: int, *, up: bool = True) -> bytes:
    """Switch an interface on or off."""
    return _message(RTM_NEWLINK, _CHANGE, _link.pack(0, 0, index, IFF_UP if up else 0, IFF_UP))


def delete_link(index: int) -> bytes:
    """Take an interface away, with its peer."""
    return _message(RTM_DELLINK, _CHANGE, _link.pack(0, 0, index, 0, 0))


def new_address(index: int, address: bytes, prefix: int, broadcast: bytes | None) -> bytes:
    """An address on an interface, 4 or 16 octets."""
    family = socket.AF_INET if len(address) == 4 else socket.AF_INET6
    body = _address.pack(family, prefix, 0, 0, index) + _octets(_IFA_LOCAL, address) + _octets(_IFA_ADDRESS, address)
    return _message(RTM_NEWADDR, _CREATE, body + (_octets(_IFA_BROADCAST, broadcast) if broadcast else b""))


def new_route(destination: bytes | None, prefix: int, gateway: bytes, index: int) -> bytes:
    """A static route in the main table; without a destination the default route. Addresses have 4 or 16 octets."""
    family = socket.AF_INET if len(gateway) == 4 else socket.AF_INET6
    kinds = (RT_TABLE_MAIN, RTPROT_STATIC, RT_SCOPE_UNIVERSE, RTN_UNICAST)
    body = _route.pack(family, prefix, 0, 0, *kinds, 0) + _octets(_RTA_GATEWAY, gateway) + _u32(_RTA_OIF, index)
    return _message(RTM_NEWROUTE, _CREATE, body + (_octets(_RTA_DST, destination) if destination else b""))
