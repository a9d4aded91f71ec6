"""The time order of packets that come from many interfaces, block by block. Pure but for what a port's ring reads."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from heapq import heappop, heappush
from operator import itemgetter
from typing import Final

from emulator.capture.ring import RETIRE_MS, Arrival, Block, Ring

WINDOW_NS: Final = 3 * RETIRE_MS * 1_000_000
"""How long a packet waits for older ones of other interfaces: a ring shows a packet after two retire timeouts."""

_SLACK_NS: Final = 1_000_000
"""A packet gets its time before it gets its place, so a block can hold one from before it was opened."""

_time_of = itemgetter(0)


@dataclass(eq=False)
class Port:
    """An interface that is being recorded; `number` is its place in the file."""

    number: int
    name: str
    ring: Ring
    written: int = 0
    held: list[Arrival] = field(default_factory=list)
    """Packets taken out of their block, in time order, whose turn has not come."""


class Order:
    """Puts the packets of many interfaces in time order, by holding each until no older one can come.

    When a block was read WINDOW_NS ago, every ring has since shown all that had arrived when it was read: packets
    up to its newest are complete. Only ages are compared, by the monotonic clock, so a step of the
    wall clock can spoil the order around it but neither hold packets back nor lose them.

    Blocks are held as they are, and taken apart only when their turn comes: a burst is limited by the memory that the
    caller allows (`octets`), not by the speed of this program.

    A bridge and the port by which a packet came in see it with one time stamp. The port then comes first: bridges are
    made before their ports, so they stand before them in the file, and of one instant the last interface goes first.
    """

    def __init__(self, from_ns: int, now_ns: int, snaplen: int = 0) -> None:
        """Packets from before `from_ns` since the epoch, which is `now_ns` of the monotonic clock, are left out."""
        self.octets = 0
        """Size of the blocks that are held as they are."""
        self._from_ns = from_ns
        self._settled_ns = now_ns + 2 * WINDOW_NS
        self._snaplen = snaplen
        self._complete_ns = 0
        self._ages: deque[tuple[int, int]] = deque()
        self._heap: list[tuple[int, int, Port, Block]] = []
        self._open: dict[int, Port] = {}
        self._serial = 0

    def add(self, now_ns: int, port: Port, blocks: Sequence[Block]) -> None:
        """Hold `blocks`, read from `port` at `now_ns` of the monotonic clock."""
        for block in blocks:
            self._serial += 1
            self.octets += len(block.octets)
            heappush(self._heap, (block.opened_ns, self._serial, port, block))
            self._ages.append((now_ns, block.newest_ns))

    def wait_ms(self, now_ns: int) -> float | None:
        """How long until something is due, in milliseconds; None when nothing is held."""
        if self._complete_ns:
            return 0
        return max(0, self._ages[0][0] + WINDOW_NS - now_ns) / 1e6 if self._ages else None

    def due(self, now_ns: int) -> list[Arrival]:
        """Some packets, in order, which nothing can precede any more: about those of one block."""
        if now_ns > self._settled_ns:
            self._from_ns = 0
        while self._ages and self._ages[0][0] + WINDOW_NS <= now_ns:
            self._complete_ns = max(self._complete_ns, self._ages.popleft()[1])
        if not self._complete_ns:
            return []
        released, more = self._release(self._complete_ns)
        if not more:
            self._complete_ns = 0
        return released

    def rest(self, until_ns: int) -> list[Arrival]:
        """Some of all that is held, in order, up to `until_ns` since the epoch; empty when that is all."""
        while True:
            released, more = self._release(until_ns)
            if released or not more:
                return released

    def holds(self, port: Port) -> bool:
        """Whether packets of `port` are held."""
        return bool(port.held) or any(entry[2] is port for entry in self._heap)

    def _release(self, until_ns: int) -> tuple[list[Arrival], bool]:
        """Take the oldest block apart, and give what is older than all other blocks; whether there is more."""
        heap = self._heap
        if heap and heap[0][0] <= until_ns:
            _opened_ns, _serial, port, block = heappop(heap)
            self.octets -= len(block.octets)
            self._take_apart(port, block)
        more = bool(heap) and heap[0][0] <= until_ns
        end_ns = min(until_ns, heap[0][0] - _SLACK_NS) if more else until_ns
        released: list[Arrival] = []
        runs = 0
        for number in sorted(self._open, reverse=True):
            port = self._open[number]
            end = bisect_right(port.held, end_ns, key=_time_of)
            if not end:
                continue
            runs += 1
            port.written += end
            if end == len(port.held):
                released = released + port.held if released else port.held
                port.held = []
                del self._open[number]
            else:
                released = released + port.held[:end]
                del port.held[:end]
        if runs > 1:
            released.sort(key=_time_of)  # stable, and fast since it finds the runs
        return released, more

    def _take_apart(self, port: Port, block: Block) -> None:
        arrivals = port.ring.packets(block, port.number, self._snaplen)
        if self._from_ns:
            del arrivals[: bisect_left(arrivals, self._from_ns, key=_time_of)]
        if not arrivals:
            return
        if port.held:
            in_order = port.held[-1][0] <= arrivals[0][0]
            port.held += arrivals
            if not in_order:
                port.held.sort(key=_time_of)
        else:
            port.held = arrivals
        self._open[port.number] = port
