"""Records the packets of all interfaces of a lab, in time order, into one pcapng. Standard library only.

Runs in a process that has entered the lab's user namespace. `record` is: find the interfaces, open a ring at each,
say `ready`, then gather, order and write until told to stop, or until a limit is reached. A recording that is `live`
also follows what changes: interfaces that come and go, addresses that nodes get, nodes that are added.
"""

from __future__ import annotations

import contextlib
import select
import struct
import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from typing import Final, Literal

from emulator.capture.bpf import Filter
from emulator.capture.order import Order, Port
from emulator.capture.output import Description, Output, Row
from emulator.capture.pcapng import SNAPLEN_MAX
from emulator.capture.places import RING_OCTETS_MAX, Late, Opened, Places, Source
from emulator.capture.ring import Arrival, Ring
from emulator.capture.watch import AddressSeen, Change, LinkGone, LinkSeen, Missed, Watch
from emulator.errors import CommandFailed

__all__ = ["InterfaceStatistics", "Limits", "Live", "Progress", "Source", "Statistics", "record"]

DRAIN_MAX_S: Final = 0.5
"""How long to wait for packets that the kernel has counted but not handed over. Two retire timeouts are normal."""

BACKLOG_OCTETS: Final = 128 << 20
"""Packets read and not yet written, at most; beyond this they stay in the rings, which then overflow and count it."""

READER_GRACE_S: Final = 2.0
"""How long, at the end, to wait for a reader of a pipe that does not read."""

_TICK_S: Final = 0.5
"""Between two looks at the counters, and at the list of nodes."""

Why = Literal["stopped", "lab", "duration", "count", "size", "reader"]
"""Why a recording ended: told to, the lab ended, a limit, or nobody reads any more."""


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
    why: Why = "stopped"
    octets: int = 0

    @property
    def received(self) -> int:
        """Packets at all interfaces, the lost ones included."""
        return sum(interface.received for interface in self.interfaces)

    @property
    def dropped(self) -> int:
        """Packets that are not in the file."""
        return sum(interface.dropped for interface in self.interfaces)


@dataclass(frozen=True)
class Limits:
    """When to stop by itself: seconds, packets in the file, octets of a file.

    With `open_next`, which gives the descriptor of a further file, a full file does not end the recording.
    """

    duration_s: float | None = None
    packets: int | None = None
    octets: int | None = None
    open_next: Callable[[], int] | None = None


@dataclass(frozen=True)
class Progress:
    """What a running recording has done: packets and octets written, packets dropped, seconds, interfaces."""

    packets: int
    octets: int
    dropped: int
    seconds: float
    interfaces: int


@dataclass(frozen=True)
class Live:
    """What makes a recording follow its lab.

    Attributes:
        gone_fd: readable or hung up when the lab has ended.
        more: gives nodes that are new since it was last called; called every half second.
        progress: called every half second; None to do without.
        trouble: called with a text for a person when an interface that appeared cannot be recorded.
    """

    gone_fd: int
    more: Callable[[], Sequence[Source]]
    progress: Callable[[Progress], None] | None
    trouble: Callable[[str], None]


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
    ring_bytes_max: int = RING_OCTETS_MAX,
    wanted: Filter | None = None,
    limits: Limits | None = None,
    live: Live | None = None,
) -> Statistics:
    """Record until `stop_fd` is readable or at its end, then write what had arrived by then, and the figures.

    The file holds exactly the packets between two instants: all interfaces live, and the stop. Thus a packet
    that is missing at one interface is one that the network lost, or one that `dropped` counts. The calling
    thread stays in its namespaces.

    Args:
        sources: the nodes to record.
        output_fd: where the pcapng goes; written with each batch, so that a reader can follow. Stays open. A pipe is
            made non-blocking.
        stop_fd: readable, or its writing end closed, means stop.
        ready: called once with the number of interfaces, when all are live.
        snaplen: octets kept of a packet.
        loopback: also record `lo`, each packet once, as it arrives. A `lo` that `only` names is recorded anyway.
        only: record only these, each `node` or `node:interface`.
        ring_bytes: kernel memory an interface, in octets; by default `ring_bytes_max`, and less where all would have
            more than 64 MiB together.
        wanted: only packets that pass this filter reach the recording at all.
        limits: when to stop by itself.
        live: follow what changes; by default only what is there at the beginning is recorded.

    Raises:
        UsageError: a name in `only` fits no interface, or a limit leaves no room for packets.
        CommandFailed: a ring cannot be set up, or the output cannot be written.
    """
    limits = limits or Limits()
    output = Output(output_fd, snaplen=snaplen, limit_octets=limits.octets, open_next=limits.open_next)
    places = Places(
        loopback=loopback,
        only=only,
        ring_bytes=ring_bytes,
        ring_bytes_max=ring_bytes_max,
        wanted=wanted,
        follow=live is not None,
    )
    try:
        return _Recording(places, output, limits, live, snaplen).run(sources, stop_fd, ready)
    finally:
        places.close()
        output.close()


@dataclass
class _Recording:
    """A recording: what it has open, and how far it is."""

    places: Places
    output: Output
    limits: Limits
    live: Live | None
    snaplen: int
    ports: dict[int, Port] = field(default_factory=dict)
    """By descriptor."""
    former: list[Row] = field(default_factory=list)
    """Figures of interfaces that are gone."""
    called: list[str] = field(default_factory=list)
    """The interfaces' names, by their numbers."""
    owners: dict[str, list[str]] = field(default_factory=dict)
    """Address → the nodes that have or had it."""
    watches: dict[int, tuple[Source, Watch]] = field(default_factory=dict)
    leaving: dict[int, float] = field(default_factory=dict)
    """Descriptors of ports whose interface is gone, and when to close them."""
    written: int = 0
    drained: bool = False

    def run(self, sources: Sequence[Source], stop_fd: int, ready: Callable[[int], None]) -> Statistics:
        """Record from the first to the last packet."""
        opened = self.places.open_all(sources)
        with select.epoll() as self.poll:
            self.poll.register(stop_fd, select.EPOLLIN)
            for each in opened:
                self._begin(each)
            if self.live:
                self._follow(self.live)
            self.output.flush()
            if self.output.outlet.is_pipe:
                self.poll.register(self.output.outlet, 0)  # an error is told all the same: its reader is gone
            return self._run(stop_fd, ready)

    def _run(self, stop_fd: int, ready: Callable[[int], None]) -> Statistics:
        started_ns, started_monotonic_ns = time.time_ns(), time.monotonic_ns()
        self.output.start_ns = started_ns
        self.started_s = started_monotonic_ns / 1e9
        self.order = Order(started_ns, started_monotonic_ns, self.snaplen)
        ready(len(self.ports))
        try:
            why = self._gather(stop_fd)
        except BrokenPipeError:
            why = "reader"
        # When the wall clock was set back meanwhile, packets from before are not from after the stop.
        stopped_ns = max(time.time_ns(), started_ns + time.monotonic_ns() - started_monotonic_ns)
        self._drain()
        with contextlib.suppress(BrokenPipeError):
            while why not in {"count", "size", "reader"} and (arrivals := self.order.rest(stopped_ns)):
                why = self._write(arrivals) or why
            self.output.statistics(self._rows(), stopped_ns)
            if not self.output.outlet.finish(READER_GRACE_S):
                raise CommandFailed("cannot write the capture: nobody reads what was recorded")
        figures = tuple(InterfaceStatistics(self.called[row.number], row.received, row.dropped) for row in self._rows())
        return Statistics(figures, why, self.output.octets)

    def _gather(self, stop_fd: int) -> Why:
        """Read and write until there is a reason to stop."""
        tick_s = time.monotonic() + _TICK_S
        end_s = self.started_s + self.limits.duration_s if self.limits.duration_s is not None else None
        while True:
            now_s = time.monotonic()
            if end_s is not None and now_s >= end_s:
                return "duration"
            if self.live and now_s >= tick_s:
                tick_s = now_s + _TICK_S
                self._tick(self.live, now_s)
            due_ms = self.order.wait_ms(time.monotonic_ns())
            until_s = [now_s + due_ms / 1e3] if due_ms is not None and not self._full() else []
            until_s += [at for at in (end_s, tick_s if self.live else None, *self.leaving.values()) if at is not None]
            for fd, events in self._wait(stop_fd, max(0.0, min(until_s) - now_s) if until_s else None):
                if fd == stop_fd:
                    return "stopped"
                if self.live and fd == self.live.gone_fd:
                    return "lab"
                self._serve(fd, events)
            if not self._full() and (why := self._write(self.order.due(time.monotonic_ns()))):
                return why
            if self.leaving:
                self._leave(time.monotonic())

    def _full(self) -> bool:
        return self.order.octets + self.output.outlet.waiting >= BACKLOG_OCTETS and self.output.outlet.waiting > 0

    def _wait(self, stop_fd: int, timeout_s: float | None) -> list[tuple[int, int]]:
        if not self._full():
            return self.poll.poll(timeout_s)
        # The rings would be readable all the time, and are not to be read.
        poll = select.poll()
        poll.register(stop_fd, select.POLLIN)
        if self.live:
            poll.register(self.live.gone_fd, select.POLLIN)
        poll.register(self.output.outlet, select.POLLOUT)
        return poll.poll(None if timeout_s is None else timeout_s * 1000)

    def _serve(self, fd: int, events: int) -> None:
        if fd in self.ports:
            if self.order.octets + self.output.outlet.waiting < BACKLOG_OCTETS:
                self._take(self.ports[fd], events)
        elif fd in self.watches:
            source, watch = self.watches[fd]
            self._heed(source, watch, watch.read())
        elif fd == self.places.fileno():
            for late in self.places.take_late():
                self._welcome(late)
        elif fd == self.output.outlet.fileno():
            if events & (select.EPOLLERR | select.EPOLLHUP):
                raise BrokenPipeError
            self.output.outlet.pump()
            self._want_room()

    def _want_room(self) -> None:
        """Be told when the pipe has room, as long as something waits for it."""
        if self.output.outlet.is_pipe:
            self.poll.modify(self.output.outlet, select.EPOLLOUT if self.output.outlet.waiting else 0)

    def _take(self, port: Port, events: int) -> None:
        if events & (select.EPOLLERR | select.EPOLLHUP):
            port.ring.clear_error()
        self.order.add(time.monotonic_ns(), port, port.ring.read())

    def _write(self, arrivals: Sequence[Arrival]) -> Why | None:
        """Write packets; the limit that is reached with them."""
        if not arrivals:
            return None
        left = self.limits.packets - self.written if self.limits.packets else len(arrivals)
        done = self.output.packets(arrivals[:left], self._rows, time.time_ns())
        self.written += done
        self._want_room()
        for _time_ns, block in arrivals[done:]:
            (number,) = struct.unpack_from("=I", block, 8)
            self._port(number).written -= 1
        if done < min(left, len(arrivals)):
            return "size"
        return "count" if self.limits.packets and self.written >= self.limits.packets else None

    def _port(self, number: int) -> Port:
        return next(port for port in self.ports.values() if port.number == number)

    # Interfaces, addresses and nodes

    def _begin(self, opened: Opened) -> None:
        ring = opened.ring
        name = f"{opened.source.node}:{opened.interface}"
        number = self.output.interface(Description(name, ring.mac, ring.link_type))
        self.called.append(name)
        self.ports[ring.fileno()] = Port(number, name, ring)
        self.poll.register(ring, select.EPOLLIN)

    def _follow(self, live: Live) -> None:
        """Listen to the nodes from now on, and write the names that their addresses have by now."""
        names: dict[str, str] = {}
        for source, watch, seen in self.places.take_watches():
            self._listen(source, watch)
            names |= self._named(source, seen)
        self.output.names(names)
        self.poll.register(self.places, select.EPOLLIN)
        self.poll.register(live.gone_fd, select.EPOLLIN)

    def _named(self, source: Source, changes: Sequence[Change]) -> dict[str, str]:
        """The names that `changes` at a node give to addresses. An address of two nodes has both names."""
        names = {}
        for change in changes:
            if isinstance(change, AddressSeen):
                owners = self.owners.setdefault(change.address, [])
                if source.node not in owners:
                    owners.append(source.node)
                    names[change.address] = "|".join(owners)
        return names

    def _heed(self, source: Source, watch: Watch, changes: Sequence[Change]) -> None:
        """Follow what changed at a node."""
        names = self._named(source, changes)
        if names:
            self.output.names(names)
            self._hand_on()
        for change in changes:
            if isinstance(change, LinkSeen):
                self._part(self.places.open_late(source, change.index, change.name))
            elif isinstance(change, LinkGone):
                self._part(self.places.forget(source, change.index))
                self._look_for_nodes()  # a node that is switched off gets another namespace, and the interface is there
            elif isinstance(change, Missed):
                self._heed(source, watch, watch.ask())

    def _welcome(self, late: Late) -> None:
        """What the scout found: an interface that is recorded from now on, a node that is new, or trouble."""
        if late.trouble and self.live:
            self.live.trouble(late.trouble)
        if late.opened:
            self._begin(late.opened)
            self._hand_on()
        if late.watch:
            self._listen(late.source, late.watch)
            self._heed(late.source, late.watch, late.seen)

    def _listen(self, source: Source, watch: Watch) -> None:
        self.watches[watch.fileno()] = (source, watch)
        self.poll.register(watch, select.EPOLLIN)

    def _hand_on(self) -> None:
        self.output.flush()
        self._want_room()

    def _part(self, ring: Ring | None) -> None:
        """An interface is gone, or has another name: what is in its ring is still taken."""
        if ring is not None:
            self.leaving[ring.fileno()] = time.monotonic() + DRAIN_MAX_S / 2

    def _leave(self, now_s: float) -> None:
        for fd in [fd for fd, at in self.leaving.items() if at <= now_s]:
            port = self.ports[fd]
            port.ring.count()
            self._take(port, 0)
            if port.held or self.order.holds(port):
                self.leaving[fd] = now_s + DRAIN_MAX_S / 2
                continue
            del self.leaving[fd], self.ports[fd]
            self.former.append(_row(port, final=True))
            self.poll.unregister(port.ring)
            self.places.close_ring(port.ring)

    def _look_for_nodes(self) -> None:
        for source in self.live.more() if self.live else ():
            self.places.add(source)

    def _tick(self, live: Live, now_s: float) -> None:
        self._look_for_nodes()
        if live.progress:
            rows = self._rows()
            live.progress(
                Progress(
                    packets=self.written,
                    octets=self.output.octets,
                    dropped=sum(port.ring.dropped for port in self.ports.values())
                    + sum(row.dropped for row in self.former),
                    seconds=now_s - self.started_s,
                    interfaces=len(rows) - len(self.former),
                )
            )

    # The end

    def _drain(self) -> None:
        """Take all packets that the kernel counts as being in the rings now, those in open blocks too."""
        ports = list(self.ports.values())
        for port in ports:
            port.ring.count()
        self.drained = True
        deadline = time.monotonic() + DRAIN_MAX_S
        while (late := {port.ring.fileno(): port for port in ports if port.ring.taken < port.ring.placed}) and (
            left_s := deadline - time.monotonic()
        ) > 0:
            poll = select.poll()
            for fd in late:
                poll.register(fd, select.POLLIN)
            for fd, events in poll.poll(left_s * 1000):
                self._take(late[fd], events)

    def _rows(self) -> list[Row]:
        """The figures by now, in the order of the interfaces' numbers."""
        if not self.drained:  # what the kernel counts after that is no longer asked for
            for port in self.ports.values():
                port.ring.count()
        rows = [_row(port, final=self.drained) for port in self.ports.values()]
        return sorted([*self.former, *rows], key=lambda row: row.number)


def _row(port: Port, *, final: bool) -> Row:
    """The figures of one interface; in the end, what is still in its ring is lost."""
    lost = port.ring.dropped + (max(0, port.ring.placed - port.ring.taken) if final else 0)
    return Row(port.number, port.written + lost, lost)
