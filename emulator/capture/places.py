"""The interfaces of a recording: finds them in the nodes' namespaces, opens their rings, and those of late comers.

A thread of its own, the scout, enters the namespaces: to come back would need rights over the caller's namespace.
Standard library only.
"""

from __future__ import annotations

import contextlib
import errno
import os
import resource
import socket
from collections import deque
from collections.abc import Collection, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Final

from emulator.capture import bpf
from emulator.capture.pcapng import LINKTYPE_ETHERNET
from emulator.capture.ring import BLOCK_OCTETS_MIN, Ring, Shape
from emulator.capture.watch import Change, LinkSeen, Watch
from emulator.errors import CommandFailed, UsageError
from emulator.run import kernel

RINGS_OCTETS: Final = 64 << 20
"""Kernel memory for all rings together, as long as each has RING_OCTETS_MIN."""

RING_OCTETS_MAX: Final = 1 << 20
RING_OCTETS_MIN: Final = 2 * BLOCK_OCTETS_MIN

_THREADS_MAX: Final = 64

_FILES_SPARE: Final = 128
"""Descriptors kept for everything that is not a ring."""


@dataclass(frozen=True)
class Source:
    """A node, and an open descriptor of its network namespace."""

    node: str
    namespace_fd: int


@dataclass(frozen=True)
class Opened:
    """An interface that is being recorded from now on."""

    source: Source
    index: int
    interface: str
    ring: Ring


@dataclass(frozen=True)
class Late:
    """What the scout has done since: an interface opened, a node's watch, or neither since there was trouble."""

    source: Source
    opened: Opened | None = None
    watch: Watch | None = None
    seen: Sequence[Change] = ()
    trouble: str | None = None


class Places:
    """All that is open at interfaces and nodes; `close` gives it back."""

    def __init__(
        self,
        *,
        loopback: bool = False,
        only: Collection[str] | None = None,
        ring_bytes: int | None = None,
        ring_bytes_max: int = RING_OCTETS_MAX,
        wanted: bpf.Filter | None = None,
        follow: bool = False,
    ) -> None:
        """Nothing is opened yet; the arguments are those of `record`, and `follow` is to watch each node."""
        self._loopback = loopback
        self._only = only
        self._ring_bytes = ring_bytes
        self._ring_bytes_max = ring_bytes_max
        self._wanted = wanted
        self._follow = follow
        self._programs: Mapping[int, bpf.Program] | None = wanted.programs if wanted else None
        self._tags_pending = wanted is not None and bpf.asks_for_tags(wanted.expression)
        self._shape = Shape(BLOCK_OCTETS_MIN, 2)
        self._scout = ThreadPoolExecutor(1)
        self._wake = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._late: deque[Late] = deque()
        self._known: dict[tuple[Source, int], tuple[str, Ring | None]] = {}
        self._rings: set[Ring] = set()
        self._watches: list[Watch] = []
        self._fresh: list[tuple[Source, Watch, Sequence[Change]]] = []
        self._sources = 0

    def fileno(self) -> int:
        """For poll: readable when `take_late` has something."""
        return self._wake

    def open_all(self, sources: Sequence[Source]) -> list[Opened]:
        """Open a ring at every wanted interface: all at once, for each waits for the kernel.

        Raises:
            UsageError: a name in `only` fits no interface.
            CommandFailed: an interface cannot be recorded.
        """
        self._sources = len(sources)
        found = self._scout.submit(self._find, sources).result()
        self._shape = _shape(len(found), self._ring_bytes, self._ring_bytes_max)
        with ThreadPoolExecutor(_THREADS_MAX) as pool:
            attempts = [
                (place, pool.submit(Ring, sock, place[2], self._shape, self._programs)) for place, sock in found
            ]
        rings = [Opened(*place, attempt.result()) for place, attempt in attempts if attempt.exception() is None]
        for (source, _index, interface), attempt in attempts:
            if error := attempt.exception():
                _close_all([opened.ring for opened in rings])
                for _place, sock in found:
                    sock.close()
                if not isinstance(error, OSError):
                    raise error
                raise _cannot(f"{source.node}:{interface}", error) from error
        self._known = {(each.source, each.index): (each.interface, each.ring) for each in rings}
        self._rings = {each.ring for each in rings}
        return rings

    def _find(self, sources: Sequence[Source]) -> list[tuple[tuple[Source, int, str], socket.socket]]:
        """The wanted interfaces, each with a packet socket in its namespace that hears nothing yet."""
        found: list[tuple[tuple[Source, int, str], socket.socket]] = []
        missing = set(self._only or ())
        name = ""
        try:
            for source in sources:
                name = source.node
                for index, interface in self._look(source):
                    name = f"{source.node}:{interface}"
                    if self._wants(source, interface):
                        missing -= {name, source.node}
                        self._allow_files(len(found))
                        found.append(((source, index, interface), self._socket(interface)))
            if missing:
                raise UsageError(f"no interface to record at {', '.join(sorted(missing))}")
        except BaseException as error:
            for _place, sock in found:
                sock.close()
            if isinstance(error, OSError):
                raise _cannot(name, error) from error
            raise
        return found

    def _look(self, source: Source) -> list[tuple[int, str]]:
        """Enter the namespace, and list its interfaces; when following, watch it from now on."""
        kernel.setns(source.namespace_fd, kernel.CLONE_NEWNET)
        if not self._follow:
            return socket.if_nameindex()
        self._allow_files(0)
        watch = Watch()
        self._watches.append(watch)
        seen = watch.ask()
        self._fresh.append((source, watch, seen))
        return list({change.index: change.name for change in seen if isinstance(change, LinkSeen)}.items())

    def _wants(self, source: Source, interface: str) -> bool:
        named = not {f"{source.node}:{interface}", source.node}.isdisjoint(self._only or ())
        if interface == "lo" and not self._loopback:
            return f"{source.node}:lo" in (self._only or ())
        return self._only is None or named

    def _socket(self, interface: str) -> socket.socket:
        """A packet socket of the namespace that was entered. A filter for tags is made here, at the first chance."""
        if self._tags_pending and self._wanted and interface != "lo":
            program = bpf.compile_live(self._wanted.expression, interface)
            if program is not None:
                self._programs = {**self._wanted.programs, LINKTYPE_ETHERNET: program}
                self._tags_pending = False
        return socket.socket(socket.AF_PACKET, socket.SOCK_RAW | socket.SOCK_CLOEXEC, 0)

    def _allow_files(self, rings: int) -> None:
        """Raise the soft limit of open files to the hard one when the files that are open now come near it."""
        wanted = self._sources + len(self._watches) + 2 * (rings + len(self._known))
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        if soft != hard and wanted + _FILES_SPARE > soft:
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))

    def take_watches(self) -> list[tuple[Source, Watch, Sequence[Change]]]:
        """The watches of the nodes that were opened, each with what it told at first. Once each."""
        fresh, self._fresh = self._fresh, []
        return fresh

    # What comes later

    def add(self, source: Source) -> None:
        """Watch a node that is new, soon; `take_late` has its watch then."""
        self._sources += 1
        self._send_scout(source, self._add, source)

    def _add(self, source: Source) -> Late:
        kernel.setns(source.namespace_fd, kernel.CLONE_NEWNET)
        self._allow_files(0)
        watch = Watch()
        self._watches.append(watch)
        return Late(source, watch=watch, seen=watch.ask())

    def open_late(self, source: Source, index: int, interface: str) -> Ring | None:
        """Record an interface that appeared, soon; `take_late` has it then. Nothing happens when it is recorded already
        or not wanted. Returns the ring that had it under another name, which is forgotten."""
        name, ring = self._known.get((source, index), ("", None))
        if name == interface:
            return None
        former = self.forget(source, index) if name else ring
        if self._wants(source, interface):
            self._known[source, index] = (interface, None)
            self._send_scout(source, self._open_one, source, index, interface)
        return former

    def _open_one(self, source: Source, index: int, interface: str) -> Late:
        kernel.setns(source.namespace_fd, kernel.CLONE_NEWNET)
        self._allow_files(1)
        sock = self._socket(interface)
        try:
            return Late(source, Opened(source, index, interface, Ring(sock, interface, self._shape, self._programs)))
        except OSError as error:
            sock.close()
            if error.errno in {errno.ENODEV, errno.ENXIO}:  # it has gone again
                return Late(source)
            return Late(source, trouble=_cannot(f"{source.node}:{interface}", error).message)

    def _send_scout(self, source: Source, work: object, *arguments: object) -> None:
        def done(future: Future[Late]) -> None:
            error = future.exception()
            self._late.append(
                Late(source, trouble=f"cannot record at {source.node}: {error}") if error else future.result()
            )
            os.eventfd_write(self._wake, 1)

        self._scout.submit(work, *arguments).add_done_callback(done)  # type: ignore[arg-type]

    def take_late(self) -> list[Late]:
        """What the scout has done since the last call; an interface that is gone by now is left out."""
        with contextlib.suppress(BlockingIOError):
            os.eventfd_read(self._wake)
        found = []
        while self._late:
            late = self._late.popleft()
            if late.opened:
                key = (late.source, late.opened.index)
                if self._known.get(key, ("", None)) != (late.opened.interface, None):
                    self.close_ring(late.opened.ring)
                    continue
                self._known[key] = (late.opened.interface, late.opened.ring)
                self._rings.add(late.opened.ring)
            found.append(late)
        return found

    def forget(self, source: Source, index: int) -> Ring | None:
        """An interface is gone: its ring, if it had one, which is still open."""
        _name, ring = self._known.pop((source, index), ("", None))
        return ring

    def close_ring(self, ring: Ring) -> None:
        """Close a ring soon: it waits for the kernel."""
        self._rings.discard(ring)
        self._scout.submit(ring.close)

    def close(self) -> None:
        """Give everything back."""
        self._scout.shutdown()
        self._rings |= {each.opened.ring for each in self._late if each.opened}
        _close_all(list(self._rings))
        for watch in self._watches:
            watch.close()
        os.close(self._wake)


def _cannot(place: str, error: OSError) -> CommandFailed:
    return CommandFailed(f"cannot record at {place}: {error.strerror or error}")


def _shape(interfaces: int, ring_bytes: int | None, ring_bytes_max: int) -> Shape:
    octets = ring_bytes or min(ring_bytes_max, RINGS_OCTETS // max(1, interfaces))
    octets = max(octets, RING_OCTETS_MIN)
    block = 2 * BLOCK_OCTETS_MIN if octets >= RING_OCTETS_MAX else BLOCK_OCTETS_MIN
    return Shape(block, octets // block)


def _close_all(rings: Sequence[Ring]) -> None:
    with ThreadPoolExecutor(_THREADS_MAX) as pool:
        list(pool.map(Ring.close, rings))
