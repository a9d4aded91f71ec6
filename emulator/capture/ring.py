"""One interface's packets through a memory-mapped ring (TPACKET_V3): no system call and no copy by the kernel a packet.

Sources: Documentation/networking/packet_mmap.rst of the kernel, packet(7), linux/if_packet.h. Standard library only.

The kernel fills the ring block by block. A block is handed over ("retired") when it is full, or when the retire
timeout finds packets in it: between one and two timeouts after the first of them came.
"""

from __future__ import annotations

import ctypes
import fcntl
import mmap
import os
import socket
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from operator import itemgetter
from typing import Final

from emulator.capture import bpf
from emulator.capture.pcapng import EPB_HEAD, LINKTYPE_ETHERNET, LINKTYPE_RAW, epb_tail

RETIRE_MS: Final = 20
"""A packet is readable after at most two of these."""

BLOCK_OCTETS_MIN: Final = 128 * 1024
"""A packet never spans blocks, and a GSO packet has up to 64 KiB: half of this always has room for one."""

_SOL_PACKET: Final = 263
_PACKET_RX_RING: Final = 5
_PACKET_STATISTICS: Final = 6
_PACKET_VERSION: Final = 10
_TPACKET_V3: Final = 2
_SLOT_OCTETS: Final = 2048
"""tp_frame_size: the kernel checks it, and does not use it in version 3."""

_STATUS_KERNEL: Final = 0
_STATUS_USER: Final = 1
_STATUS_VLAN_VALID: Final = 1 << 4
_STATUS_VLAN_TPID_VALID: Final = 1 << 6
_PACKET_OUTGOING: Final = 4

_SIOCGIFHWADDR: Final = 0x8927
_ETH_P_ALL: Final = 3
_ETH_P_8021Q: Final = 0x8100
_ARPHRD_ETHER: Final = 1
_ARPHRD_LOOPBACK: Final = 772

_BLOCK_STATUS: Final = 8
"""Where tpacket_block_desc has block_status."""

_BLOCK_HEADER: Final = struct.Struct("=4I8x4I")
"""From there on: block_status, num_pkts, offset_to_first_pkt, blk_len, and the times of opening and last packet."""

_PACKET_HEADER: Final = struct.Struct("=6IH6xIH20xB")
"""Of tpacket3_hdr: tp_next_offset, tp_sec, tp_nsec, tp_snaplen, tp_len, tp_status, tp_mac, tp_vlan_tci, tp_vlan_tpid;
of the sockaddr_ll behind it: sll_pkttype."""

_S: Final = 1_000_000_000
_time_of = itemgetter(0)

_libc = ctypes.CDLL(None, use_errno=True)

Arrival = tuple[int, bytes]
"""A packet as it came: nanoseconds since the epoch, and its block of the file (pcapng's Enhanced Packet Block)."""


@dataclass(frozen=True, slots=True)
class Block:
    """A retired block, copied out of the ring; `first` is where in `octets` the first of `count` packets is."""

    opened_ns: int
    newest_ns: int
    count: int
    first: int
    octets: bytes


@dataclass(frozen=True)
class Shape:
    """The size of a ring: `blocks` blocks of `block_octets`, a power of two and at least BLOCK_OCTETS_MIN."""

    block_octets: int
    blocks: int


class Ring:
    """A packet socket bound to one interface, and its ring. Owns both."""

    def __init__(
        self, sock: socket.socket, interface: str, shape: Shape, programs: Mapping[int, bpf.Program] | None = None
    ) -> None:
        """Set up the ring on `sock`, which was opened in the interface's namespace with protocol 0, and go live.

        The ring and the filter are there before the socket is bound to a protocol: it misses nothing from then on, and
        hears nothing else. Setting it up waits for an RCU grace period of the kernel, without the interpreter lock.

        Args:
            programs: a filter for each link type (LINKTYPE); a link type without one hears nothing.

        Raises:
            OSError: there is no such interface, or the kernel has no memory or no rings. `sock` is then still open.
        """
        self.interface = interface
        self.placed = 0
        """Packets that the kernel has put into the ring, as of the last `count()`."""
        self.dropped = 0
        """Packets that found the ring full, as of the last `count()`."""
        self.taken = 0
        """Packets in the blocks that `read` has taken out."""
        self._sock = sock
        self._shape = shape
        self._block = 0
        answer = fcntl.ioctl(sock, _SIOCGIFHWADDR, struct.pack("@16s24x", interface.encode()))
        (self._hardware,) = struct.unpack_from("@H", answer, 16)
        self.mac = answer[18:24].hex(":") if self._hardware == _ARPHRD_ETHER else ""
        if programs is not None:
            bpf.attach(sock, programs.get(self.link_type, bpf.NOTHING))
        sock.setsockopt(_SOL_PACKET, _PACKET_VERSION, _TPACKET_V3)
        size = shape.block_octets * shape.blocks
        _set_option(
            sock,
            _PACKET_RX_RING,
            struct.pack("@7I", shape.block_octets, shape.blocks, _SLOT_OCTETS, size // _SLOT_OCTETS, RETIRE_MS, 0, 0),
        )
        self._memory = mmap.mmap(sock.fileno(), size)
        try:
            sock.bind((interface, _ETH_P_ALL))
        except OSError:
            self._memory.close()
            raise
        self.clear_error()

    @property
    def link_type(self) -> int:
        """The LINKTYPE of its packets."""
        return LINKTYPE_ETHERNET if self._hardware in {_ARPHRD_ETHER, _ARPHRD_LOOPBACK} else LINKTYPE_RAW

    def fileno(self) -> int:
        """The socket, for poll: readable when a block has been retired; POLLERR when the interface went down."""
        return self._sock.fileno()

    def clear_error(self) -> None:
        """Forget that the interface is down (ENETDOWN); packets come again when it is up."""
        self._sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)

    def read(self) -> list[Block]:
        """Take all retired blocks, once round the ring at most, and give their room back to the kernel."""
        blocks: list[Block] = []
        for _ in range(self._shape.blocks):
            base = self._block * self._shape.block_octets
            # Native access: the status word, which the kernel writes last, is read and written at once.
            if not struct.unpack_from("@I", self._memory, base + _BLOCK_STATUS)[0] & _STATUS_USER:
                break
            header = _BLOCK_HEADER.unpack_from(self._memory, base + _BLOCK_STATUS)
            _status, count, first, octets, opened_s, opened_ns, newest_s, newest_ns = header
            copy = self._memory[base : base + octets]
            struct.pack_into("@I", self._memory, base + _BLOCK_STATUS, _STATUS_KERNEL)
            self._block = (self._block + 1) % self._shape.blocks
            if count:
                self.taken += count
                blocks.append(Block(opened_s * _S + opened_ns, newest_s * _S + newest_ns, count, first, copy))
        return blocks

    def packets(self, block: Block, number: int, snaplen: int) -> list[Arrival]:
        """The packets of `block` in time order. On `lo` only those that arrive: what left there is the same packet.

        This loop is what a recording costs, so it makes the block of the file at once and nothing in between.

        Args:
            number: the interface's number in the file.
            snaplen: octets kept of a packet at most; 0 for all.
        """
        memory, offset = block.octets, block.first
        ethernet = self.link_type == LINKTYPE_ETHERNET
        loopback = self._hardware == _ARPHRD_LOOPBACK
        unpack, pack, join = _PACKET_HEADER.unpack_from, EPB_HEAD.pack, b"".join
        arrivals: list[Arrival] = []
        append = arrivals.append
        for _ in range(block.count):
            step, seconds, nanoseconds, captured, length, status, mac, tci, tpid, kind = unpack(memory, offset)
            start = offset + mac
            offset += step
            if kind == _PACKET_OUTGOING and loopback:
                continue
            data = memory[start : start + captured]
            if status & _STATUS_VLAN_VALID and ethernet:
                # The kernel has taken the tag out of the frame.
                kind_of_tag = tpid if status & _STATUS_VLAN_TPID_VALID else _ETH_P_8021Q
                data = data[:12] + struct.pack("!HH", kind_of_tag, tci & 0xFFFF) + data[12:]
                length += 4
                captured += 4
            if snaplen and captured > snaplen:
                data = data[:snaplen]
                captured = snaplen
            time_ns = seconds * _S + nanoseconds
            total, tail = epb_tail(captured, "out" if kind == _PACKET_OUTGOING else "in")
            head = pack(6, total, number, time_ns >> 32, time_ns & 0xFFFFFFFF, captured, length)
            append((time_ns, join((head, data, tail))))
        # Two processors that fill neighbouring slots take the time after the place.
        arrivals.sort(key=_time_of)
        return arrivals

    def count(self) -> None:
        """Add to `placed` and `dropped` what the kernel has counted since the last call (it counts from 0 again)."""
        total, drops = struct.unpack_from("@2I", self._sock.getsockopt(_SOL_PACKET, _PACKET_STATISTICS, 12))
        self.placed += total - drops
        self.dropped += drops

    def close(self) -> None:
        """Give the ring back. Waits for RCU grace periods (some 20 ms), without the interpreter lock."""
        self._memory.close()
        self._sock.close()


def _set_option(sock: socket.socket, option: int, value: bytes) -> None:
    # socket.setsockopt keeps the interpreter lock, and this call takes 10 ms: thirty rings would take 0.3 s.
    if _libc.setsockopt(sock.fileno(), _SOL_PACKET, option, value, len(value)) < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
