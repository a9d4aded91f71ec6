"""Records the packets of all interfaces of a lab, in time order, into one pcapng. Standard library only.

Runs in a process that has entered the lab's user namespace. `record` is: find the interfaces, open a ring at each,
say `ready`, then gather, order and write until told to stop.
"""

from __future__ import annotations

import resource
import select
import socket
import time
from collections import deque
from collections.abc import Callable, Collection, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from heapq import heappop, heappush, heapreplace
from typing import Final

from emulator.capture.pcapng import SNAPLEN_MAX, Writer
from emulator.capture.ring import BLOCK_OCTETS_MIN, RETIRE_MS, Arrival, Block, Ring, Shape
from emulator.errors import CommandFailed, UsageError
from emulator.run import kernel

WINDOW_NS: Final = 3 * RETIRE_MS * 1_000_000
"""How long a packet waits for older ones of other interfaces: a ring shows a packet after two retire timeouts."""

DRAIN_MAX_S: Final = 0.5
"""How long to wait for packets that the kernel has counted but not handed over. Two retire timeouts are normal."""

BACKLOG_OCTETS: Final = 128 << 20
"""Packets read and not yet written, at most; beyond this they stay in the rings, which then overflow and count it."""

RINGS_OCTETS: Final = 64 << 20
"""Kernel memory for all rings together, as long as each has RING_OCTETS_MIN."""

RING_OCTETS_MAX: Final = 1 << 20
RING_OCTETS_MIN: Final = 2 * BLOCK_OCTETS_MIN

_CHUNK: Final = 500
"""Packets written between two looks at the rings."""

_THREADS_MAX: Final = 64

_FILES_SPARE: Final = 128
"""Descriptors kept for everything that is not a ring."""


@dataclass(frozen=True)
class Source:
    """A node, and an open descriptor of its network namespace."""

    node: str
    namespace_fd: int


@dataclass(frozen=True)
class InterfaceStatistics:
    """What became of the packets at one interface: `received` reached it, `dropped` of those are not in the file."""

    name: str
    received: int
    dropped: int


@dataclass(frozen=True)
class Statistics:
    """The figures of a recording, one entry an interface, in the order of the file."""

    interfaces: tuple[InterfaceStatistics, ...]

    @property
    def received(self) -> int:
        """Packets at all interfaces, the lost ones included."""
        return sum(interface.received for interface in self.interfaces)

    @property
    def dropped(self) -> int:
        """Packets that are not in the file."""
        return sum(interface.dropped for interface in self.interfaces)


@dataclass
class _Port:
    """An interface that is being recorded; `number` is its place in the file."""

    number: int
    name: str
    ring: Ring
    written: int = 0


def record(
    sources: Sequence[Source],
    output_fd: int,
    *,
    stop_fd: int,
    ready: Callable[[int], None],
    snaplen: int = SNAPLEN_MAX,
    loopback: bool = False,
    only: Collection[str] | None = None,
    ring_bytes: int | None = None,
) -> Statistics:
    """Record until `stop_fd` is readable or at its end, then write what had arrived by then, and the figures.

    The file holds exactly the packets between two instants: all interfaces live, and the stop. Thus a packet
    that is missing at one interface is one that the network lost, or one that `dropped` counts. The calling
    thread stays in its namespaces.

    Args:
        sources: the nodes to record.
        output_fd: where the pcapng goes; written with each batch, so that a reader can follow. Stays open.
        stop_fd: readable, or its writing end closed, means stop.
        ready: called once with the number of interfaces, when all are live.
        snaplen: octets kept of a packet.
        loopback: also record `lo`, each packet once, as it arrives. A `lo` that `only` names is recorded anyway.
        only: record only these, each `node` or `node:interface`.
        ring_bytes: kernel memory an interface, in octets; by default 1 MiB, less when there are more than 64.

    Raises:
        UsageError: a name in `only` fits no interface.
        CommandFailed: a ring cannot be set up, or the output cannot be written.
    """
    rings = _open(sources, loopback=loopback, only=only, ring_bytes=ring_bytes)
    try:
        with open(output_fd, "wb", buffering=0, closefd=False) as stream:
            return _record(rings, Writer(stream), stop_fd, ready, snaplen)
    finally:
        _close([ring for _name, ring in rings])


def _record(
    rings: Sequence[tuple[str, Ring]], writer: Writer, stop_fd: int, ready: Callable[[int], None], snaplen: int
) -> Statistics:
    ports: dict[int, _Port] = {}
    poll = select.poll()
    poll.register(stop_fd, select.POLLIN)
    with _writing():
        for name, ring in rings:
            number = writer.interface(name, mac=ring.mac, link_type=ring.link_type, snaplen=snaplen)
            ports[ring.fileno()] = _Port(number, name, ring)
            poll.register(ring, select.POLLIN)
        writer.flush()
    started_ns, started_monotonic_ns = time.time_ns(), time.monotonic_ns()
    order = _Order(started_ns, started_monotonic_ns)
    ready(len(ports))

    stopping = False
    while not stopping:
        for fd, events in poll.poll(order.wait_ms(time.monotonic_ns())):
            if fd == stop_fd:
                stopping = True
            elif order.octets < BACKLOG_OCTETS:
                _take(ports[fd], events, order)
        _write(order.due(time.monotonic_ns(), _CHUNK), writer, snaplen)
    # When the wall clock was set back meanwhile, packets from before are not from after the stop.
    stopped_ns = max(time.time_ns(), started_ns + time.monotonic_ns() - started_monotonic_ns)
    _drain(list(ports.values()), order)
    while chunk := order.rest(stopped_ns, _CHUNK):
        _write(chunk, writer, snaplen)

    figures = []
    with _writing():
        for port in ports.values():
            lost = port.ring.dropped + max(0, port.ring.placed - port.ring.taken)
            figures.append(InterfaceStatistics(port.name, port.written + lost, lost))
            writer.statistics(
                port.number, received=port.written + lost, dropped=lost, start_ns=started_ns, end_ns=stopped_ns
            )
        writer.flush()
    return Statistics(tuple(figures))


def _take(port: _Port, events: int, order: _Order) -> None:
    if events & (select.POLLERR | select.POLLHUP):
        port.ring.clear_error()
    order.add(time.monotonic_ns(), port, port.ring.read())


def _drain(ports: Sequence[_Port], order: _Order) -> None:
    """Take all packets that the kernel counts as being in the rings now, those in open blocks too."""
    for port in ports:
        port.ring.count()
    deadline = time.monotonic() + DRAIN_MAX_S
    while (late := {port.ring.fileno(): port for port in ports if port.ring.taken < port.ring.placed}) and (
        left_s := deadline - time.monotonic()
    ) > 0:
        poll = select.poll()
        for fd in late:
            poll.register(fd, select.POLLIN)
        for fd, events in poll.poll(left_s * 1000):
            _take(late[fd], events, order)


def _write(arrivals: Sequence[tuple[_Port, Arrival]], writer: Writer, snaplen: int) -> None:
    if not arrivals:
        return
    with _writing():
        for port, (time_ns, data, length, direction) in arrivals:
            port.written += 1
            writer.packet(port.number, time_ns, data[:snaplen] if snaplen else data, length, direction)
        writer.flush()


@contextmanager
def _writing() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise CommandFailed(f"cannot write the capture: {error.strerror or error}") from error


class _Order:
    """Puts the packets of many interfaces in time order, by holding each until no older one can come.

    When a block was read WINDOW_NS ago, every ring has since shown all that had arrived when it was read: packets
    up to its newest are complete. Only ages are compared, by the monotonic clock, so a step of the
    wall clock can spoil the order around it but neither hold packets back nor lose them.

    Blocks are held as they are, and taken apart only when their turn comes: a burst is limited by BACKLOG_OCTETS,
    not by the speed of this program.

    A bridge and the port by which a packet came in see it with one time stamp. The port then comes first: bridges are
    made before their ports, so they stand before them in the file, and of one instant the last interface goes first.
    """

    def __init__(self, from_ns: int, now_ns: int) -> None:
        """Packets from before `from_ns` since the epoch, which is `now_ns` of the monotonic clock, are left out."""
        self.octets = 0
        """Size of the blocks that are held."""
        self._from_ns = from_ns
        self._settled_ns = now_ns + 2 * WINDOW_NS
        self._complete_ns = 0
        self._ages: deque[tuple[int, int]] = deque()
        self._heap: list[tuple[int, int, int, _Port, Block | list[Arrival], int]] = []
        self._serial = 0

    def add(self, now_ns: int, port: _Port, blocks: Sequence[Block]) -> None:
        """Hold `blocks`, read from `port` at `now_ns` of the monotonic clock."""
        for block in blocks:
            self._serial += 1
            self.octets += len(block.octets)
            heappush(self._heap, (block.opened_ns, -port.number, self._serial, port, block, len(block.octets)))
            self._ages.append((now_ns, block.newest_ns))

    def wait_ms(self, now_ns: int) -> float | None:
        """How long until something is due, in milliseconds; None when nothing is held."""
        if self._complete_ns:
            return 0
        return max(0, self._ages[0][0] + WINDOW_NS - now_ns) / 1e6 if self._ages else None

    def due(self, now_ns: int, limit: int) -> list[tuple[_Port, Arrival]]:
        """At most `limit` packets, in order, which nothing can precede any more."""
        if now_ns > self._settled_ns:
            self._from_ns = 0
        while self._ages and self._ages[0][0] + WINDOW_NS <= now_ns:
            self._complete_ns = max(self._complete_ns, self._ages.popleft()[1])
        released = self._release(self._complete_ns, limit)
        if len(released) < limit:
            self._complete_ns = 0
        return released

    def rest(self, until_ns: int, limit: int) -> list[tuple[_Port, Arrival]]:
        """At most `limit` of all that is held, in order, up to `until_ns` since the epoch."""
        return self._release(until_ns, limit)

    def _release(self, until_ns: int, limit: int) -> list[tuple[_Port, Arrival]]:
        heap, released = self._heap, list[tuple[_Port, Arrival]]()
        while heap and heap[0][0] <= until_ns and len(released) < limit:
            _time_ns, rank, serial, port, held, octets = heap[0]
            if isinstance(held, Block):
                held = port.ring.packets(held)[::-1]
            elif (arrival := held.pop()).time_ns >= self._from_ns:
                released.append((port, arrival))
            if held:
                heapreplace(heap, (held[-1].time_ns, rank, serial, port, held, octets))
            else:
                heappop(heap)
                self.octets -= octets
        return released


def _open(
    sources: Sequence[Source], *, loopback: bool, only: Collection[str] | None, ring_bytes: int | None
) -> list[tuple[str, Ring]]:
    """Open a ring at every wanted interface: all at once, for each waits for the kernel."""
    # A thread of its own enters the namespaces: to come back would need rights over the caller's namespace.
    with ThreadPoolExecutor(1) as scout:
        found = scout.submit(_find, sources, loopback, only).result()
    shape = _shape(len(found), ring_bytes)
    with ThreadPoolExecutor(_THREADS_MAX) as pool:
        attempts = [(name, pool.submit(Ring, sock, name.partition(":")[2], shape)) for name, sock in found]
    rings = [(name, attempt.result()) for name, attempt in attempts if attempt.exception() is None]
    for (name, attempt), (_name, _sock) in zip(attempts, found, strict=True):
        if error := attempt.exception():
            _close([ring for _name, ring in rings])
            for _other, sock in found:
                sock.close()
            if not isinstance(error, OSError):
                raise error
            raise CommandFailed(f"cannot record at {name}: {error.strerror}") from error
    return rings


def _find(sources: Sequence[Source], loopback: bool, only: Collection[str] | None) -> list[tuple[str, socket.socket]]:
    """The wanted interfaces' names, each with a packet socket in its namespace that hears nothing yet."""
    found: list[tuple[str, socket.socket]] = []
    missing = set(only or ())
    name = ""
    try:
        for source in sources:
            name = source.node
            kernel.setns(source.namespace_fd, kernel.CLONE_NEWNET)
            for _index, interface in socket.if_nameindex():
                name = f"{source.node}:{interface}"
                asked_for = {name, source.node}.intersection(only or ())
                hidden = interface == "lo" and not loopback and name not in asked_for
                if hidden or (only is not None and not asked_for):
                    continue
                missing -= asked_for
                _allow_files(len(sources) + 2 * len(found))
                found.append((name, socket.socket(socket.AF_PACKET, socket.SOCK_RAW | socket.SOCK_CLOEXEC, 0)))
        if missing:
            raise UsageError(f"no interface to record at {', '.join(sorted(missing))}")
    except BaseException as error:
        for _name, sock in found:
            sock.close()
        if isinstance(error, OSError):
            raise CommandFailed(f"cannot record at {name}: {error.strerror}") from error
        raise
    return found


def _allow_files(wanted: int) -> None:
    """Raise the soft limit of open files to the hard one when `wanted` files would come near it."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard and wanted + _FILES_SPARE > soft:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def _shape(interfaces: int, ring_bytes: int | None) -> Shape:
    octets = ring_bytes or min(RING_OCTETS_MAX, RINGS_OCTETS // max(1, interfaces))
    octets = max(octets, RING_OCTETS_MIN)
    block = 2 * BLOCK_OCTETS_MIN if octets >= RING_OCTETS_MAX else BLOCK_OCTETS_MIN
    return Shape(block, octets // block)


def _close(rings: Sequence[Ring]) -> None:
    with ThreadPoolExecutor(_THREADS_MAX) as pool:
        list(pool.map(Ring.close, rings))
